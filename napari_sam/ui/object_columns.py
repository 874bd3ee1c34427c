"""What is said of an object in a table: the columns, as they are shown and as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["AREA", "CLASS", "COLUMNS", "PLANES", "SIZE", "Column", "Row", "as_csv"]


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


def _grouped(number: int) -> str:
    """With narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


def _size(size: float | None) -> str:
    if size is None:
        return "–"
    return _grouped(round(size)) if size >= 1000 else f"{size:.3g}"


def _box(box: tuple[int, int, int, int] | None) -> str:
    return "–" if box is None else f"{box[0]}, {box[1]}, {box[2]} × {box[3]}"


class Column(NamedTuple):
    """One thing that is said of objects.

    Attributes
    ----------
    title, tip : str
    field : str
        Of a row.
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

    def key(self, row: Row) -> Any:
        """What to sort by; None if unknown."""
        value = getattr(row, self.field)
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
)
CLASS, AREA, SIZE, PLANES = 1, 2, 3, 5

_CSV_HEAD = (
    *("id", "class", "area", "physical_area", "area_unit", "bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    *("planes", "predicted_iou", "stability", "source", "state"),
)


def as_csv(rows: Iterable[Row], unit: str = "") -> str:
    """Objects as comma-separated values, below the names of the columns.

    Parameters
    ----------
    rows : iterable of Row
    unit : str
        Of length; areas are in its square.

    Examples
    --------
    >>> row = Row(1, 7, "cell", (1, 0, 0, 1), 12, 0.9, "clicked", "accepted", box=(3, 4, 4, 3))
    >>> print(as_csv([row]).splitlines()[1])
    7,cell,12,,,3,4,4,3,1,0.9,,clicked,accepted
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for row in rows:
        measured = f"{unit}²" if unit and row.size is not None else None
        writer.writerow(
            (row.id, row.class_name, row.area, row.size, measured)
            + (row.box or (None,) * 4)
            + (row.planes, row.score, row.stability, row.source, row.state)
        )
    return text.getvalue()
