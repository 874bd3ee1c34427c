"""What automatic runs found, in files: for each plane a table with a row for each mask, and their bits."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.fields import Field
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.reading import planes_of, read_limits
from napari_sam.inference.candidates import MaskCandidates

__all__ = ["BITS", "ROW", "arrays_of", "entry_of", "read_candidates", "write_array"]

ROW = np.dtype(
    [
        ("predicted_iou", "<f4"),
        ("stability", "<f4"),
        ("point", "<f8", (2,)),
        ("crop_box", "<i8", (4,)),
        ("box", "<i8", (4,)),
        ("area", "<i8"),
    ]
)
"""What there is one of for each mask, in order."""
BITS = np.dtype("u1")
_COLUMNS = {
    "predicted_iou": "predicted_iou",
    "stability": "stability",
    "points": "point",
    "crop_boxes": "crop_box",
    "boxes": "box",
    "areas": "area",
}
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of a byte are set."""


def entry_of(plane: Plane, found: MaskCandidates, number: int) -> dict[str, Any]:
    """What JSON says of one plane; `number` is for the names of the files with its arrays."""
    limits = found.contrast_limits
    return {
        "plane": [None if i is None else int(i) for i in plane.index],
        "table": f"candidates/{number}.npy",
        "bits": f"candidates/{number}-bits.npy",
        "model": found.model,
        "digest": found.digest,
        "contrast_limits": None if limits is None else [Field.written(limit) for limit in limits],
        "gamma": Field.written(found.gamma),
        **({} if found.prompted else {"prompted": False}),
    }


def arrays_of(found: MaskCandidates) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
    """The table, shape (N,) of `ROW`, and the bits of all masks, shape (bytes,), uint8."""
    table = np.zeros(len(found), dtype=ROW)
    for name, column in _COLUMNS.items():
        table[column] = getattr(found, name)
    return table, found.packed


def write_array(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write an array in NumPy's format, without pickles."""
    np.lib.format.write_array(file, array, allow_pickle=False)


def read_candidates(
    items: Field, shape: tuple[int, ...], read: Callable[[str], bytes]
) -> Mapping[Plane, MaskCandidates]:
    """What :func:`entry_of` and :func:`arrays_of` were given.

    Parameters
    ----------
    items : Field
        A list of entries.
    shape : tuple of int
        Of the image, without colours.
    read : callable
        Gives the content of a file by the name that an entry says; it may fail with a ``KeyError``.

    Raises
    ------
    AnnotationError
        If anything is not as it should be.
    """
    return {plane: _read(item, plane.size_in(shape), read) for plane, item in planes_of(items, shape).items()}


def _read(item: Field, size: tuple[int, int], read: Callable[[str], bytes]) -> MaskCandidates:
    table, bits = _array(item["table"], ROW, read), _array(item["bits"], BITS, read)
    sides = np.diff(table["box"].astype(np.float64).reshape(-1, 2, 2), axis=1)
    # Whole numbers that are too large go round.
    if np.abs(sides.prod(axis=-1)).sum() > 8.0 * len(bits):
        item["bits"].fail("fewer bits than the boxes have")
    limits, prompted = item.get("contrast_limits"), item.get("prompted")
    try:
        found = MaskCandidates(
            size,
            **{name: table[column] for name, column in _COLUMNS.items()},
            packed=bits,
            model=item["model"].text(),
            digest=item["digest"].text(),
            contrast_limits=None if limits is None else read_limits(limits),
            gamma=item["gamma"].number(finite=False),
            prompted=prompted is None or prompted.flag(),
        )
    except ValueError as error:
        item["table"].fail(str(error).rstrip("."))
    if not np.array_equal(_counted(found), found.areas):
        item["table"].fail("areas that are not those of the masks")
    return found


def _array(item: Field, dtype: np.dtype[Any], read: Callable[[str], bytes]) -> NDArray[Any]:
    """An array of one axis; nothing that its header claims is believed."""
    try:
        data = read(item.text())
    except KeyError:
        item.fail("no such file in it")
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, kind = header(file)
    # It is a text that Python parses: anything can be wrong with it.
    except Exception:  # noqa: BLE001
        item.fail("not an array in NumPy's format")
    begin = file.tell()
    if kind != dtype or len(shape) != 1 or shape[0] * dtype.itemsize != len(data) - begin:
        item.fail("an array of another type or length")
    return np.frombuffer(data, dtype=dtype, offset=begin)


def _counted(found: MaskCandidates) -> NDArray[np.int64]:
    """How many pixels each mask has; -1 where bits are set that belong to none."""
    starts, ends = found.offsets[:-1], found.offsets[1:]
    areas = np.zeros(len(found), dtype=np.int64)
    some = np.flatnonzero(ends > starts)
    if len(some):
        areas[some] = np.add.reduceat(_ONES[found.packed], starts[some], dtype=np.int64)
        x0, y0, x1, y1 = found.boxes[some].T
        unused = -((x1 - x0) * (y1 - y0)) % 8
        beyond = found.packed[ends[some] - 1] & ((1 << unused) - 1)
        areas[some[beyond > 0]] = -1
    return areas
