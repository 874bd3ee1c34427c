"""YOLO's text for segmentation: https://docs.ultralytics.com/datasets/segment/.

A text file for each image has a line for each outline: the number of the class, from 0 on, and
``x1 y1 x2 y2 ...`` as parts of the image's width and height. A number after the last point is a score.

Two formats: ``yolo`` is one such file, which holds overlap only; ``yolo-folder`` is a folder with files in
``labels``, for as many images as one likes, and ``data.yaml``, which holds the names of the classes. Lost in
both are ids (lines are counted), scores, sources and attributes, holes (they are filled), parts (each is a
line, and an object when read), pixel sizes, and the ids and colours of classes. A folder has planes of a
stack as images, with the index in the name, ``NAME_0003.txt``; a file is of one plane. Images are known by
their names without suffix, in letters that every system takes for a file.

Lines say nothing of the image's size. Our folders do, in ``sizes`` of ``data.yaml``; for others, the shape
must be given. ``no_class`` there is the number of objects without a class. Names of classes are looked for
beside a file, too, and up to two folders above it: in ``data.yaml``, else in ``classes.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.class_lists import classes_of
from napari_sam.formats.folders import holds_only
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import LARGEST
from napari_sam.formats.outlines import outlines
from napari_sam.formats.polygons import box_of, crossings_of, fill
from napari_sam.formats.segmentation import Index, Item, Segmentation
from napari_sam.formats.telling import naming, tell_left_out
from napari_sam.formats.yolo_names import Described, find_described
from napari_sam.inference.mask import Mask

__all__ = ["FOLDER", "FORMAT"]

_LARGEST_FILE, _LONGEST_LINE, _GREATEST_CLASS = 2**28, 2**22, 10**6
# Of outlines with rows of pixels: about 10 seconds.
_MOST_CROSSINGS = 2**28
# Others round, or let outlines reach a little beyond the image.
_TOLERANCE = 0.01
_BEGINNING = 2**14


def write_yolo(path: Path, found: Sequence[Segmentation]) -> None:
    """Write the outlines on one plane.

    Raises
    ------
    FormatError
        If there are more planes.
    """
    (one,) = found
    if len(one.shape) != 2:
        raise FormatError(
            f"A YOLO file is of one plane, not of an image of the shape {one.shape}: write a yolo-folder."
        )
    numbers, _ = _numbers(found)
    path.write_text("".join(_lines(one, (), numbers)), encoding="ascii")


def write_yolo_folder(path: Path, found: Sequence[Segmentation]) -> None:
    """Write a folder with a file for each plane of each image, and the names of the classes."""
    import yaml

    numbers, names = _numbers(found)
    (path / "labels").mkdir(parents=True)
    sizes: dict[str, list[int]] = {}
    for one in found:
        base = _free(_file_name(one.name), one, sizes)
        for index in np.ndindex(one.shape[:-2]):
            stem = _stem(base, index)
            sizes[stem] = list(one.shape[-2:])
            lines = _lines(one, index, numbers)
            (path / "labels" / f"{stem}.txt").write_text("".join(lines), encoding="ascii")
    content = {
        "path": ".",
        "train": "images",
        "val": "images",
        "nc": len(names),
        "names": dict(enumerate(names)),
        **({"no_class": numbers[""]} if "" in numbers else {}),
        "sizes": sizes,
    }
    # Letters of other alphabets are escaped: YAML takes some of them for ends of lines.
    (path / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="ascii")


def _lines(one: Segmentation, index: Index, numbers: dict[str, int]) -> Iterator[str]:
    """A line for every part on a plane."""
    here = one.planes.get(index, [])
    size = np.array(one.shape[:-3:-1], dtype=np.float64)
    for (item, _), polygons in zip(here, outlines([mask for _, mask in here]), strict=True):
        for shell, _ in polygons:
            points = " ".join(f"{value:.9g}" for value in (shell / size).ravel().tolist())
            yield f"{numbers[item.class_name]} {points}\n"


def _numbers(found: Sequence[Segmentation]) -> tuple[dict[str, int], list[str]]:
    """The numbers of classes by their names, that of none being empty, and how they are called."""
    names = list(dict.fromkeys(one.name for segmentation in found for one in segmentation.classes))
    numbers = {name: number for number, name in enumerate(names)}
    if not names or any(not item.class_name for segmentation in found for item in segmentation.items):
        numbers[""] = len(names)
        names.append("object")
    return numbers, names


def _file_name(name: str) -> str:
    """The name of an image without suffix, as any system takes it for a file."""
    stem = Path(name.replace("\\", "/")).stem
    return re.sub(r"[^\w. -]", "_", stem)[:80].strip(". ") or "image"


def _stem(base: str, index: Index) -> str:
    return base + "".join(f"_{at:04d}" for at in index)


def _free(base: str, one: Segmentation, taken: dict[str, list[int]]) -> str:
    """A name that no other image has, in systems that do not tell capitals apart, too."""
    low = {stem.lower() for stem in taken}
    name, number = base, 1
    while low & {_stem(name, index).lower() for index in np.ndindex(one.shape[:-2])}:
        number += 1
        name = f"{base}-{number}"
    return name


def read_yolo(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    """The outlines of one file.

    Raises
    ------
    FormatError
        If the shape is not given, or the file is damaged.
    """
    described = Described({})
    for folder in path.absolute().parents[:3]:
        if not (described.names or described.sizes):
            described = find_described(folder)
    return _checked_shape(path, [_Reader(described).segmentation(path, shape)], shape)


def read_yolo_folder(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    """The outlines of all files of a folder.

    Raises
    ------
    FormatError
        If a size is not known, or a file is damaged.
    """
    if not path.is_dir():
        raise FormatError(f"{path} is no folder: choose the folder of a YOLO data set.")
    labels = path / "labels"
    files = sorted(labels.rglob("*.txt") if labels.is_dir() else path.glob("*.txt"))
    if not files and not labels.is_dir():
        raise FormatError(f"{path} has no labels: choose the folder of a YOLO data set.")
    reader = _Reader(find_described(path))
    found = [reader.segmentation(file, shape) for file in files if file.name != "classes.txt"]
    return _checked_shape(path, found, shape)


def _checked_shape(
    path: Path, found: list[Segmentation], shape: tuple[int, ...] | None
) -> list[Segmentation]:
    """The same, if it is not of an image of another shape."""
    if shape is not None and len(found) == 1 and found[0].shape != shape:
        raise FormatError(f"{path} is of an image of the shape {found[0].shape}, not {shape}.")
    return found


class _Reader:
    """Outlines of the files of one data set, whose boxes have no more than 2^29 pixels together."""

    def __init__(self, described: Described) -> None:
        self._described = described
        self._room = LARGEST // 2  # two bytes a pixel while it is filled
        self._crossings = _MOST_CROSSINGS
        names = described.names
        self._names = {
            key: "" if key == described.no_class else name if name.strip() else f"class {key}"
            for key, name in names.items()
        }

    def segmentation(self, path: Path, shape: tuple[int, ...] | None) -> Segmentation:
        """The objects of one file."""
        size = self._described.sizes.get(path.stem, shape)
        if size is None:
            raise FormatError(f"{path} does not say how large its image is: give the shape of the image.")
        if len(size) != 2:
            raise FormatError(f"{path} is of one plane, not of an image of the shape {size}.")
        items = []
        left_out = 0
        for number, (kind, score, points) in enumerate(_outlines_of(path), 1):
            mask = self._mask(path, number, points * size[::-1], (size[0], size[1]))
            left_out += mask.is_empty
            if not mask.is_empty:
                items.append(Item(number, {(): mask}, self._names.get(kind, f"class {kind}"), score))
                self._names.setdefault(kind, f"class {kind}")
        tell_left_out(path, left_out, "they have no pixels")
        known = sorted(self._names.items())
        classes = classes_of((key + 1, name, "") for key, name in known if name)
        return Segmentation((size[0], size[1]), items, classes, name=path.stem)

    def _mask(self, path: Path, number: int, ring: NDArray[np.float64], size: tuple[int, int]) -> Mask:
        with naming(path):
            top, left, bottom, right = box_of([ring], size)
            self._room -= (bottom - top) * (right - left)
            self._crossings -= crossings_of([ring], size)
            if self._room < 0 or self._crossings < 0:
                raise FormatError(f"objects up to line {number} would take too much memory or time.")
            return fill([ring], size)


def _outlines_of(path: Path) -> Iterator[tuple[int, float | None, NDArray[np.float64]]]:
    """Of every line that is not empty: the class, the score, and the points, shape (N, 2)."""
    if path.stat().st_size > _LARGEST_FILE:
        raise FormatError(f"{path} has more than {_LARGEST_FILE // 2**20} MiB: split it into smaller files.")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise FormatError(f"{path} has no lines of YOLO: line {number} is too long.")
            words = line.split()
            if not words:
                continue
            try:
                values = np.array([float(word) for word in words])
            except ValueError:
                raise FormatError(f"{path} has no lines of YOLO: line {number} is not of numbers.") from None
            yield _checked(values, f"{path} is damaged in line {number}: ")


def _checked(values: NDArray[np.float64], told: str) -> tuple[int, float | None, NDArray[np.float64]]:
    """The values of a line."""
    if len(values) in (5, 6):
        raise FormatError(f"{told}it is a box, and outlines are read.")
    if len(values) < 7:
        raise FormatError(f"{told}an outline has three points at least.")
    if not np.isfinite(values).all():
        raise FormatError(f"{told}a number is not finite.")
    if not 0 <= values[0] <= _GREATEST_CLASS or values[0] % 1:
        raise FormatError(f"{told}{values[0]:g} is no class.")
    has_score = len(values) % 2 == 0
    score = float(values[-1]) if has_score else None
    points = values[1 : len(values) - has_score].reshape(-1, 2)
    if points.min() < -_TOLERANCE or points.max() > 1 + _TOLERANCE:
        raise FormatError(f"{told}the outline is outside the image, which reaches from 0 to 1.")
    return int(values[0]), score, points


def _recognises(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            line = file.readline(_BEGINNING)
        values = [float(word) for word in line.split()[:7]]
    except (OSError, ValueError):
        return False
    if not line:  # of an image without objects
        return True
    return len(values) == 7 and values[0] % 1 == 0 and all(-1 < value < 2 for value in values[1:])


def _recognises_folder(path: Path) -> bool:
    return path.is_dir() and ((path / "labels").is_dir() or (path / "classes.txt").is_file())


def _is_all_in_folder(path: Path) -> bool:
    ours = (path / "data.yaml").is_file() and holds_only(path, r"data\.yaml|labels/|labels/[^/]+\.txt")
    # Notes of somebody may be among the labels.
    return ours and all(_recognises(file) for file in (path / "labels").glob("*.txt"))


FORMAT = Format(
    name="yolo",
    title="YOLO",
    suffixes=(".txt",),
    holds=frozenset({Feature.OVERLAP}),
    write=write_yolo,
    read=read_yolo,
    recognises=_recognises,
)

FOLDER = Format(
    name="yolo-folder",
    title="YOLO data set",
    suffixes=(".yolo",),
    holds=frozenset({Feature.OVERLAP, Feature.CLASSES, Feature.SEVERAL}),
    write=write_yolo_folder,
    read=read_yolo_folder,
    recognises=_recognises_folder,
    is_folder=True,
    is_all_in=_is_all_in_folder,
)
