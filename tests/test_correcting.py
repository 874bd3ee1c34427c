"""Corrections change a mask where somebody pointed, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, Plane, SamObject, Source
from napari_sam.annotation.correcting import corrected
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
BASE, ANSWER = "..xxxx......", "x..xx.xx..xx"


def row(text: str) -> Mask:
    return Mask.from_array([[letter == "x" for letter in text]])


def prompts(**drawn: object) -> Prompts:
    return Prompts.create((1, 12), mask=row(BASE), **drawn)


@pytest.mark.parametrize(
    ("drawn", "result"),
    [
        ({"points": [[6, 0]]}, "..xxxxxx...."),
        ({"points": [[11, 0]]}, "..xxxx....xx"),
        ({"points": [[11, 0], [0, 0]]}, "x.xxxx....xx"),
        ({"points": [[2, 0]], "labels": [0]}, "...xxx......"),
        ({"points": [[11, 0], [5, 0]], "labels": [1, 0]}, "..xxx.....xx"),
        ({"points": [[3, 0]]}, BASE),  # where both agree there is nothing to correct
        ({"points": [[9, 0]]}, BASE),  # the model does not follow
        ({"points": [[3, 0]], "labels": [0]}, BASE),
        ({"scribbles": [([[5, 0], [11, 0]], 1)]}, "..xxxxxx..xx"),
        ({"scribbles": [([[0, 0], [5, 0]], 0)]}, "...xx......."),
        ({"box": [0, -0.5, 11, 0.5]}, ANSWER),
        ({"lasso": [[0, -1], [11, -1], [11, 1]], "points": [[6, 0]]}, ANSWER),
    ],
)
def test_what_differs_counts_where_somebody_pointed(drawn: dict[str, object], result: str) -> None:
    assert corrected(row(BASE), row(ANSWER), prompts(**drawn)) == row(result)


def imported() -> Document:
    document = Document((1, 12))
    base = Answer(((row(BASE), None),))
    (item,) = document.add_objects([SamObject(0, 0, source=Source.IMPORTED, base={PLANE: base})])
    document.open(item.uid)
    return document


def answer(document: Document, text: str) -> None:
    current = document.current
    asked = current.prompts[PLANE]
    assert document.answer(current.uid, PLANE, Answer(((row(text), 0.9),), prompts=asked))


def shown(document: Document) -> Mask:
    return Mask.from_array(document.to_labels())


def test_a_point_on_an_imported_object_extends_it_and_nothing_else() -> None:
    document = imported()
    document.set_prompts({PLANE: Prompts.create((1, 12), points=[[11, 0]])}, "Add point")
    assert document.current.prompts[PLANE].mask == row(BASE)
    answer(document, ANSWER)
    assert shown(document) == row("..xxxx....xx")
    # The same answer to another point is another correction.
    document.set_prompts({PLANE: Prompts.create((1, 12), points=[[6, 0]])}, "Move point")
    answer(document, ANSWER)
    assert shown(document) == row("..xxxxxx....")
    document.set_prompts({}, "Delete point")
    assert shown(document) == row(BASE)
    while document.undo():
        pass
    assert document.objects == []


def test_refining_is_about_the_whole_mask() -> None:
    document = imported()
    assert document.refine(PLANE)
    assert shown(document) == row(BASE)  # until the model has answered
    assert document.current.is_stale(PLANE)
    snapshot = document.snapshot
    assert from_json(to_json(snapshot))[0] == snapshot
    document.set_prompts({}, "Change prompts")  # nothing is drawn, as before
    assert document.current.is_stale(PLANE)
    answer(document, ANSWER)
    assert shown(document) == row(ANSWER)
    document.undo()
    assert shown(document) == row(BASE)
    assert not document.current.prompts


def test_corrections_of_an_upright_plane() -> None:
    """The object is a column of a stack, on planes of one row each."""
    document = Document((12, 3, 4))
    upright = Plane((None, None, 2))
    size = (12, 3)

    def column(text: str) -> Mask:
        return Mask.from_array([[letter == "x", False, False] for letter in text])

    base = Answer(((column(BASE), None),))
    (item,) = document.add_objects([SamObject(0, 0, base={upright: base})])
    document.open(item.uid)
    document.set_prompts({upright: Prompts.create(size, points=[[0, 11]])}, "Add point")
    asked = document.current.prompts[upright]
    assert document.answer(item.uid, upright, Answer(((column(ANSWER), 0.9),), prompts=asked))
    expected = np.zeros((12, 3, 4), dtype=bool)
    expected[:, :, 2] = column("..xxxx....xx").to_array()
    np.testing.assert_array_equal(document.to_labels() > 0, expected)
