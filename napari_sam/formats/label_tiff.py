"""Label images as TIFF and OME-TIFF: ids in the smallest type that holds them, compressed plane by plane.

Held are ids, every shape of an object, stacks, and the axes with their scales, offsets and units. OME-TIFF
has at most five axes and ids of 32 bits, TIFF any number and ids of 62. Not held are classes, scores,
sources, attributes, and what is below another object.

Others see axes, sizes of pixels and offsets in OME-TIFF (PhysicalSize, TimeIncrement, Position of planes),
where axes of unknown meaning are called z, t and c; in TIFF the sizes along y and x, as resolution. What they
have no place for is kept as JSON, in an annotation or in the description, so that it comes back exactly.

Read are label images of others, too: of any type of whole numbers, with any number of pages, plain or packed
by deflate, LZW or PackBits. Sizes of pixels come from OME, from ImageJ, or from a resolution per centimetre;
resolutions per inch are about paper. Of several images in a file, each is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.label_planes import (
    check_memory,
    label_planes,
    of_planes,
    reading,
    same_shape,
)
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.tiff_metadata import KEY, calibration_of, ome_metadata, resolution
from napari_sam.formats.whole_image import calibration_members

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

__all__ = ["OME_TIFF", "TIFF", "needs_bigtiff", "read_tiff", "write_planes"]

_HOLDS = frozenset({Feature.IDS, Feature.HOLES, Feature.PARTS, Feature.STACKS, Feature.CALIBRATION})
_DEFLATE, _PLAIN, _OTHERS = {8, 32946}, {1}, {5, 32773}
# Bytes, packed, of parts that are looked at before: inflated, they may become a thousand times larger.
_SMALL = 2**16


def _write(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    calibration = one.calibration
    letters = "".join(letter if letter in "tczyx" else "q" for letter in calibration.axes)
    metadata = {"axes": letters.upper(), KEY: calibration_members(calibration)}
    write_planes(path, one, one.label_type, metadata, **resolution(calibration))


def _write_ome(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    dtype = one.label_type
    if dtype.itemsize > 4:
        raise FormatError("OME-TIFF holds ids of at most 32 bits, and these need more: write TIFF.")
    write_planes(path, one, dtype, ome_metadata(one), ome=True)


def write_planes(
    path: Path, one: Segmentation, dtype: np.dtype[Any], metadata: dict[str, Any] | None, **more: Any
) -> None:
    """Write a label image with tifffile, one plane in memory at a time.

    Parameters
    ----------
    path : Path
    one : Segmentation
    dtype : dtype
        It holds the ids.
    metadata : dict or None
        For ``tifffile.imwrite``; None for none.
    **more
        Other arguments of it.

    Raises
    ------
    FormatError
        If the image has no pixels.
    """
    import tifffile

    if 0 in one.shape:
        raise FormatError(f"TIFF holds no image without pixels, and this one has the shape {one.shape}.")
    planes: Iterator[NDArray[Any]] | NDArray[Any] = label_planes(one, dtype)
    if one.shape[-1] == 1 and len(one.shape) > 2 and not more.get("ome"):
        # tifffile takes an axis of one pixel for colour; such images are small.
        planes = np.stack(list(planes)).reshape(one.shape)
    tifffile.imwrite(
        path,
        planes,
        shape=one.shape,
        dtype=dtype,
        bigtiff=needs_bigtiff(one.shape, dtype),
        compression="zlib",
        photometric="minisblack",  # three planes are not a colour image
        metadata=metadata,
        **more,
    )


def needs_bigtiff(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether offsets may not fit into 32 bits: compressed, it is not known before."""
    return math.prod(shape) * dtype.itemsize > 2**32 - 2**25


def read_tiff(path: Path, shape: tuple[int, ...] | None = None) -> list[Segmentation]:
    """The label images of a TIFF file of whatever program, one for each of its images.

    Raises
    ------
    FormatError
        If it is damaged, no label image, compressed in a way that is not read, or takes too much memory.
    """
    import tifffile

    with reading(path), tifffile.TiffFile(path) as file:
        _check_names(path, file)
        found = [_read(path, file, number) for number in range(len(file.series))]
    if not found:
        raise FormatError(f"{path} has no images.")
    for one in found:
        same_shape(path, one.shape, shape)
    return found


def _check_names(path: Path, file: TiffFile) -> None:
    """Images of several files are read if they lie in one folder."""
    import re

    names = re.findall(r'FileName\s*=\s*["\']([^"\']*)["\']', file.ome_metadata or "")
    if any("/" in name or "\\" in name or not name for name in names):
        raise FormatError(f"{path} is continued in files of other folders, which is not followed.")


def _read(path: Path, file: TiffFile, number: int) -> Segmentation:
    series = file.series[number]
    nbytes = path.stat().st_size
    if "S" in series.axes:
        raise FormatError(f"{path} is no label image: it has colours.")
    dtype = np.dtype(series.dtype)
    sides, calibration = calibration_of(path, file, number)
    count = math.prod(sides[:-2])
    if len(series.pages) == count and series.keyframe.shape == sides[-2:]:
        plane = _page_by_page(path, series, nbytes)
    else:
        check_memory(path, math.prod(sides) * max(1, dtype.itemsize), nbytes)
        for page in series.pages:
            _check(path, page, None, nbytes)
        planes = series.asarray().reshape(-1, *sides[-2:])
        plane = planes.__getitem__
    return of_planes(path, sides, dtype, plane, calibration, nbytes=nbytes)


def _page_by_page(path: Path, series: TiffPageSeries, nbytes: int) -> Callable[[int], NDArray[Any]]:
    expected = series.keyframe.shape

    def plane(number: int) -> NDArray[Any]:
        page = series.pages[number]
        if page is None:  # OME may leave out planes
            return np.zeros(expected, dtype=series.dtype)
        _check(path, page, expected, nbytes)
        pixels = np.asarray(page.asarray())
        if pixels.shape != expected or pixels.dtype != series.dtype:
            raise FormatError(f"{path} has pages of different sizes or types in one image.")
        return pixels

    return plane


def _check(path: Path, page: Any, expected: tuple[int, ...] | None, nbytes: int) -> None:
    """Look at a page before it is decoded: what it takes, and whether it is there."""
    if page is None:
        return
    key = page.keyframe
    if expected is not None and key.shape != expected:
        raise FormatError(f"{path} has pages of different sizes in one image.")
    itemsize = 8 if key.dtype is None else key.dtype.itemsize
    segment = math.prod(key.chunks) * itemsize
    for needed in (math.prod(key.shape) * itemsize, segment):
        check_memory(path, needed, nbytes)
    compression = int(key.compression)
    if compression not in _DEFLATE | _PLAIN | _OTHERS:
        name = getattr(key.compression, "name", compression)
        raise FormatError(
            f"{path} is compressed by {name}, which is not read here: save it with deflate or uncompressed."
        )
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    for offset, size in places:
        # Files of several parts: the page may be in another one.
        if offset + size > page.parent.filehandle.size:
            raise FormatError(f"{path} is cut off: copy it again.")
        if compression in _DEFLATE and size > _SMALL:
            _check_inflated(path, page, offset, size, segment)
        elif size > 2 * segment + _SMALL:
            raise FormatError(f"{path} has parts that are larger than what they hold: it is damaged.")


def _check_inflated(path: Path, page: Any, offset: int, size: int, segment: int) -> None:
    """Inflate in pieces, so that nothing larger than a segment is ever in memory."""
    import zlib

    file = page.parent.filehandle
    file.seek(offset)
    inflate, data, total = zlib.decompressobj(), file.read(size), 0
    while data and not inflate.eof:
        total += len(inflate.decompress(data, _SMALL))
        data = inflate.unconsumed_tail
        if total > segment:
            raise FormatError(f"{path} holds more than it says: it is damaged.")


def _recognises(path: Path) -> bool:
    """Whether the first page has one whole number for each pixel."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return page.dtype is not None and page.dtype.kind in "bui" and page.samplesperpixel == 1
    except Exception:  # noqa: BLE001  # tifffile raises anything on files of others
        return False


def _read_any(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    return read_tiff(path, shape)


OME_TIFF = Format(
    name="ome-tiff",
    title="Labels (OME-TIFF)",
    suffixes=(".ome.tif", ".ome.tiff"),
    holds=_HOLDS,
    write=_write_ome,
    read=_read_any,
    recognises=_recognises,
)

TIFF = Format(
    name="tiff",
    title="Labels (TIFF)",
    suffixes=(".tif", ".tiff"),
    holds=_HOLDS,
    write=_write,
    read=_read_any,
    recognises=_recognises,
)
