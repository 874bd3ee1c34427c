from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import FormatError
from napari_sam.formats.outlines import outlines
from napari_sam.formats.polygons import box_of, crossings_of, fill, fill_all, measured
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


CORNERS = st.floats(-40, 40) | st.sampled_from([-1e300, 1e300, -1e-300, 0.5, 3.5, 2**40 + 0.5])


@given(PICTURES, st.integers(0, 5), st.integers(0, 7))
@example(PINCHED_TWICE, 0, 0)
@example(NESTED, 3, 3)
@example(np.ones((1, 1), dtype=bool), 5, 7)
def test_filled_outlines_are_the_mask(bits: NDArray[np.bool_], row: int, column: int) -> None:
    mask = Mask((row, column), bits, ROOM)
    [parts] = outlines([mask])
    assert fill([ring for shell, holes in parts for ring in (shell, *holes)], ROOM) == mask
    for shell, holes in parts:
        top, left, bottom, right = box_of([shell, *holes], ROOM)
        assert (left, top, right, bottom) == shapely.Polygon(shell).bounds


@given(st.lists(st.lists(st.tuples(CORNERS, CORNERS), min_size=1, max_size=7), max_size=3))
@example([[(0.5, 0.5), (3.5, 0.5), (3.5, 3.5), (0.5, 3.5)]])
@example([[(-1e300, -1e300), (1e300, -1e300), (1e300, 1e300), (-1e300, 1e300)]])
@example([[(-30, 2.5), (30, 2.5)], [(1, 1)]])
def test_pixels_are_filled_whose_centres_are_in_an_odd_number_of_rings(
    rings: list[list[tuple[float, float]]],
) -> None:
    found = fill(rings, ROOM).to_array()
    y, x = np.indices(ROOM) + 0.5
    inside = np.zeros(ROOM, dtype=bool)
    near = np.zeros(ROOM, dtype=bool)
    for ring in rings:
        # By the crossings of a ray from each centre, one edge at a time; in doubt where an edge is very near.
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            crosses = (min(y0, y1) <= y) & (y < max(y0, y1))
            share = np.divide(y - y0, y1 - y0, out=np.zeros(ROOM), where=crosses)
            at = x0 * (1 - share) + x1 * share
            near |= crosses & (np.abs(at - x) <= 1e-9 * max(1, abs(x0), abs(x1)))
            inside ^= crosses & (at <= x)
    np.testing.assert_array_equal(found[~near], inside[~near])


@given(
    st.lists(st.tuples(st.floats(0, 16), st.floats(0, 14)), min_size=3, max_size=3, unique=True),
    st.tuples(st.floats(0, 16), st.floats(0, 14)),
)
def test_triangles_with_a_common_edge_share_no_pixel(
    corners: list[tuple[float, float]], fourth: tuple[float, float]
) -> None:
    a, b, c = corners
    side = [(b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) for p in (c, fourth)]
    assume(side[0] * side[1] < 0)
    one, other = fill([[a, b, c]], ROOM), fill([[b, a, fourth]], ROOM)
    assert (one & other).is_empty
    assert (one | other) == fill([[a, c, b, fourth]], ROOM)


@pytest.mark.parametrize(
    "rings",
    [
        [[(0, 0), (1, float("nan"))]],
        [[(0, 0), (float("inf"), 2)]],
        [[(0, 0, 0), (1, 1, 1)]],
        [[1, 2, 3]],
        [[("1", "2")]],
        [[(10**30, 0), (1, 1)]],
    ],
)
def test_what_is_no_polygon_is_refused(rings: list[list[tuple[float, ...]]]) -> None:
    with pytest.raises(FormatError, match=r"polygon.*\.$"):
        fill(rings, ROOM)


def test_no_memory_is_taken_for_what_is_outside_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam.formats.polygons._CROSSINGS", 100)  # so that there are several portions
    ring = np.array([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)] * 100)
    tracemalloc.start()
    try:
        assert fill([ring[:4]], (300, 200)).area == 300 * 200
        assert fill([ring], (300, 200)).is_empty  # a hundred times around
        assert fill([ring[:4] + 3e9], (300, 200)).is_empty
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@given(st.lists(PICTURES, max_size=6), st.integers(1, 60), st.integers(1, 200))
def test_many_are_filled_at_once_as_one_by_one(
    drawn: list[NDArray[np.bool_]], vertices: int, pixels: int
) -> None:
    masks = [Mask((n, n), bits, ROOM) for n, bits in enumerate(drawn)]
    rings = [[ring for shell, holes in parts for ring in (shell, *holes)] for parts in outlines(masks)]
    outside = np.array([(50.0, 1.0), (60.0, 1.0), (50.0, 9.0)])
    with pytest.MonkeyPatch.context() as patch:  # so that there are several groups
        patch.setattr("napari_sam.formats.polygons._VERTICES", vertices)
        patch.setattr("napari_sam.formats.polygons._PIXELS", pixels)
        found = list(fill_all([[outside], *rings], ROOM))
        boxes, crossings = measured(rings, ROOM)
    assert found == [Mask.empty(ROOM), *masks]
    assert boxes.tolist() == [list(box_of(one, ROOM)) for one in rings]
    assert crossings.tolist() == [crossings_of(one, ROOM) for one in rings]
    edges = [np.abs(np.diff(one.to_array().astype(int), prepend=0, append=0)).sum() for one in masks]
    assert crossings.tolist() == edges
