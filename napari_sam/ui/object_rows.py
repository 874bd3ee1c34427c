"""The rows of a table of objects, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor, QFont, QIcon, QPixmap
from qtpy.QtWidgets import QWidget

from napari_sam.ui.object_columns import COLUMNS, SIZE, Column, Measured, Row

__all__ = ["SWATCH", "ObjectRows", "runs"]

_ROOT = QModelIndex()
_MANY = 20
"""From this many gaps on, showing everything anew is faster than closing them one by one."""


SWATCH = 10

_GREY = QColor(128, 128, 128)
"""To be read on light and on dark."""


class ObjectRows(QAbstractTableModel):
    """The rows in the order in which they are shown."""

    # Qt asks every cell again at each painting, so that all is kept ready.

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[Row] = []
        self.where: dict[int, int] = {}
        self._column, self._descending = 0, False
        self._swatches: dict[tuple[float, ...], QIcon] = {}
        self.unit = ""
        self.columns: tuple[Column, ...] = COLUMNS
        self.measured: Mapping[int, Measured] = {}
        self.outdated: AbstractSet[int] = frozenset()
        self._italic = QFont()
        self._italic.setItalic(True)

    def rowCount(self, parent: QModelIndex = _ROOT) -> int:
        """How many objects there are."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ROOT) -> int:
        """How much is said of each."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows."""
        if not index.isValid():
            return None
        number, row = index.column(), self.rows[index.row()]
        column = self.columns[number]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(self._value(row, number))
        if role == Qt.ItemDataRole.DecorationRole and number == 0:
            return self._swatch(row.colour)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(number)
        if role == Qt.ItemDataRole.ToolTipRole:
            was = ", before it changed" if self._is_outdated(row, number) else ""
            return f"{self._title(number)}: {column.text(self._value(row, number))}{was}"
        if role == Qt.ItemDataRole.ForegroundRole and self._is_outdated(row, number):
            return _GREY
        if role == Qt.ItemDataRole.FontRole and self._is_outdated(row, number):
            # Where a row is selected, nothing is grey.
            return self._italic
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """What the columns are called."""
        if orientation == Qt.Orientation.Horizontal and 0 <= section < len(self.columns):
            if role == Qt.ItemDataRole.DisplayRole:
                return self._title(section)
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{self.columns[section].tip}. Click to sort; right-click to choose columns."
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return self._alignment(section)
        return None

    def set_unit(self, unit: str) -> None:
        """Of length: sizes are in its square; empty for none."""
        if unit != self.unit:
            self.unit = unit
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, SIZE, SIZE)

    def _title(self, column: int) -> str:
        return f"{self.unit}²" if column == SIZE and self.unit else self.columns[column].title

    def _alignment(self, column: int) -> Qt.AlignmentFlag:
        right = self.columns[column].is_number
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        return side | Qt.AlignmentFlag.AlignVCenter

    # What was measured

    def set_measured_columns(self, columns: Sequence[Column]) -> None:
        """Have these columns behind the usual ones, and no others."""
        if len(self.columns) > len(COLUMNS):
            self.beginRemoveColumns(_ROOT, len(COLUMNS), len(self.columns) - 1)
            self.columns = COLUMNS
            self.endRemoveColumns()
        if columns:
            self.beginInsertColumns(_ROOT, len(COLUMNS), len(COLUMNS) + len(columns) - 1)
            self.columns = (*COLUMNS, *columns)
            self.endInsertColumns()

    def set_measured(self, measured: Mapping[int, Measured], outdated: AbstractSet[int]) -> None:
        """Show what was measured, by uid; in grey italics what is not of the objects as they are now."""
        self.measured, self.outdated = measured, outdated
        if self.rows and len(self.columns) > len(COLUMNS):
            # One signal for all of it: views ask for what they show.
            corners = (0, len(COLUMNS)), (len(self.rows) - 1, len(self.columns) - 1)
            self.dataChanged.emit(*(self.index(*corner) for corner in corners))
        if self._column >= len(COLUMNS):
            self._arrange()

    def _value(self, row: Row, number: int) -> Any:
        if number < len(COLUMNS):
            return getattr(row, COLUMNS[number].field)
        values = self.measured.get(row.uid)
        return None if values is None else values[number - len(COLUMNS)]

    def _is_outdated(self, row: Row, number: int) -> bool:
        return number >= len(COLUMNS) and row.uid in self.outdated

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, now and after every change."""
        self._column, self._descending = max(column, 0), order == Qt.SortOrder.DescendingOrder
        self._arrange()

    def replace(self, rows: Iterable[Row]) -> None:
        """Begin anew."""
        self.beginResetModel()
        self.rows = self._ordered(list({row.uid: row for row in rows}.values()))
        self._number()
        self.endResetModel()

    def update(self, changed: Sequence[Row], removed: set[int]) -> None:
        """Take rows out, exchange some, add others; then put them in order."""
        gone = runs(sorted(self.where[uid] for uid in removed if uid in self.where))
        if len(gone) > _MANY:
            new = {row.uid: row for row in changed}
            kept = [new.pop(row.uid, row) for row in self.rows if row.uid not in removed]
            self.replace([*kept, *new.values()])
            return
        for first, last in reversed(gone):
            self.beginRemoveRows(_ROOT, first, last)
            del self.rows[first : last + 1]
            self.endRemoveRows()
        if gone:
            self._number()
        added, astray = {}, False
        for row in changed:
            at = self.where.get(row.uid)
            if at is None:
                added[row.uid] = row
            elif (old := self.rows[at]) != row:
                astray |= old.id != row.id or self._key(old) != self._key(row)
                self.rows[at] = row
                self.dataChanged.emit(self.index(at, 0), self.index(at, len(self.columns) - 1))
        if added:
            self.beginInsertRows(_ROOT, len(self.rows), len(self.rows) + len(added) - 1)
            self.rows += added.values()
            self._number()
            self.endInsertRows()
        if added or astray:
            self._arrange()

    def _key(self, row: Row) -> Any:
        # A view may sort once more by a column that is just going.
        column = self._column if self._column < len(self.columns) else 0
        return self.columns[column].key(self._value(row, column))

    def _arrange(self) -> None:
        """Put the rows in order; views keep what they know of each."""
        ordered = self._ordered(self.rows)
        if all(a is b for a, b in zip(ordered, self.rows, strict=True)):
            return
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        uids = [self.rows[index.row()].uid for index in before]
        self.rows = ordered
        self._number()
        after = [self.index(self.where[uid], i.column()) for uid, i in zip(uids, before, strict=True)]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _ordered(self, rows: list[Row]) -> list[Row]:
        """Sorted by the chosen column, then by id; what is unknown comes last either way."""
        rows = sorted(rows, key=attrgetter("id", "uid"))
        keyed = [(key, row) for key, row in zip(map(self._key, rows), rows, strict=True) if key is not None]
        keyed.sort(key=itemgetter(0), reverse=self._descending)
        known = [row for _, row in keyed]
        return known if len(known) == len(rows) else known + [row for row in rows if self._key(row) is None]

    def _swatch(self, colour: tuple[float, ...]) -> QIcon:
        icon = self._swatches.get(colour)
        if icon is None:
            pixmap = QPixmap(SWATCH, SWATCH)
            pixmap.fill(QColor.fromRgbF(*colour))
            icon = self._swatches[colour] = QIcon(pixmap)
            # Else it would be drawn in a mixture with the colour of the selection.
            icon.addPixmap(pixmap, QIcon.Mode.Selected)
        return icon

    def _number(self) -> None:
        self.where = {row.uid: number for number, row in enumerate(self.rows)}


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers, which are sorted.

    Examples
    --------
    >>> runs([1, 2, 3, 7, 9, 10])
    [(1, 3), (7, 7), (9, 10)]
    """
    pieces = np.split(np.asarray(numbers, dtype=int), np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [(int(piece[0]), int(piece[-1])) for piece in pieces if piece.size]
