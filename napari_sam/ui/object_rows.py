"""The rows of a table of objects, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QWidget

from napari_sam.ui.object_columns import COLUMNS, SIZE, Row

__all__ = ["SWATCH", "ObjectRows", "alignment", "runs"]

_ROOT = QModelIndex()
_MANY = 20
"""From this many gaps on, showing everything anew is faster than closing them one by one."""


SWATCH = 10


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

    def rowCount(self, parent: QModelIndex = _ROOT) -> int:
        """How many objects there are."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ROOT) -> int:
        """How much is said of each."""
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows."""
        if not index.isValid():
            return None
        number, row = index.column(), self.rows[index.row()]
        column = COLUMNS[number]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(getattr(row, column.field))
        if role == Qt.ItemDataRole.DecorationRole and number == 0:
            return self._swatch(row.colour)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return alignment(number)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{self._title(number)}: {column.text(getattr(row, column.field))}"
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """What the columns are called."""
        if orientation == Qt.Orientation.Horizontal and 0 <= section < len(COLUMNS):
            if role == Qt.ItemDataRole.DisplayRole:
                return self._title(section)
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{COLUMNS[section].tip}. Click to sort; right-click to choose columns."
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return alignment(section)
        return None

    def set_unit(self, unit: str) -> None:
        """Of length: sizes are in its square; empty for none."""
        if unit != self.unit:
            self.unit = unit
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, SIZE, SIZE)

    def _title(self, column: int) -> str:
        return f"{self.unit}²" if column == SIZE and self.unit else COLUMNS[column].title

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
                self.dataChanged.emit(self.index(at, 0), self.index(at, len(COLUMNS) - 1))
        if added:
            self.beginInsertRows(_ROOT, len(self.rows), len(self.rows) + len(added) - 1)
            self.rows += added.values()
            self._number()
            self.endInsertRows()
        if added or astray:
            self._arrange()

    def _key(self, row: Row) -> Any:
        return COLUMNS[self._column].key(row)

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


def alignment(column: int) -> Qt.AlignmentFlag:
    """Numbers to the right, words to the left."""
    right = COLUMNS[column].is_number
    side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers, which are sorted.

    Examples
    --------
    >>> runs([1, 2, 3, 7, 9, 10])
    [(1, 3), (7, 7), (9, 10)]
    """
    pieces = np.split(np.asarray(numbers, dtype=int), np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [(int(piece[0]), int(piece[-1])) for piece in pieces if piece.size]
