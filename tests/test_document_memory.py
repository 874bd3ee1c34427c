"""What a history holds of prompts: counted, and not held twice."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Answer, Document, Plane
from napari_sam.annotation.editing import sharing
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

PLANE = Plane((None, None))
SIZE = 300, 300
LINE = np.stack([np.linspace(5, 250, 5000), np.linspace(5, 290, 5000)], axis=1)


def draw(document: Document, prompts: Prompts) -> None:
    """Put prompts, and an answer to equal ones that hold arrays of their own."""
    document.set_prompts({PLANE: prompts})
    asked = Prompts.create(
        SIZE,
        prompts.points.copy(),
        prompts.labels,
        scribbles=[(one.path.copy(), one.label) for one in prompts.scribbles],
        lasso=None if prompts.lasso is None else prompts.lasso.copy(),
    )
    document.answer(document.current.uid, PLANE, Answer(((Mask.empty(SIZE), 0.5),), prompts=asked))


def scribbled(count: int) -> Prompts:
    return Prompts.create(SIZE, scribbles=[(LINE + np.array([at, 0]), at % 2) for at in range(1, count + 1)])


def test_scribbles_are_counted_and_those_that_stay_are_held_once() -> None:
    """Each step had a copy of all earlier ones, and none was counted."""
    document = Document(SIZE)
    held = {}
    for count in range(1, 21):
        draw(document, scribbled(count))
        answer = document.current.answers[PLANE]
        for prompts in (document.current.prompts[PLANE], answer.prompts):
            assert prompts is not None
            held.update({id(one.path): one.path for one in prompts.scribbles})
    assert document.current.prompts[PLANE] == scribbled(20)
    assert len(held) == 20
    assert 20 * LINE.nbytes <= document.history.nbytes < 22 * LINE.nbytes


@pytest.mark.parametrize("kind", ["scribbles", "lasso", "points"])
def test_the_oldest_steps_make_room_for_what_was_drawn(kind: str) -> None:
    document = Document(SIZE, history_bytes=10 * LINE.nbytes)
    for at in range(20):
        line = LINE + np.array([at, 0])
        drawn = {"scribbles": [(line, 1)], "lasso": [*line, [0, 290]], "points": line}[kind]
        draw(document, Prompts.create(SIZE, **{kind: drawn}))  # type: ignore[arg-type]
        assert document.history.nbytes <= 12 * LINE.nbytes
    assert 1 < len(document.history) < 12


def test_what_stays_is_shared_wherever_it_is_among_the_lines() -> None:
    before = Prompts.create(
        SIZE,
        [[3, 4], [5, 6]],
        scribbles=[(LINE, 1), (LINE + 1, 0), (LINE + 2, 1)],
        lasso=[[1, 1], [9, 1], [9, 9]],
        mask_input=np.zeros((256, 256)),
    )
    after = Prompts.create(
        SIZE,
        [[3, 4], [5, 6]],
        [1, 0],
        scribbles=[(LINE + 1, 0), (LINE + 2, 0), (LINE, 1)],
        lasso=[[1, 1], [9, 1], [9, 9]],
        mask_input=np.ones((256, 256)),
    )
    found = sharing(after, before)
    assert found == after
    assert found.points is before.points
    assert found.lasso is before.lasso
    assert found.mask_input is after.mask_input
    assert found.scribbles[0] is before.scribbles[1]
    assert found.scribbles[2] is before.scribbles[0]
    assert [one.label for one in found.scribbles] == [0, 0, 1]
    assert sharing(after, None) is after
    assert sharing(Prompts.create(SIZE, box=[1, 2, 3, 4]), before).scribbles == ()


def test_what_is_drawn_again_is_no_step() -> None:
    document = Document(SIZE)
    document.set_prompts({PLANE: scribbled(2)})
    held = document.current.prompts[PLANE]
    assert document.set_prompts({PLANE: scribbled(2)}) == set()
    assert document.current.prompts[PLANE] is held
    assert len(document.history) == 1
