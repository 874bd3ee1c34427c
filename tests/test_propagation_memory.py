"""Objects carried by the memory of SAM 2, untrained and tiny: what is asked, answered, and kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import pytest
from narrow_sam2 import narrow_sam2

from napari_sam import SamVideoPredictor
from napari_sam.errors import Cancelled, ImageError
from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried, propagate
from napari_sam.inference.video_frames import open_video
from napari_sam.models.sam2 import Sam2

STACK = np.random.default_rng(0).integers(0, 256, (9, 40, 60), dtype=np.uint8)
SIZE = STACK.shape[1:]


@pytest.fixture(scope="module")
def model() -> Sam2:
    return narrow_sam2()


def _box(rows: slice, columns: slice) -> Mask:
    plane = np.zeros(SIZE, dtype=bool)
    plane[rows, columns] = True
    return Mask.from_array(plane)


LEFT, RIGHT = _box(slice(5, 30), slice(5, 25)), _box(slice(8, 36), slice(32, 55))
NOWHERE = Mask.empty(SIZE)


class Watched:
    """An array that counts what is read, and cannot read some of it."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.shape, self.dtype, self.broken = STACK.shape, STACK.dtype, broken
        self.read: list[int] = []

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        if index in self.broken:
            raise OSError(5, "Input/output error")
        return STACK[index]


def _answers(carried: Iterable[Carried]) -> dict[tuple[int, int], tuple[Mask, float] | None]:
    """By object and position; each comes once."""
    found: dict[tuple[int, int], tuple[Mask, float] | None] = {}
    for plane in carried:
        for obj_id, answer in plane.masks.items():
            assert (obj_id, plane.position) not in found
            found[obj_id, plane.position] = answer
    return found


def test_the_masks_are_those_of_the_video_predictor(model: Sam2) -> None:
    found = _answers(
        propagate(model, open_video(STACK), {1: {3: LEFT}, 2: {3: RIGHT}}, {1: range(9), 2: range(9)})
    )
    predictor = SamVideoPredictor(model)
    state = predictor.init_state(STACK)
    predictor.add_new_mask(state, 3, 1, LEFT.to_array())
    predictor.add_new_mask(state, 3, 2, RIGHT.to_array())
    expected = {}
    for reverse in (False, True):
        for frame in predictor.propagate(state, reverse=reverse):
            for index, obj_id in enumerate(frame.obj_ids):
                expected[obj_id, frame.frame_idx] = frame.mask(index), float(frame.scores[index])
    del expected[1, 3], expected[2, 3]
    assert found.keys() == expected.keys()
    for key, (mask, score) in expected.items():
        answer = found[key]
        assert answer is None if mask.is_empty else answer is not None and answer[0] == mask
        assert answer is None or answer[1] == pytest.approx(score, abs=1e-6)
    assert sum(answer is not None for answer in found.values()) > 8


def test_each_wanted_position_comes_once_and_annotated_ones_never(model: Sam2) -> None:
    video = Watched()
    annotated = {1: {2: LEFT, 6: LEFT}, 2: {8: RIGHT}, 3: {0: LEFT}}
    wanted = {1: [0, 2, 3, 5, 6, 8], 2: [6], 3: []}
    found = _answers(propagate(model, open_video(video), annotated, wanted))
    assert found.keys() == {(1, 0), (1, 3), (1, 5), (1, 8), (2, 6)}
    # Embeddings are kept: every frame between is read once, and none that nothing needs.
    assert sorted(video.read) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_an_object_that_is_not_seen_is_none_and_may_come_back() -> None:
    answers = _answers(
        propagate(narrow_sam2(presence=-5.0), open_video(STACK), {1: {4: LEFT}}, {1: range(9)})
    )
    assert answers == {(1, at): None for at in range(9) if at != 4}


def test_an_annotated_plane_without_the_object_is_its_end(model: Sam2) -> None:
    found = _answers(propagate(model, open_video(STACK), {1: {1: LEFT, 4: NOWHERE}}, {1: range(9)}))
    assert [found[1, at] for at in (5, 6, 7, 8)] == [None] * 4
    alone = _answers(propagate(model, open_video(STACK), {1: {1: LEFT}}, {1: range(9)}))
    # It is remembered, and counts before that plane, too.
    assert any(found[1, at] != alone[1, at] for at in (2, 3))


def test_what_was_yielded_before_a_broken_frame_stays(model: Sam2) -> None:
    found: list[int] = []
    with pytest.raises(ImageError, match="Frame 6 cannot be read"):
        found.extend(
            plane.position
            for plane in propagate(model, open_video(Watched((6,))), {1: {3: LEFT}}, {1: range(9)})
        )
    assert found == [4, 5]


def test_cancelled_within_a_frame(model: Sam2) -> None:
    cancelled = threading.Event()
    carried = propagate(model, open_video(STACK), {1: {3: LEFT}}, {1: range(9)}, cancelled=cancelled)
    assert next(carried).position == 4
    handle = model.memory_attention.norm.register_forward_pre_hook(lambda *_: cancelled.set())
    try:
        with pytest.raises(Cancelled, match="Cancelled on the way to plane 5: what is done is kept"):
            next(carried)
    finally:
        handle.remove()
