"""Masks of an automatic run become objects: in one step, and nobody loses a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, ObjectClass, Plane, SamObject, Source
from napari_sam.annotation.automatic import (
    accept_candidates,
    accept_stack,
    drafts_of_candidates,
    drafts_of_stack,
    occupied,
)
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.errors import AnnotationError
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.mask import Mask

SHAPE = (40, 50)
PLANE = Plane((None, None))


def block(x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = SHAPE) -> Mask:
    return Mask((y0, x0), np.ones((y1 - y0, x1 - x0), dtype=bool), shape)


def sieve_of(*masks: Mask) -> Sieve:
    count, shape = len(masks), masks[0].shape
    scores = np.linspace(0.9, 0.6, count)
    return Sieve(
        MaskCandidates.of(
            masks,
            scores,
            scores / 2,
            np.zeros((count, 2)),
            [(0, 0, shape[1], shape[0])] * count,
            shape,
            model="nano",
            digest="d1",
            contrast_limits=(1, 9),
            gamma=0.5,
        )
    )


def with_objects(*masks: Mask, shape: tuple[int, ...] = SHAPE, plane: Plane = PLANE) -> Document:
    document = Document(shape)
    document.add_objects(
        [SamObject(0, 0, source=Source.IMPORTED, base={plane: Answer(((m, None),))}) for m in masks]
    )
    document.history.clear()
    return document


def test_a_draft_says_where_it_came_from() -> None:
    sieve = sieve_of(block(0, 0, 5, 5), block(10, 10, 20, 20))
    (draft,) = drafts_of_candidates(sieve, np.array([1]), Filter(), PLANE, class_id=3)
    answer = draft.base[PLANE]
    assert (draft.source, draft.class_id, draft.prompts) == (Source.AUTOMATIC, 3, {})
    assert answer.mask == block(10, 10, 20, 20)
    assert answer.score == pytest.approx(0.6)
    assert answer.stability == pytest.approx(0.3)
    assert (answer.model, answer.digest, answer.prompts) == ("nano", "d1", None)
    assert (answer.look.contrast_limits, answer.look.gamma) == ((1, 9), 0.5)


def test_accepting_is_one_step_and_gives_what_was_shown() -> None:
    document = with_objects(block(0, 0, 12, 12))
    before = document.to_labels()
    # The second shares pixels with the first and with the object, the third is mostly the object's.
    sieve = sieve_of(block(20, 5, 40, 25), block(8, 8, 25, 30), block(0, 0, 10, 13), block(30, 30, 45, 38))
    wanted = Filter()
    shown = sieve.paint(sieve.select(wanted), wanted, occupied(document, PLANE))
    document.overwrite = True  # does not count here
    added = accept_candidates(document, sieve, wanted, PLANE)
    assert document.overwrite
    assert [item.id for item in added] == [2, 3, 4]
    assert all(item.accepted and item.source == Source.AUTOMATIC for item in added)
    after = document.to_labels()
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    ids = np.zeros(len(sieve.candidates) + 1, dtype=int)
    ids[shown.kept + 1] = [2, 3, 4]
    np.testing.assert_array_equal(after, np.where(before > 0, before, ids[shown.labels]))
    assert document.undo_text == "Segment everything"
    document.undo()
    np.testing.assert_array_equal(document.to_labels(), before)
    assert not document.undo_text
    document.redo()
    np.testing.assert_array_equal(document.to_labels(), after)


def test_nothing_to_accept_is_no_step() -> None:
    document = with_objects(block(0, 0, 50, 40))
    assert accept_candidates(document, sieve_of(block(5, 5, 9, 9)), Filter(), PLANE) == []
    assert not document.undo_text
    among = np.array([False])
    assert accept_candidates(Document(SHAPE), sieve_of(block(5, 5, 9, 9)), Filter(), PLANE, among) == []


def test_objects_get_the_class_of_new_ones() -> None:
    document = Document(SHAPE)
    document.set_classes([ObjectClass(1, "cell", "#ff0000")])
    document.new_class = 1
    (item,) = accept_candidates(document, sieve_of(block(5, 5, 9, 9)), Filter(), PLANE)
    assert item.class_id == 1


@pytest.mark.parametrize(
    "index", [(1, None, None), (None, 7, None), (None, None, 30)], ids=["xy", "xz", "yz"]
)
def test_objects_on_any_plane(index: tuple[int | None, ...]) -> None:
    shape, plane = (6, 40, 50), Plane(index)
    size = tuple(n for n, i in zip(shape, index, strict=True) if i is None)
    document = with_objects(
        block(28, 5, 33, 12), block(1, 1, 4, 4), shape=shape, plane=Plane((1, None, None))
    )
    before = document.to_labels()
    np.testing.assert_array_equal(occupied(document, plane), before[plane.slices] > 0)
    assert occupied(document, plane).any()
    free = block(3, 2, size[1] - 3, size[0] - 2, (size[0], size[1]))
    sieve = sieve_of(free)
    wanted = Filter(min_visible=0)
    shown = sieve.paint(sieve.select(wanted), wanted, occupied(document, plane)).labels
    (item,) = accept_candidates(document, sieve, wanted, plane)
    labels = document.to_labels()
    np.testing.assert_array_equal(labels[plane.slices] == item.id, shown == 1)
    np.testing.assert_array_equal(labels[before > 0], before[before > 0])


def test_stability_survives_a_file_and_may_be_missing() -> None:
    document = with_objects(block(0, 0, 5, 5))
    accept_candidates(document, sieve_of(block(10, 10, 20, 20)), Filter(), PLANE)
    data = to_json(document.snapshot)
    assert from_json(data)[0] == document.snapshot
    imported, automatic = (item["base"][0] for item in data["objects"])
    assert "stability" not in imported
    automatic["stability"] = "high"
    with pytest.raises(AnnotationError, match="stability"):
        from_json(data)


# All masks as one object


def test_one_object_of_all_masks_is_what_was_shown() -> None:
    document = with_objects(block(0, 0, 12, 12))
    document.set_classes([ObjectClass(4, "cell", "#ff0000")])
    document.new_class = 4
    before = document.to_labels()
    sieve, wanted = sieve_of(block(20, 5, 40, 25), block(8, 8, 25, 30), block(0, 0, 10, 13)), Filter()
    shown = sieve.paint(sieve.select(wanted), wanted, occupied(document, PLANE)).labels > 0
    (item,) = accept_candidates(document, sieve, wanted, PLANE, as_one=True)
    np.testing.assert_array_equal(document.to_labels() == item.id, shown)
    np.testing.assert_array_equal(document.to_labels()[before > 0], before[before > 0])
    assert (item.class_id, item.source, item.accepted, item.score) == (4, Source.AUTOMATIC, True, None)
    assert item.base[PLANE].model == "nano"
    assert document.undo_text == "Segment everything"
    assert accept_candidates(document, sieve, wanted, PLANE, as_one=True) == []


# Stacks

DEPTH = 4
ZS = [Plane((z, None, None)) for z in range(DEPTH)]


def test_a_stack_is_accepted_in_one_step_and_gives_what_was_shown() -> None:
    document = with_objects(block(0, 0, 12, 12), block(30, 30, 36, 36), shape=(DEPTH, *SHAPE), plane=ZS[1])
    before = document.to_labels()
    # The long one has the better score on the first plane, and the worse one on the others.
    long, wide = block(20, 5, 26, 25), block(15, 10, 40, 20)
    runs = {
        ZS[2]: sieve_of(wide, long),
        ZS[0]: sieve_of(long, wide),
        ZS[1]: sieve_of(wide, long, block(0, 0, 13, 12)),
    }
    wanted = Filter(min_visible=0.3)
    shown = {
        plane: sieve.paint(sieve.select(wanted), wanted, occupied(document, plane)).labels
        for plane, sieve in runs.items()
    }
    document.overwrite = True  # does not count here
    added = accept_stack(document, runs, wanted, link=0.2)
    assert document.overwrite
    assert [sorted(plane.index[0] or 0 for plane in item.masks) for item in added] == [[0, 1, 2], [0, 1, 2]]
    after = document.to_labels()
    for plane, labels in shown.items():
        np.testing.assert_array_equal((after != before)[plane.slices], labels > 0)
        for item in added:
            (value,) = np.unique(labels[after[plane.slices] == item.id])
            answer = item.base[plane]
            assert answer.score == pytest.approx(runs[plane].candidates.predicted_iou[value - 1])
            np.testing.assert_array_equal(answer.mask.to_array(), labels == value)
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    assert document.undo() == "Segment everything"
    np.testing.assert_array_equal(document.to_labels(), before)
    assert not document.undo_text


def test_planes_that_are_not_neighbours_are_not_linked() -> None:
    square = block(5, 5, 15, 15)
    shape = (2, DEPTH, *SHAPE)
    at = [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)]
    runs = {Plane((t, z, None, None)): sieve_of(square) for t, z in at}
    for link, expected in ((0.3, [2, 1, 2]), (None, [1] * 5)):
        added = accept_stack(Document(shape), runs, Filter(), link=link)
        assert [len(item.masks) for item in added] == expected
        assert [item.id for item in added] == list(range(1, len(added) + 1))


def test_upright_planes_and_a_single_one() -> None:
    square = block(1, 0, 9, 4, (DEPTH, 50))
    document = Document((DEPTH, *SHAPE))
    (item,) = accept_stack(document, {Plane((None, y, None)): sieve_of(square) for y in (7, 8)}, Filter())
    labels = document.to_labels()
    assert labels[:, 7:9, 1:9].all()
    assert np.count_nonzero(labels) == item.area == 2 * square.area
    assert len(accept_stack(Document(SHAPE), {PLANE: sieve_of(block(0, 0, 5, 5))}, Filter())) == 1


def test_a_stack_as_one_object_and_only_among_some() -> None:
    left, right = block(0, 0, 10, 10), block(20, 20, 30, 30)
    document = Document((DEPTH, *SHAPE))
    runs = dict.fromkeys(ZS[:3], sieve_of(left, right))
    among = {ZS[0]: np.array([True, False]), ZS[1]: np.array([False, False])}
    (item,) = accept_stack(document, runs, Filter(), among, as_one=True)
    assert {plane: mask.area for plane, mask in item.masks.items()} == {ZS[0]: 100, ZS[2]: 200}
    assert accept_stack(document, runs, Filter(), dict.fromkeys(runs, among[ZS[1]])) == []
    assert accept_stack(document, {}, Filter()) == []
    assert len(document.history) == 1


def test_drafts_of_a_copy_are_the_same_objects() -> None:
    documents = [with_objects(block(0, 0, 9, 9), shape=(DEPTH, *SHAPE), plane=ZS[0]) for _ in range(2)]
    runs = {plane: sieve_of(block(5, 5, 20, 20), block(15, 5, 40, 20)) for plane in ZS}
    for document in documents:
        document.set_classes([ObjectClass(4, "cell", "#ff0000")])
        document.new_class = 4
    accept_stack(documents[0], runs, Filter())
    drafts = drafts_of_stack(Document.of(documents[1].snapshot), runs, Filter(), class_id=4)
    assert len(documents[1].objects) == 1
    documents[1].add_objects(drafts, "Segment everything")
    assert documents[0].snapshot == documents[1].snapshot
    assert {item.class_id for item in documents[1].objects[1:]} == {4}


def test_a_link_that_is_no_iou_is_refused_before_anything_is_done() -> None:
    document = Document((DEPTH, *SHAPE))
    with pytest.raises(ValueError, match="from an IoU above 0"):
        accept_stack(document, {ZS[0]: sieve_of(block(0, 0, 5, 5))}, Filter(), link=0)
    assert not document.objects
