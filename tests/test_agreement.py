"""Points on the wrong side of a mask's outline."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.inference.agreement import contradictions
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

SIZE = 7, 9


def points_in(size: tuple[int, int]) -> st.SearchStrategy[list[tuple[float, float]]]:
    height, width = size
    x = st.floats(-0.5, width - 0.5)
    return st.lists(st.tuples(x, st.floats(-0.5, height - 0.5)), min_size=1, max_size=5)


@given(st.data(), st.integers(0, 2**32 - 1))
def test_each_point_is_looked_up_in_its_pixel(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.random(SIZE) < rng.random()
    points = data.draw(points_in(SIZE))
    path = data.draw(points_in(SIZE))
    labels = rng.integers(0, 2, len(points))
    prompts = Prompts.create(SIZE, points, labels, scribbles=[(path, 0)])
    wrong = 0
    for (x, y), label in [*zip(points, labels, strict=True), *((at, 0) for at in path)]:
        # A point between two pixels is in either.
        column, row = min(round(x), SIZE[1] - 1), min(round(y), SIZE[0] - 1)
        wrong += bool(array[row, column]) != bool(label)
    assert contradictions(Mask.from_array(array), prompts) == wrong


def test_without_points_nothing_is_contradicted() -> None:
    assert contradictions(Mask.empty(SIZE), Prompts.create(SIZE, box=[1, 1, 4, 4])) == 0
