"""Carrying objects plane by plane: the mask of one plane prompts the next."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.inference import engine
from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried, StopRule
from napari_sam.inference.propagation_spans import Front, arriving, ended, fronts_of, spans_of, stoppable
from napari_sam.inference.propagation_step import answers, contrast
from napari_sam.inference.shapes import between
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
    judge = _Judge(StopRule() if rule is None else rule, frames)
    spans = spans_of(annotated, wanted)
    forward, backward = fronts_of(spans)

    def sweep(fronts: list[Front], step: int, *, halfway: bool) -> Iterator[Carried]:
        for position, here in arriving(fronts, step, halfway=halfway):
            with stoppable(model, cancelled, position):
                plane = frames.read(position)
                embedding = engine.encode(model, plane) if embed is None else embed(position)
                expected = [_expected(front) for front in here]
                found = answers(model, embedding, expected)
            masks: dict[int, tuple[Mask, float] | None] = {}
            for front, shape, answer in zip(here, expected, found, strict=True):
                if not judge.goes_on(front, shape, *answer, plane):
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


def _expected(front: Front) -> Mask:
    """What an object could look like on the next plane: as on this one, or nearer to what is ahead."""
    if front.ahead is None:
        return front.mask
    position, mask = front.ahead
    shape = between(front.mask, mask, 1 / abs(position - front.position))
    return front.mask if shape.is_empty else shape


class _Judge:
    """Says whether what was found is still the object."""

    def __init__(self, rule: StopRule, frames: VideoFrames) -> None:
        self._rule = rule
        self._frames = frames
        # The greatest contrast of each object so far, on any way; 0 if it did not stand out.
        self._greatest: dict[int, float] = {}

    def goes_on(self, front: Front, expected: Mask, mask: Mask, score: float, plane: NDArray[Any]) -> bool:
        """Compare a mask with what was expected, and with what the object looked like before."""
        rule, obj_id = self._rule, front.span.obj_id
        if mask.is_empty or score < rule.min_predicted_iou:
            return False
        common, areas = (expected & mask).area, (expected.area, mask.area)
        if common < rule.min_overlap * (sum(areas) - common):
            return False
        if max(areas) > rule.max_area_change * min(areas):
            return False
        difference, spread = contrast(plane, mask)
        if difference == spread == 0:
            # All around is of one value: there is nothing to see.
            return False
        if difference < rule.min_contrast * self._usual(front):
            return False
        if difference > _STANDS_OUT * spread:
            front.contrast = max(front.contrast, difference)
            self._greatest[obj_id] = max(self._greatest.get(obj_id, 0.0), difference)
        return True

    def _usual(self, front: Front) -> float:
        """What to compare a contrast with: the greatest of the object, wherever it is.

        But where somebody annotated it though it had faded already, it may be as faint.
        """
        if front.begun is None:
            try:
                front.begun = contrast(self._frames.read(front.position), front.mask)[0]
            except ImageError:  # a plane that was annotated need not be readable any more
                front.begun = math.inf
        greatest = self._greatest.get(front.span.obj_id, 0.0)
        return front.contrast if front.begun < self._rule.min_contrast * greatest else greatest
