"""The planes of an image: what they are called, how large they are, and what a model sees of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane, is_whole
from napari_sam.annotation.records import Look
from napari_sam.errors import AnnotationError, ImageError, reason_of
from napari_sam.inference.image import as_rgb, checked_gamma, checked_limits

__all__ = ["Planes", "array_of", "look_of"]


def array_of(image: Any) -> Any:
    """An image as it is if it is some kind of array, else as a NumPy array.

    Raises
    ------
    ImageError
        If it cannot be one.
    """
    if hasattr(image, "shape") and hasattr(image, "dtype"):
        return image
    try:
        return np.asarray(image)
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"The image is no array ({reason_of(error)}): give one whose rows are equally long."
        ) from error


def look_of(contrast_limits: Any = None, gamma: Any = 1.0) -> Look:
    """How a plane is displayed, of what a user gave.

    Parameters
    ----------
    contrast_limits : sequence of two float, optional
    gamma : float, default 1

    Raises
    ------
    ImageError
        If limits or gamma make no sense.

    Examples
    --------
    >>> look_of((0, 255))
    Look(contrast_limits=(0.0, 255.0), gamma=1.0)
    """
    exponent = checked_gamma(gamma)
    return Look(None if contrast_limits is None else checked_limits(contrast_limits), exponent)


class Planes:
    """An image of any number of axes, as planes.

    Parameters
    ----------
    image : array_like
        NumPy, dask, zarr, ...: a plane is read when it is needed.
    rgb : bool, optional
        Whether the last axis is colour; if not given, it is if there are at least three axes and the last one
        has a length of 3 or 4.

    Attributes
    ----------
    shape : tuple of int
        In pixels, without colours.

    Raises
    ------
    ImageError
        If it is no array, there are no planes, or the last axis cannot be colour.

    Examples
    --------
    >>> planes = Planes(np.zeros((5, 30, 40)))
    >>> str(planes.named(-1)), str(planes.named((None, 7, None)))
    ('[4, :, :]', '[:, 7, :]')
    """

    def __init__(self, image: Any, rgb: bool | None = None) -> None:
        image = array_of(image)
        shape = tuple(int(n) for n in image.shape)
        colour = len(shape) >= 3 and shape[-1] in (3, 4)
        if rgb is True and not colour:
            raise ImageError(f"An image of shape {shape} has no colours in its last axis: leave rgb away.")
        self.rgb = colour if rgb is None else rgb
        self.shape = shape[:-1] if self.rgb else shape
        if len(self.shape) < 2 or 0 in shape:
            raise ImageError(f"An image of shape {shape} has no planes to segment.")
        self.image = image

    def size(self, plane: Plane) -> tuple[int, int]:
        """Height and width of a plane, in pixels."""
        return plane.size_in(self.shape)

    def pixels(self, plane: Plane, look: Look) -> NDArray[Any]:
        """A plane as a model sees it: shape (H, W, 3).

        Raises
        ------
        ImageError
            If it cannot be read, for whatever reason.
        """
        try:
            pixels = np.asarray(self.image[plane.slices])
        # Behind an array may be any reader: files, networks, other people's code.
        except Exception as error:
            raise ImageError(
                f"Plane {plane} cannot be read ({reason_of(error)}): repair the image, or leave it out."
            ) from error
        return as_rgb(pixels, contrast_limits=look.contrast_limits, gamma=look.gamma)

    def named(self, plane: Plane | int | Sequence[int | None] | None) -> Plane:
        """The plane that a user means.

        Parameters
        ----------
        plane : Plane, int, sequence of (int or None), or None
            Indices along the axes before the last two, negative ones counted from the end; or one entry per
            axis of which two are None; or None for the only plane there is.

        Raises
        ------
        AnnotationError
            If there is no such plane, or more than one.
        """
        leading = self.shape[:-2]
        if plane is None:
            if any(n > 1 for n in leading):
                raise AnnotationError(
                    f"An image of shape {self.shape} has {int(np.prod(leading))} planes: "
                    f"say which one, as plane={0 if len(leading) == 1 else (0,) * len(leading)}."
                )
            plane = (0,) * len(leading)
        if isinstance(plane, Plane):
            index = plane.index
        else:
            try:
                given: tuple[Any, ...] = tuple(cast("Iterable[Any]", plane))
            except TypeError:
                given = (plane,)
            whole = len(given) == len(self.shape) and any(at is None for at in given)
            index = given if whole else (*given, None, None)
        if not all(at is None or is_whole(at) for at in index):
            raise AnnotationError(
                f"Plane {plane!r} is not given in whole numbers: give {len(leading)} indices, "
                "or one entry per axis, two of them None."
            )
        if len(index) != len(self.shape) or sum(i is None for i in index) != 2:
            raise AnnotationError(
                f"Plane {plane} does not choose a plane of an image of shape {self.shape}: "
                f"give {len(leading)} indices, or one entry per axis, two of them None."
            )
        for at, length in zip(index, self.shape, strict=True):
            if at is not None and not -length <= at < length:
                raise AnnotationError(f"Plane {plane} lies outside an image of shape {self.shape}.")
        # Modulo: the same plane has one name only.
        return Plane(
            tuple(None if at is None else int(at) % n for at, n in zip(index, self.shape, strict=True))
        )
