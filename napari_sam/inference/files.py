"""Planes from image files, and label images into files."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, reason_of

__all__ = ["check_output", "open_atomic", "read_image", "read_plane", "write_labels"]

LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_TIFF = (".tif", ".tiff")


def read_plane(path: str | os.PathLike[str], plane: Sequence[int] = ()) -> NDArray[Any]:
    """Read one plane of an image file.

    Parameters
    ----------
    path : path
        NPY, TIFF (with all its pages as one array), or what scikit-image reads: PNG, JPEG, ...
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
    source = Path(path)
    array, colour = read_image(source)
    leading = array.shape[: max(0, array.ndim - (3 if colour else 2))]
    if len(plane) != len(leading):
        if not leading:
            raise ImageError(f"{source.name} has one plane, of shape {array.shape}: leave --plane away.")
        raise ImageError(
            f"{source.name} has the shape {array.shape}: choose a plane with --plane "
            f"and {_count(len(leading))} within {leading}."
        )
    for axis, (index, length) in enumerate(zip(plane, leading, strict=True)):
        if not -length <= index < length:
            raise ImageError(
                f"Plane {index} is outside axis {axis} of {source.name}, which has the shape {array.shape}: "
                f"choose 0 to {length - 1}."
            )
    return np.array(array[tuple(plane)])


def read_image(path: str | os.PathLike[str]) -> tuple[NDArray[Any], bool]:
    """Read an image file, with all its planes.

    Parameters
    ----------
    path : path
        NPY, TIFF (with all its pages as one array), or what scikit-image reads: PNG, JPEG, ...

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
    source = Path(path)
    if not source.is_file():
        raise ImageError(f"There is no image file {source}: check the path.")
    try:
        return _read(source)
    # Decoders raise anything on damaged files: ValueError, SyntaxError, struct.error, KeyError, ...
    except Exception as error:
        raise ImageError(f"{source} cannot be read as an image ({reason_of(error)}).") from error


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Make sure that a label image can be written to `path`, before any work is done.

    Raises
    ------
    ImageError
        If the suffix is unknown, the folder missing, or the file there and not `force`.
    """
    target = Path(path)
    if target.suffix.lower() not in LABEL_SUFFIXES:
        raise ImageError(
            f"{target.name} does not end in a format that labels can be written to: "
            f"use one of {', '.join(LABEL_SUFFIXES)}."
        )
    if not target.parent.is_dir():
        raise ImageError(f"The folder {target.parent} does not exist: make it first.")
    if target.is_dir():
        raise ImageError(f"{target} is a folder: choose another name.")
    if target.exists() and not force:
        raise ImageError(f"{target} exists: choose another name, or use --force to replace it.")
    return target


def write_labels(path: str | os.PathLike[str], labels: NDArray[Any], *, force: bool = False) -> None:
    """Write a label image in the smallest unsigned type that holds its ids.

    The file appears complete or not at all.

    Parameters
    ----------
    path : path
        PNG, TIFF or NPY, by its suffix.
    labels : ndarray of int, shape (..., H, W)
    force : bool
        Replace an existing file.

    Raises
    ------
    ImageError
        If the file exists and not `force`, or the format cannot hold the labels.
    """
    target = check_output(path, force=force)
    smallest = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    suffix = target.suffix.lower()
    if labels.min(initial=0) < 0:
        raise ImageError(
            f"The id {labels.min()} is negative, which label images cannot hold: use ids from 1 on."
        )
    if suffix == ".png" and labels.ndim > 2:
        raise ImageError("PNG holds a single plane: write TIFF or NPY.")
    if suffix == ".png" and smallest.dtype.itemsize > 2:
        raise ImageError(
            f"PNG holds ids up to 65535, these labels go to {smallest.max()}: write TIFF or NPY."
        )
    with open_atomic(target) as file:
        if suffix == ".npy":
            np.save(file, smallest)
        elif suffix == ".png":
            from PIL import Image

            Image.fromarray(smallest).save(file, format="PNG")
        else:
            import tifffile

            tifffile.imwrite(
                file,
                smallest,
                compression="zlib",
                photometric="minisblack",  # three planes are not a colour image
                # Which axes come before the last two is not known.
                metadata={"axes": "Q" * (labels.ndim - 2) + "YX"},
            )


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing, and put it in the place of `path` when all went well."""
    # What a link points to is replaced, not the link.
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> tuple[NDArray[Any], bool]:
    """The whole array, and whether its last axis is colour."""
    suffix = path.suffix.lower()
    if suffix in _TIFF:
        import tifffile

        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            # Uncompressed stacks may be larger than memory: of these, only the chosen plane is read.
            whole = series.asarray() if series.dataoffset is None else tifffile.memmap(path, mode="r")
            array, axes = np.asarray(whole), series.axes
        if "S" in axes:  # samples of one pixel: colour, perhaps kept plane by plane
            return np.moveaxis(array, axes.index("S"), -1), True
        return array, False
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    else:
        from skimage.io import imread

        # Given a path, imageio leaves the files open that it cannot read.
        with path.open("rb") as opened:
            array = np.asarray(imread(opened))
        if array.ndim == 3 and array.shape[-1] == 2:  # gray, and how opaque it is
            array = array[..., 0]
    if array.ndim >= 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array, array.ndim >= 3 and array.shape[-1] in (3, 4)


def _count(axes: int) -> str:
    return "an index" if axes == 1 else f"{axes} indices"
