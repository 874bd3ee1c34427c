from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.errors import ImageError
from napari_sam.inference.image import as_rgb

REAL_TYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "longdouble"]


@given(
    hnp.arrays(
        dtype=st.sampled_from([np.dtype(name) for name in REAL_TYPES]),
        shape=st.tuples(st.integers(1, 4), st.integers(1, 4))
        | st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 4])),
    )
)
def test_any_real_image_becomes_rgb_within_range(image: np.ndarray) -> None:
    before = image.copy()
    rgb = as_rgb(image)
    assert rgb.shape == (*image.shape[:2], 3)
    assert rgb.dtype == (np.uint8 if image.dtype == np.uint8 else np.float32)
    if rgb.dtype == np.float32:
        assert np.isfinite(rgb).all()
        assert rgb.min() >= 0
        assert rgb.max() <= 1
    np.testing.assert_array_equal(image, before)


def test_uint8_is_left_alone() -> None:
    gray = np.array([[3, 200]], dtype=np.uint8)
    np.testing.assert_array_equal(as_rgb(gray), np.stack([gray] * 3, axis=-1))
    colour = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_rgb(colour), colour[..., :3])
    assert as_rgb(gray, contrast_limits=(0, 255)).dtype == np.uint8


def test_sixteen_bit_gray_keeps_its_levels() -> None:
    levels = np.arange(1000, 5097, dtype=np.uint16).reshape(17, 241)
    rgb = as_rgb(levels)
    assert np.unique(rgb).size == 4097
    np.testing.assert_allclose(rgb[..., 1], (levels - 1000.0) / 4096, atol=1e-7)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u8", "f4", "f8"])
def test_every_type_is_scaled_alike(dtype: str) -> None:
    image = np.array([[0, 10, 25], [50, 100, 120]]).astype(dtype)
    expected = np.array([[0, 0, 0.1875], [0.5, 1, 1]])
    np.testing.assert_allclose(as_rgb(image, contrast_limits=(10, 90))[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(
        as_rgb(image, contrast_limits=(10, 90), gamma=2)[..., 2], expected**2, atol=1e-6
    )


def test_signed_integers_below_zero() -> None:
    image = np.array([[-300, 0, 300]], dtype=np.int16)
    assert as_rgb(image)[0, :, 0].tolist() == [0, 0.5, 1]


def test_numbers_that_are_not_finite() -> None:
    image = np.array([[np.nan, -np.inf, 2.0], [3.0, 4.0, np.inf]])
    assert as_rgb(image)[..., 0].tolist() == [[0, 0, 0], [0.5, 1, 1]]
    assert not as_rgb(np.full((2, 2), np.nan)).any()


@pytest.mark.parametrize("value", [0, 7, 2**62])
def test_constant_images_are_black(value: int) -> None:
    assert not as_rgb(np.full((3, 3), value, dtype=np.int64)).any()


def test_a_pixel_and_a_boolean() -> None:
    assert as_rgb(np.array([[5]], dtype=np.uint8)).tolist() == [[[5, 5, 5]]]
    assert as_rgb(np.array([[True, False]]))[0, :, 0].tolist() == [1, 0]
    assert as_rgb(np.array([[True]]))[0, 0, 0] == 1


def test_floats_wider_than_the_largest_number() -> None:
    big = np.finfo(np.float64).max
    np.testing.assert_allclose(as_rgb(np.array([[-big, 0, big]]))[0, :, 0], [0, 0.5, 1])


def test_colour_keeps_the_range_it_is_shown_with() -> None:
    floats = np.array([[[0.2, 0.3, 0.4]]])
    np.testing.assert_allclose(as_rgb(floats)[0, 0], [0.2, 0.3, 0.4], rtol=1e-6)
    integers = np.array([[[51, 102, 204]]])
    np.testing.assert_allclose(as_rgb(integers)[0, 0], [0.2, 0.4, 0.8], rtol=1e-6)
    wide = np.array([[[0, 2000, 4000]]], dtype=np.uint16)
    np.testing.assert_allclose(as_rgb(wide)[0, 0], [0, 0.5, 1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 6, 7)), "choose a plane"),
        (np.zeros((2, 5, 6, 3)), "choose a plane"),
        (np.zeros(5), "choose a plane"),
        (np.zeros((0, 5)), "no pixels"),
        (np.zeros((4, 4), dtype=complex), "complex128"),
        (np.full((4, 4), "a", dtype=object), "object"),
        ([[1, 2], [3]], "array of numbers"),
        (np.zeros((4, 4), dtype="M8[s]"), "datetime64"),
    ],
)
def test_what_cannot_be_segmented_is_named(image: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_rgb(image)


@pytest.mark.parametrize("limits", [(5, 1), (0, np.nan), (-np.inf, 1)])
def test_contrast_limits_that_make_no_sense(limits: tuple[float, float]) -> None:
    with pytest.raises(ImageError, match="Contrast limits"):
        as_rgb(np.zeros((2, 2)), contrast_limits=limits)


@pytest.mark.parametrize("gamma", [0, -1, np.nan])
def test_gamma_that_makes_no_sense(gamma: float) -> None:
    with pytest.raises(ImageError, match="Gamma"):
        as_rgb(np.zeros((2, 2)), gamma=gamma)
