"""The objects as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractTableModel,
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QItemSelectionRange,
    QModelIndex,
    QPoint,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import (  # type: ignore[attr-defined]
    QAction,
    QColor,
    QGuiApplication,
    QIcon,
    QKeyEvent,
    QPixmap,
    QResizeEvent,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QMenu,
    QSizePolicy,
    QStackedLayout,
    QTableView,
    QWidget,
)

__all__ = ["ObjectTable", "Row"]

_HINT = "Objects appear here as you click them."
_MANY = 20
"""From this many gaps on, showing everything anew is faster than closing them one by one."""

_ROOT = QModelIndex()
_KEYS = {
    Qt.Key.Key_Delete: "delete",
    Qt.Key.Key_Backspace: "delete",
    Qt.Key.Key_Return: "open",
    Qt.Key.Key_Enter: "open",
}


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
        In pixels.
    score : float or None
        The predicted IoU, from 0 to 1; None where no model made the object.
    source, state : str
        Where it came from, and what became of it.
    """

    uid: int
    id: int
    class_name: str
    colour: tuple[float, float, float, float]
    area: int
    score: float | None
    source: str
    state: str


def _grouped(number: int) -> str:
    """With narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


class _Column(NamedTuple):
    title: str
    tip: str
    field: str
    """Of a row."""
    sample: str
    """The column has to be as wide as this."""
    text: Callable[[Any], str] = str

    def key(self, row: Row) -> Any:
        """What to sort by; None if unknown."""
        value = getattr(row, self.field)
        return value.casefold() if isinstance(value, str) else value


_COLUMNS = (
    _Column("ID", "The object's value in the Labels layer", "id", "0000"),
    _Column("Class", "What it is", "class_name", "nucleus 0"),
    _Column("Area", "Area in pixels", "area", "000 000", _grouped),
    _Column("IoU", "Predicted IoU: how well the model expects the mask to fit", "score", "0.000", _score),
    _Column("Source", "Where it came from", "source", "clicked"),
    _Column("State", "What became of it", "state", "accepted"),
)
_CLASS = 1
_NUMBERS = (2, 3)
_SWATCH = 10
_WIDTH = 320


class ObjectTable(QWidget):
    """The objects, one a row; a hint while there are none.

    Parameters
    ----------
    parent : QWidget, optional
    """

    picked = Signal(object)
    """The user selected other rows: the list of their uids, from top to bottom."""

    opened = Signal(int)
    """The user wants to go on with an object: its uid."""

    delete_asked = Signal(object)
    """The user wants objects to go: the list of their uids."""

    merge_asked = Signal(object)
    """The user wants objects to become one: the list of their uids, two or more."""

    split_asked = Signal(int)
    """The user wants the parts of an object to become objects: its uid."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._rows = _Rows(self)
        self._quiet = False
        self.view = _View(self)
        self.view.setModel(self._rows)
        self.view.set_widths()
        self.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.view.setSortingEnabled(True)
        self.hint = QLabel(_HINT)
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint.setEnabled(False)
        self._pages = QStackedLayout(self)
        self._pages.setContentsMargins(0, 0, 0, 0)
        self._pages.addWidget(self.hint)
        self._pages.addWidget(self.view)
        self._selection.selectionChanged.connect(self._on_selection)
        self.view.doubleClicked.connect(self._on_double_click)
        self.view.key.connect(self._do)
        self.view.customContextMenuRequested.connect(self._show_menu)

    # What is shown

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show these objects; those that were shown and selected stay selected."""
        with self._undisturbed():
            self._rows.replace(rows)

    def update_rows(self, changed: Sequence[Row], removed: Iterable[int] = ()) -> None:
        """Show what changed; sorting, selection and scroll position stay.

        Parameters
        ----------
        changed : sequence of Row
            Objects that are new or not what they were.
        removed : iterable of int
            The uids of those that are no more; one that is among `changed`, too, stays.
        """
        gone = set(removed)
        with self._undisturbed():
            self._rows.update(changed, gone)

    @property
    def rows(self) -> list[Row]:
        """What is shown, from top to bottom."""
        return list(self._rows.rows)

    @property
    def selected(self) -> list[int]:
        """The uids of the selected rows, from top to bottom."""
        ranges = self._selection.selection()
        # By number: an index for each row would take a hundred times as long.
        spans = [(one.top(), one.bottom() + 1) for one in (ranges[i] for i in range(ranges.count()))]
        numbers = sorted({number for start, stop in spans for number in range(start, stop)})
        return [self._rows.rows[number].uid for number in numbers]

    def select(self, uids: Iterable[int], scroll: bool = True) -> None:
        """Select these rows and no others; nobody is told.

        Parameters
        ----------
        uids : iterable of int
            Those that are not in the table do not matter.
        scroll : bool, default True
            Bring the first of them into view.
        """
        numbers = sorted({row for uid in uids if (row := self._rows.where.get(uid)) is not None})
        wanted = QItemSelection()
        for first, last in _runs(numbers):
            corners = self._rows.index(first, 0), self._rows.index(last, len(_COLUMNS) - 1)
            wanted.append(QItemSelectionRange(*corners))
        flags = QItemSelectionModel.SelectionFlag
        was, self._quiet = self._quiet, True
        self._selection.select(wanted, flags.ClearAndSelect | flags.Rows)
        if numbers and scroll:
            first_index = self._rows.index(numbers[0], 0)
            self._selection.setCurrentIndex(first_index, flags.NoUpdate)
            self.view.scrollTo(first_index)
        self._quiet = was

    def csv(self) -> str:
        """The selected rows as comma-separated values, below the names of the columns."""
        chosen = [self._rows.rows[self._rows.where[uid]] for uid in self.selected]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "class", "area", "predicted_iou", "source", "state"])
        writer.writerows([getattr(row, column.field) for column in _COLUMNS] for row in chosen)
        return text.getvalue()

    def menu(self) -> QMenu:
        """What can be done with the selected rows."""
        count = len(self.selected)
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setToolTipsVisible(True)
        for what, text, tip, enabled in (
            ("open", "Open", "Go on with the object: its prompts come back", count == 1),
            ("merge", "Merge", "Make one object of the selected ones", count > 1),
            ("split", "Split into parts", "Make an object of each connected part", count == 1),
            ("delete", "Delete", "Remove the selected objects", count > 0),
            ("copy", "Copy as CSV", "Copy the selected rows for a spreadsheet", count > 0),
        ):
            if what == "copy":
                menu.addSeparator()
            action = menu.addAction(text)
            assert action is not None
            action.setData(what)
            action.setToolTip(tip)
            action.setEnabled(enabled)
        menu.triggered.connect(self._on_action)
        return menu

    @property
    def _selection(self) -> QItemSelectionModel:
        model = self.view.selectionModel()
        assert model is not None
        return model

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Keep selection and scroll position while rows change, and tell nobody."""
        selected = self.selected
        in_view = [(self._rows.rows[number].uid, at) for number, at in self.view.in_view()]
        was, self._quiet = self._quiet, True
        try:
            yield
        finally:
            remaining = {uid for uid in selected if uid in self._rows.where}
            if set(self.selected) != remaining:
                self.select(remaining, scroll=False)
            where = ((self._rows.where.get(uid), at) for uid, at in in_view)
            number, at = next(((n, at) for n, at in where if n is not None), (None, 0))
            if number is not None:
                self.view.bring(number, at)
            self._pages.setCurrentWidget(self.view if self._rows.rows else self.hint)
            self._quiet = was

    def sizeHint(self) -> QSize:
        """As wide as a dock widget usually is."""
        return QSize(_WIDTH, super().sizeHint().height())

    # From the user

    def _on_selection(self) -> None:
        if not self._quiet:
            self.picked.emit(self.selected)

    def _on_double_click(self, index: QModelIndex) -> None:
        self.opened.emit(self._rows.rows[index.row()].uid)

    def _on_action(self, action: QAction) -> None:
        self._do(action.data())

    def _do(self, what: str) -> None:
        """What a key or the menu says, if it can be done with as many rows as are selected."""
        uids = self.selected
        if what == "open" and len(uids) == 1:
            self.opened.emit(uids[0])
        elif what == "split" and len(uids) == 1:
            self.split_asked.emit(uids[0])
        elif what == "merge" and len(uids) > 1:
            self.merge_asked.emit(uids)
        elif what == "delete" and uids:
            self.delete_asked.emit(uids)
        elif what == "copy" and uids and (clipboard := QGuiApplication.clipboard()) is not None:
            clipboard.setText(self.csv())

    def _show_menu(self, at: QPoint) -> None:
        viewport = self.view.viewport()
        assert viewport is not None
        self.menu().popup(viewport.mapToGlobal(at))


class _Rows(QAbstractTableModel):
    """The rows in the order in which they are shown."""

    # Qt asks every cell again at each painting, so that all is kept ready.

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[Row] = []
        self.where: dict[int, int] = {}
        self._column, self._descending = 0, False
        self._swatches: dict[tuple[float, ...], QIcon] = {}

    def rowCount(self, parent: QModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(_COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        number, row = index.column(), self.rows[index.row()]
        column = _COLUMNS[number]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(getattr(row, column.field))
        if role == Qt.ItemDataRole.DecorationRole and number == 0:
            return self._swatch(row.colour)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(number)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{column.title}: {column.text(getattr(row, column.field))}"
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal and 0 <= section < len(_COLUMNS):
            if role == Qt.ItemDataRole.DisplayRole:
                return _COLUMNS[section].title
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{_COLUMNS[section].tip}. Click to sort."
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return _alignment(section)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
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
        gone = _runs(sorted(self.where[uid] for uid in removed if uid in self.where))
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
                self.dataChanged.emit(self.index(at, 0), self.index(at, len(_COLUMNS) - 1))
        if added:
            self.beginInsertRows(_ROOT, len(self.rows), len(self.rows) + len(added) - 1)
            self.rows += added.values()
            self._number()
            self.endInsertRows()
        if added or astray:
            self._arrange()

    def _key(self, row: Row) -> Any:
        return _COLUMNS[self._column].key(row)

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
            pixmap = QPixmap(_SWATCH, _SWATCH)
            pixmap.fill(QColor.fromRgbF(*colour))
            icon = self._swatches[colour] = QIcon(pixmap)
            # Else it would be drawn in a mixture with the colour of the selection.
            icon.addPixmap(pixmap, QIcon.Mode.Selected)
        return icon

    def _number(self) -> None:
        self.where = {row.uid: number for number, row in enumerate(self.rows)}


class _View(QTableView):
    """A compact table whose letters are left to napari's shortcuts."""

    key = Signal(str)
    """ "delete", "open" or "copy"."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setIconSize(QSize(_SWATCH, _SWATCH))

    def set_widths(self) -> None:
        """Make the rows low, and the columns wide enough for what is usual in a dock of 320 pixels."""
        metrics = self.fontMetrics()
        across, down = self.horizontalHeader(), self.verticalHeader()
        assert across is not None
        assert down is not None
        down.hide()
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        down.setDefaultSectionSize(metrics.height() + 5)
        across.setHighlightSections(False)
        across.setMinimumSectionSize(28)
        for number, column in enumerate(_COLUMNS):
            swatch = _SWATCH + 6 if number == 0 else 0
            self.setColumnWidth(number, metrics.horizontalAdvance(column.sample) + swatch + 10)
        self.setMinimumHeight(6 * down.defaultSectionSize())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Give the class what the other columns leave."""
        super().resizeEvent(event)
        across, viewport = self.horizontalHeader(), self.viewport()
        if across is not None and viewport is not None and across.count():
            others = across.length() - self.columnWidth(_CLASS)
            least = self.fontMetrics().horizontalAdvance(_COLUMNS[_CLASS].sample) + 10
            self.setColumnWidth(_CLASS, max(viewport.width() - others, least))

    def in_view(self) -> list[tuple[int, int]]:
        """The rows that are in view and how far down each begins, in pixels; none if that is the very top."""
        bar, viewport = self.verticalScrollBar(), self.viewport()
        if bar is None or viewport is None or bar.value() == 0:
            return []
        last = self.rowAt(viewport.height() - 1)
        return [(row, self.rowViewportPosition(row)) for row in range(self.rowAt(0), last + 1)]

    def bring(self, row: int, at: int) -> None:
        """Scroll until a row begins as far down as this."""
        bar = self.verticalScrollBar()
        if bar is not None and (off := self.rowViewportPosition(row) - at):
            self.updateGeometries()
            bar.setValue(bar.value() + off)

    def event(self, event: QEvent | None) -> bool:
        # Else a shortcut of napari's main window would take these keys.
        if event is not None and event.type() == QEvent.Type.ShortcutOverride and self._meaning(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is None:
            return
        if what := self._meaning(event):
            self.key.emit(what)
        elif event.text() and event.text().isprintable():
            event.ignore()
        else:
            super().keyPressEvent(event)

    @staticmethod
    def _meaning(event: QEvent) -> str:
        assert isinstance(event, QKeyEvent)
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.NoModifier:
            return _KEYS.get(Qt.Key(event.key()), "")
        copies = event.key() == Qt.Key.Key_C and event.modifiers() == Qt.KeyboardModifier.ControlModifier
        return "copy" if copies else ""


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column in _NUMBERS else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers, which are sorted.

    Examples
    --------
    >>> _runs([1, 2, 3, 7, 9, 10])
    [(1, 3), (7, 7), (9, 10)]
    """
    pieces = np.split(np.asarray(numbers, dtype=int), np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [(int(piece[0]), int(piece[-1])) for piece in pieces if piece.size]
