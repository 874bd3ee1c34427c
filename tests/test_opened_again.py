"""What a hand painted holds once the object was opened and accepted again, whatever was done meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, HandEdit, Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
SIZE = 20, 20


def square(row: int, column: int, height: int, width: int, size: tuple[int, int] = SIZE) -> Mask:
    return Mask((row, column), np.ones((height, width), dtype=bool), size)


def paint(document: Document, plane: Plane, mask: Mask, number: int) -> None:
    document.paint(plane, mask.slices, np.where(mask.bits, number, document.labels_in(plane, mask.slices)))


def overwritten(document: Document) -> None:
    """A new object takes all that it can get of the upper left corner."""
    document.overwrite = True
    prompts = Prompts.create(SIZE, points=[[5, 5]])
    document.set_prompts({PLANE: prompts})
    answer = Answer(((square(0, 0, 10, 10), 0.9),), prompts=prompts)
    assert document.answer(document.current.uid, PLANE, answer)


@pytest.fixture
def document() -> Document:
    """Object 5, painted, is open."""
    made = Document(SIZE)
    paint(made, PLANE, square(2, 2, 6, 6), 5)
    paint(made, PLANE, square(12, 2, 2, 6), 6)
    made.open(made.with_id(5).uid)
    return made


def test_a_class_does_not_take_its_protection_away(document: Document) -> None:
    uid = document.current.uid
    document.set_class([uid], document.class_named("cell"))
    kept = document.accept()
    assert kept.hand == {PLANE: HandEdit(square(2, 2, 6, 6), Mask.empty(SIZE))}
    assert (kept.base, kept.class_id) == ({}, 1)
    overwritten(document)
    assert document.get(uid).area == 36


@pytest.mark.parametrize("number", [0, 9], ids=["erased", "another object"])
def test_a_pixel_less_does_not_take_the_protection_of_the_others_away(
    document: Document, number: int
) -> None:
    uid = document.current.uid
    lost = square(2, 2, 1, 1)
    paint(document, PLANE, lost, number)
    kept = document.accept()
    assert kept.hand == {PLANE: HandEdit(square(2, 2, 6, 6) - lost, lost)}
    overwritten(document)
    assert document.get(uid).area == 35


def test_what_was_erased_before_stays_erased(document: Document) -> None:
    uid, first, second = document.current.uid, square(2, 2, 1, 1), square(2, 4, 1, 1)
    document.reject()
    paint(document, PLANE, first, 0)
    document.open(uid)
    paint(document, PLANE, second, 0)
    assert document.accept().hand[PLANE].removed == first | second


def test_what_was_painted_meanwhile_is_painted_too(document: Document) -> None:
    paint(document, PLANE, square(2, 8, 6, 2), 5)
    assert document.accept().hand[PLANE].added == square(2, 2, 6, 8)


def test_where_a_model_has_answered_its_mask_counts(document: Document) -> None:
    item = document.current
    document.set_prompts({PLANE: Prompts.create(SIZE, points=[[15, 15]])})
    asked = document.current.prompts[PLANE]
    document.answer(
        item.uid, PLANE, Answer(((square(2, 2, 6, 6) | square(14, 14, 3, 3), 0.9),), prompts=asked)
    )
    assert document.accept().hand == {}


def test_planes_without_prompts_stay_painted() -> None:
    upper, lower = Plane((0, None, None)), Plane((1, None, None))
    document = Document((2, *SIZE))
    for plane in (upper, lower):
        paint(document, plane, square(2, 2, 6, 6), 5)
    uid = document.with_id(5).uid
    document.open(uid)
    document.set_prompts({lower: Prompts.create(SIZE, points=[[15, 15]])})
    asked = document.current.prompts[lower]
    document.answer(uid, lower, Answer(((square(2, 2, 6, 6) | square(14, 14, 3, 3), 0.9),), prompts=asked))
    kept = document.accept()
    assert kept.hand == {upper: HandEdit(square(2, 2, 6, 6), Mask.empty(SIZE))}


@pytest.mark.parametrize("decide", [Document.split, lambda d, uid: d.merge([uid, d.with_id(6).uid])])
def test_what_is_split_or_merged_while_it_is_open_stays_painted(
    document: Document, decide: Callable[[Document, int], object]
) -> None:
    paint(document, PLANE, square(4, 2, 1, 6), 0)
    uid = document.current.uid
    decide(document, uid)
    painted = [item.hand[PLANE].added == item.masks[PLANE] for item in document.objects]
    assert all(painted)


def test_what_divides_while_it_is_open_stays_painted() -> None:
    document = Document((2, *SIZE))
    paint(document, Plane((0, None, None)), square(2, 2, 6, 6), 5)
    paint(document, Plane((1, None, None)), square(2, 2, 2, 6) | square(6, 2, 2, 6), 5)
    uid = document.with_id(5).uid
    document.open(uid)
    children = document.divide(uid, Plane((1, None, None)))
    assert len(children) == 2
    for item, plane in [
        (document.get(uid), Plane((0, None, None))),
        *((c, Plane((1, None, None))) for c in children),
    ]:
        assert item.hand[plane].added == item.masks[plane]


def test_accepting_what_changed_is_undone_exactly(document: Document) -> None:
    paint(document, PLANE, square(2, 2, 1, 1), 0)
    before = document.snapshot
    document.accept()
    after = document.snapshot
    document.undo()
    assert document.snapshot.objects == before.objects
    document.redo()
    assert document.snapshot.objects == after.objects


def test_an_answer_that_says_the_same_again_changes_no_pixel() -> None:
    """Asked again, an object with a mask from elsewhere grew into what had become free."""
    document = Document(SIZE)
    first, second = document.add_objects(
        [SamObject(0, 0, base={PLANE: Answer(((square(0, at, 6, 6), None),))}) for at in (0, 3)]
    )
    document.open(second.uid)
    document.set_prompts({PLANE: Prompts.create(SIZE, points=[[7, 3]])})
    answer = Answer(((square(0, 3, 6, 6), 0.9),), prompts=document.current.prompts[PLANE])
    document.answer(second.uid, PLANE, answer)
    document.accept()
    document.delete([first.uid])
    assert document.answer(second.uid, PLANE, answer)
    assert document.get(second.uid).area == 18
