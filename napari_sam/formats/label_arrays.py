"""Label images as PNG and as arrays of NumPy: NPY, and NPZ with what is known of the objects.

PNG holds one plane and ids up to 65535, in 8 bits if they fit. NPY holds ids and planes, and nothing else.
Neither holds classes, scores, sources, attributes, sizes of pixels, or what is below another object.

NPZ holds all but what is below another object: beside ``labels`` there are ``axes``, ``scale``, ``translate``
and ``units``; ``id``, ``class``, ``score`` (NaN for none), ``source`` and ``attributes`` (JSON), one for each
object; and ``class_id``, ``class_name`` and ``class_colour``. Of other programs, an NPZ is read that has
``labels`` or a single array.

>>> import numpy as np, tempfile
>>> from napari_sam.formats.label_arrays import NPZ
>>> from napari_sam.formats.segmentation import Segmentation
>>> path = Path(tempfile.mkdtemp()) / "labels.npz"
>>> NPZ.write(path, [Segmentation.of_labels(np.array([[0, 5], [5, 0]]))])
>>> np.load(path)["labels"].tolist(), np.load(path)["id"].tolist()
([[0, 5], [5, 0]], [5])
"""

from __future__ import annotations

import json
import math
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import LARGEST
from napari_sam.formats.label_planes import (
    check_memory,
    label_planes,
    of_planes,
    reading,
    same_shape,
)
from napari_sam.formats.label_tables import about_classes, as_json, described, read_calibration, read_classes
from napari_sam.formats.segmentation import Segmentation

__all__ = ["NPY", "NPZ", "PNG"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def _write_png(path: Path, found: Sequence[Segmentation]) -> None:
    from PIL import Image

    (one,) = found
    if len(one.shape) > 2:
        raise FormatError(f"PNG holds one plane, and this image has the shape {one.shape}: write TIFF.")
    if 0 in one.shape:
        raise FormatError(f"PNG holds no image without pixels, and this one has the shape {one.shape}.")
    dtype = one.label_type
    if dtype not in (np.uint8, np.uint16):
        raise FormatError("PNG holds ids from 1 to 65535, and these are others: write TIFF.")
    (plane,) = label_planes(one, dtype)
    Image.fromarray(plane).save(path, format="PNG")


def _read_png(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    from PIL import Image

    width, height, colour = _beginning(path)
    if colour not in (_GREY, _PALETTE):
        raise FormatError(f"{path} is no label image: it has colours.")
    # Pillow reads into at most 4 bytes per pixel, and it is copied once.
    check_memory(path, width * height * 4)
    with warnings.catch_warnings(), reading(path):
        # Its limit for a warning is below that of ours; that for an error stays.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
                raise FormatError(f"{path} is no label image: it has pixels of the kind {image.mode}.")
            pixels = np.asarray(image)
    same_shape(path, pixels.shape, shape)
    nbytes = path.stat().st_size
    return [of_planes(path, pixels.shape, pixels.dtype, lambda _: pixels, nbytes=nbytes)]


def _beginning(path: Path) -> tuple[int, int, int]:
    """Width, height and kind of colours of a PNG."""
    with path.open("rb") as file:
        begin = file.read(26)
    if len(begin) < 26 or begin[:8] != _SIGNATURE:
        raise FormatError(f"{path} is no PNG file: choose another one.")
    width, height, _, colour = struct.unpack(">IIBB", begin[16:26])
    return width, height, colour


def _is_grey(path: Path) -> bool:
    try:
        return _beginning(path)[2] in (_GREY, _PALETTE)
    except (FormatError, OSError):
        return False


def _write_array(file: IO[bytes], one: Segmentation) -> None:
    """A label image as NPY, one plane in memory at a time."""
    dtype = one.label_type
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": one.shape}
    npy.write_array_header_1_0(file, about)
    for plane in label_planes(one, dtype):
        file.write(plane.data)


def _write_npy(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    with path.open("wb") as file:
        _write_array(file, one)


def _read_npy(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    nbytes = path.stat().st_size
    with path.open("rb") as file:
        one = _read_array(path, file, nbytes, nbytes)
    same_shape(path, one.shape, shape)
    return [one]


def _header(path: Path, file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array, for which there are as many bytes as it needs."""
    with reading(path):
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise FormatError(f"{path} has an array of a kind that is not read here.")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.names or dtype.subdtype:
            raise FormatError(f"{path} has an array of objects, which may run programs: it was not read.")
        sides = tuple(int(side) for side in shape)
        if min(sides, default=0) < 0 or math.prod(sides) * dtype.itemsize != size - file.tell():
            raise FormatError(f"{path} is cut off or damaged: an array has not the size that it says.")
    return sides, fortran, dtype


def _read_array(
    path: Path, file: IO[bytes], size: int, nbytes: int, calibration: Calibration | None = None
) -> Segmentation:
    """A label image out of an NPY file of `size` bytes, which are `nbytes` where they are packed."""
    shape, fortran, dtype = _header(path, file, size)

    def plane(_: int) -> NDArray[Any]:
        count = math.prod(shape[-2:]) * dtype.itemsize
        return np.frombuffer(_exactly(path, file, count), dtype=dtype).reshape(shape[-2:])

    if not fortran or len(shape) < 2:
        return of_planes(path, shape, dtype, plane, calibration, nbytes=nbytes)
    # Columns first: the planes are all over the file.
    count = math.prod(shape) * dtype.itemsize
    check_memory(path, count, nbytes)
    whole = np.frombuffer(_exactly(path, file, count), dtype=dtype).reshape(shape, order="F")
    planes = [whole[index] for index in np.ndindex(*shape[:-2])]
    return of_planes(path, shape, dtype, planes.__getitem__, calibration, nbytes=nbytes)


def _exactly(path: Path, file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise FormatError(f"{path} is cut off: copy it again.")
    return found


def _write_npz(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    pixels = one.calibration
    scores = [np.nan if item.score is None else item.score for item in one.items]
    classes = about_classes(one.classes)
    table = {
        "axes": np.array(pixels.axes),
        "scale": np.array(pixels.scale),
        "translate": np.array(pixels.translate),
        "units": _texts(pixels.units),
        "id": np.array([item.id for item in one.items], dtype=np.int64),
        "class": _texts([item.class_name for item in one.items]),
        "score": np.array(scores, dtype=np.float64),
        "source": _texts([item.source for item in one.items]),
        "attributes": _texts([as_json(dict(item.attributes)) for item in one.items]),
        "class_id": np.array([about["id"] for about in classes], dtype=np.int64),
        "class_name": _texts([about["name"] for about in classes]),
        "class_colour": _texts([about["colour"] for about in classes]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("labels.npy", "w", force_zip64=True) as entry:
            _write_array(entry, one)
        for name, array in table.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)


def _texts(values: Sequence[str]) -> NDArray[np.str_]:
    if any(value.endswith("\0") for value in values):
        raise FormatError("NPZ holds no texts that end in a zero: give the class another name.")
    return np.array(values, dtype=np.str_)


def _read_npz(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    with reading(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        ours = "labels.npy" in names
        if not ours and len(names) != 1:
            raise FormatError(f"{path} has {len(names)} arrays, of which none is called labels.")
        table = {name[:-4]: name for name in names if name != "labels.npy"} if ours else {}
        calibration = None
        info = archive.getinfo("labels.npy" if ours else names[0])
        known = {name: _small(path, archive, table[name]) for name in _TABLE if name in table}
        with archive.open(info) as file:
            if {"axes", "scale", "translate", "units"} <= known.keys():
                about = {key: known[key] for key in ("axes", "scale", "translate", "units")}
                axes = known["axes"]
                calibration = read_calibration(path, about, len(axes) if isinstance(axes, str) else 0)
            one = _read_array(path, file, info.file_size, info.compress_size, calibration)
        same_shape(path, one.shape, shape)
        return [_with_table(path, one, known)]


_TABLE = frozenset(
    ("axes", "scale", "translate", "units", "id", "class", "score", "source", "attributes")
) | {"class_id", "class_name", "class_colour"}


def _small(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    """A list out of an archive, with all that its values take in memory well below 1 GiB."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        shape, _, dtype = _header(path, file, info.file_size)
        count = math.prod(shape)
        if count * (100 + 2 * dtype.itemsize) > LARGEST // 8 or len(shape) > 1:
            raise FormatError(f"{path} has more in {name} than makes sense: it was not read.")
        if dtype.kind not in "Uiuf":
            raise FormatError(f"{path} has neither numbers nor texts in {name}.")
        array = np.frombuffer(_exactly(path, file, count * dtype.itemsize), dtype=dtype)
        return array.reshape(shape).tolist()


def _with_table(path: Path, one: Segmentation, known: dict[str, Any]) -> Segmentation:
    """What is said of the objects, checked."""
    if "id" not in known:
        return one
    columns = {name: known[name] for name in ("class", "score", "source", "attributes") if name in known}
    ids = known["id"] if isinstance(known["id"], list) else [known["id"]]
    count = len(ids)
    kinds = [known.get(name, []) for name in ("class_id", "class_name", "class_colour")]
    if any(type(number) is not int for number in ids):
        raise FormatError(f"{path} has ids that are no whole numbers.")
    if any(not isinstance(c, list) or len(c) != count for c in columns.values()) or len(set(ids)) != count:
        raise FormatError(f"{path} has not as many classes, scores or sources as different ids.")
    if len({len(kind) if isinstance(kind, list) else -1 for kind in kinds}) != 1:
        raise FormatError(f"{path} has not as many names and colours as classes.")
    classes = [
        {"id": number, "name": name, "colour": colour} for number, name, colour in zip(*kinds, strict=True)
    ]
    empty = [""] * count
    rows = zip(
        ids,
        columns.get("class", empty),
        columns.get("score", [math.nan] * count),
        columns.get("source", empty),
        columns.get("attributes", ["{}"] * count),
        strict=True,
    )
    table = {
        number: {
            "class_name": name,
            "score": None if score != score else score,  # NaN is none
            "source": source,
            "attributes": json.loads(attributes),
        }
        for number, name, score, source, attributes in rows
    }
    return described(path, one, table, read_classes(path, classes))


_SHAPES = frozenset({Feature.IDS, Feature.HOLES, Feature.PARTS})

PNG = Format(
    name="png",
    title="Labels (PNG)",
    suffixes=(".png",),
    holds=_SHAPES,
    write=_write_png,
    read=_read_png,
    recognises=_is_grey,
    greatest_id=2**16 - 1,
)

NPY = Format(
    name="npy",
    title="Labels (NumPy)",
    suffixes=(".npy",),
    holds=_SHAPES | {Feature.STACKS},
    write=_write_npy,
    read=_read_npy,
)

NPZ = Format(
    name="npz",
    title="Labels and table (NumPy)",
    suffixes=(".npz",),
    holds=_SHAPES | {Feature.STACKS, Feature.CALIBRATION, Feature.CLASSES, Feature.SCORES},
    write=_write_npz,
    read=_read_npz,
)
