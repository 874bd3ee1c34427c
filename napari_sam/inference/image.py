"""From any image plane to the three channels that a model sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ImageError
from napari_sam.inference.arrays import as_array

__all__ = ["as_rgb", "checked_gamma", "checked_limits", "distinct_channels"]


def as_rgb(
    image: ArrayLike,
    *,
    contrast_limits: tuple[float, float] | None = None,
    gamma: float = 1.0,
) -> NDArray[Any]:
    """Make the RGB plane that a model sees from any gray or colour plane.

    Parameters
    ----------
    image : array_like, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
        Any boolean, integer or floating point dtype. A fourth channel (alpha) is dropped. NaN becomes the
        lower contrast limit, infinities the limit on their side.
    contrast_limits : tuple of float, optional
        The values shown as black and as white. By default 0 and 255 for uint8, 0 and 1 for bool, and the
        smallest and largest finite value otherwise; colour images that fit 0..255 (integers) or 0..1
        (floats) keep that range, as napari displays them.
    gamma : float
        Exponent applied after scaling to 0..1, as napari does.

    Returns
    -------
    ndarray, shape (H, W, 3)
        uint8 if the image is uint8 and neither limits nor gamma change it; else float32 between 0 and 1, so
        that 16-bit images keep their gray levels. Gray images come back as a read-only view with one
        channel repeated, uint8 images share memory with the input.

    Raises
    ------
    ImageError
        For an array of another shape, without pixels, or of complex or other non-numeric dtype, and for
        limits or a gamma that make no sense.

    Examples
    --------
    >>> import numpy as np
    >>> as_rgb(np.array([[1000, 3000, 5000]], dtype=np.uint16))[0, :, 0].tolist()
    [0.0, 0.5, 1.0]
    >>> as_rgb(np.zeros((4, 5), dtype=np.uint8)).dtype
    dtype('uint8')
    """
    pixels = _plane(image)
    gamma = checked_gamma(gamma)
    limits = _default_limits(pixels) if contrast_limits is None else checked_limits(contrast_limits)
    if not (pixels.dtype == np.uint8 and limits == (0.0, 255.0) and gamma == 1.0):
        pixels = _stretch(pixels, limits, gamma)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] == 1 else pixels


def distinct_channels(plane: NDArray[Any]) -> NDArray[Any]:
    """A view without channels that are only repeated: gray planes are one channel seen three times.

    Parameters
    ----------
    plane : ndarray, shape (H, W, 3)
        As :func:`as_rgb` returns it.

    Returns
    -------
    ndarray, shape (H, W, 1) or (H, W, 3)

    Examples
    --------
    >>> distinct_channels(as_rgb(np.zeros((4, 5)))).shape
    (4, 5, 1)
    >>> distinct_channels(as_rgb(np.zeros((4, 5, 3)))).shape
    (4, 5, 3)
    """
    return plane[..., :1] if plane.ndim == 3 and plane.strides[2] == 0 else plane


def _plane(image: ArrayLike) -> NDArray[Any]:
    """The image as (H, W, 1) or (H, W, 3) numbers."""
    pixels = as_array(image, "The image", ImageError)
    if pixels.dtype.kind not in "buif":
        raise ImageError(
            f"Images of type {pixels.dtype} cannot be segmented: convert the image to integers or floats."
        )
    if pixels.size == 0:
        raise ImageError(f"The image has no pixels (its shape is {pixels.shape}).")
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"An image of shape {pixels.shape} is not one plane: "
            "choose a plane of shape (height, width) or (height, width, 3)."
        )
    return pixels[..., :3]


def checked_limits(contrast_limits: Any) -> tuple[float, float]:
    """The values shown as black and as white, of what a user gave.

    Raises
    ------
    ImageError
        If they are not two finite numbers in rising order.
    """
    try:
        low, high = (float(limit) for limit in contrast_limits)
    except (TypeError, ValueError, OverflowError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ImageError(
            f"Contrast limits must be two finite numbers in rising order, not {contrast_limits!r}."
        )
    return low, high


def checked_gamma(gamma: Any) -> float:
    """An exponent, of what a user gave.

    Raises
    ------
    ImageError
        If it is no finite number greater than 0.
    """
    try:
        number = float(gamma)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not (np.isfinite(number) and number > 0):
        raise ImageError(f"Gamma must be a number greater than 0, not {gamma!r}.")
    return number


def _default_limits(pixels: NDArray[Any]) -> tuple[float, float]:
    """The limits that napari would choose on opening the image."""
    kind, colour = pixels.dtype.kind, pixels.shape[2] == 3
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    if kind == "b":
        return 0.0, 1.0
    if kind == "f":
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            return 0.0, 1.0
        low, high = float(finite.min()), float(finite.max())
        nominal = 1.0
    else:
        low, high = float(pixels.min()), float(pixels.max())
        nominal = 255.0
    return (0.0, nominal) if colour and low >= 0 and high <= nominal else (low, high)


def _stretch(pixels: NDArray[Any], limits: tuple[float, float], gamma: float) -> NDArray[np.float32]:
    """Map the limits to 0 and 1, clip, and apply gamma."""
    if pixels.dtype.kind == "b":
        pixels = pixels.view(np.uint8)
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2:
        # At most 65536 different values: a table is several times faster than arithmetic on every pixel, and
        # it needs no temporary image.
        info = np.iinfo(pixels.dtype)
        table = _stretch_floats(np.arange(info.min, info.max + 1, dtype=np.float64), limits, gamma)
        return table[pixels.astype(np.int32) - int(info.min) if info.min else pixels]
    with np.errstate(over="ignore"):  # long doubles beyond float64 become infinite, which is handled below
        return _stretch_floats(pixels.astype(np.float64), limits, gamma)


def _stretch_floats(
    values: NDArray[np.float64], limits: tuple[float, float], gamma: float
) -> NDArray[np.float32]:
    """As `_stretch`, in place."""
    low, high = limits
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    np.clip(values, low, high, out=values)
    if low == high:
        return np.zeros(values.shape, dtype=np.float32)
    if not np.isfinite(high - low):
        values /= 4
        low, high = low / 4, high / 4
    values -= low
    values /= high - low
    if gamma != 1.0:
        np.power(values, gamma, out=values)
    return values.astype(np.float32)
