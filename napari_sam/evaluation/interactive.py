"""The interactive protocol: how good is a mask after one point, a box, and some corrective clicks.

A simulated user points at the centre of each object, then corrects the largest error of its mask, click by
click (Sofiiuk et al. 2022, Reviving Iterative Training with Mask Guidance for Interactive Segmentation,
section on evaluation; Kirillov et al. 2023, Segment Anything, section 7.1). Masks come from the engine by the
rule that plugin, Python and command line share, with all prompts of an object so far.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import ImageError
from napari_sam.evaluation.clicks import Click, centre, iou, next_click
from napari_sam.inference import engine
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["MAX_CLICKS", "ImageResult", "ObjectResult", "Target", "evaluate_image", "targets"]

MAX_CLICKS = 8


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
        x, y, width, height = self.mask.bbox_xywh
        return x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5


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
        """How many clicks bring the IoU to the threshold; as many as were tried if none does (NoC).

        Examples
        --------
        >>> ObjectResult(1, 100, 0.9, (0.6, 0.8, 0.9)).clicks_to(0.8)
        2
        """
        return next((n for n, value in enumerate(self.clicks, 1) if value >= threshold), len(self.clicks))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The quality of all objects of one image, and the time it took.

    Attributes
    ----------
    objects : tuple of ObjectResult
    encode_seconds : float
        From the image to its embedding.
    click_seconds : float
        One click end to end: decode, upscale, mask as box and bits; NaN without objects.
    seconds : float
        All together, the simulated user included.
    """

    objects: tuple[ObjectResult, ...]
    encode_seconds: float
    click_seconds: float
    seconds: float


def targets(labels: NDArray[np.integer[Any]], max_objects: int | None = None) -> list[Target]:
    """The objects of a label image, in order of their values.

    Parameters
    ----------
    labels : ndarray, shape (H, W), integer
        0 is background.
    max_objects : int, optional
        Take no more than these, evenly spaced in the order of values: the same ones each time.

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
    if max_objects is not None and len(found) > max_objects:
        chosen = np.linspace(0, len(found) - 1, max_objects).round().astype(int)
        found = [found[index] for index in chosen]
    shape = (labels.shape[0], labels.shape[1])
    return [
        Target(value, Mask((box[0].start, box[1].start), labels[box] == value, shape)) for value, box in found
    ]


def evaluate_image(
    model: PromptableModel,
    image: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    *,
    clicks: int = 5,
    max_objects: int | None = None,
    feed_back: bool = False,
) -> ImageResult:
    """Run the interactive protocol on every object of an image.

    Parameters
    ----------
    model : PromptableModel
    image : ndarray, shape (H, W) or (H, W, 3)
        Any dtype that :func:`napari_sam.inference.image.as_rgb` takes.
    labels : ndarray, shape (H, W), integer
        The ground truth, 0 for background.
    clicks : int, default 5
        Points per object, the first one included: 1 to 8.
    max_objects : int, optional
        Evaluate no more than these, the same ones each time.
    feed_back : bool, default False
        Give each step the logits of the one before as mask prompt.

    Raises
    ------
    ImageError
        If the image cannot be encoded, or the labels have another shape.
    ValueError
        If the number of clicks is out of range.
    """
    if not 1 <= clicks <= MAX_CLICKS:
        raise ValueError(f"The protocol takes 1 to {MAX_CLICKS} clicks, not {clicks}.")
    started = time.perf_counter()
    plane = as_rgb(image)
    if labels.shape != plane.shape[:2]:
        raise ImageError(
            f"The labels have the shape {labels.shape} and the image {plane.shape[:2]}: they must agree."
        )
    objects = targets(labels, max_objects)
    before = time.perf_counter()
    embedding = engine.encode(model, plane)
    encode_seconds = time.perf_counter() - before
    if not objects:
        return ImageResult((), encode_seconds, float("nan"), time.perf_counter() - started)

    size = (plane.shape[0], plane.shape[1])
    boxed = engine.segment_all(model, embedding, [Prompts.create(size, box=target.box) for target in objects])
    box_ious = [_compare(t.mask, s.mask)[0] for t, s in zip(objects, boxed, strict=True)]
    click_ious = _click_ious(model, embedding, [target.mask for target in objects], clicks, feed_back)
    results = tuple(
        ObjectResult(target.label, target.mask.area, box, tuple(ious))
        for target, box, ious in zip(objects, box_ious, click_ious, strict=True)
    )
    # Batched above; here as a user clicks.
    x, y, _ = _first_click(objects[0].mask)
    before = time.perf_counter()
    engine.segment(model, embedding, Prompts.create(size, points=[[x, y]]))
    click_seconds = time.perf_counter() - before
    return ImageResult(results, encode_seconds, click_seconds, time.perf_counter() - started)


def _click_ious(
    model: PromptableModel, embedding: Embedding, truths: Sequence[Mask], clicks: int, feed_back: bool
) -> list[list[float]]:
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
        for index, segment in zip(active, engine.segment_all(model, embedding, prompts), strict=True):
            value, click = _compare(truths[index], segment.mask)
            ious[index].append(value)
            if click is not None:
                placed[index].append(click)
                unfinished.append(index)
                if feed_back:
                    logits[index] = segment.low_res_logits
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
