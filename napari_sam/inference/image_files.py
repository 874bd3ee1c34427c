"""Images from files, with what the files say of their axes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, reason_of

__all__ = ["ImageFile", "open_image", "read_image", "read_plane"]

_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as it was read from a file.

    Attributes
    ----------
    name : str
        Of the file.
    pixels : ndarray
        Uncompressed stacks are read from the file where they are used.
    axes : str
        A letter for each axis of the pixels: t, c, z, y, x, q for one of unknown meaning, and s for colours,
        which come last.
    count : int
        How many images the file holds; this is the first.
    """

    name: str
    pixels: NDArray[Any]
    axes: str
    count: int = 1

    @property
    def colour(self) -> bool:
        """Whether the last axis is colour."""
        return self.axes.endswith("s")

    @property
    def leading(self) -> tuple[int, ...]:
        """The lengths of the axes before height and width."""
        return self.pixels.shape[: max(0, self.pixels.ndim - (3 if self.colour else 2))]

    @property
    def channel_axis(self) -> int | None:
        """Which axis is channels, if the file says so."""
        return self.axes.index("c") if self.axes.count("c") == 1 else None

    @property
    def depth_axis(self) -> int | None:
        """Along which planes are neighbours: z, else the last one before height and width but channels."""
        letters = self.axes[: len(self.leading)]
        found = [at for at, letter in enumerate(letters) if letter != "c"]
        return letters.index("z") if "z" in letters else found[-1] if found else None

    def with_channels(self, axis: int) -> ImageFile:
        """The same, with channels along another axis; if that comes last, it goes before height and width.

        Raises
        ------
        ImageError
            If there is no such axis, or no height and width besides.
        """
        shape = self.pixels.shape
        if len(shape) < 3 or not -len(shape) <= axis < len(shape):
            raise ImageError(f"{self.name} has the shape {shape}, and no axis {axis} for channels.")
        at = axis % len(shape)
        left = self.axes[:at].replace("c", "q") + self.axes[at + 1 :].replace("c", "q")
        planes = len(left) - (3 if left.endswith("s") else 2)
        if planes < 0:
            raise ImageError(f"{self.name} has the shape {shape}, and no axis {axis} for channels.")
        to = min(at, planes)
        axes = f"{left[:to]}c{left[to:planes]}yx{'s' if left.endswith('s') else ''}"
        return replace(self, pixels=np.moveaxis(self.pixels, at, to), axes=axes)

    def plane(self, index: Sequence[int]) -> NDArray[Any]:
        """One plane: shape (H, W) or (H, W, channels).

        Parameters
        ----------
        index : sequence of int
            One for each axis before height and width; negative ones count from the end.

        Raises
        ------
        ImageError
            If that does not choose one plane.
        """
        array, leading = self.pixels, self.leading
        if len(index) != len(leading):
            if not leading:
                raise ImageError(f"{self.name} has one plane, of shape {array.shape}: leave --plane away.")
            raise ImageError(
                f"{self.name} has the shape {array.shape}: choose a plane with --plane "
                f"and {_count(len(leading))} within {leading}."
            )
        for axis, (at, length) in enumerate(zip(index, leading, strict=True)):
            if not -length <= at < length:
                raise ImageError(
                    f"Plane {at} is outside axis {axis} of {self.name}, which has the shape {array.shape}: "
                    f"choose 0 to {length - 1}."
                )
        return np.array(array[tuple(index)])


def open_image(path: str | os.PathLike[str], *, palette: bool = True) -> ImageFile:
    """Read an image file, with all its planes.

    Parameters
    ----------
    path : path
        NPY, TIFF (with all its pages as one array), or what scikit-image reads: PNG, JPEG, ...
    palette : bool, default True
        Give the colours of a TIFF with a palette. Otherwise it is the values that stand for them: label
        images are kept like that, and the images of napari.

    Raises
    ------
    ImageError
        If the file is missing or not an image.
    """
    source = Path(path)
    if not source.is_file():
        raise ImageError(f"There is no image file {source}: check the path.")
    try:
        return _read(source, palette)
    # Decoders raise anything on damaged files: ValueError, SyntaxError, struct.error, KeyError, ...
    except Exception as error:
        raise ImageError(f"{source} cannot be read as an image ({reason_of(error)}).") from error


def read_plane(path: str | os.PathLike[str], plane: Sequence[int] = ()) -> NDArray[Any]:
    """Read one plane of an image file.

    Parameters
    ----------
    path : path
        As of :func:`open_image`.
    plane : sequence of int
        One index for each axis before height and width; negative ones count from the end.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, channels)

    Raises
    ------
    ImageError
        If the file is missing or not an image, or `plane` does not choose one plane of it.
    """
    return open_image(path).plane(plane)


def read_image(path: str | os.PathLike[str], *, palette: bool = True) -> tuple[NDArray[Any], bool]:
    """Read an image file, with all its planes.

    Parameters
    ----------
    path : path
    palette : bool, default True
        As of :func:`open_image`.

    Returns
    -------
    array : ndarray
        Uncompressed stacks are read from the file where they are used.
    colour : bool
        Whether the last axis is colour.

    Raises
    ------
    ImageError
        If the file is missing or not an image.
    """
    found = open_image(path, palette=palette)
    return found.pixels, found.colour


def _read(path: Path, palette: bool) -> ImageFile:
    suffix = path.suffix.lower()
    if suffix in _TIFF:
        from napari_sam.inference.tiff_files import read_tiff

        return ImageFile(path.name, *read_tiff(path, palette=palette))
    array = np.load(path, mmap_mode="r", allow_pickle=False) if suffix == ".npy" else _picture(path)
    if array.ndim >= 3 and array.shape[-1] == 1:
        array = array[..., 0]
    colours = "s" if array.ndim >= 3 and array.shape[-1] in (3, 4) else ""
    axes = ("q" * (array.ndim - len(colours)) + "yx")[2:]
    return ImageFile(path.name, array, axes + colours)


def _picture(path: Path) -> NDArray[Any]:
    """What scikit-image reads: (H, W), or (H, W, 3 or 4); or several of them, of a film."""
    from PIL import Image, UnidentifiedImageError
    from skimage.io import imread

    # Given a path, imageio leaves the files open that it cannot read.
    with path.open("rb") as opened:
        with contextlib.suppress(UnidentifiedImageError), Image.open(opened) as image:
            if image.mode == "CMYK":  # four channels, which are not red, green, blue and how opaque it is
                return np.asarray(image.convert("RGB"))
        opened.seek(0)
        array = np.asarray(imread(opened))
    if array.ndim == 4 and len(array) == 1:  # a film of one frame
        array = array[0]
    if array.ndim == 3 and array.shape[-1] == 2:  # gray, and how opaque it is
        array = array[..., 0]
    return array


def _count(axes: int) -> str:
    return "an index" if axes == 1 else f"{axes} indices"
