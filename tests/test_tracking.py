"""Documents of stacks and films: what is carried over, objects that divide, and their descent."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, Plane, SamObject, records
from napari_sam.annotation.dividing import followed_parts
from napari_sam.annotation.editing import merged
from napari_sam.annotation.propagating import annotated_masks, carried_over, is_annotated, wanted_positions
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.annotation.series import Series
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

SIZE = 4, 12
SHAPE = 5, *SIZE


def t(at: int) -> Plane:
    return Plane((at, None, None))


def row(text: str, rows: int = 2) -> Mask:
    bits = np.zeros(SIZE, dtype=bool)
    bits[:rows, : len(text)] = [c != "." for c in text]
    return Mask.from_array(bits)


def said(text: str, score: float = 0.9, **more: object) -> Answer:
    return Answer(((row(text), score),), **more)  # type: ignore[arg-type]


def film(*objects: dict[int, str], history: bool = False) -> Document:
    """A document with objects, given by what they are at each time."""
    document = Document(SHAPE)
    document.add_objects(
        [SamObject(0, 0, base={t(at): said(text) for at, text in frames.items()}) for frames in objects]
    )
    if not history:
        document.history.clear()
    return document


def shown(document: Document, at: int) -> str:
    """The upper row of a frame."""
    return "".join(".123456789"[value] for value in document.to_labels()[at, 0]).rstrip(".")


# What is carried over


def test_what_is_carried_over_is_put_where_nothing_is_annotated() -> None:
    document = film({0: "xx", 2: "xx"})
    (item,) = document.objects
    document.put_propagated({item.uid: {t(1): said(".xx"), t(2): said(".....x"), t(3): None}})
    assert [shown(document, at) for at in range(4)] == ["11", ".11", "11", ""]
    item = document.objects[0]
    assert item.accepted
    assert [is_annotated(item, t(at)) for at in range(3)] == [True, False, True]
    assert item.base[t(1)] == said(".xx", propagated=True)


def test_what_was_carried_over_is_replaced_and_taken_away() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(1): said("xxx"), t(2): said("xxx"), t(3): said("xxx")}})
    document.put_propagated({uid: {t(1): said("..x"), t(2): None, t(3): Answer(((Mask.empty(SIZE), 0.1),))}})
    assert [shown(document, at) for at in range(4)] == ["11", "..1", "", ""]
    assert set(document.objects[0].base) == {t(0), t(1)}


def test_the_planes_of_one_propagation_are_one_undo() -> None:
    document = film({0: "xx"}, {0: "....xx"})
    first, second = (item.uid for item in document.objects)
    before = document.snapshot
    gesture = object()
    for at in (1, 2, 3):
        document.put_propagated(
            {first: {t(at): said("xx")}, second: {t(at): said("....xx")}}, "Go on", gesture=gesture
        )
    after = document.snapshot
    assert (document.undo(), document.undo_text) == ("Go on", "")
    assert document.snapshot == before
    document.redo()
    assert document.snapshot == after
    assert [shown(document, at) for at in range(5)] == ["11..22"] * 4 + [""]


def test_objects_that_are_gone_are_skipped_and_the_same_again_is_no_step() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid + 7: {t(1): said("xx")}, uid: {t(1): said("xx")}})
    assert document.undo_text == "Propagate"
    document.put_propagated({uid: {t(1): said("xx")}})
    document.put_propagated({})
    document.undo()
    assert document.undo_text == ""


def test_others_keep_their_pixels_and_of_those_carried_over_the_first_gets_them() -> None:
    document = film({0: "xx"}, {0: "....xx"}, {1: "...x"})
    first, second, _ = (item.uid for item in document.objects)
    document.put_propagated({second: {t(1): said("..xxxx")}, first: {t(1): said("xxxxx")}})
    assert shown(document, 1) == "112322"
    # Where they are put again, what they had last time is in nobody's way.
    document.put_propagated({first: {t(1): said("xxxxx", 0.8)}, second: {t(1): said("..xxxx", 0.8)}})
    assert shown(document, 1) == "111312"


def test_an_object_that_overwrites_takes_pixels_from_others() -> None:
    document = film({0: "xx"}, {1: "xxxx"})
    document.overwrite = True
    document.put_propagated({document.objects[0].uid: {t(1): said(".xx")}})
    assert shown(document, 1) == "2112"


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_pixels_that_several_claim_the_first_gets_them(overwrite: bool) -> None:
    document = film({0: "xx"}, {0: "..xx"}, {0: "....xx"}, {1: ".......x"})
    document.overwrite = overwrite
    one, two, three, other = (item.uid for item in document.objects)
    for score in (0.9, 0.8):
        # Again, without what was carried over before.
        carried = {two: "..xxxx", one: "xxxx", three: "...xxxxx"}
        document.put_propagated({uid: {t(1): said(text, score)} for uid, text in carried.items()})
        assert shown(document, 1) == ("11222233" if overwrite else "11222234")
    kept = document.get(other)
    assert kept is not None
    assert kept.area == (0 if overwrite else 2)
    document.undo()
    document.undo()
    assert shown(document, 1) == ".......4"


def test_another_plane_costs_the_same_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes are looked up, records counted: both as often after 200 planes as after 2."""
    looked_up = counted = 0
    whole, large = Plane.__hash__, records._large

    def hashed(plane: Plane) -> int:
        nonlocal looked_up
        looked_up += 1
        return whole(plane)

    def weighed(record: object) -> Iterator[object]:
        nonlocal counted
        counted += 1
        return large(record)

    monkeypatch.setattr(Plane, "__hash__", hashed)
    monkeypatch.setattr(records, "_large", weighed)

    def cost(overwrite: bool, planes: int) -> tuple[int, int]:
        nonlocal looked_up, counted
        document = Document((planes + 1, *SIZE))
        document.overwrite = overwrite
        texts = "xx", "..xx", "....xx"
        drafts = [
            SamObject(0, 0, base={t(at): said(text, propagated=at > 0) for at in range(planes)})
            for text in texts
        ]
        uids = [item.uid for item in document.add_objects(drafts)]
        document.put_propagated({uids[0]: {t(planes): said("xxx")}}, gesture="run")
        looked_up = counted = 0
        wider = {uid: {t(planes): said(text + "xx")} for uid, text in zip(uids, texts, strict=True)}
        document.put_propagated(wider, gesture="run")
        spent = looked_up, counted
        assert document.undo_text == "Propagate"
        assert document.history.nbytes > 0
        assert shown(document, planes) == "11112233"
        document.undo()
        assert shown(document, planes) == ""
        return spent

    for overwrite in (False, True):
        assert cost(overwrite, 200) == cost(overwrite, 2)


def test_a_plane_is_the_same_key_after_it_was_copied() -> None:
    plane = Plane((3, None, None))
    assert {plane: 1}[pickle.loads(pickle.dumps(plane))] == 1
    assert {plane: 1}[copy.deepcopy(plane)] == 1
    assert plane != Plane((None, 3, None))
    assert repr(plane) == "Plane(index=(3, None, None))"


def test_what_is_painted_stays_when_it_is_propagated_again() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(1): said("xx"), t(2): said("xx")}})
    document.paint(t(1), (slice(0, 2), slice(2, 3)), np.full((2, 1), 1))
    document.put_propagated({uid: {t(1): said(".......x"), t(2): said(".......x")}})
    assert [shown(document, at) for at in (1, 2)] == ["111", ".......1"]


def test_a_prompt_on_a_propagated_plane_corrects_its_mask_and_annotates_it() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(1): said("xx"), t(2): said("xx")}})
    document.open(uid)
    document.set_prompts({t(1): Prompts.create(SIZE, points=[[3, 0]])}, "Add point")
    asked = document.current.prompts[t(1)]
    assert asked.mask == row("xx")
    document.answer(uid, t(1), said("xxxx", prompts=asked))
    document.accept()
    assert shown(document, 1) == "1111"
    document.put_propagated({uid: {t(1): said("......x"), t(2): said("......x")}})
    assert [shown(document, at) for at in (1, 2)] == ["1111", "......1"]


def test_refining_a_propagated_mask_annotates_its_plane() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(1): said("xx")}})
    document.open(uid)
    assert document.refine(t(1))
    assert is_annotated(document.current, t(1))
    assert not document.current.answers[t(1)].propagated


def test_an_object_that_is_nothing_but_carried_over_can_come_to_an_end() -> None:
    document = Document(SHAPE)
    (item,) = document.add_objects([SamObject(0, 0, base={t(1): said("xx", propagated=True)})])
    document.put_propagated({item.uid: {t(1): None}})
    assert item.uid not in document
    document.undo()
    assert document.get(item.uid) == item


def test_upright_planes_are_carried_over_to_upright_planes() -> None:
    upright = [Plane((None, y, None)) for y in range(4)]
    mask = Mask((1, 2), np.ones((2, 3), dtype=bool), (5, 12))
    document = Document(SHAPE)
    (item,) = document.add_objects([SamObject(0, 0, base={upright[1]: Answer(((mask, None),))})])
    document.put_propagated(
        {item.uid: {upright[0]: None, upright[1]: None, upright[2]: Answer(((mask, 0.9),))}}
    )
    labels = document.to_labels()
    assert labels[1:3, 1:3, 2:5].all()
    assert labels.sum() == 12
    document.put_propagated({item.uid: {upright[2]: None}})
    assert document.to_labels().sum() == 6


def test_a_propagation_into_the_current_object_can_be_rejected_with_it() -> None:
    document = film({0: "xx"})
    uid = document.objects[0].uid
    document.open(uid)
    document.put_propagated({uid: {t(1): said("xx")}})
    document.reject()
    assert [shown(document, at) for at in (0, 1)] == ["11", ""]


# Merged and split


def test_of_merged_objects_planes_on_which_one_is_annotated_are_annotated() -> None:
    document = film({0: "xx"}, {0: "....xx", 1: "....xx"})
    first, second = (item.uid for item in document.objects)
    document.put_propagated(
        {first: {t(1): said("xx"), t(2): said("xx")}, second: {t(2): said("....xx"), t(3): said("....xx")}}
    )
    whole = document.merge([first, second])
    assert carried_over(whole) == {t(2), t(3)}
    assert carried_over(merged([whole, replace(whole, uid=99)])) == {t(2), t(3)}


def test_parts_of_a_split_object_were_carried_over_where_it_was() -> None:
    document = film({0: "xxx....xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(1): said("xxx....xx")}})
    for part in document.split(uid):
        assert carried_over(part) == {t(1)}


# Divided


def test_an_object_ends_where_it_divides_and_its_parts_go_on() -> None:
    document = film({0: "..xxxx", 1: ".xxxxx", 2: "xxx..xx", 3: "xx...xx"})
    (mother,) = document.objects
    before = document.snapshot
    children = document.divide(mother.uid, t(2))
    assert [shown(document, at) for at in range(4)] == ["..1111", ".11111", "222..33", "22...33"]
    assert [(child.id, child.parent) for child in children] == [(2, mother.uid), (3, mother.uid)]
    assert all(child.accepted and not child.prompts for child in children)
    assert [item.uid for item in document.children_of(mother.uid)] == [child.uid for child in children]
    assert document.parent_of(children[0].uid) == document.get(mother.uid)
    assert document.parent_of(mother.uid) is None
    assert document.undo() == "Divide object 1"
    assert replace(document.snapshot, next_uid=before.next_uid) == before


def test_children_are_annotated_where_they_were_divided_and_carried_over_after_that() -> None:
    document = film({0: "xxxxx", 4: "xx.xx"})
    uid = document.objects[0].uid
    document.put_propagated({uid: {t(at): said("xxxxx" if at < 2 else "xx.xx") for at in (1, 2, 3)}})
    children = document.divide(uid, t(2))
    assert all(carried_over(child) == {t(3)} for child in children)
    assert carried_over(document.get(uid) or SamObject(0, 0)) == {t(1)}


def test_what_a_hand_painted_stays_painted_in_children() -> None:
    document = film({0: "xxxxx", 1: "xx.xx"})
    uid = document.objects[0].uid
    document.paint(t(1), (slice(0, 2), slice(5, 6)), np.full((2, 1), 1))
    children = document.divide(uid, t(1))
    assert [child.hand[t(1)].added.area if t(1) in child.hand else 0 for child in children] == [2, 0]


def test_a_propagation_ends_where_an_object_has_divided() -> None:
    document = film({0: "xxxxx", 1: "xxxxx", 2: "xx.xx", 3: "xx.xx"})
    uid = document.objects[0].uid
    children = document.divide(uid, t(2))
    mother = document.get(uid)
    assert mother is not None
    series = Series.through(t(0), SHAPE)
    assert annotated_masks(mother, series) == {0: row("xxxxx"), 1: row("xxxxx"), 2: Mask.empty(SIZE)}
    for child, text in zip(children, ("xx", "...xx"), strict=True):
        assert annotated_masks(child, series) == {1: Mask.empty(SIZE), 2: row(text), 3: row(text)}
    document.put_propagated({uid: {t(2): said("x" * 12)}, children[0].uid: {t(1): said("x" * 12)}})
    assert [shown(document, at) for at in (1, 2)] == ["11111", "22.33"]


def test_the_current_object_that_divides_is_accepted_and_a_new_one_begins() -> None:
    document = film({0: "xxxxx", 1: "xx.xx"})
    uid = document.objects[0].uid
    document.open(uid)
    document.divide(uid, t(1))
    assert document.current.uid not in document
    assert document.current.id == 4
    assert all(item.accepted for item in document.objects)


def test_prompts_before_a_division_stay_and_those_after_it_have_become_masks() -> None:
    document = Document(SHAPE)
    for at, text in enumerate(["xxxxx", "xx.xx"]):
        drawn = {**document.current.prompts, t(at): Prompts.create(SIZE, points=[[1, 0]])}
        document.set_prompts(drawn)
        document.answer(document.current.uid, t(at), said(text, prompts=drawn[t(at)]))
    mother = document.accept()
    document.divide(mother.uid, t(1))
    kept = document.get(mother.uid)
    assert kept is not None
    assert (set(kept.prompts), set(kept.answers), set(kept.masks)) == ({t(0)},) * 3


def test_what_upright_planes_made_is_cut_where_an_object_divides() -> None:
    document = film({0: "xx.xx", 1: "xx.xx"})
    uid = document.objects[0].uid
    upright = Answer(((Mask((0, 0), np.ones((2, 2), dtype=bool), (5, 12)), None),))
    document.put_propagated({uid: {Plane((None, 3, None)): upright}})
    document.divide(uid, t(1))
    assert {plane.index[0] for plane in document.objects[0].masks} == {0}
    assert sum(item.area for item in document.objects) == 20


@pytest.mark.parametrize(
    ("at", "axis", "said"),
    [
        (1, None, "one part only on plane 1 along axis 0"),
        (0, None, "begins on plane 0 along axis 0: split it"),
        (4, None, "is not on plane 4 along axis 0"),
        (2, 1, "no neighbours along axis 1"),
    ],
)
def test_where_an_object_cannot_divide_that_is_said(at: int, axis: int | None, said: str) -> None:
    document = film({0: "xx", 1: "xx", 2: "x.x"})
    with pytest.raises(AnnotationError, match=said):
        document.divide(document.objects[0].uid, t(at), axis)
    assert document.undo_text == ""


def test_objects_do_not_divide_along_the_last_two_axes() -> None:
    document = film({0: "x.x"})
    with pytest.raises(AnnotationError, match="the axes before the last two"):
        document.divide(document.objects[0].uid, Plane((None, 1, None)))


def test_of_a_stack_in_time_parts_are_connected_through_its_depth() -> None:
    shape = (3, 4, *SIZE)
    document = Document(shape)
    labels = np.zeros(shape, dtype=bool)
    labels[0, 1:3, :2, :6] = True
    labels[1:, :, :2, :2] = labels[1:, 0, :2, 4:6] = True
    base = {
        Plane((*at, None, None)): Answer(((Mask.from_array(labels[at]), None),))
        for at in np.ndindex(*shape[:2])
        if labels[at].any()
    }
    (item,) = document.add_objects([SamObject(0, 0, base=base)])
    children = document.divide(item.uid, Plane((1, 0, None, None)), 0)
    assert [child.area for child in children] == [2 * 4 * 4, 2 * 4]
    assert document.objects[0].area == 2 * 12


@pytest.mark.parametrize("seen", [(0, 0, 0), (0, 1, 0)], ids=["together", "one by one"])
def test_a_propagation_ends_at_a_division_where_there_were_no_pixels_either(seen: tuple[int, ...]) -> None:
    """The mother was last seen at three depths, the parts are first seen at one of them, then at all."""
    shape = (5, 3, *SIZE)

    def at(time: int, depth: int) -> Plane:
        return Plane((time, depth, None, None))

    base = {at(time, depth): said("xx.xx") for depth, time in enumerate(seen)}
    base |= {at(2, 1): said("xx.xx")}
    base |= {at(3, depth): said("xx.xx") for depth in range(3)}
    document = Document(shape)
    (item,) = document.add_objects([SamObject(0, 0, base=base)])
    children = document.divide(item.uid, at(2, 1), 0)
    mother = document.get(item.uid)
    assert mother is not None
    assert len(children) == 2
    for depth in range(3):
        series = Series.through(at(0, depth), shape, 0)
        assert wanted_positions(mother, series, "forward", start=seen[depth]) == list(
            range(seen[depth] + 1, 2)
        )
        assert annotated_masks(mother, series)[2].is_empty
        for child in children:
            first = 2 if depth == 1 else 3
            last = max(seen)
            assert wanted_positions(child, series, "backward", start=first) == list(range(last + 1, first))
            assert annotated_masks(child, series)[last].is_empty
    assert mother.area == 3 * row("xx.xx").area
    document.undo()
    assert document.get(item.uid) == item


@pytest.mark.parametrize(
    ("frames", "parts"),
    [
        # Nearer to where the other one was: overlap counts.
        (
            ["xxx.xxx", ".xxx.xxx", "..xxx.xxx"],
            [["xxx", ".xxx", "..xxx"], ["....xxx", ".....xxx", "......xxx"]],
        ),
        # They meet, and part again.
        (["xx..xxx", "xxxxxx", "xx..xxx"], [["....xxx", "...xxx", "....xxx"], ["xx", "xxx", "xx"]]),
        # One is hidden for a while, one is gone for good.
        (["xx.....xxx", "xx", "xx.....xxx"], [[".......xxx", "", ".......xxx"], ["xx", "xx", "xx"]]),
        # Nowhere near: the nearest.
        (["xx......xxx", "...x....xxx"], [["........xxx", "........xxx"], ["xx", "...x"]]),
    ],
)
def test_parts_are_followed_through_time(frames: list[str], parts: list[list[str]]) -> None:
    found = followed_parts({t(at): row(text) for at, text in enumerate(frames)}, 0)
    wanted = [{t(at): row(text) for at, text in enumerate(part) if text} for part in parts]
    assert found == wanted


def test_nothing_has_no_parts() -> None:
    assert followed_parts({}, 0) == []


# Who came from whom


def test_parents_are_set_told_and_undone() -> None:
    document = film({0: "x"}, {1: "x"}, {1: "..x"})
    a, b, c = (item.uid for item in document.objects)
    document.set_parent([b, c], a)
    assert [item.id for item in document.children_of(a)] == [2, 3]
    assert document.undo_text == "Parent of 2 objects: 1"
    document.set_parent([b], 0)
    assert document.undo_text == "Parent of object 2: none"
    document.set_parent([b], 0)
    document.undo()
    document.undo()
    assert document.undo_text == ""
    assert not document.children_of(a)


def test_nobody_can_descend_from_itself() -> None:
    document = film({0: "x"}, {1: "x"}, {2: "x"})
    a, b, c = (item.uid for item in document.objects)
    document.set_parent([b], a)
    document.set_parent([c], b)
    for uid in (a, b, c):
        with pytest.raises(AnnotationError, match="descends from it"):
            document.set_parent([uid], c)
    with pytest.raises(AnnotationError, match="does not exist"):
        document.set_parent([a], 99)


def test_a_parent_that_is_deleted_counts_as_none_until_that_is_undone() -> None:
    document = film({0: "x"}, {1: "x"})
    a, b = (item.uid for item in document.objects)
    document.set_parent([b], a)
    document.delete([a])
    assert document.parent_of(b) is None
    loaded = from_json(json.loads(json.dumps(to_json(document.snapshot))))[0]
    assert loaded == document.snapshot
    document.undo()
    assert document.parent_of(b) == document.get(a)


def test_children_of_merged_objects_are_those_of_what_they_became() -> None:
    document = film({0: "x"}, {0: ".x"}, {1: "x"}, {1: "..x"})
    a, b, c, d = (item.uid for item in document.objects)
    document.set_parent([c], a)
    document.set_parent([d], b)
    document.merge([a, b])
    assert [item.uid for item in document.children_of(a)] == [c, d]
    document.undo()
    assert [item.uid for item in document.children_of(b)] == [d]


def test_merging_an_object_with_its_descendants_makes_no_cycle() -> None:
    document = film({0: "x"}, {1: "x"}, {2: "x"}, {3: "x"})
    a, b, c, d = (item.uid for item in document.objects)
    for child, parent in ((b, a), (c, b), (d, c)):
        document.set_parent([child], parent)
    # c is a child of b still, which came from what c is part of now.
    assert document.merge([d, b]).parent == a
    document.undo()
    assert document.merge([c, a]).parent == 0
    assert document.parent_of(b) == document.get(c)
    assert document.parent_of(d) == document.get(c)


def test_who_came_from_whom_is_not_what_is_rejected() -> None:
    """Else rejecting could make an object descend from itself."""
    document = film({0: "x"}, {1: "x"})
    a, b = (item.uid for item in document.objects)
    document.set_parent([a], b)
    document.open(a)
    document.set_parent([a], 0)
    document.set_parent([b], a)
    document.reject()
    assert document.parent_of(a) is None
    assert document.parent_of(b) == document.get(a)


def test_parts_of_a_split_object_have_its_parent() -> None:
    document = film({0: "x"}, {1: "x..x"})
    a, b = (item.uid for item in document.objects)
    document.set_parent([b], a)
    assert [part.parent for part in document.split(b)] == [a, a]


def test_objects_that_are_added_bring_no_parents() -> None:
    """Uids are those of the document that they came from."""
    document = film({0: "x"})
    (item,) = document.add_objects([SamObject(0, 0, base={t(1): said("x")}, parent=document.objects[0].uid)])
    assert item.parent == 0
