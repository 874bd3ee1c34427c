from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import Dims
from napari.layers import Image

from napari_sam.annotation import Plane
from napari_sam.errors import ImageError
from napari_sam.ui.coordinates import (
    box_to_corners,
    corners_to_box,
    displayed_plane,
    plane_at,
    to_data,
    to_xy,
)


def dims(*point: float, order: tuple[int, ...] | None = None, ndisplay: int = 2) -> Dims:
    ndim = len(point)
    return Dims(
        ndim=ndim,
        ndisplay=ndisplay,
        range=tuple((-1000.0, 1000.0, 1.0) for _ in point),
        point=point,
        order=order or tuple(range(ndim)),
    )


def image(*shape: int, **options: object) -> Image:
    return Image(np.zeros(shape, dtype=np.uint8), **options)


def shown(where: Dims, layer: Image) -> tuple[int | None, ...]:
    return displayed_plane(where, layer, layer.data.shape[: layer.ndim]).index


def test_an_image_is_its_own_plane() -> None:
    assert shown(dims(0, 0), image(20, 30)) == (None, None)


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ((0, 1, 2), (4, None, None)),
        ((1, 0, 2), (None, 5, None)),
        ((2, 0, 1), (None, None, 6)),
        ((0, 2, 1), (4, None, None)),  # transposed: the same plane
        ((2, 1, 0), (None, None, 6)),
    ],
)
def test_any_order_of_axes(order: tuple[int, ...], index: tuple[int | None, ...]) -> None:
    assert shown(dims(4, 5, 6, order=order), image(10, 20, 30)) == index


def test_colours_are_no_axis() -> None:
    assert shown(dims(4, 0, 0), image(10, 20, 30, 3, rgb=True)) == (4, None, None)


def test_fewer_axes_than_the_viewer() -> None:
    assert shown(dims(7, 4, 0, 0), image(10, 20, 30)) == (4, None, None)
    assert shown(dims(7, 0, 0, order=(0, 2, 1)), image(20, 30)) == (None, None)


def test_scale_and_translate() -> None:
    layer = image(10, 20, 30, scale=(2.5, 0.1, 0.1), translate=(100, 5, 5))
    assert shown(dims(100 + 2.5 * 3, 5.5, 5.5), layer) == (3, None, None)
    assert shown(dims(100 + 2.5 * 3.4, 5.5, 5.5), layer) == (3, None, None)


def test_rotation_within_the_plane() -> None:
    layer = image(10, 20, 30, rotate=30)
    assert shown(dims(3, 5, 5), layer) == (3, None, None)


def test_the_ends_of_the_image() -> None:
    assert shown(dims(-0.5, 0, 0), image(10, 20, 30)) == (0, None, None)
    assert shown(dims(9.5, 0, 0), image(10, 20, 30)) == (9, None, None)


@pytest.mark.parametrize(
    ("where", "layer", "sentence"),
    [
        (dims(0, 0, 0, ndisplay=3), image(10, 20, 30), "2D display"),
        (dims(11, 0, 0), image(10, 20, 30), "outside the image"),
        (dims(0, 0, 0, order=(2, 0, 1)), image(20, 30), "roll the axes"),
    ],
)
def test_what_is_no_plane_is_explained(where: Dims, layer: Image, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        shown(where, layer)


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    ndim = draw(st.integers(2, 5))
    axes = draw(st.lists(st.integers(0, ndim - 1), min_size=2, max_size=2, unique=True))
    return Plane(tuple(None if axis in axes else draw(st.integers(0, 9)) for axis in range(ndim)))


@given(planes(), st.lists(st.tuples(st.floats(-10, 500), st.floats(-10, 500)), min_size=1, max_size=5))
def test_there_and_back(plane: Plane, xy: list[tuple[float, float]]) -> None:
    data = to_data(xy, plane)
    assert data.shape == (len(xy), plane.ndim)
    np.testing.assert_array_equal(to_xy(data, plane), xy)
    assert all(plane_at(point, plane.axes) == plane for point in data)


def test_row_is_y_and_column_is_x() -> None:
    plane = Plane((None, 4, None))
    assert to_data([[30, 20]], plane).tolist() == [[20, 4, 30]]
    assert to_xy([[20, 4, 30]], plane).tolist() == [[30, 20]]


@given(planes())
def test_boxes_there_and_back(plane: Plane) -> None:
    box = [3.5, 4.0, 20.0, 10.25]
    corners = box_to_corners(box, plane)
    assert corners.shape == (4, plane.ndim)
    assert corners_to_box(corners, plane).tolist() == box
    assert corners_to_box(corners[::-1], plane).tolist() == box
