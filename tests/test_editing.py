"""What becomes of objects: opened, merged, split, painted."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, HandEdit, Plane, SamObject, Source
from napari_sam.annotation.editing import merged, owed_to, parts, reopened, with_mask_prompt
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.records import GREATEST_ID
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
SIZE = 4, 8
WHOLE = slice(0, 4), slice(0, 8)


def drawn(*rows: str) -> Mask:
    return Mask.from_array(
        np.array([[c == "x" for c in row.ljust(8)] for row in rows + ("",) * (4 - len(rows))])
    )


def click(x: int = 1, **more: object) -> Prompts:
    return Prompts.create(SIZE, points=[[x, 1]], **more)  # type: ignore[arg-type]


def based(uid: int, mask: Mask, **more: object) -> SamObject:
    item = SamObject(uid, uid, base={PLANE: Answer(((mask, None),))}, masks={PLANE: mask}, accepted=True)
    return replace(item, **more)  # type: ignore[arg-type]


# Prompts


def test_a_mask_from_elsewhere_goes_with_whatever_is_drawn() -> None:
    item = based(1, drawn("xx"))
    assert with_mask_prompt(item, PLANE, click()) == click(mask=drawn("xx"))
    assert with_mask_prompt(item, PLANE, click(mask=drawn("x"))) == click(mask=drawn("x"))
    assert with_mask_prompt(item, PLANE, None) is None
    assert with_mask_prompt(SamObject(1, 1), PLANE, click()) == click()


def test_a_mask_that_is_refined_stays_whatever_is_drawn() -> None:
    refined = Prompts.create(SIZE, mask=drawn("xx"))
    for item in (SamObject(1, 1, prompts={PLANE: refined}), based(1, drawn("xxx"), prompts={PLANE: refined})):
        assert with_mask_prompt(item, PLANE, None) == refined
        assert with_mask_prompt(item, PLANE, click()) == click(mask=drawn("xx"))


def test_refining_an_imported_mask_outlasts_reading_what_is_drawn() -> None:
    """The widget reads its layers after every change: there is no mask in them."""
    document = Document(SIZE)
    (item,) = document.add_objects([based(0, drawn("xx"))])
    document.open(item.uid)
    assert document.refine(PLANE)
    assert document.set_prompts({}) == set()
    refined = document.current.prompts[PLANE]
    assert refined.mask == drawn("xx")
    assert document.answer(item.uid, PLANE, Answer(((drawn("xxx"), 0.9),), prompts=refined))
    assert document.refine(PLANE)
    assert document.set_prompts({PLANE: click()}) == {PLANE}
    assert document.current.prompts[PLANE] == click(mask=drawn("xxx"))
    for _ in range(3):
        document.undo()
    assert document.current == replace(item, accepted=False)


def test_where_another_program_found_nothing_prompts_begin_from_nothing() -> None:
    """An empty mask made an error of the first click."""
    document = Document(SIZE)
    elsewhere = Answer(((drawn("", "", "x"), None),))
    (item,) = document.add_objects(
        [SamObject(0, 0, base={PLANE: Answer(((drawn(), None), *elsewhere.candidates))})]
    )
    document.open(item.uid)
    document.set_prompts({PLANE: click()})
    assert document.current.prompts == {PLANE: click()}
    document.answer(item.uid, PLANE, Answer(((drawn("xx"), 0.9),), prompts=click()))
    assert document.current.masks == {PLANE: drawn("xx")}
    document.set_prompts({})
    assert document.current.masks == {}


def test_a_corrected_mask_that_is_refined_stays_until_there_is_another() -> None:
    """The model's own idea of the whole counted at once, though it was not shown."""
    document = Document(SIZE)
    (item,) = document.add_objects([based(0, drawn("xx"))])
    document.open(item.uid)
    document.set_prompts({PLANE: click(6)})
    asked = document.current.prompts[PLANE]
    document.answer(item.uid, PLANE, Answer(((drawn("x", "     xx"), 0.9),), prompts=asked))
    corrected = drawn("xx", "     xx")
    assert document.current.masks == {PLANE: corrected}
    document.refine(PLANE)
    assert document.current.prompts[PLANE] == Prompts.create(SIZE, mask=corrected)
    kept = document.accept()
    document.open(item.uid)
    document.reject()
    assert document.get(item.uid) == kept
    assert kept.masks == {PLANE: corrected}


def test_prompts_that_select_nothing_leave_no_mask_and_wait_for_none() -> None:
    document = Document(SIZE)
    document.set_prompts({PLANE: click()})
    asked = document.current.prompts[PLANE]
    document.answer(1, PLANE, Answer(((drawn("xx"), 0.9),), prompts=asked))
    background = Prompts.create(SIZE, points=[[0, 0]], labels=[0])
    document.set_prompts({PLANE: background})
    assert (document.current.area, document.current.is_stale(PLANE)) == (0, False)
    assert not document.answer(1, PLANE, Answer(((drawn("xx"), 0.9),), prompts=asked))
    document.undo()
    assert document.current.area == 2


# Opening


def test_what_has_no_prompts_becomes_the_mask_to_start_from() -> None:
    painted = SamObject(1, 1, hand={PLANE: HandEdit(drawn("xx"), drawn())}, masks={PLANE: drawn("xx")})
    opened = reopened(painted)
    assert (opened.base[PLANE].mask, opened.hand, opened.accepted) == (drawn("xx"), {}, False)
    assert reopened(based(1, drawn("xx"))) == based(1, drawn("xx"), accepted=False)
    prompted = replace(painted, prompts={PLANE: click()}, accepted=True)
    assert reopened(prompted) == replace(prompted, accepted=False)


def test_looking_at_a_painted_object_does_not_take_its_protection_away() -> None:
    """What a hand painted became a mask like any other by a double click and Accept."""
    document = Document(SIZE)
    document.paint(PLANE, WHOLE, np.where(drawn("xx").to_array(), 5, 0))
    painted = document.with_id(5)
    (other,) = document.add_objects([based(0, drawn("", "", "", "x"))])
    document.open(painted.uid)
    document.accept()
    assert document.get(painted.uid) == painted
    document.open(painted.uid)
    document.open(other.uid)
    assert document.get(painted.uid) == painted
    document.overwrite = True
    document.add_objects([based(0, drawn("xxx"))])
    assert document.get(painted.uid) == painted


# Merging and splitting


def test_merged_is_the_first_with_the_pixels_of_all() -> None:
    upper, other = Plane((0, None, None)), Plane((1, None, None))
    first = SamObject(4, 9, class_id=2, prompts={upper: click()}, masks={upper: drawn("x")})
    second = SamObject(5, 3, masks={upper: drawn("", "", "", "       x"), other: drawn(" x")})
    whole = merged([first, second])
    assert (whole.uid, whole.id, whole.class_id, whole.accepted, whole.prompts) == (4, 9, 2, True, {})
    assert whole.masks == {upper: drawn("x", "", "", "       x"), other: drawn(" x")}
    assert {plane: answer.mask for plane, answer in whole.base.items()} == whole.masks


def test_merging_and_splitting_keep_what_was_painted() -> None:
    hand = {PLANE: HandEdit(drawn("xxx"), drawn("       x"))}
    whole = merged([based(1, drawn("", "xx")), based(2, drawn("xx    x"), hand=hand)])
    assert whole.hand == {PLANE: HandEdit(drawn("xx"), drawn())}
    document = Document(SIZE)
    document.add_objects([based(0, drawn("x"))])
    document.paint(PLANE, (slice(0, 1), slice(6, 8)), np.ones((1, 2), dtype=int))
    larger, smaller = document.split(document.with_id(1).uid)
    assert larger.hand == {PLANE: HandEdit(drawn("      xx"), drawn())}
    assert (smaller.masks, smaller.hand) == ({PLANE: drawn("x")}, {})


def test_a_thousand_objects_merge_at_once() -> None:
    size = 3000, 3000
    spots = [
        SamObject(n + 1, n + 1, masks={PLANE: Mask((n % 32 * 90, n // 32 * 90), np.ones((50, 50)), size)})
        for n in range(1000)
    ]
    began = time.process_time()
    assert merged(spots).area == 1000 * 2500
    # One after the other took over half a second.
    assert time.process_time() - began < 0.25


def test_debts_go_to_who_took_over() -> None:
    item = SamObject(1, 1, taken={PLANE: {2: drawn("x"), 3: drawn(" x"), 4: drawn("  x")}})
    assert owed_to(2, {3}, item).taken == {PLANE: {2: drawn("xx"), 4: drawn("  x")}}


def test_parts_are_connected_at_corners_and_the_largest_is_first() -> None:
    found = parts(based(1, drawn("x    xx", " x   xx")))
    assert found == [{PLANE: drawn("     xx", "     xx")}, {PLANE: drawn("x", " x")}]
    assert parts(based(1, drawn("xx"))) == [{PLANE: drawn("xx")}]
    assert parts(SamObject(1, 1)) == []


def test_parts_are_connected_across_planes() -> None:
    def on(*index: int) -> Plane:
        return Plane((*index, None, None))

    masks = {
        on(0, 5): drawn("x     x"),
        on(0, 6): drawn(" x"),
        on(1, 6): drawn("      x"),
        on(3, 5): drawn("x"),
    }
    assert parts(SamObject(1, 1, masks=masks)) == [
        {on(0, 5): drawn("x"), on(0, 6): drawn(" x")},
        {on(0, 5): drawn("      x"), on(1, 6): drawn("      x")},
        {on(3, 5): drawn("x")},
    ]


def test_small_parts_of_a_large_object_are_small() -> None:
    """A thousand specks kept a thousand arrays of the whole, and took as many seconds as they have pixels."""
    full = np.zeros((1200, 1200), dtype=bool)
    full[::40, ::40] = True
    began = time.process_time()
    found = parts(SamObject(1, 1, masks={PLANE: Mask.from_array(full)}))
    assert time.process_time() - began < 1
    assert len(found) == 900
    for part in found:
        bits = part[PLANE].bits
        while bits.base is not None:
            bits = bits.base
        assert bits.nbytes < 100


# Painting


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_type_are_painted(kind: str) -> None:
    document = Document(SIZE)
    document.add_objects([based(0, drawn("xx"))])
    numbers = {"int8": -3, "uint8": 255, "int32": -(2**31), "uint32": 2**32 - 1}
    number = numbers.get(kind, 2**60 + 1)
    values = document.to_labels(np.int64)
    values[0, 1:3] = number
    assert document.paint(PLANE, WHOLE, values.astype(kind))
    assert document.to_labels(np.int64)[0].tolist() == [1, number, number, 0, 0, 0, 0, 0]
    assert document.with_id(number).source == Source.PAINTED
    assert document.current.id == max(number + 1, 2)
    assert not document.paint(PLANE, WHOLE, values.astype(kind))
    assert document.undo() == "Paint"
    assert document.to_labels()[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_ids_that_leave_no_room_for_another_are_refused() -> None:
    document = Document(SIZE)
    initial = document.snapshot
    with pytest.raises(AnnotationError, match=f"{2**63}"):
        document.paint(PLANE, WHOLE, np.full(SIZE, 2**63, dtype=np.uint64))
    with pytest.raises(AnnotationError, match="too large"):
        document.add_objects([replace(based(0, drawn("x")), id=GREATEST_ID + 1)], keep_ids=True)
    with pytest.raises(AnnotationError, match="background"):
        document.add_objects([based(0, drawn("x"))], keep_ids=True)
    assert document.snapshot == initial
    document.add_objects([replace(based(0, drawn("x")), id=GREATEST_ID)], keep_ids=True)
    document.set_prompts({PLANE: click()})
    document.answer(document.current.uid, PLANE, Answer(((drawn(" x"), 1),), prompts=click()))
    assert document.labels_in(PLANE, WHOLE)[0, :2].tolist() == [GREATEST_ID, GREATEST_ID + 1]


def test_a_label_type_that_is_too_small_is_an_error() -> None:
    document = Document(SIZE)
    document.add_objects(
        [replace(based(0, drawn("x")), id=-3), replace(based(0, drawn(" x")), id=200)], keep_ids=True
    )
    assert document.to_labels(np.int16)[0, :2].tolist() == [-3, 200]
    for kind in ("uint8", "int8", "float32", "bool"):
        with pytest.raises(AnnotationError, match="larger type"):
            document.to_labels(kind)


def test_painting_the_next_id_begins_the_current_object() -> None:
    document = Document(SIZE)
    document.paint(PLANE, (slice(0, 1), slice(0, 2)), np.full((1, 2), document.current.id))
    assert (document.current.area, document.current.accepted) == (2, False)
    document.set_prompts({PLANE: click()})
    document.answer(1, PLANE, Answer(((drawn("", "xx"), 0.9),), prompts=click()))
    assert document.current.masks == {PLANE: drawn("xx", "xx")}
    assert document.accept().id == 1
    assert (document.current.id, len(document)) == (2, 1)


def test_an_object_that_is_painted_over_comes_back_with_its_prompts() -> None:
    document = Document(SIZE)
    document.set_prompts({PLANE: click()})
    document.answer(1, PLANE, Answer(((drawn("xx"), 0.9),), prompts=click()))
    kept = document.accept()
    document.paint(PLANE, WHOLE, np.full(SIZE, 7))
    assert document.get(kept.uid).area == 0
    assert document.get(kept.uid).prompts == {PLANE: click()}
    document.undo()
    assert document.get(kept.uid) == kept


def test_erasing_many_objects_looks_at_each_pixel_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((6, 6), dtype=int))
    labels[:, ::6] = 0
    document = Document(labels.shape)
    document.add_objects(drafts_of_labels(labels), keep_ids=True)
    box = slice(1, 59), slice(2, 60)
    after = labels.copy()
    after[box] = np.roll(labels, 3, axis=1)[box]
    looked_at, kept = 0, Mask.__post_init__

    def counted(mask: Mask) -> None:
        nonlocal looked_at
        looked_at += np.asarray(mask.bits).size
        kept(mask)

    monkeypatch.setattr(Mask, "__post_init__", counted)
    assert document.paint(PLANE, box, after[box])
    assert looked_at < 15 * labels.size
    assert document.to_labels().tolist() == after.tolist()
    for number, item in ((n, document.with_id(n)) for n in range(1, 101)):
        gone, come = (labels == number) & (after != number), (labels != number) & (after == number)
        assert item.hand.get(PLANE, HandEdit.none(labels.shape)) == HandEdit(
            Mask.from_array(come), Mask.from_array(gone)
        )
    document.undo()
    assert document.to_labels().tolist() == labels.tolist()
