"""Steps on a line in time: what is undone and redone, what comes late, and the memory that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, Plane, SamObject
from napari_sam.annotation.history import CHANGE_BYTES, Change, History, Step
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))


def step(text: str, *changes: tuple[str, Any, Any], gesture: object = None) -> Step:
    made = Step(text, gesture)
    for change in changes:
        made.add(Change(*change))
    return made


class Values(dict[str, Any]):
    """What changes are made to."""

    def make(self, changes: list[Change]) -> None:
        for change in changes:
            self[change.key] = change.after


def square(side: int, size: int = 1000) -> Mask:
    return Mask((0, 0), np.ones((side, side), dtype=bool), (size, size))


def an_object(uid: int, *masks: Mask) -> SamObject:
    return SamObject(uid, uid, answers={PLANE: Answer(tuple((mask, 0.5) for mask in masks))})


def test_nothing_can_be_undone_at_first() -> None:
    history = History()
    assert (history.undo_text, history.redo_text, len(history)) == ("", "", 0)
    assert history.undo() == history.redo() == []


def test_steps_are_undone_from_the_last_and_redone_from_the_first() -> None:
    history, values = History(), Values(a=0, b=0)
    history.record(step("one", ("a", 0, 1)))
    history.record(step("two", ("b", 0, 1), ("a", 1, 2)))
    values.make(history.undo())
    assert values == {"a": 1, "b": 0}
    assert (history.undo_text, history.redo_text) == ("one", "two")
    values.make(history.undo())
    assert values == {"a": 0, "b": 0}
    values.make(history.redo())
    values.make(history.redo())
    assert values == {"a": 2, "b": 1}
    assert history.redo() == []


def test_a_step_without_changes_is_none() -> None:
    history = History()
    history.record(step("one", ("a", 0, 1)))
    history.undo()
    history.record(step("nothing"))
    assert history.redo_text == "one"


def test_a_new_step_ends_what_could_be_redone() -> None:
    history = History()
    history.record(step("one", ("a", 0, 1)))
    history.undo()
    history.record(step("two", ("a", 0, 2)))
    assert (history.undo_text, history.redo_text, len(history)) == ("two", "", 1)


def test_a_gesture_is_one_step_named_by_its_beginning() -> None:
    history, values = History(), Values(a=3, b=2)
    history.record(step("begin", ("a", 0, 1), gesture="drag"))
    history.record(step("go on", ("b", 0, 2), ("a", 1, 3), gesture="drag"))
    history.record(step("another", ("a", 3, 4), gesture="other"))
    history.record(step("none", ("a", 4, 5)))
    history.record(step("none", ("a", 5, 6)))
    assert len(history) == 4
    for _ in range(4):
        values.make(history.undo())
    assert values == {"a": 0, "b": 0}
    assert history.redo_text == "begin"


def test_a_gesture_that_goes_on_after_an_undo_is_a_step_of_its_own() -> None:
    history, values = History(), Values(a=1)
    history.record(step("before", ("a", -1, 0)))
    history.record(step("drag", ("a", 0, 1), gesture="drag"))
    values.make(history.undo())
    history.record(step("drag", ("a", 0, 2), gesture="drag"))
    assert (len(history), history.redo_text) == (2, "")
    values.make(history.undo())
    assert values == {"a": 0}


def test_what_comes_late_is_undone_with_the_newest_step() -> None:
    history, values = History(), Values(a=1, mask="there")
    history.record(step("one", ("a", 0, 1)))
    history.record_late([Change("mask", None, "there")])
    assert len(history) == 1
    values.make(history.undo())
    assert values == {"a": 0, "mask": None}
    values.make(history.redo())
    assert values == {"a": 1, "mask": "there"}


def test_what_comes_after_an_undo_is_taken_back_before_the_next_redo_or_undo() -> None:
    for back in ("redo", "undo"):
        history, values = History(), Values(a=2, mask=None)
        history.record(step("one", ("a", 0, 1)))
        history.record(step("two", ("a", 1, 2)))
        values.make(history.undo())
        history.record_late([Change("mask", None, "there")])
        assert history.redo_text == "two"
        values["mask"] = "there"
        values.make(getattr(history, back)())
        assert values == {"a": 2 if back == "redo" else 0, "mask": None}


def test_what_comes_after_an_undo_belongs_to_the_step_before_once_there_is_a_new_one() -> None:
    history, values = History(), Values(a=3, mask="there")
    history.record(step("one", ("a", 0, 1)))
    history.record(step("two", ("a", 1, 2)))
    history.undo()
    history.record_late([Change("mask", None, "there")])
    history.record(step("three", ("a", 1, 3)))
    values.make(history.undo())
    assert values == {"a": 1, "mask": "there"}
    values.make(history.undo())
    assert values == {"a": 0, "mask": None}


def test_what_comes_before_the_first_step_is_where_the_history_begins() -> None:
    history, values = History(), Values(a=1, mask="there")
    history.record_late([])
    history.record_late([Change("mask", None, "there")])
    assert history.undo() == []
    history.record(step("one", ("a", 0, 1)))
    values.make(history.undo())
    assert values == {"a": 0, "mask": "there"}


def test_late_changes_survive_an_undo_of_nothing() -> None:
    history, values = History(), Values(a=0, mask="there")
    history.record(step("one", ("a", 0, 1)))
    history.undo()
    history.record_late([Change("mask", None, "there")])
    assert history.undo() == []
    values.make(history.redo())
    assert values == {"a": 1, "mask": None}


def test_of_a_step_only_the_ends_are_kept() -> None:
    one = step("stroke", *((key, i, i + 1) for i in range(100) for key in ("a", "b")))
    assert one.changes == [Change("a", 0, 100), Change("b", 0, 100)]


def test_a_change_takes_what_its_two_objects_do_not_share() -> None:
    before, after = an_object(1, square(100)), an_object(1, square(100), square(200))
    assert Change(1, None, before).nbytes - CHANGE_BYTES == 100**2
    assert Change(1, before, after).nbytes - CHANGE_BYTES == 2 * 100**2 + 200**2
    (shared, _), *_ = before.answers[PLANE].candidates
    assert Change(1, before, an_object(1, shared, square(200))).nbytes - CHANGE_BYTES == 200**2


def test_the_oldest_steps_make_room_but_never_the_newest() -> None:
    history = History(limit=25_000)
    for uid in range(1, 5):
        history.record(step(f"step {uid}", (uid, None, an_object(uid, square(100)))))
    assert (len(history), history.nbytes) == (2, 20_000 + 2 * CHANGE_BYTES)
    history.record(step("large", (9, None, an_object(9, square(200)))))
    assert (len(history), history.nbytes, history.undo_text) == (1, 40_000 + CHANGE_BYTES, "large")
    history.undo()
    assert (len(history), history.nbytes) == (0, 40_000 + CHANGE_BYTES)
    history.record(step("small", (5, None, an_object(5, square(100)))))
    assert (len(history), history.nbytes) == (1, 10_000 + CHANGE_BYTES)


def test_late_changes_make_old_steps_go_too() -> None:
    history = History(limit=25_000)
    for uid in (1, 2):
        history.record(step(f"step {uid}", (uid, None, an_object(uid, square(100)))))
    history.record_late([Change(3, None, an_object(3, square(100)))])
    assert (len(history), history.undo_text, history.nbytes) == (1, "step 2", 20_000 + 2 * CHANGE_BYTES)


def test_clear_forgets_everything() -> None:
    history = History()
    history.record(step("one", (1, None, an_object(1, square(9)))))
    history.undo()
    history.record_late([Change(1, None, an_object(1, square(9)))])
    history.clear()
    assert (history.undo(), history.redo(), history.nbytes, history.undo_text) == ([], [], 0, "")


def test_a_long_drag_does_not_push_older_steps_out() -> None:
    """Ten answers of a large object, in one drag: two of them are held."""
    document = Document((1000, 1000), history_bytes=8 * 2**20)
    uid = document.current.uid

    def click(at: int, gesture: object) -> None:
        prompts = Prompts.create(document.shape, points=[[at, at]])
        document.set_prompts({PLANE: prompts}, gesture=gesture)
        document.answer(uid, PLANE, Answer(((square(900 + at), 0.9),), prompts=prompts))

    click(0, None)
    for at in range(1, 11):
        click(at, "drag")
    assert len(document.history) == 2
    assert document.history.nbytes < 4 * 2**20
    document.undo()
    assert document.current.area == 900**2


def test_a_stroke_over_another_object_holds_two_masks_of_each() -> None:
    document = Document((1000, 1000))
    for number in (1, 2):
        half = slice(0, 1000), slice(500 * (number - 1), 500 * number)
        document.paint(PLANE, half, np.full((1000, 500), number))
    initial = document.to_labels()
    for at in range(40):
        where = slice(0, 1000), slice(500, 501 + at)
        document.paint(PLANE, where, np.ones((1000, 1 + at), dtype=int), "stroke")
    assert len(document.history) == 3
    assert document.history.nbytes < 8 * 2**20
    document.undo()
    np.testing.assert_array_equal(document.to_labels(), initial)


@pytest.mark.parametrize("overwrite", [False, True])
def test_memory_of_the_history_stays_bounded(overwrite: bool) -> None:
    document = Document((300, 300), history_bytes=2**20)
    document.overwrite = overwrite
    random = np.random.default_rng(0)
    for _ in range(60):
        top, left = random.integers(0, 100, 2)
        draft = SamObject(
            0, 0, base={PLANE: Answer(((Mask((top, left), np.ones((150, 150)), (300, 300)), 1),))}
        )
        document.add_objects([draft])
        assert document.history.nbytes <= 2**20 + 2**19
    assert 1 < len(document.history) < 60


def test_prompts_alone_do_not_grow_without_end() -> None:
    document = Document((9, 9), history_bytes=64 * CHANGE_BYTES)
    for at in range(300):
        document.set_prompts({PLANE: Prompts.create((9, 9), points=[[at % 9, at % 7]])})
    assert len(document.history) == 64
