"""Masks of an automatic run become objects: in one step, and nobody loses a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, ObjectClass, Plane, SamObject, Source
from napari_sam.annotation.automatic import accept_candidates, drafts_of_candidates, occupied
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
