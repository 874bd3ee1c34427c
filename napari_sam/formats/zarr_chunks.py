"""Arrays of Zarr in a folder, looked at before they are read: for programs, links and bombs.

A packed chunk says in its first bytes what it becomes, or it is unpacked in pieces to find out, so that no
more than a chunk's size is ever in memory.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import FormatError
from napari_sam.formats.json_files import read_json
from napari_sam.formats.label_planes import check_memory

__all__ = ["check_array", "has_group", "inside", "is_version_3"]

_PACKINGS = {"blosc", "zstd", "gzip", "zlib", "lz4"}
_HARMLESS_CODECS = {"bytes", "transpose", "crc32c"}
# Bytes that become at most 64 MiB with deflate, and those of Zstandard that do not say what they become.
_SMALL, _UNTOLD = 2**16, 2**14
_NOWHERE = 2**64 - 1


@dataclass(frozen=True)
class _Array:
    """What the metadata say: the size of a chunk in bytes, how it is packed, and how many are in a shard."""

    path: Path
    chunk: int
    packing: str
    shard: int = 0
    index_first: bool = False


def is_version_3(folder: Path) -> bool:
    """Whether it is a group or array of Zarr 3, rather than of Zarr 2."""
    return (folder / "zarr.json").is_file()


def has_group(folder: Path) -> bool:
    """Whether there is a group of either version."""
    return is_version_3(folder) or (folder / ".zgroup").is_file()


def inside(path: Path, folder: Path, name: Any) -> Path:
    """A folder in a folder.

    Raises
    ------
    FormatError
        If the name leads elsewhere, or there is a link.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    for part in parts:
        folder = folder / part
        if part in ("", ".", "..") or any(sign in part for sign in '\\:\0?#"') or folder.is_symlink():
            raise FormatError(f"{path} is continued elsewhere ({str(name)[:80]!r}), which is not followed.")
    return folder


def check_array(path: Path, folder: Path) -> int:
    """Make sure that an array can be read safely.

    Returns
    -------
    int
        Size of its files, in bytes.

    Raises
    ------
    FormatError
        If it needs a packing that is not known here, a chunk takes more than 1 GiB or is not what it says, or
        something is a link.
    """
    array = _described_3(path, folder) if is_version_3(folder) else _described_2(path, folder)
    check_memory(path, max(array.chunk, array.chunk * array.shard))
    total = 0
    for file in _files(path, folder):
        size = file.stat().st_size
        total += size
        if file.name in ("zarr.json", ".zarray", ".zattrs"):
            continue
        if size > 2 * array.chunk * max(1, array.shard) + _SMALL:
            raise FormatError(f"{path} has chunks that are larger than what they hold: it is damaged.")
        with file.open("rb") as opened:
            for offset, count in _places(array, opened, size):
                opened.seek(offset)
                _check_chunk(array, opened, count)
    return total


def _files(path: Path, folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(where) / name
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                raise FormatError(f"{path} has a link in {where}, which is not followed.")
        yield from (Path(where) / name for name in files)


def _whole_numbers(path: Path, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not values or not all(type(v) is int and v > 0 for v in values):
        raise FormatError(f"{path} has an array of the shape or chunks {str(values)[:80]}, which cannot be.")
    return tuple(values)


def _described_2(path: Path, folder: Path) -> _Array:
    about = read_json(folder / ".zarray")
    if not isinstance(about, dict) or about.get("filters"):
        raise FormatError(f"{path} has an array with filters, which are not run.")
    shape, chunks = (_whole_numbers(path, about.get(key)) for key in ("shape", "chunks"))
    packing = about.get("compressor")
    name = packing.get("id") if isinstance(packing, dict) else packing
    return _array(path, shape, chunks, about.get("dtype"), [] if name is None else [name])


def _described_3(path: Path, folder: Path) -> _Array:
    about = read_json(folder / "zarr.json")
    shape = _whole_numbers(path, _at(about, "shape"))
    chunks = _whole_numbers(path, _at(about, "chunk_grid", "configuration", "chunk_shape"))
    codecs, kind = _at(about, "codecs"), _at(about, "data_type")
    if isinstance(codecs, list) and len(codecs) == 1 and _at(codecs[0], "name") == "sharding_indexed":
        about = _at(codecs[0], "configuration")
        inner = _whole_numbers(path, _at(about, "chunk_shape"))
        location = _at(about, "index_location")
        if _names(path, _at(about, "index_codecs")) != ["bytes", "crc32c"] or len(inner) != len(chunks):
            raise FormatError(f"{path} has shards of a kind that is not read here.")
        found = _array(path, shape, inner, kind, _names(path, _at(about, "codecs")))
        count = math.prod(-(-outer // side) for outer, side in zip(chunks, inner, strict=True))
        return _Array(path, found.chunk, found.packing, count, location == "start")
    return _array(path, shape, chunks, kind, _names(path, codecs))


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _names(path: Path, codecs: Any) -> list[Any]:
    if not isinstance(codecs, list):
        raise FormatError(f"{path} does not say how it is packed.")
    return [one if isinstance(one, str) else _at(one, "name") for one in codecs]


def _array(
    path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], kind: Any, codecs: list[Any]
) -> _Array:
    try:
        dtype = np.dtype(kind if isinstance(kind, str) else "V")
    except TypeError:
        dtype = np.dtype("V")
    if dtype.kind not in "bui":
        raise FormatError(f"{path} is no label image: its pixels are of type {str(kind)[:80]}.")
    if len(shape) != len(chunks):
        raise FormatError(f"{path} has an array with {len(shape)} axes, and chunks with {len(chunks)}.")
    packings = [name for name in codecs if name not in _HARMLESS_CODECS]
    if len(packings) > 1 or not _PACKINGS.issuperset(packings):
        raise FormatError(f"{path} is packed by {str(packings)[:80]}, which is not read here.")
    return _Array(path, math.prod(chunks) * dtype.itemsize, *packings or [""])


def _places(array: _Array, file: Any, size: int) -> Iterator[tuple[int, int]]:
    """Where chunks are in a file, and how long."""
    if not array.shard:
        yield 0, size
        return
    length = 16 * array.shard
    file.seek(0 if array.index_first else max(0, size - length - 4))
    index = np.frombuffer(file.read(length)[: length // 16 * 16], dtype="<u8").reshape(-1, 2)
    for offset, count in index[(index != _NOWHERE).any(axis=1)].tolist():
        if offset + count > size:
            raise FormatError(f"{array.path} is cut off or damaged: a chunk is outside its shard.")
        yield offset, count


def _check_chunk(array: _Array, file: Any, size: int) -> None:
    """What a chunk becomes, before it is unpacked."""
    if array.packing in ("gzip", "zlib"):
        becomes = _inflated(file, size, array.chunk) if size > _SMALL else 0
    else:
        begin = file.read(min(size, 32)).ljust(32, b"\0")
        if array.packing == "blosc":
            becomes = struct.unpack("<I", begin[4:8])[0]
        elif array.packing == "lz4":
            becomes = struct.unpack("<I", begin[:4])[0]
        elif array.packing == "zstd":
            becomes = _of_zstandard(begin, size, array.chunk)
        else:
            becomes = size - 4  # a checksum may follow
    if becomes > array.chunk:
        raise FormatError(f"{array.path} has a chunk that holds more than it says: it is damaged.")


def _inflated(file: Any, size: int, limit: int) -> int:
    inflate, data, total = zlib.decompressobj(47), file.read(size), 0
    try:
        while data and not inflate.eof and total <= limit:
            total += len(inflate.decompress(data, _SMALL))
            data = inflate.unconsumed_tail
    except zlib.error:
        return 0  # told when it is read
    return limit + 1 if len(inflate.unused_data) > 8 else total


def _of_zstandard(begin: bytes, size: int, limit: int) -> int:
    """The content size in the header of a frame (RFC 8878, section 3.1.1.1)."""
    flags = begin[4]
    single = flags >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[flags >> 6]
    if not width:
        return 0 if size <= _UNTOLD else limit + 1
    return int.from_bytes(begin[at : at + width], "little") + (256 if width == 2 else 0)
