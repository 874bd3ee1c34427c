"""The interactive protocol: how good is a mask after one point, a box, and some corrective clicks.

A simulated user points at the centre of each object, then corrects the largest error of its mask, click by
click (Sofiiuk et al. 2022, Reviving Iterative Training with Mask Guidance for Interactive Segmentation,
section on evaluation; Kirillov et al. 2023, Segment Anything, section 7.1). Masks come from the engine by the
rule that plugin, Python and command line share, with all prompts of an object so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import ImageError
from napari_sam.evaluation.clicks import Click, centre, iou, next_click
from napari_sam.evaluation.datasets import at_most
from napari_sam.inference import engine
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import PromptableModel

__all__ = [
    "MAX_CLICKS",
    "Answered",
    "Ask",
    "InteractiveResult",
    "ObjectResult",
    "Target",
    "click_through",
    "targets",
    "with_model",
]

MAX_CLICKS = 20
"""As many as are usual where the number of clicks is measured."""
_CHUNK = 64
"""Objects that are clicked on together: their logits are in memory, about 1 MB each."""


class Answered(Protocol):
    """What is said to the prompts of one object."""

    @property
    def mask(self) -> Mask:
        """The object."""

    @property
    def low_res_logits(self) -> NDArray[np.float32]:
        """A mask prompt for the next time; it is asked for only where logits are fed back."""


Ask = Callable[[Sequence[Prompts]], Sequence[Answered]]
"""From the prompts of objects of one plane to their masks."""


@dataclass(frozen=True, slots=True)
class Target:
    """One object of the ground truth.

    Attributes
    ----------
    label : int
        Its value in the label image.
    mask : Mask
    """

    label: int
    mask: Mask

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The tight box x0, y0, x1, y1, along the outer edges of the outermost pixels."""
        return self.mask.box_edges


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The quality of one object's masks.

    Attributes
    ----------
    label : int
        The object's value in the label image.
    area : int
        Its pixels.
    box : float
        IoU after a tight box.
    clicks : tuple of float
        IoU after 1, 2, ... points.
    """

    label: int
    area: int
    box: float
    clicks: tuple[float, ...]

    def clicks_to(self, threshold: float) -> int:
        """The number of clicks to an IoU of at least `threshold`; all that were tried, if none gets there."""
        return next((n for n, value in enumerate(self.clicks, 1) if value >= threshold), len(self.clicks))


@dataclass(frozen=True, slots=True)
class InteractiveResult:
    """The quality of all objects of one plane, and the time it took.

    Attributes
    ----------
    objects : tuple of ObjectResult
    encode_seconds : float
        From the plane to its embedding.
    click_seconds : float
        One click end to end: decode, upscale, mask as box and bits; NaN without objects.
    seconds : float
        All together, the simulated user included.
    """

    objects: tuple[ObjectResult, ...]
    encode_seconds: float
    click_seconds: float
    seconds: float


def with_model(model: PromptableModel) -> Callable[[NDArray[Any]], Ask]:
    """How planes are made ready to be clicked on with a model: they are encoded.

    Parameters
    ----------
    model : PromptableModel
    """

    def begin(plane: NDArray[Any]) -> Ask:
        embedding = engine.encode(model, plane)
        return lambda prompts: engine.segment_all(model, embedding, prompts)

    return begin


def targets(
    labels: NDArray[np.integer[Any]], max_objects: int | None = None, seed: int = 0, name: str = ""
) -> list[Target]:
    """The objects of a label image, in order of their values.

    Parameters
    ----------
    labels : ndarray, shape (H, W), integer
        0 is background.
    max_objects : int, optional
        No more than these, drawn at random.
    seed : int
    name : str
        Of the image: the same seed and name draw the same objects.

    Raises
    ------
    ImageError
        If the labels are not a two-dimensional array of integers.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ImageError(
            f"Labels are a two-dimensional array of integers, not {labels.dtype} of shape {labels.shape}."
        )
    values, numbers = np.unique(labels, return_inverse=True)
    # find_objects counts from 1; background, wherever it comes in the order, is left out below.
    boxes = ndimage.find_objects(numbers.reshape(labels.shape) + 1)
    found = [(int(value), box) for value, box in zip(values, boxes, strict=True) if value != 0]
    shape = (labels.shape[0], labels.shape[1])
    return [
        Target(value, Mask((box[0].start, box[1].start), labels[box] == value, shape))
        for value, box in at_most(found, max_objects, seed, name)
    ]


def click_through(
    begin: Callable[[NDArray[Any]], Ask],
    image: NDArray[Any],
    objects: Sequence[Target],
    *,
    clicks: int = 9,
    feed_back: bool = False,
) -> InteractiveResult:
    """Run the interactive protocol on objects of an image.

    Memory does not grow with the number of objects: 64 are clicked on together.

    Parameters
    ----------
    begin : callable
        Makes a plane of shape (H, W, 3), uint8 or float32, ready to be clicked on; see :func:`with_model`.
    image : ndarray, shape (H, W) or (H, W, channels)
        Any dtype that :func:`napari_sam.inference.image.as_rgb` takes.
    objects : sequence of Target
        Of labels of the same size.
    clicks : int, default 9
        Points per object, the first one included: 1 to 20.
    feed_back : bool, default False
        Give each step the logits of the one before as mask prompt.

    Raises
    ------
    ImageError
        If the image cannot be encoded.
    ValueError
        If the number of clicks is out of range.
    """
    if not 1 <= clicks <= MAX_CLICKS:
        raise ValueError(f"The protocol takes 1 to {MAX_CLICKS} clicks, not {clicks}.")
    started = time.perf_counter()
    plane = as_rgb(image)
    before = time.perf_counter()
    ask = begin(plane)
    encode_seconds = time.perf_counter() - before
    results: list[ObjectResult] = []
    click_seconds = float("nan")
    for portion in _portions(objects):
        prompts = [Prompts.create(target.mask.shape, box=target.box) for target in portion]
        boxed = [_compare(t.mask, answer.mask)[0] for t, answer in zip(portion, ask(prompts), strict=True)]
        if not results:
            click_seconds = _seconds_of_a_click(ask, portion[0])
        clicked = _click_ious(ask, [target.mask for target in portion], clicks, feed_back)
        results += [
            ObjectResult(target.label, target.mask.area, box, tuple(ious))
            for target, box, ious in zip(portion, boxed, clicked, strict=True)
        ]
    return InteractiveResult(tuple(results), encode_seconds, click_seconds, time.perf_counter() - started)


def _portions(objects: Sequence[Target]) -> Iterator[Sequence[Target]]:
    return (objects[start : start + _CHUNK] for start in range(0, len(objects), _CHUNK))


def _seconds_of_a_click(ask: Ask, target: Target) -> float:
    """Of one object, as a user clicks: where quality is measured, many are asked for at once."""
    x, y, _ = _first_click(target.mask)
    before = time.perf_counter()
    ask([Prompts.create(target.mask.shape, points=[[x, y]])])
    return time.perf_counter() - before


def _click_ious(ask: Ask, truths: Sequence[Mask], clicks: int, feed_back: bool) -> list[list[float]]:
    """IoU of each object after each click. An object without error left is not clicked any more."""
    size = truths[0].shape
    placed = [[_first_click(truth)] for truth in truths]
    ious: list[list[float]] = [[] for _ in truths]
    logits: list[NDArray[np.float32] | None] = [None] * len(truths)
    active = list(range(len(truths)))
    for _ in range(clicks):
        prompts = [
            Prompts.create(
                size,
                points=[[click.x, click.y] for click in placed[index]],
                labels=[int(click.positive) for click in placed[index]],
                mask_input=logits[index],
            )
            for index in active
        ]
        unfinished = []
        for index, answer in zip(active, ask(prompts), strict=True):
            value, click = _compare(truths[index], answer.mask)
            ious[index].append(value)
            if click is not None:
                placed[index].append(click)
                unfinished.append(index)
                if feed_back:
                    logits[index] = answer.low_res_logits
        active = unfinished
    return [values + values[-1:] * (clicks - len(values)) for values in ious]


def _first_click(truth: Mask) -> Click:
    row, column = centre(truth.bits)
    return Click(column + truth.origin[1], row + truth.origin[0], positive=True)


def _compare(truth: Mask, predicted: Mask) -> tuple[float, Click | None]:
    """IoU and the next click, computed within the box that holds both masks."""
    if predicted.is_empty:
        return 0.0, next_click(truth.bits, np.zeros_like(truth.bits), truth.origin)
    boxes = [mask.slices for mask in (truth, predicted)]
    rows, columns = (
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in (0, 1)
    )
    canvas = np.zeros((2, rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    for layer, mask in zip(canvas, (truth, predicted), strict=True):
        row, column = mask.origin[0] - rows.start, mask.origin[1] - columns.start
        layer[row : row + mask.bits.shape[0], column : column + mask.bits.shape[1]] = mask.bits
    return iou(canvas[0], canvas[1]), next_click(canvas[0], canvas[1], (rows.start, columns.start))
