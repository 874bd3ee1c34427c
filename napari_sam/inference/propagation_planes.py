"""Carrying objects plane by plane: the mask of one plane prompts the next."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from napari_sam.errors import Cancelled
from napari_sam.inference import engine
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.propagation import Carried, StopRule
from napari_sam.inference.propagation_spans import Span, spans_of
from napari_sam.inference.video_frames import VideoFrames
from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["carry_by_planes"]


@dataclass(slots=True)
class _Front:
    """How far an object has been carried from one side of a span."""

    span: Span
    position: int
    mask: Mask


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
    spans = list(spans_of(annotated, wanted))
    forward = [_Front(span, *span.before) for span in spans if span.before is not None]
    backward = [_Front(span, *span.after) for span in spans if span.after is not None]

    def embedding(position: int) -> Embedding:
        if embed is not None:
            return embed(position)
        return engine.encode(model, frames.read(position))

    sweeps = ((forward, backward, 1, True), (backward, forward, -1, False), (forward, [], 1, False))
    for fronts, others, step, halfway in sweeps:
        for position, arrivals in _sweep(fronts, step, halfway=halfway):
            with _stoppable(model, cancelled, position):
                found = engine.segment_all(
                    model, embedding(position), [_prompts(front.mask) for front in arrivals]
                )
            masks: dict[int, tuple[Mask, float] | None] = {}
            for front, segment in zip(arrivals, found, strict=True):
                if _goes_on(rule, front.mask, segment.mask, segment.score):
                    front.position, front.mask = position, segment.mask
                    if position in front.span.wanted:
                        front.span.wanted.remove(position)
                        masks[front.span.obj_id] = segment.mask, segment.score
                else:
                    fronts.remove(front)
            if masks:
                yield Carried(position, masks)
        yield from _ended(spans, [*fronts, *others])


def _ended(spans: Sequence[Span], fronts: Sequence[_Front]) -> Iterator[Carried]:
    """Say of objects that none of the fronts carries on where they are not."""
    alive = {id(front.span) for front in fronts}
    nowhere: dict[int, dict[int, None]] = defaultdict(dict)
    for span in spans:
        if id(span) not in alive:
            for position in span.wanted:
                nowhere[position][span.obj_id] = None
            span.wanted.clear()
    for position in sorted(nowhere):
        yield Carried(position, nowhere[position])


def _sweep(fronts: list[_Front], step: int, *, halfway: bool) -> Iterator[tuple[int, list[_Front]]]:
    """Positions in order and who arrives there; fronts move on between two of them, or are taken out."""
    if not fronts:
        return
    starts = [front.position for front in fronts]
    goals = {id(front): front.span.last(step, halfway=halfway) for front in fronts}
    ends = [goal for goal in goals.values() if goal is not None]
    if not ends:
        return
    first, last = (min(starts), max(ends)) if step > 0 else (max(starts), min(ends))
    for position in range(first + step, last + step, step):
        arrivals = [
            front
            for front in fronts
            if front.position + step == position
            and (goal := goals[id(front)]) is not None
            and (goal - position) * step >= 0
        ]
        if arrivals:
            yield position, arrivals


def _prompts(before: Mask) -> Prompts:
    """What the mask of one plane asks on the next."""
    return Prompts.create(before.shape, mask=before)


def _goes_on(rule: StopRule, before: Mask, mask: Mask, score: float) -> bool:
    """Whether a mask is still the object."""
    if mask.is_empty or score < rule.min_predicted_iou:
        return False
    common, areas = (before & mask).area, (before.area, mask.area)
    if common < rule.min_overlap * (sum(areas) - common):
        return False
    return max(areas) <= rule.max_area_change * min(areas)


@contextlib.contextmanager
def _stoppable(model: PromptableModel, cancelled: threading.Event | None, position: int) -> Iterator[None]:
    """Let an event stop what is computed inside the block."""
    if cancelled is None:
        yield
        return
    try:
        if cancelled.is_set():
            raise Abandoned
        with abandonable(model, cancelled):
            yield
    except Abandoned:
        raise Cancelled(f"Cancelled on the way to plane {position}: what is done is kept.") from None
