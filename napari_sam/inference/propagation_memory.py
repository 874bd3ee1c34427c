"""Carrying objects by the memory of a SAM 2: frames attend to the annotated planes and to those before."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried
from napari_sam.inference.propagation_spans import (
    Front,
    Span,
    arriving,
    ended,
    fronts_of,
    spans_of,
    stoppable,
)
from napari_sam.inference.video_frames import VideoFrames
from napari_sam.inference.video_masks import TrackedFrame, squared_mask
from napari_sam.inference.video_memory import ObjectMemory
from napari_sam.inference.video_state import VideoState
from napari_sam.inference.video_tracker import VideoTracker
from napari_sam.models.sam2 import Sam2

__all__ = ["CONDITIONING", "carry_by_memory"]

CONDITIONING = 4
"""Annotated planes that a frame attends to at most, the closest: the time that it takes grows with them."""


def carry_by_memory(
    model: Sam2,
    frames: VideoFrames,
    annotated: Mapping[int, Mapping[int, Mask]],
    wanted: Mapping[int, Sequence[int]],
    *,
    cancelled: threading.Event | None = None,
) -> Iterator[Carried]:
    """Carry objects through a film or a stack, all objects of a frame at once.

    Masks of annotated planes become memories, those of empty ones say that the object is not there. Then all
    frames are swept forward and backward, each object from its annotated planes on, and halfway between two
    of them. An object that is not seen may come back, until an annotated plane says that it is not there.
    Memory is bounded as in :class:`~napari_sam.inference.video_state.VideoState`.

    Parameters
    ----------
    model, frames, cancelled
        As for :func:`~napari_sam.inference.propagation.propagate`.
    annotated, wanted
        As there, checked.
    """
    tracker = VideoTracker(model, corrections_condition=True, most_conditioning=CONDITIONING)
    state = VideoState(frames)
    spans = spans_of(annotated, wanted)
    yield from ended(spans, [front for fronts in fronts_of(spans) for front in fronts])
    spans = [span for span in spans if span.wanted]
    for position, masks in sorted(_memorable(annotated, spans).items()):
        with stoppable(model, cancelled, position):
            for obj_id, mask in masks.items():
                known = state.objects.setdefault(obj_id, ObjectMemory())
                tracker.answer(state, position, known, None, squared_mask(mask.to_array(), model.image_size))
            # Memories are made while the embedding of the frame is still there.
            tracker.settle(state)
    forward, backward = fronts_of(spans)
    for fronts, step in ((forward, 1), (backward, -1)):
        for position, here in arriving(fronts, step, halfway=True):
            obj_ids = [front.span.obj_id for front in here]
            with stoppable(model, cancelled, position):
                outputs = tracker.track(state, position, step < 0, obj_ids)
            masks_here = _arrived(here, TrackedFrame.of(position, obj_ids, outputs, frames.size))
            if masks_here:
                yield Carried(position, masks_here)


def _memorable(
    annotated: Mapping[int, Mapping[int, Mask]], spans: Sequence[Span]
) -> dict[int, dict[int, Mask]]:
    """The annotated masks, by position and object, that a frame of one of the spans could attend to."""
    chosen: dict[int, dict[int, Mask]] = {}
    for span in spans:
        known = annotated[span.obj_id]
        closest = sorted(known, key=lambda at: min(abs(at - span.wanted[0]), abs(at - span.wanted[-1])))
        sides = [side[0] for side in (span.before, span.after) if side is not None]
        for position in {*closest[:CONDITIONING], *sides}:
            chosen.setdefault(position, {})[span.obj_id] = known[position]
    return chosen


def _arrived(fronts: Sequence[Front], found: TrackedFrame) -> dict[int, tuple[Mask, float] | None]:
    """Move fronts on, and say what was wanted of them."""
    masks: dict[int, tuple[Mask, float] | None] = {}
    for index, front in enumerate(fronts):
        front.position = found.frame_idx
        if front.position not in front.span.wanted:
            continue
        front.span.wanted.remove(front.position)
        mask = found.mask(index) if found.presence[index] > 0 else None
        masks[front.span.obj_id] = (mask, float(found.scores[index])) if mask and not mask.is_empty else None
    return masks
