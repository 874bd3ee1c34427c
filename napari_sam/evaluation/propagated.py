"""How good are objects that are carried through a stack from a click on one plane, or on a few."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.evaluation.clicks import centre, largest_component
from napari_sam.inference import engine
from napari_sam.inference.embedding_cache import EmbeddingCache
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.propagation import StopRule, propagate
from napari_sam.inference.video_frames import VideoFrames
from napari_sam.models.base import Embedding, PromptableModel

__all__ = [
    "MIN_PLANES",
    "Result",
    "Solid",
    "StackResult",
    "evaluate_stack",
    "every_nth",
    "first",
    "middle",
    "solids",
    "stack_iou",
]

MIN_PLANES = 5
"""On fewer planes there is nothing to carry an object through."""

Masks = Mapping[int, Mask]


@dataclass(frozen=True)
class Solid:
    """An object of the ground truth of a stack.

    Attributes
    ----------
    label : int
        Its value in the label image.
    masks : mapping of int to Mask
        By position; empty ones are left out.
    """

    label: int
    masks: Masks

    @property
    def span(self) -> range:
        """From its first plane to its last one."""
        return range(min(self.masks), max(self.masks) + 1)


@dataclass(frozen=True, slots=True)
class Result:
    """How well one object was found.

    Attributes
    ----------
    label : int
        Its value in the label image.
    planes : int
        On how many it is.
    clicks : int
    iou : float
        Over all planes of the stack, of what was carried on from the clicks.
    within : float
        Over the planes between the first and the last one of the true object: what is found beyond its ends
        does not count.
    copied : float
        Of the masks of the clicks alone, each copied to the planes that are closest to it, as far as the true
        object reaches.
    clicked : float
        Over the planes with a click, of the masks of the clicks.
    """

    label: int
    planes: int
    clicks: int
    iou: float
    within: float
    copied: float
    clicked: float


@dataclass(frozen=True, slots=True)
class StackResult:
    """How well objects of a stack were found.

    Attributes
    ----------
    objects : tuple of Result
    masks : mapping of int to (mapping of int to Mask)
        What was found, by label and position.
    seconds : float
        For all of it, the clicks included.
    """

    objects: tuple[Result, ...]
    masks: Mapping[int, Masks]
    seconds: float


def solids(
    labels: NDArray[np.integer[Any]], count: int | None = None, *, min_planes: int = MIN_PLANES, seed: int = 0
) -> list[Solid]:
    """Objects of a label image of a stack, or a random sample of them.

    Parameters
    ----------
    labels : ndarray, shape (Z, H, W), integer
        0 is background.
    count : int, optional
        How many to take, at most; all by default.
    min_planes : int, default 5
        On how many planes they have to be.
    seed : int, default 0
        Of the sample.

    Examples
    --------
    >>> labels = np.zeros((6, 4, 4), dtype=int)
    >>> labels[:5, 1, 1], labels[:2, 3, 3] = 4, 9
    >>> [(solid.label, len(solid.masks)) for solid in solids(labels)]
    [(4, 5)]
    """
    values, numbers = np.unique(labels, return_inverse=True)
    boxes = ndimage.find_objects(numbers.reshape(labels.shape) + 1)
    found = []
    for value, box in zip(values.tolist(), boxes, strict=True):
        if value == 0 or box[0].stop - box[0].start < min_planes:
            continue
        bits = labels[box] == value
        masks = {
            box[0].start + z: Mask((box[1].start, box[2].start), bits[z], labels.shape[1:])
            for z in np.flatnonzero(bits.any(axis=(1, 2))).tolist()
        }
        if len(masks) >= min_planes:
            found.append(Solid(value, masks))
    if count is not None and len(found) > count:
        chosen = np.random.default_rng(seed).choice(len(found), count, replace=False)
        found = [found[index] for index in sorted(chosen.tolist())]
    return found


def first(solid: Solid) -> list[int]:
    """The first plane of an object."""
    return [min(solid.masks)]


def middle(solid: Solid) -> list[int]:
    """The plane of an object that is closest to the middle of its span."""
    half = (solid.span[0] + solid.span[-1]) / 2
    return [min(solid.masks, key=lambda position: abs(position - half))]


def every_nth(step: int) -> Callable[[Solid], list[int]]:
    """Every so many planes of an object, from the middle of the first step on; its middle if it has none."""

    def positions(solid: Solid) -> list[int]:
        chosen = [at for at in solid.span[step // 2 :: step] if at in solid.masks]
        return chosen or middle(solid)

    return positions


def evaluate_stack(
    model: PromptableModel,
    frames: VideoFrames,
    objects: Sequence[Solid],
    positions: Callable[[Solid], list[int]],
    *,
    reach: Callable[[Solid], range] | None = None,
    rule: StopRule | None = None,
) -> StackResult:
    """Click on objects and let the model carry them on to all planes of a stack, all of them in one pass.

    Each click is one point, where the object is deepest on its plane: the pixel of its largest connected part
    there that is farthest from everything outside.

    Parameters
    ----------
    model : PromptableModel
    frames : VideoFrames
    objects : sequence of Solid
    positions : callable
        Which planes of an object are clicked at: :func:`middle`, for example.
    reach : callable, optional
        The planes that an object is carried on to; all of the stack by default.
    rule : StopRule, optional
        As for :func:`~napari_sam.inference.propagation.propagate`.
    """
    began = time.perf_counter()
    cache: EmbeddingCache[int] = EmbeddingCache()

    def embed(position: int) -> Embedding:
        return cache.get(position, lambda: engine.encode(model, frames.read(position)))

    clicks = {solid.label: positions(solid) for solid in objects}
    clicked = _clicked(model, embed, objects, clicks)
    everywhere = range(len(frames))
    wanted = {solid.label: everywhere if reach is None else reach(solid) for solid in objects}
    # An object that the click did not find has nothing to be carried on.
    known = {label: masks for label, masks in clicked.items() if any(not m.is_empty for m in masks.values())}
    found = {label: dict(masks) for label, masks in clicked.items()}
    carried = propagate(
        model, frames, known, {label: wanted[label] for label in known}, rule=rule, embed=embed
    )
    for plane in carried:
        for label, answer in plane.masks.items():
            if answer is not None:
                found[label][plane.position] = answer[0]
    seconds = time.perf_counter() - began
    results = tuple(
        Result(
            solid.label,
            len(solid.masks),
            len(clicks[solid.label]),
            iou=stack_iou(solid.masks, found[solid.label]),
            within=stack_iou(solid.masks, _only(found[solid.label], solid.span)),
            copied=stack_iou(solid.masks, _copied(clicked[solid.label], solid.span)),
            clicked=stack_iou(_only(solid.masks, clicks[solid.label]), clicked[solid.label]),
        )
        for solid in objects
    )
    return StackResult(results, found, seconds)


def stack_iou(truth: Masks, found: Masks) -> float:
    """The IoU of an object over all planes: of its voxels, if planes are a volume's.

    Parameters
    ----------
    truth, found : mapping of int to Mask
        By position.

    Examples
    --------
    >>> one, two = Mask.from_array([[1, 1]]), Mask.from_array([[0, 1]])
    >>> stack_iou({0: one, 1: one}, {1: two, 2: two})
    0.2
    """
    common = sum((truth[at] & found[at]).area for at in truth.keys() & found.keys())
    total = sum(mask.area for masks in (truth, found) for mask in masks.values())
    return common / (total - common) if total else 1.0


def _clicked(
    model: PromptableModel,
    embed: Callable[[int], Embedding],
    objects: Sequence[Solid],
    clicks: Mapping[int, Iterable[int]],
) -> dict[int, dict[int, Mask]]:
    """The masks of one click per object and plane, by label and position."""
    masks: dict[int, dict[int, Mask]] = {solid.label: {} for solid in objects}
    for position in sorted({at for chosen in clicks.values() for at in chosen}):
        here = [solid for solid in objects if position in clicks[solid.label]]
        prompts = []
        for solid in here:
            truth = solid.masks[position]
            row, column = centre(largest_component(truth.bits)[0])
            point = column + truth.origin[1], row + truth.origin[0]
            prompts.append(Prompts.create(truth.shape, points=[point]))
        answers = engine.segment_all(model, embed(position), prompts)
        for solid, answer in zip(here, answers, strict=True):
            masks[solid.label][position] = answer.mask
    return masks


def _copied(masks: Masks, span: range) -> dict[int, Mask]:
    return {at: masks[min(masks, key=lambda clicked: abs(clicked - at))] for at in span}


def _only(masks: Masks, positions: Collection[int]) -> dict[int, Mask]:
    return {at: mask for at, mask in masks.items() if at in positions}
