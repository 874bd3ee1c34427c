"""Label images plane by plane: what files of them are written from and read to, in bounded memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.importing import label_boxes
from napari_sam.errors import FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.json_files import LARGEST
from napari_sam.formats.memory import check_free
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.telling import naming

__all__ = ["check_memory", "label_planes", "of_planes", "reading", "same_shape"]

# What may be decoded of a small file, plane by plane; more is justified by its size, as deflate shrinks it.
_HARMLESS, _RATIO = 2**34, 1000
# Bytes that a mask takes beside its bits, and that are needed to find a run of equal pixels.
_MASK, _RUN = 2**11, 2**6
# Nobody's images are larger, but files can say that theirs are. Written plane by plane, it would take days.
_LARGEST_IMAGE, _LONGEST_SIDE = 2**42, 2**32 - 1


def label_planes(found: Segmentation, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """All planes of a label image in order, one in memory at a time.

    A pixel that several objects have goes to the one with the highest score, or to the first of equals.

    Parameters
    ----------
    found : Segmentation
    dtype : dtype
        It holds the ids.

    Returns
    -------
    iterator of ndarray, shape (H, W)

    Raises
    ------
    FormatError
        If a plane does not fit into memory, or the image is larger than any.
    """
    plane_size = math.prod(found.shape[-2:]) * dtype.itemsize
    what = f"A plane of {' x '.join(map(str, found.shape[-2:]))} pixels"
    check_free(plane_size, what, "cut the image, or choose a format of outlines")
    if math.prod(found.shape) > _LARGEST_IMAGE or max(found.shape) > _LONGEST_SIDE:
        raise FormatError(
            f"Labels of the shape {found.shape} would never be written: cut the image, "
            "or choose a format of outlines."
        )
    return _label_planes(found, dtype)


def _label_planes(found: Segmentation, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for index in np.ndindex(*found.shape[:-2]):
        plane = np.zeros(found.shape[-2:], dtype=dtype)
        found.paint(index, plane)
        yield plane


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a decoder raises on a damaged file becomes one sentence that names the file."""
    try:
        with naming(path):
            yield
    except (MemoryError, FormatError):
        raise
    # Decoders raise anything: ValueError, struct.error, zlib.error, SyntaxError, KeyError, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise FormatError(f"{path} is damaged or of another kind: {reason}.") from error


def same_shape(path: Path, found: Sequence[int], wanted: tuple[int, ...] | None) -> None:
    """Refuse a file that is of an image of another shape."""
    if wanted is not None and wanted != tuple(found):
        raise FormatError(f"{path} is of an image of the shape {tuple(found)}, not {wanted}.")


def of_planes(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    plane: Callable[[int], NDArray[Any]],
    calibration: Calibration | None = None,
    *,
    nbytes: int,
    name: str = "",
) -> Segmentation:
    """The objects of a label image that is read plane by plane.

    Parameters
    ----------
    path : Path
        For messages.
    shape : sequence of int
        (..., H, W), as the file says: nothing was allocated for it yet.
    dtype : dtype
    plane : callable
        Called with 0, 1, 2, ... once each, in this order; returns an array of shape (H, W).
    calibration : Calibration, optional
    nbytes : int
        Size of the file: more than 1 GiB for a plane is only taken if it is justified by that.
    name : str

    Raises
    ------
    FormatError
        If it is not of whole numbers, has less than two axes, or its planes or objects take too much memory.
    """
    sides = tuple(int(side) for side in shape)
    if dtype.kind not in "bui":
        raise FormatError(
            f"{path} is no label image: its pixels are of type {dtype}, where ids are whole numbers."
        )
    if len(sides) < 2 or min(sides) < 0:
        raise FormatError(f"{path} is no label image: it has the shape {sides}.")
    check_memory(path, math.prod(sides[-2:]) * dtype.itemsize, nbytes)
    # An image without pixels has planes, too.
    if math.prod(max(1, side) for side in sides) * dtype.itemsize > max(_HARMLESS, _RATIO * nbytes):
        raise FormatError(
            f"{path} says that it holds {sides} pixels, more than makes sense for its size: it was not read."
        )
    with reading(path):
        return Segmentation.of_labels(_Planes(path, sides, dtype, plane), calibration, name)


def check_memory(path: Path, needed: int, nbytes: int = 0) -> None:
    """Refuse what takes more than 1 GiB of memory, and more than four times a file of `nbytes`."""
    if needed > max(LARGEST, 4 * nbytes):
        raise FormatError(
            f"{path} would take {needed / 2**30:.3g} GiB of memory at once: cut the image into pieces."
        )


class _Planes:
    """A label image with one plane in memory at a time, whose masks together fit into 1 GiB."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], plane: Callable[[int], NDArray[Any]]
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._plane, self._next, self._left = plane, 0, LARGEST

    def __getitem__(self, _: Any) -> NDArray[Any]:
        plane = self._plane(self._next)
        self._next += 1
        _, boxes = label_boxes(plane, lambda runs: self._check(LARGEST - runs * _RUN))
        top, bottom, left, right = boxes.T
        self._left -= int(((bottom - top) * (right - left)).sum()) + _MASK * len(boxes)
        self._check(self._left)
        return plane

    def _check(self, left: int) -> None:
        if left < 0:
            raise FormatError(
                f"{self.path} holds more, or more scattered, objects than fit into 1 GiB of memory: "
                "is it an image rather than labels?"
            )
