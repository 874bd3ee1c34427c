"""Carrying objects plane by plane: the mask of one plane prompts the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from napari_sam.inference import engine
from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried, StopRule
from napari_sam.inference.propagation_spans import Front, arriving, ended, fronts_of, spans_of, stoppable
from napari_sam.inference.propagation_step import answers, contrast
from napari_sam.inference.video_frames import VideoFrames
from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["carry_by_planes"]

_STANDS_OUT = 1.5
"""Standard deviations between an object and its surroundings, from which on the contrast is looked at."""


def carry_by_planes(
    model: PromptableModel,
    frames: VideoFrames,
    annotated: Mapping[int, Mapping[int, Mask]],
    wanted: Mapping[int, Sequence[int]],
    *,
    rule: StopRule | None = None,
    embed: Callable[[int], Embedding] | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[Carried]:
    """Carry objects from plane to plane, all objects of a plane at once.

    What is on one plane prompts the next as box, point and mask. All planes are swept forward, each
    object from its annotated planes on, halfway between two of them; then backward, then forward again for
    objects that ended on the way from one side. One embedding is held at a time, and of each span at most
    two masks beside those that are annotated.

    Parameters
    ----------
    model, frames, rule, embed, cancelled
        As for :func:`~napari_sam.inference.propagation.propagate`.
    annotated, wanted
        As there, checked.
    """
    rule = StopRule() if rule is None else rule
    spans = spans_of(annotated, wanted)
    forward, backward = fronts_of(spans)

    def sweep(fronts: list[Front], step: int, *, halfway: bool) -> Iterator[Carried]:
        for position, here in arriving(fronts, step, halfway=halfway):
            with stoppable(model, cancelled, position):
                plane = frames.read(position)
                embedding = engine.encode(model, plane) if embed is None else embed(position)
                found = answers(model, embedding, [front.mask for front in here])
            masks: dict[int, tuple[Mask, float] | None] = {}
            for front, answer in zip(here, found, strict=True):
                if not _goes_on(rule, front, *answer, plane):
                    fronts.remove(front)
                    continue
                front.position, front.mask = position, answer[0]
                if position in front.span.wanted:
                    front.span.wanted.remove(position)
                    masks[front.span.obj_id] = answer
            if masks:
                yield Carried(position, masks)

    yield from sweep(forward, 1, halfway=True)
    yield from ended(spans, forward + backward)
    yield from sweep(backward, -1, halfway=False)
    yield from ended(spans, forward + backward)
    yield from sweep(forward, 1, halfway=False)
    yield from ended(spans, [])


def _goes_on(rule: StopRule, front: Front, mask: Mask, score: float, plane: NDArray[Any]) -> bool:
    """Whether a mask is still the object."""
    if mask.is_empty or score < rule.min_predicted_iou:
        return False
    common, areas = (front.mask & mask).area, (front.mask.area, mask.area)
    if common < rule.min_overlap * (sum(areas) - common):
        return False
    if max(areas) > rule.max_area_change * min(areas):
        return False
    difference, spread = contrast(plane, mask)
    if difference == spread == 0:
        # All around is of one value: there is nothing to see.
        return False
    if front.contrast is None:
        front.contrast = difference if difference > _STANDS_OUT * spread else 0.0
    if difference < rule.min_contrast * front.contrast:
        return False
    if front.contrast:
        front.contrast = max(front.contrast, difference)
    return True
