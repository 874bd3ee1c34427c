from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.annotation import Annotation, Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
OTHER = Plane((None, None, 3))


def prompts(x: float = 1, y: float = 2, **options: object) -> Prompts:
    return Prompts.create((10, 10), points=[[x, y]], **options)


def square(side: int = 3) -> Mask:
    return Mask((1, 1), np.ones((side, side), dtype=bool), (10, 10))


def listen(document: Annotation) -> list[tuple[SamObject, Plane]]:
    told: list[tuple[SamObject, Plane]] = []
    document.events.mask_changed.connect(lambda item, plane: told.append((item, plane)))
    return told


@given(st.lists(st.integers(0, 50), min_size=2, max_size=5), st.data())
def test_a_plane_indexes_two_axes_of_the_array(index: list[int], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(index) - 1), min_size=2, max_size=2, unique=True))
    plane = Plane(tuple(None if axis in axes else i for axis, i in enumerate(index)))
    assert plane.axes == tuple(sorted(axes))
    array = np.broadcast_to(np.float32(0), [60 + axis for axis in range(len(index))])
    assert array[plane.slices].shape == tuple(60 + axis for axis in sorted(axes))


@pytest.mark.parametrize("index", [(1, 2), (None,), (None, None, None), ()])
def test_a_plane_has_two_axes(index: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="exactly two axes"):
        Plane(index)


def test_set_prompts_names_the_planes_that_changed() -> None:
    document = Annotation()
    assert document.set_prompts({PLANE: prompts(), OTHER: prompts()}) == {PLANE, OTHER}
    assert document.set_prompts({PLANE: prompts(), OTHER: prompts()}) == set()
    assert document.set_prompts({PLANE: prompts(x=2), OTHER: prompts()}) == {PLANE}
    assert document.set_prompts({PLANE: prompts(x=2)}) == {OTHER}
    assert document.set_prompts({PLANE: prompts(x=2, box=[0, 0, 5, 5])}) == {PLANE}
    assert document.set_prompts({PLANE: prompts(x=2, box=[0, 0, 5, 5])}) == set()
    assert document.set_prompts({PLANE: prompts(x=2, box=[0, 0, 5, 6])}) == {PLANE}
    assert document.set_prompts({PLANE: prompts(x=2, labels=[0])}) == {PLANE}
    assert document.set_prompts({}) == {PLANE}


def test_masks_are_told_of_when_they_come_change_and_go() -> None:
    document = Annotation()
    told = listen(document)
    item = document.current
    document.set_prompts({PLANE: prompts()})
    assert document.set_mask(item, PLANE, square(), 0.5)
    assert item.masks[PLANE] == square()
    assert item.scores[PLANE] == 0.5
    document.set_mask(item, PLANE, Mask.empty((10, 10)), 0.9)
    assert not item.masks
    assert not item.scores
    document.set_mask(item, PLANE, None)
    assert told == [(item, PLANE)] * 2  # taking away what is not there is no news


def test_accepted_objects_stay_and_ids_count_up() -> None:
    document = Annotation(first_id=7)
    current: list[int] = []
    document.events.current_changed.connect(lambda item: current.append(item.id))
    for _ in range(3):
        document.set_prompts({PLANE: prompts()})
        document.accept()
    assert [item.id for item in document.objects] == [7, 8, 9]
    assert all(item.accepted for item in document.objects)
    assert current == [8, 9, 10]
    assert document.objects[0].prompts[PLANE].points.tolist() == [[1, 2]]


def test_nothing_cannot_be_accepted() -> None:
    with pytest.raises(ValueError, match="nothing to accept"):
        Annotation().accept()


def test_a_mask_may_arrive_after_accepting_but_not_after_rejecting() -> None:
    document = Annotation()
    document.set_prompts({PLANE: prompts()})
    accepted = document.accept()
    document.set_prompts({PLANE: prompts()})
    rejected = document.current
    document.reject()
    told = listen(document)
    assert document.set_mask(accepted, PLANE, square(), 0.5)
    assert not document.set_mask(rejected, PLANE, square(), 0.5)
    assert told == [(accepted, PLANE)]


def test_rejecting_takes_all_masks_away_and_reuses_the_id() -> None:
    document = Annotation(first_id=4)
    document.set_prompts({PLANE: prompts(), OTHER: prompts()})
    document.set_mask(document.current, PLANE, square(), 0.5)
    document.set_mask(document.current, OTHER, square(), 0.5)
    told = listen(document)
    rejected = document.current
    document.reject()
    assert {plane for item, plane in told if item is rejected} == {PLANE, OTHER}
    assert document.current is not rejected
    assert document.current.id == 4
    assert document.objects == []
