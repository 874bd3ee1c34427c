"""What is said of an object in a table: the columns, as they are shown and as comma-separated values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "AREA",
    "CLASS",
    "COLUMNS",
    "PARENT",
    "PLANES",
    "SIZE",
    "Column",
    "Measured",
    "Row",
    "as_csv",
    "measured_columns",
]

Measured = Sequence[float | None]
"""What was measured of an object, in the order of the columns; None where there is no such number."""


class Row(NamedTuple):
    """What the table says of one object.

    Attributes
    ----------
    uid : int
        What stays the same for as long as the object exists.
    id : int
        Its value in the Labels layer.
    class_name : str
    colour : tuple of float
        Red, green, blue and opacity, from 0 to 1.
    area : int
        In pixels, over all planes.
    score : float or None
        The predicted IoU, from 0 to 1; None where no model made the object.
    source, state : str
        Where it came from, and what became of it.
    size : float or None
        The area in physical units, where there are some.
    box : tuple of int, or None
        First column and row, width and height around all planes; None without any pixel.
    planes : int
        On how many planes it is.
    stability : float or None
        Of its masks, from 0 to 1, if it was measured.
    parent : int
        Id of the object that it came from when that one divided; 0 for none.
    """

    uid: int
    id: int
    class_name: str
    colour: tuple[float, float, float, float]
    area: int
    score: float | None
    source: str
    state: str
    size: float | None = None
    box: tuple[int, int, int, int] | None = None
    planes: int = 1
    stability: float | None = None
    parent: int = 0


def _grouped(number: int) -> str:
    """With narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


def _size(size: float | None) -> str:
    if size is None:
        return "–"
    return _grouped(round(size)) if size >= 1000 else f"{size:.3g}"


def _number(value: float | None, digits: str = ".3g") -> str:
    if value is None:
        return "–"
    # Beyond that, or infinite, as brief as can be.
    if 1000 <= abs(value) < 1e9:
        return _grouped(round(value))
    return f"{value:{digits if abs(value) < 1000 else '.3g'}}"


def _parent(number: int) -> str:
    return str(number) if number else "–"


def _box(box: tuple[int, int, int, int] | None) -> str:
    return "–" if box is None else f"{box[0]}, {box[1]}, {box[2]} × {box[3]}"


class Column(NamedTuple):
    """One thing that is said of objects.

    Attributes
    ----------
    title, tip : str
    field : str
        Of a row, or the name of what was measured.
    sample : str
        The column has to be as wide as this.
    text : callable
        From the value to what is shown.
    shown : bool
        Unless the user chooses otherwise.
    is_number : bool
    """

    title: str
    tip: str
    field: str
    sample: str
    text: Callable[[Any], str] = str
    shown: bool = True
    is_number: bool = False

    def key(self, value: Any) -> Any:
        """What to sort by; None if unknown."""
        if self.field == "box" and value is not None:
            # As one reads: from top to bottom, then from left to right.
            return value[1], value[0], value[3], value[2]
        return value.casefold() if isinstance(value, str) else value


COLUMNS = (
    Column("ID", "The object's value in the Labels layer", "id", "0000"),
    Column("Class", "What it is", "class_name", "nucleus 0"),
    Column("Area", "Area in pixels", "area", "000 000", _grouped, is_number=True),
    Column("Size", "Area in the units of the image", "size", "000 000", _size, False, True),
    Column("Box", "Left, top, width × height in pixels", "box", "0000, 0000, 000 × 000", _box, False),
    Column("Planes", "On how many planes it is", "planes", "Planes 0", shown=False, is_number=True),
    Column(
        "IoU",
        "Predicted IoU: how well the model expects the mask to fit",
        "score",
        "0.000",
        _score,
        True,
        True,
    ),
    Column(
        "Stability",
        "How little the mask depends on the threshold: 1 for clear edges",
        "stability",
        "Stability",
        _score,
        False,
        True,
    ),
    Column("Source", "Where it came from", "source", "automatic"),
    # Nearly always the same.
    Column("State", "What became of it", "state", "accepted", shown=False),
    Column(
        "Parent",
        "The object that it came from when that one divided",
        "parent",
        "Parent",
        _parent,
        True,
        True,
    ),
)
CLASS, AREA, SIZE, PLANES, PARENT = 1, 2, 3, 5, 10

_MEASURED = {
    "perimeter": ("Perimeter", "Length of the outline", ".3g"),
    "axis_major_length": ("Major axis", "Length of the ellipse with the same second moments", ".3g"),
    "axis_minor_length": ("Minor axis", "Width of the ellipse with the same second moments", ".3g"),
    "eccentricity": ("Eccentricity", "Of that ellipse: 0 for a circle, 1 for a line", ".2f"),
    "solidity": ("Solidity", "Share of the convex hull: 1 without dents and holes", ".2f"),
    "centroid": ("Centre", "Mean position", ".1f"),
    "intensity_mean": ("Mean", "Mean intensity", ".3g"),
    "intensity_min": ("Min", "Least intensity", ".3g"),
    "intensity_max": ("Max", "Greatest intensity", ".3g"),
    "intensity_sum": ("Sum", "Integrated intensity: the sum of all pixels", ".3g"),
}
_NAME = re.compile(rf"({'|'.join(_MEASURED)})(?:-(\d+))?(?:_(.+))?")
_COLOURS = ("red", "green", "blue", "opacity")
_SYMBOLS = {"um": "µm", "scaled": "scaled"}


def measured_columns(names: Sequence[str]) -> tuple[Column, ...]:
    """A column for each number that :func:`napari_sam.formats.measure` gives of shapes and intensities.

    Parameters
    ----------
    names : sequence of str
        Of its columns; others than shapes, centroids and intensities are left out.

    Examples
    --------
    >>> names = ("id", "perimeter", "perimeter_um", "solidity", "intensity_mean-0")
    >>> [(column.title, column.shown) for column in measured_columns(names)]
    [('Perimeter', False), ('Perimeter µm', True), ('Solidity', True), ('Mean red', True)]
    """
    found = [match for name in names if (match := _NAME.fullmatch(name)) is not None]
    # Where there are physical units, they say more than pixels do.
    in_units = {(base, at) for base, at, unit in (match.groups() for match in found) if unit}
    solid = any(match.group(1, 2) == ("centroid", "2") for match in found)
    columns = []
    for match in found:
        base, at, unit = match.groups()
        title, tip, digits = _MEASURED[base]
        part = "" if at is None else ("zyx" if solid else "yx") if base == "centroid" else _COLOURS
        words = [title, *([part[int(at)]] if part else []), *([_SYMBOLS.get(unit, unit)] if unit else [])]
        columns.append(
            Column(
                " ".join(words),
                tip if unit or base.startswith(("intensity", "ecc", "sol")) else f"{tip}, in pixels",
                match.group(),
                f"{' '.join(words)} 0",
                partial(_number, digits=digits),
                bool(unit) or (base, at) not in in_units,
                True,
            )
        )
    return tuple(columns)


_CSV_HEAD = (
    *("id", "class", "area", "physical_area", "area_unit", "bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    *("planes", "predicted_iou", "stability", "source", "state"),
)


def as_csv(
    rows: Iterable[Row],
    unit: str = "",
    names: Sequence[str] = (),
    measured: Mapping[int, Measured] = MappingProxyType({}),
) -> str:
    """Objects as comma-separated values, below the names of the columns.

    Parameters
    ----------
    rows : iterable of Row
    unit : str
        Of length; areas are in its square.
    names : sequence of str
        Of what was measured.
    measured : mapping of int to sequence of (float or None)
        By uid, as many numbers as there are names; empty cells for objects that are not there.

    The parents of objects are only told if one has a parent.

    Examples
    --------
    >>> row = Row(1, 7, "cell", (1, 0, 0, 1), 12, 0.9, "clicked", "accepted", box=(3, 4, 4, 3))
    >>> print(as_csv([row]).splitlines()[1])
    7,cell,12,,,3,4,4,3,1,0.9,,clicked,accepted
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = list(rows)
    related = any(row.parent for row in rows)
    writer.writerow((*_CSV_HEAD, *(["parent"] if related else []), *names))
    unknown = (None,) * len(names)
    for row in rows:
        area_unit = f"{unit}²" if unit and row.size is not None else None
        writer.writerow(
            (row.id, row.class_name, row.area, row.size, area_unit)
            + (row.box or (None,) * 4)
            + (row.planes, row.score, row.stability, row.source, row.state)
            + ((row.parent or None,) if related else ())
            + tuple(measured.get(row.uid, unknown))
        )
    return text.getvalue()
