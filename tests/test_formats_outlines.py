from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.formats.outlines import outlines
from napari_sam.inference.mask import Mask

PICTURES = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
ROOM = (14, 16)


def picture(text: str) -> NDArray[np.bool_]:
    return np.array([[sign == "#" for sign in row] for row in text.split()])


PINCHED_HOLE = picture("### #.# ##.")
PINCHED_TWICE = picture("####. #.#.# ##.## #.#.# #####")
NESTED = picture("####### #.....# #.###.# #.#.#.# #.###.# #.....# #######")
CHECKERS = picture("#.#.# .#.#. #.#.#")
HOLES_THAT_TOUCH = picture("##### #.### ##.## ###.# #####")


def polygons_of(masks: list[Mask]) -> list[list[shapely.Polygon]]:
    return [[shapely.Polygon(shell, holes) for shell, holes in parts] for parts in outlines(masks)]


def covered(polygons: list[shapely.Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres are inside, as shapely says it."""
    y, x = np.indices(shape) + 0.5
    return np.asarray(shapely.contains_xy(shapely.union_all(polygons), x, y))


@given(st.lists(st.tuples(PICTURES, st.integers(0, 5), st.integers(0, 7)), max_size=4))
@example([(PINCHED_HOLE, 0, 0), (NESTED, 2, 3)])
@example([(PINCHED_TWICE, 1, 0), (CHECKERS, 0, 0), (HOLES_THAT_TOUCH, 4, 4)])
@example([(~NESTED, 0, 0), (~PINCHED_TWICE, 0, 0)])
@example([(np.zeros((3, 3), dtype=bool), 0, 0), (np.ones((1, 1), dtype=bool), 5, 7)])
def test_polygons_are_valid_and_cover_the_pixels(drawn: list[tuple[NDArray[np.bool_], int, int]]) -> None:
    masks = [Mask(origin, bits, ROOM) for bits, *origin in drawn]
    for mask, polygons in zip(masks, polygons_of(masks), strict=True):
        assert len(polygons) == ndimage.label(mask.bits)[1]
        assert all(one.is_valid for one in polygons)
        assert all(one.exterior.is_ccw for one in polygons)
        assert not any(hole.is_ccw for one in polygons for hole in one.interiors)
        assert sum(one.area for one in polygons) == mask.area
        np.testing.assert_array_equal(covered(polygons, ROOM), mask.to_array())


@given(PICTURES)
@example(PINCHED_TWICE)
@example(CHECKERS)
def test_every_vertex_is_a_turn_and_there_once(bits: NDArray[np.bool_]) -> None:
    [parts] = outlines([Mask((2, 3), bits, ROOM)])
    for ring in [ring for shell, holes in parts for ring in (shell, *holes)]:
        steps = np.diff(ring, axis=0, append=ring[:1])
        along_x = steps[:, 0] != 0
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert (along_x != np.roll(along_x, 1)).all()
        assert len(np.unique(ring, axis=0)) == len(ring)


def test_an_object_in_the_hole_of_itself_has_no_hole_of_its_own() -> None:
    [[outer, inner]] = polygons_of([Mask((0, 0), NESTED, ROOM)])
    assert (outer.area, len(outer.interiors)) == (49 - 25, 1)
    assert (inner.area, len(inner.interiors)) == (9 - 1, 1)
    assert shapely.Polygon(outer.interiors[0]).contains(inner)


def test_no_masks_and_empty_masks() -> None:
    assert outlines([]) == []
    assert outlines([Mask.empty((3, 4)), Mask.empty((3, 4))]) == [[], []]


def test_a_long_ring() -> None:
    # A spiral, one pixel wide: a single ring with thousands of corners.
    side = 401
    bits = np.zeros((side, side), dtype=bool)
    row, column, step = 0, 0, (0, 1)
    bits[0, 0] = True
    for length in [side - 1] + [n for n in range(side - 1, 1, -2) for _ in range(2)]:
        rows = np.arange(1, length + 1) * step[0] + row
        columns = np.arange(1, length + 1) * step[1] + column
        bits[rows, columns] = True
        row, column, step = int(rows[-1]), int(columns[-1]), (step[1], -step[0])
    [[polygon]] = polygons_of([Mask.from_array(bits)])
    assert polygon.is_valid
    assert polygon.area == bits.sum()
    assert len(polygon.interiors) == 0
    assert len(polygon.exterior.coords) > 700


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_thousands_of_objects_take_no_loop_over_vertices(noise: float) -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((40, 40)) - 19.5
    masks = []
    for _ in range(3000):
        radii = rng.uniform(5, 19, 2)
        bits = ((y / radii[0]) ** 2 + (x / radii[1]) ** 2 < 1) & (rng.random((40, 40)) >= noise)
        masks.append(Mask(tuple(rng.integers(0, 4056, 2).tolist()), bits, (4096, 4096)))
    started = time.process_time()
    found = outlines(masks)
    assert time.process_time() - started < 3
    assert [sum(one.area for one in parts) for parts in polygons_of(masks[:100])] == [
        mask.area for mask in masks[:100]
    ]
    assert len(found) == len(masks)
