"""Sizes, shapes and intensities of objects, as a table with a row for each object and plane."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.calibration import UNKNOWN, Calibration
from napari_sam.formats.image_boxes import ImageBoxes
from napari_sam.formats.region_strips import Reader, Region, measured
from napari_sam.formats.segmentation import Index, Item, Segmentation
from napari_sam.inference.mask import Mask

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Per", "measure", "sound_text"]

Per = Literal["plane", "object"]
"""What has a row: an object on each plane, or whole objects."""

_LENGTHS = ("axis_major_length", "axis_minor_length")
_SHAPES = {2: (*_LENGTHS, "perimeter", "eccentricity", "solidity"), 3: (*_LENGTHS, "solidity")}
_INTENSITIES = ("intensity_mean", "intensity_min", "intensity_max")
_SIZE = {2: "area", 3: "volume"}
_SYMBOLS = {
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "um",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
}
# Pixels that are longer than wide by more than this are a mistake, and squares of sizes would overflow.
_STRETCH = 1e9


def measure(
    found: Segmentation,
    image: Any = None,
    *,
    channel_axis: int | None = None,
    per: Per = "plane",
) -> DataFrame:
    """Measure the objects of an image.

    Everything is measured by :func:`skimage.measure.regionprops_table`, whose names the columns have, and of
    each object by its own mask, wherever others overlap it. Columns are:

    - ``id``, ``class``, ``score`` (NaN for none), ``source``; and if there are objects that came from others,
      which divided, ``parent``, the id of that one, or 0;
    - where a plane is: ``t``, ``z``, ``c``, counted from 0; of axes of unknown meaning ``axis-0``, ...;
    - in pixels: ``area``; ``centroid-0`` (row), ``centroid-1`` (column); the box ``bbox-0`` to ``bbox-3``
      (first row and column, last row and column plus 1); ``axis_major_length``, ``axis_minor_length``,
      ``perimeter``; and without a unit, ``eccentricity``, ``solidity``;
    - the same with the unit behind, ``area_um2``, ``centroid-0_um``, if the image has sizes of pixels: in the
      world, where pixels are around their centres. Sizes without a unit give ``area_scaled``;
    - of an image, ``intensity_mean``, ``intensity_min``, ``intensity_max`` and ``intensity_sum``, of several
      channels with ``-0``, ``-1``, ... behind.

    With ``per="object"``, an object of a stack is one row for all its z, or for all of an axis of unknown
    meaning: ``volume`` instead of ``area``, three numbers for a centroid, six for a box. Times and channels
    remain rows of their own. ``perimeter`` and ``eccentricity`` are left out, and the solidity of an object
    that lies in one plane is NaN.

    Where pixels are not square, there is no perimeter in units, and ``eccentricity`` is that in pixels. Where
    the units of the axes differ, nothing is measured in units.

    Parameters
    ----------
    found : Segmentation
    image : array_like of bool, int or float, optional
        Of the shape of the segmentation, and channels. NumPy, dask, zarr, ...: read a plane or, with
        ``per="object"``, an object at a time.
    channel_axis : int, optional
        Which axis of the image is channels or colours.
    per : {"plane", "object"}

    Returns
    -------
    pandas.DataFrame
        In the order of the objects, and of planes.

    Raises
    ------
    FormatError
        If the image does not fit, two axes could be the third one of whole objects, or an object does not fit
        into memory.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[0, 5, 5], [9, 0, 5]])
    >>> table = measure(Segmentation.of_labels(labels), image=labels * 2)
    >>> table[["id", "area", "bbox-0", "bbox-1", "intensity_sum"]].to_numpy().tolist()
    [[5.0, 3.0, 0.0, 1.0, 30.0], [9.0, 1.0, 1.0, 0.0, 18.0]]
    """
    import pandas as pd

    if not any(item.masks for item in found.items):
        return _nothing(found, image, channel_axis, per)
    pixels = None if image is None else ImageBoxes(image, found.shape, channel_axis)
    third = _third_axis(found.calibration.axes, per)
    rows = _rows(found, third)
    groups: dict[Index, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.index, []).append(number)
    unit = _Unit.of(found.calibration, third)
    parts = [
        _measured(
            [rows[number].region for number in numbers],
            None if pixels is None else pixels.reader(index, third),
            unit,
        )
        for index, numbers in groups.items()
    ]
    back = np.argsort([number for numbers in groups.values() for number in numbers])
    columns: dict[str, Any] = {
        "id": np.array([row.item.id for row in rows], dtype=np.int64),
        "class": [sound_text(row.item.class_name) for row in rows],
        "score": np.array([row.item.score for row in rows], dtype=np.float64),
        "source": [sound_text(row.item.source) for row in rows],
    }
    if any(parents := [row.item.parent for row in rows]):
        columns["parent"] = np.array(parents, dtype=np.int64)
    names = [name for at, name in enumerate(_axis_names(found.calibration.axes)) if at != third]
    for at, name in enumerate(names):
        columns[name] = np.array([row.index[at] for row in rows], dtype=np.int64)
    for name in parts[0]:
        columns[name] = np.concatenate([part[name] for part in parts])[back]
    table = pd.DataFrame(columns)
    if pixels is not None and pixels.is_whole:
        sums = [name for name in table.columns if name.startswith("intensity_sum")]
        table[sums] = table[sums].round()
    return table


def _nothing(found: Segmentation, image: Any, channel_axis: int | None, per: Per) -> DataFrame:
    """The table of an image without objects, which has the same columns: those of one object, without it."""
    axes = len(found.shape)
    pixels = None
    if image is not None:
        given = ImageBoxes(image, found.shape, channel_axis)
        pixels = np.zeros((1,) * axes if channel_axis is None else (*(1,) * axes, given.channels))
        channel_axis = None if channel_axis is None else -1
    mask = Mask((0, 0), np.ones((1, 1), dtype=bool), (1, 1))
    one = Segmentation((1,) * axes, [Item(1, {(0,) * (axes - 2): mask})], calibration=found.calibration)
    return measure(one, pixels, channel_axis=channel_axis, per=per).iloc[:0]


@dataclass(frozen=True, slots=True)
class _Row:
    """An object, where it is along the axes that are not measured, and its pixels along the others."""

    item: Item
    index: Index
    region: Region


def _rows(found: Segmentation, third: int | None) -> list[_Row]:
    """What is measured: each mask, or the masks of an object that differ in the third axis only."""
    if third is None:
        return [_Row(item, index, Region([(0, mask)])) for item, index, mask in found.masks()]
    rows = []
    for item in found.items:
        solids: dict[Index, list[tuple[int, Mask]]] = {}
        for index, mask in item.masks.items():
            solids.setdefault((*index[:third], *index[third + 1 :]), []).append((index[third], mask))
        rows += [_Row(item, index, Region(masks, is_flat=False)) for index, masks in solids.items()]
    return rows


def _third_axis(axes: str, per: str) -> int | None:
    """Which axis objects reach through, if they are measured as a whole."""
    if per not in ("plane", "object"):
        raise FormatError(f"Objects are measured per 'plane' or per 'object', not per {per!r}.")
    through = [at for at, letter in enumerate(axes[:-2]) if letter not in "tc"]
    if per == "plane" or not through:
        return None
    if len(through) > 1:
        raise FormatError(
            f"Of the axes {axes!r}, several could be the depth of objects: name them, or measure per plane."
        )
    return through[0]


def _axis_names(axes: str) -> list[str]:
    return [
        letter if letter != UNKNOWN and axes.count(letter) == 1 else f"axis-{at}"
        for at, letter in enumerate(axes[:-2])
    ]


def sound_text(text: str) -> str:
    """Text that can be written: JSON may hold halves of letters, which nothing else takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Unit(NamedTuple):
    """Sizes of pixels along the axes that are measured."""

    name: str
    scale: NDArray[np.float64]
    translate: NDArray[np.float64]

    @classmethod
    def of(cls, calibration: Calibration, third: int | None) -> _Unit | None:
        """Nothing for plain pixels, for several units at once, and for sizes that are far apart."""
        axes = [*([] if third is None else [third]), -2, -1]
        scale, translate = (
            np.array([values[at] for at in axes]) for values in (calibration.scale, calibration.translate)
        )
        units = {calibration.units[at] for at in axes}
        plain = units == {""} and (scale == 1).all() and not translate.any()
        if plain or len(units) > 1 or scale.max() > _STRETCH * scale.min():
            return None
        (unit,) = units
        return cls(_SYMBOLS.get(unit, re.sub(r"\W+", "_", unit)) or "scaled", scale, translate)


def _measured(regions: Sequence[Region], read: Reader | None, unit: _Unit | None) -> dict[str, NDArray[Any]]:
    """All columns of numbers of regions that are seen in one plane, or in one stack."""
    boxes = np.array([[(one.start, one.stop) for one in region.slices] for region in regions])
    axes = boxes.shape[1]
    intensities = () if read is None else _INTENSITIES
    raw = measured(regions, ("num_pixels", "centroid_local", *_SHAPES[axes], *intensities), read)
    size = raw.pop("num_pixels").astype(np.int64)
    centres = np.stack([raw.pop(f"centroid_local-{at}") for at in range(axes)], axis=1) + boxes[..., 0]
    edges = np.concatenate([boxes[..., 0], boxes[..., 1]], axis=1)
    columns = {_SIZE[axes]: size, **_numbered("centroid", centres), **_numbered("bbox", edges)}
    columns |= {name: raw[name] for name in _SHAPES[axes]}
    if unit is not None:
        with np.errstate(over="ignore"):  # a file may say that pixels are as large as floats can be
            columns |= _in_units(regions, columns, centres, edges, unit)
    for name in (name for name in raw if name.startswith("intensity")):
        columns[name] = raw[name]
        if name.startswith("intensity_max"):
            columns[name.replace("max", "sum")] = raw[name.replace("max", "mean")] * size
    return columns


def _in_units(
    regions: Sequence[Region],
    columns: Mapping[str, NDArray[Any]],
    centres: NDArray[np.float64],
    edges: NDArray[np.int64],
    unit: _Unit,
) -> dict[str, NDArray[Any]]:
    """The columns that have a unit. Boxes are between edges of pixels, half of one before its centre."""
    name, scale, translate = unit
    axes = len(scale)
    power = "" if name == "scaled" else str(axes)
    told = {f"{_SIZE[axes]}_{name}{power}": columns[_SIZE[axes]] * math.prod(scale.tolist())}
    told |= _numbered("centroid", centres * scale + translate, f"_{name}")
    told |= _numbered("bbox", (edges - 0.5) * np.tile(scale, 2) + np.tile(translate, 2), f"_{name}")
    if np.allclose(scale, scale[0], rtol=1e-6, atol=0):
        lengths = {one: columns[one] for one in (*_LENGTHS, "perimeter") if one in columns}
        return told | {f"{one}_{name}": values * scale[0] for one, values in lengths.items()}
    lengths = measured(regions, _LENGTHS, spacing=(scale / scale[-1]).tolist())
    return told | {f"{one}_{name}": values * scale[-1] for one, values in lengths.items()}


def _numbered(name: str, values: NDArray[Any], ending: str = "") -> dict[str, NDArray[Any]]:
    return {f"{name}-{at}{ending}": column for at, column in enumerate(values.T)}
