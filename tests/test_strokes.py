from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import PromptError
from napari_sam.inference.clipping import parts_on
from napari_sam.inference.drawn import plain
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import Scribble, sample_path

SIZE = (256, 512)
FRAME = np.array([0.0, 0.0, 512.0, 512.0])


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    return Mask((top, left), np.ones((bottom - top, right - left), dtype=bool), size)


@pytest.mark.parametrize(
    ("path", "label", "message"),
    [
        ([], 1, "shape"),
        ([1, 2], 1, "shape"),
        ([[1, 2, 3]], 1, "shape"),
        ([[1, 2], [3]], 1, "numbers"),
        ([[1, np.nan]], 1, "finite"),
        ([[1, 2]], 2, "not 2"),
        ([[1, 2]], -1, "not -1"),
        ([[-20, 5], [-10, 5]], 1, r"from \(-20, 5\) lies outside the image, which is 512 pixels wide"),
    ],
)
def test_scribbles_that_make_no_sense(path: Any, label: int, message: str) -> None:
    with pytest.raises(PromptError, match=message) as raised:
        Prompts.create(SIZE, scribbles=[(path, label)])
    assert str(raised.value).endswith(".")


def test_a_scribble_is_a_value() -> None:
    path = np.array([[0.0, 1.0], [2.0, 3.0]])
    scribble = Scribble(path, 1)
    path[0] = 9
    assert scribble.path.tolist() == [[0, 1], [2, 3]]
    assert not scribble.path.flags.writeable
    assert scribble == Scribble(np.array([[-0.0, 1.0], [2.0, 3.0]]), 1)
    assert hash(scribble) == hash(Scribble(np.array([[-0.0, 1.0], [2.0, 3.0]]), 1))
    assert scribble != Scribble(scribble.path, 0)
    assert scribble != Scribble(scribble.path[:1], 1)


def test_what_of_a_scribble_lies_outside_the_image_is_cut_off() -> None:
    scribble = Scribble.create(SIZE, [[5, 5], [5, -3], [501, -3], [501, 3], [530, 3], [9, 3]], 0)
    assert scribble.path.tolist() == [[5, 5], [5, -0.5], [501, -0.5], [501, 3], [511.5, 3], [9, 3]]
    assert scribble.label == 0


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ([[-10, 100], [600, 100]], [[-0.5, 100], [511.5, 100]]),
        ([[7, 900], [7, -900]], [[7, 255.5], [7, -0.5]]),
        ([[-10, -10], [10, 10]], [[-0.5, -0.5], [10, 10]]),
        ([[-4.5, 1.5], [1.5, -4.5], [300, -4.5], [300, 1]], [[300, -0.5], [300, 1]]),
        ([[-1e9, 20], [-20, 20], [-20, 30], [1e9, 30]], [[-0.5, 30], [511.5, 30]]),
        ([[30, 40]], [[30, 40]]),
        ([[-3, -0.5], [3, -0.5], [3, -0.5]], [[-0.5, -0.5], [3, -0.5]]),
    ],
)
def test_a_scribble_across_the_image_lies_on_it(path: Any, inside: list[list[float]]) -> None:
    scribble = Scribble.create(SIZE, path, 1)
    np.testing.assert_allclose(scribble.path, inside)
    assert Scribble.create(SIZE, scribble.path, 1) == scribble


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-30, 60)] * 2), min_size=2, max_size=5),
    st.tuples(*[st.integers(1, 30)] * 2),
)
def test_parts_of_a_line_are_those_of_its_points(line: list[tuple[int, int]], size: tuple[int, int]) -> None:
    """Compared with many points along it."""
    path = np.array(line, dtype=np.float64)
    along = np.linspace(0, 1, 1001)[:, np.newaxis]
    points = np.concatenate([a + along * (b - a) for a, b in itertools.pairwise(path)])
    corner = np.array([size[1], size[0]]) - 0.5
    inside = points[((points >= -0.5) & (points <= corner)).all(axis=1)]
    parts = parts_on(size, path)
    assert ((parts >= -0.5) & (parts <= corner)).all()
    if len(inside):
        assert np.min([_distance(inside, part) for part in parts], axis=0).max() < 1e-9
    elif len(parts):
        # Between two of the points: a corner that is just touched.
        assert np.linalg.norm(parts[:, 1] - parts[:, 0], axis=1).max() < 0.2


def _distance(points: np.ndarray, part: np.ndarray) -> np.ndarray:
    way = part[1] - part[0]
    share = np.clip((points - part[0]) @ way / max(way @ way, 1e-300), 0, 1)
    distance: np.ndarray = np.linalg.norm(points - part[0] - share[:, np.newaxis] * way, axis=1)
    return distance


def test_a_path_is_sampled_evenly_however_its_vertices_lie() -> None:
    crowded = np.stack([np.concatenate([np.linspace(0, 1, 50), [10.0]]), np.zeros(51)], axis=1)
    np.testing.assert_allclose(sample_path(crowded, 5)[:, 0], [1, 3, 5, 7, 9])
    assert sample_path(np.array([[3.0, 4.0]]), 2).tolist() == [[3, 4], [3, 4]]


def test_scribbles_become_points_and_keep_those_there_are() -> None:
    line = np.stack([np.linspace(20, 220, 40), np.full(40, 30.0)], axis=1)
    prompts = Prompts.create(
        SIZE, [[7, 8]], [0], scribbles=[(line, 1), ([[50, 90], [52, 90]], 0), ([[1, 1]], 1)]
    )
    told = plain(prompts, SIZE, FRAME)
    assert told.is_plain
    assert told.has_points_alone
    assert told.labels.tolist() == [0, 1, 1, 1, 1, 1, 0, 1]
    assert told.points[0].tolist() == [7, 8]
    np.testing.assert_allclose(told.points[1:6], [[x, 30] for x in (40, 80, 120, 160, 200)])
    assert told.points[6:].tolist() == [[51, 90], [1, 1]]


def test_points_boxes_and_logits_stay_as_they_are() -> None:
    prompts = Prompts.create(SIZE, [[7, 8]], box=[1, 2, 30, 40], mask_input=np.ones((256, 256)))
    assert plain(prompts, SIZE, FRAME) is prompts
    masked = plain(prompts.with_mask(rectangle(50, 60, 90, 100)), SIZE, FRAME)
    assert masked.box is not None
    assert masked.box.tolist() == [1, 2, 30, 40]
    np.testing.assert_array_equal(masked.mask_input, prompts.mask_input)


@settings(deadline=None)
@given(
    data=st.data(),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    side=st.tuples(st.floats(3, 90), st.floats(3, 90)),
)
def test_logits_of_a_mask_are_the_share_of_each_cell_it_covers(
    data: st.DataObject, size: tuple[int, int], corner: tuple[float, float], side: tuple[float, float]
) -> None:
    top, left = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    bottom, right = data.draw(st.integers(top + 1, size[0])), data.draw(st.integers(left + 1, size[1]))
    frame = np.array([*corner, corner[0] + side[0], corner[1] + side[1]])
    told = plain(Prompts.create(size, mask=rectangle(top, left, bottom, right, size)), size, frame, cells=16)

    def share(low: int, high: int, first: float, last: float) -> np.ndarray:
        edges = np.linspace(first, last, 17)
        return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) / np.diff(edges)

    expected = np.outer(share(top, bottom, frame[1], frame[3]), share(left, right, frame[0], frame[2]))
    if (expected > 0.501).any():
        assert told.mask_input is not None
        np.testing.assert_allclose(told.mask_input, 10 * (2 * expected - 1), atol=1e-3)
    elif (expected < 0.499).all():
        assert told.mask_input is None


def test_a_mask_brings_its_box_and_its_deepest_point() -> None:
    mask = rectangle(50, 60, 90, 101)
    told = plain(Prompts.create(SIZE, [[70, 55]], mask=mask), SIZE, FRAME)
    assert told.box is not None
    assert told.box.tolist() == [59.5, 49.5, 100.5, 89.5]
    assert told.labels.tolist() == [1, 1]
    x, y = told.points[1]
    assert 75 <= x <= 85
    assert 68 <= y <= 71


@pytest.mark.parametrize("size", [SIZE, (4096, 4096)])
def test_a_positive_point_beside_the_box_of_a_mask_takes_the_box_away(size: tuple[int, int]) -> None:
    """The object goes on there, nobody knows how far; on the larger plane the mask is smaller than a cell."""
    mask = rectangle(50, 60, 54, 65, size)
    frame = np.array([0.0, 0.0, *size[::-1]])
    assert plain(Prompts.create(size, [[64, 53]], mask=mask), size, frame).box is not None
    told = plain(Prompts.create(size, [[66, 53]], mask=mask), size, frame)
    assert told.box is None
    assert told.points.tolist()[0] == [66, 53]
    assert mask.to_array()[tuple(told.points[1, ::-1].astype(int))]
    drawn = plain(Prompts.create(size, [[66, 53]], mask=mask, box=[50, 40, 80, 60]), size, frame)
    assert drawn.box is not None
    assert drawn.box.tolist() == [50, 40, 80, 60]


def test_a_negative_point_takes_the_box_away_and_keeps_the_deepest_point_at_a_distance() -> None:
    mask = rectangle(50, 60, 90, 160)
    told = plain(Prompts.create(SIZE, [[80, 70]], [0], mask=mask), SIZE, FRAME)
    assert told.box is None
    assert told.mask_input is not None
    assert told.labels.tolist() == [0, 1]
    assert np.hypot(*(told.points[1] - told.points[0])) >= 20
    assert mask.to_array()[tuple(told.points[1, ::-1].astype(int))]


def test_a_mask_smaller_than_a_cell_is_given_by_its_box() -> None:
    size = (4096, 4096)
    told = plain(
        Prompts.create(size, [[2000, 2010]], [0], mask=rectangle(2000, 2000, 2004, 2005, size)),
        size,
        np.array([0.0, 0.0, 4096.0, 4096.0]),
    )
    assert told.mask_input is None
    assert told.box is not None
    assert told.box.tolist() == [1999.5, 1999.5, 2004.5, 2003.5]


def test_a_negative_point_on_a_mask_of_one_pixel() -> None:
    told = plain(Prompts.create(SIZE, [[9, 9]], [0], mask=rectangle(9, 9, 10, 10)), SIZE, FRAME)
    assert told.points.tolist() == [[9, 9], [9, 9]]


def test_masks_of_another_plane_are_refused() -> None:
    prompts = Prompts.create((9, 9), mask=rectangle(1, 1, 3, 3, (9, 9)))
    with pytest.raises(PromptError, match="9 x 9"):
        plain(prompts, SIZE, FRAME)


LASSO = [[20, 20], [120, 20], [120, 100], [20, 100]]


def test_a_lasso_becomes_its_area_and_its_box() -> None:
    prompts = Prompts.create(SIZE, lasso=[[-30, 20], [120, 20], [120, 300], [-30, 300]])
    told = plain(prompts, SIZE, FRAME)
    assert told.box is not None
    assert told.box.tolist() == [-0.5, 20, 120, 255.5]
    assert told.mask_input is not None
    assert told.mask_input[20, 30] == pytest.approx(6)
    assert told.mask_input[20, 70] == pytest.approx(-6)
    assert told.mask_input[5, 30] == pytest.approx(-6)
    inside = (told.mask_input[:128] > 0).sum() * 4
    assert inside == pytest.approx(120.5 * 235.5, rel=0.02)


def test_a_positive_point_beside_a_lasso_takes_its_box_away() -> None:
    assert plain(Prompts.create(SIZE, [[200, 60]], lasso=LASSO), SIZE, FRAME).box is None
    assert plain(Prompts.create(SIZE, [[200, 60]], [0], lasso=LASSO), SIZE, FRAME).box is not None


def test_a_lasso_says_which_part_of_a_mask_is_meant() -> None:
    told = plain(Prompts.create(SIZE, mask=rectangle(40, 60, 80, 300), lasso=LASSO), SIZE, FRAME)
    assert told.mask_input is not None
    rows, columns = np.nonzero(told.mask_input > 0)
    assert (rows.min(), rows.max()) == (20, 39)
    assert (columns.min(), columns.max()) == (30, 59)
    apart = plain(Prompts.create(SIZE, mask=rectangle(200, 300, 240, 340), lasso=LASSO), SIZE, FRAME)
    alone = plain(Prompts.create(SIZE, lasso=LASSO), SIZE, FRAME)
    assert apart == alone


@pytest.mark.parametrize(
    "lasso",
    [
        [[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]],
        [[-0.5, -0.5], [511.5, -0.5], [511.5, 255.5], [-0.5, 255.5]],
        [[-9, 100], [600, 100], [600, 101], [-9, 101]],
        [[10, 10], [60, 60], [60, 10], [10, 60]],
        [[10, 10], [10.01, 10], [10, 10.01]],
        [[-9, -9], [600, -9], [600, 300], [-9, 300]] * 2,
        [[-300, 128], [256, -300], [800, 128], [256, 600]],
    ],
)
def test_lassos_with_an_area_on_the_image(lasso: Any) -> None:
    for drawn in (lasso, lasso[::-1]):
        prompts = Prompts.create(SIZE, lasso=drawn)
        assert prompts.lasso is not None
        assert prompts.lasso.tolist() == drawn


@pytest.mark.parametrize(
    ("lasso", "message"),
    [
        ([[1, 1], [5, 5]], "three vertices"),
        ([[1, 1], [5, 5], [9, 9]], "no area"),
        ([[4, 4]] * 5, "no area"),
        ([1, 2, 3], "shape"),
        ([[1, 1], [5, np.inf], [9, 2]], "finite"),
        ([[600, 1], [700, 1], [650, 90]], "outside"),
        ([[1, -9], [70, -1], [50, -2]], "outside"),
        # Around a corner of the image, and along an edge.
        ([[-90, -90], [700, -90], [700, -20], [-20, -20], [-20, 300], [-90, 300]], "outside"),
        ([[-20, -0.5], [600, -0.5], [600, -50], [-20, -50]], "outside"),
        ([[-40, 30], [30, -40], [-40, -40]], "outside"),
    ],
)
def test_lassos_that_make_no_sense(lasso: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message) as raised:
        Prompts.create(SIZE, lasso=lasso)
    assert str(raised.value).endswith(".")
