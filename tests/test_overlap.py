"""Whose pixel it is where two objects want it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, HandEdit, ObjectClass, Plane, SamObject, Source
from napari_sam.annotation.overlap import claims, with_hand
from napari_sam.annotation.territory import canonical_planes
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
SIZE = 6, 8


def drawn(*rows: str) -> Mask:
    """From the upper left corner on."""
    return Mask.from_array(
        np.array([[c == "x" for c in row.ljust(SIZE[1])] for row in rows + ("",) * (6 - len(rows))])
    )


def labels(*rows: str) -> list[list[int]]:
    return [[int(c) for c in row.ljust(SIZE[1], "0")] for row in rows + ("",) * (6 - len(rows))]


def draft(mask: Mask) -> SamObject:
    return SamObject(0, 0, source=Source.AUTOMATIC, base={PLANE: Answer(((mask, None),))})


class Scene:
    """A document, and a model that answers with whatever it is told to."""

    def __init__(self, *, overwrite: bool) -> None:
        self.document = Document(SIZE)
        self.document.overwrite = overwrite
        self._clicks = 0

    def add(self, *masks: Mask) -> list[SamObject]:
        return self.document.add_objects([draft(mask) for mask in masks])

    def click(self, mask: Mask) -> None:
        """The current object is this now, if it may."""
        self._clicks += 1
        prompts = Prompts.create(SIZE, points=[[self._clicks % 8, self._clicks // 8]])
        self.document.set_prompts({PLANE: prompts})
        assert self.document.answer(self.document.current.uid, PLANE, Answer(((mask, 0.9),), prompts=prompts))

    def erase(self, mask: Mask, number: int = 0) -> None:
        values = self.document.to_labels()
        values[mask.to_array()] = number
        self.document.paint(PLANE, (slice(0, SIZE[0]), slice(0, SIZE[1])), values)

    @property
    def labels(self) -> list[list[int]]:
        """What is shown. Every pixel has one owner."""
        shown = self.document.to_labels()
        assert sum(item.area for item in self.document.objects) == np.count_nonzero(shown)
        result: list[list[int]] = shown.tolist()
        return result


@pytest.fixture
def protecting() -> Scene:
    """Nobody takes anything."""
    return Scene(overwrite=False)


@pytest.fixture
def taking() -> Scene:
    """Objects take pixels from others."""
    return Scene(overwrite=True)


def test_claims_are_the_answer_or_else_the_base_and_the_brush() -> None:
    item = SamObject(
        1,
        1,
        base={PLANE: Answer(((drawn("x"), None),))},
        hand={PLANE: HandEdit(added=drawn("  x"), removed=drawn(" x"))},
    )
    assert claims(item, SIZE, [PLANE]) == {PLANE: drawn("x x")}
    prompted = SamObject(
        1, 1, answers={PLANE: Answer(((drawn("xx"), None), (drawn("xxxx"), None)), chosen=1)}, hand=item.hand
    )
    assert claims(prompted, SIZE, [PLANE]) == {PLANE: drawn("x xx")}
    assert claims(SamObject(1, 1), SIZE, [PLANE]) == {PLANE: drawn()}


def test_claims_join_answers_on_planes_that_cross() -> None:
    shape = 3, 6, 8
    level, upright = Plane((1, None, None)), Plane((None, 2, None))
    column = Mask((0, 5), np.ones((3, 1), dtype=bool), (3, 8))
    item = SamObject(1, 1, answers={level: Answer(((drawn("x"), 1),)), upright: Answer(((column, 1),))})
    found = claims(item, shape, [level, Plane((0, None, None))])
    assert found == {level: drawn("x", "", "     x"), Plane((0, None, None)): drawn("", "", "     x")}


@pytest.mark.parametrize("shape", [(3, 6, 8), (2, 3, 6, 8)])
def test_claims_are_those_of_all_planes_that_cross(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(shape))
    planes = [
        Plane(tuple(None if axis in pair else int(random.integers(n)) for axis, n in enumerate(shape)))
        for pair in itertools.combinations(range(len(shape)), 2)
        for _ in range(3)
    ]
    masks = {plane: Mask.from_array(random.random(plane.size_in(shape)) < 0.3) for plane in planes}
    masks[planes[0]] = Mask.empty(planes[0].size_in(shape))
    item = SamObject(1, 1, base={plane: Answer(((mask, None),)) for plane, mask in masks.items()})
    expected = np.zeros(shape, dtype=bool)
    for plane, mask in masks.items():
        expected[plane.slices] |= mask.to_array()
    for plane, claim in claims(item, shape, canonical_planes(shape)).items():
        assert claim == Mask.from_array(expected[plane.slices])


def test_planes_that_cross_are_joined_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A propagation along y: each of its planes changes all planes of the last two axes."""
    shape = 10, 30, 8
    upright = Mask((0, 2), np.ones((10, 4), dtype=bool), (10, 8))
    item = SamObject(1, 1, base={Plane((None, y, None)): Answer(((upright, None),)) for y in range(30)})
    made, kept = 0, Mask.__post_init__

    def counted(mask: Mask) -> None:
        nonlocal made
        made += 1
        kept(mask)

    monkeypatch.setattr(Mask, "__post_init__", counted)
    assert [claim.area for claim in claims(item, shape, canonical_planes(shape)).values()] == [120] * 10
    assert made <= 3 * 10


def test_what_is_there_is_protected(protecting: Scene) -> None:
    protecting.add(drawn("xxx"))
    protecting.click(drawn(" xxxx"))
    assert protecting.labels == labels("11122")
    protecting.document.reject()
    assert protecting.labels == labels("111")


def test_of_many_that_come_together_the_first_keeps_what_they_share() -> None:
    for overwrite, expected in ((False, "11122"), (True, "11222")):
        scene = Scene(overwrite=overwrite)
        scene.add(drawn("xxx"), drawn("  xxx"))
        assert scene.labels == labels(expected)
        assert all(not item.taken for item in scene.document.objects)


def test_what_was_taken_goes_back_when_less_is_wanted(taking: Scene) -> None:
    taking.add(drawn("xxxx"))
    taking.click(drawn("xxx"))
    assert taking.labels == labels("2221")
    taking.click(drawn("x"))
    assert taking.labels == labels("2111")
    taking.click(drawn("xx"))
    assert taking.labels == labels("2211")
    taking.document.reject()
    assert taking.labels == labels("1111")


def test_what_was_taken_is_kept_once_it_is_accepted(taking: Scene) -> None:
    taking.add(drawn("xxxx"))
    taking.click(drawn("xxx"))
    taking.document.accept()
    taking.document.delete([taking.document.with_id(2).uid])
    assert taking.labels == labels("0001")


def test_an_object_that_is_taken_whole_can_come_back(taking: Scene) -> None:
    taking.add(drawn("xx"))
    taking.click(drawn("xxxx"))
    assert taking.labels == labels("2222")
    taking.click(drawn("   x"))
    assert taking.labels == labels("1102")


def test_taking_is_switched_off_meanwhile(taking: Scene) -> None:
    taking.add(drawn("xxxx"))
    taking.click(drawn("xxx"))
    taking.document.overwrite = False
    taking.click(drawn(" xxxxx"))
    assert taking.labels == labels("111122")


def test_what_a_hand_painted_is_not_taken(taking: Scene) -> None:
    taking.add(drawn("xx"))
    taking.erase(drawn("  xx"), number=1)
    taking.click(drawn("xxxxxx"))
    assert taking.labels == labels("221122")


def test_what_a_hand_erased_stays_erased(taking: Scene) -> None:
    taking.click(drawn("xxxx"))
    taking.erase(drawn(" xx"))
    taking.click(drawn("xxxx", "xxxx"))
    assert taking.labels == labels("1001", "1111")


def test_what_a_third_object_took_goes_back_to_it_alone(taking: Scene) -> None:
    """Two objects got the same pixels back."""
    taking.add(drawn("xxxx"))
    taking.click(drawn("xx"))
    taking.add(drawn("x"))
    assert taking.labels == labels("3211")
    taking.click(drawn("xxx"))
    assert taking.labels == labels("2221")
    taking.click(drawn("", "x"))
    assert taking.labels == labels("3111", "2")


def test_what_a_third_object_took_whole_is_not_given_to_the_first(taking: Scene) -> None:
    taking.add(drawn("xxxx"))
    taking.click(drawn("xx"))
    taking.add(drawn("xxx"))
    taking.document.overwrite = False
    taking.click(drawn("x"))
    assert taking.labels == labels("3331")


def test_what_a_brush_gave_back_is_not_given_back_again(taking: Scene) -> None:
    taking.add(drawn("xxxx"))
    taking.click(drawn("xxx"))
    taking.erase(drawn("x"), number=7)
    taking.erase(drawn(" x"), number=1)
    taking.click(drawn("", "xx"))
    assert taking.labels == labels("7111", "22")


def test_an_answer_after_accepting_keeps_what_it_takes(taking: Scene) -> None:
    """It was given back when the object was opened and left as it was."""
    taking.add(drawn("xxxx"))
    document, prompts = taking.document, Prompts.create(SIZE, points=[[1, 1]])
    document.set_prompts({PLANE: prompts})
    item = document.accept()
    assert document.answer(item.uid, PLANE, Answer(((drawn("xx"), 0.9),), prompts=prompts))
    assert taking.labels == labels("2211")
    document.open(item.uid)
    document.reject()
    assert taking.labels == labels("2211")


def test_merging_those_who_were_taken_from_does_not_lose_what_they_get_back(taking: Scene) -> None:
    first, second = taking.add(drawn("xx"), drawn("   xxx"))
    taking.click(drawn("   xx", "x"))
    taking.document.merge([first.uid, second.uid])
    assert taking.labels == labels("110331", "3")
    taking.document.reject()
    assert taking.labels == labels("110111")
    for _ in range(2):
        taking.document.undo()
    assert taking.labels == labels("110332", "3")
    taking.document.reject()
    assert taking.labels == labels("110222")


def test_rejecting_what_was_opened_again_brings_back_what_is_free(protecting: Scene) -> None:
    (item,) = protecting.add(drawn("xxx"))
    protecting.document.open(item.uid)
    protecting.erase(drawn("xx"))
    protecting.add(drawn("x"))
    assert protecting.labels == labels("201")
    protecting.document.reject()
    assert protecting.labels == labels("211")
    assert protecting.document.undo() == "Reject changes of object 1"
    assert protecting.labels == labels("201")


def test_deleting_gives_back_what_was_taken(taking: Scene) -> None:
    (item,) = taking.add(drawn("xxxx"))
    taking.click(drawn("xx"))
    taking.document.delete([taking.document.current.uid])
    assert taking.labels == labels("1111")
    taking.click(drawn("xx"))
    taking.document.delete([item.uid, taking.document.current.uid])
    assert taking.labels == labels()


def test_the_brush_adds_to_what_it_did_before() -> None:
    hand = with_hand({}, PLANE, drawn("xxx"), drawn("   x"))
    assert hand == {PLANE: HandEdit(drawn("xxx"), drawn("   x"))}
    hand = with_hand(hand, PLANE, drawn("   x"), drawn("x"))
    assert hand == {PLANE: HandEdit(drawn(" xxx"), drawn("x"))}


def test_an_upright_answer_goes_round_what_is_there() -> None:
    document = Document((3, 6, 8))
    levels, upright = [Plane((z, None, None)) for z in range(3)], Plane((None, 0, None))
    document.add_objects([SamObject(0, 0, base={levels[1]: Answer(((drawn("xxx"), None),))})])
    prompts = Prompts.create((3, 8), points=[[1, 1]])
    document.set_prompts({upright: prompts})
    wall = (
        Mask((0, 2), np.ones((3, 2), dtype=bool), (3, 8)),
        Mask((2, 7), np.ones((1, 1), dtype=bool), (3, 8)),
    )
    answer = Answer(tuple((mask, 0.5) for mask in wall), prompts=prompts)
    assert document.answer(document.current.uid, upright, answer)
    assert document.to_labels()[:, 0].tolist() == [
        [0, 0, 2, 2, 0, 0, 0, 0],
        [1, 1, 1, 2, 0, 0, 0, 0],
        [0, 0, 2, 2, 0, 0, 0, 0],
    ]
    document.choose(upright, 1)
    assert document.to_labels()[:, 0].tolist() == [
        [0] * 8,
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 2],
    ]
    document.undo()
    assert document.current.area == 5


def test_a_class_that_an_undo_took_away_is_given_to_nobody(protecting: Scene) -> None:
    document = protecting.document
    document.set_classes([ObjectClass(1, "cell", "#ff0000")])
    document.new_class = 1
    assert document.current.class_id == 1
    document.undo()
    protecting.click(drawn("x"))
    (other,) = document.add_objects(
        [SamObject(0, 0, class_id=1, base={PLANE: Answer(((drawn(" x"), None),))})]
    )
    assert document.current.class_id == other.class_id == 0
    document.reject()
    document.set_classes([ObjectClass(1, "cell", "#ff0000")])
    assert document.current.class_id == 1


def test_the_class_that_an_object_gets_back_when_it_is_rejected_stays(protecting: Scene) -> None:
    document = protecting.document
    classes = [ObjectClass(1, "cell", "#ff0000"), ObjectClass(2, "debris", "#00ff00")]
    document.set_classes(classes)
    (item,) = protecting.add(drawn("x"))
    document.set_class([item.uid], 1)
    document.open(item.uid)
    document.set_class([item.uid], 2)
    with pytest.raises(AnnotationError, match="the class 1 again if its changes are rejected: accept it"):
        document.set_classes(classes[1:])
    document.reject()
    assert document.objects[0].class_id == 1
    document.open(item.uid)
    document.set_class([item.uid], 2)
    document.accept()
    document.set_classes(classes[1:])
    assert document.objects[0].class_id == 2
