"""Objects that are merged or split while another one has some of their pixels, and those without any."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, Plane, SamObject
from napari_sam.annotation.overlap import claims
from napari_sam.annotation.propagating import carried_over
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
SIZE = 20, 20


def square(row: int, column: int, height: int, width: int) -> Mask:
    return Mask((row, column), np.ones((height, width), dtype=bool), SIZE)


def take(document: Document, plane: Plane, mask: Mask) -> None:
    """The current object takes pixels from others."""
    document.overwrite = True
    prompts = Prompts.create(SIZE, points=[[3, 3]])
    document.set_prompts({plane: prompts})
    document.answer(document.current.uid, plane, Answer(((mask, 0.9),), prompts=prompts))


def based(**masks: Mask) -> list[SamObject]:
    return [SamObject(0, 0, base={PLANE: Answer(((mask, None),))}) for mask in masks.values()]


def test_what_was_lent_is_still_claimed_after_a_merge() -> None:
    """What came back to a merged object vanished with its next answer."""
    document = Document(SIZE)
    one, other = document.add_objects(based(one=square(0, 0, 6, 6), other=square(0, 10, 6, 6)))
    take(document, PLANE, square(0, 0, 3, 6))
    assert document.get(one.uid).area == 18
    document.merge([one.uid, other.uid])
    assert document.get(one.uid).area == 54
    document.reject()
    assert document.get(one.uid).area == 72
    document.overwrite = False
    document.open(one.uid)
    document.set_prompts({PLANE: Prompts.create(SIZE, points=[[18, 18]])})
    asked = document.current.prompts[PLANE]
    document.answer(one.uid, PLANE, Answer(((asked.mask | square(17, 17, 2, 2), 0.9),), prompts=asked))
    assert document.current.area == 76


def test_what_was_lent_is_still_claimed_after_a_split() -> None:
    document = Document(SIZE)
    (item,) = document.add_objects(based(one=square(5, 0, 3, 20)))
    take(document, PLANE, square(5, 8, 3, 4))
    parts = document.split(item.uid)
    assert [part.area for part in parts] == [24, 24]
    document.reject()
    assert sum(one.area for one in document.objects) == 60
    for one in document.objects:
        assert claims(one, SIZE, [PLANE])[PLANE] == one.masks[PLANE]


def test_a_plane_that_was_lent_as_a_whole_comes_back() -> None:
    planes = [Plane((z, None, None)) for z in range(2)]
    document = Document((2, *SIZE))
    carried = [Answer(((square(0, 0, 6, 6), None),), propagated=z == 1) for z in range(2)]
    one, other = document.add_objects(
        [
            SamObject(0, 0, base=dict(zip(planes, carried, strict=True))),
            SamObject(0, 0, base={planes[0]: Answer(((square(0, 10, 6, 6), None),))}),
        ]
    )
    take(document, planes[1], square(0, 0, 6, 6))
    document.merge([one.uid, other.uid])
    document.reject()
    merged = document.get(one.uid)
    assert merged.area == 36 * 3
    assert claims(merged, document.shape, planes) == merged.masks
    assert carried_over(merged) == {planes[1]}


def test_what_has_no_pixel_is_not_merged() -> None:
    """What was left had neither prompts nor masks."""
    document = Document(SIZE)
    for _ in range(2):
        document.set_prompts({PLANE: Prompts.create(SIZE, points=[[1, 1]], labels=[0])})
        document.accept()
    before = document.snapshot
    with pytest.raises(AnnotationError, match="None of the objects has a pixel"):
        document.merge([item.uid for item in document.objects])
    assert document.snapshot == before
