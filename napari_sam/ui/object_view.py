"""How a table of objects looks and which keys it takes."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from qtpy.QtCore import QEvent, QPoint, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTableView, QWidget

from napari_sam.ui.object_columns import AREA, CLASS, COLUMNS, PARENT, PLANES, SIZE, Column
from napari_sam.ui.object_rows import SWATCH, ObjectRows

__all__ = ["ObjectView"]

_KEYS = {
    Qt.Key.Key_Delete: "delete",
    Qt.Key.Key_Backspace: "delete",
    Qt.Key.Key_Return: "open",
    Qt.Key.Key_Enter: "open",
}


class ObjectView(QTableView):
    """A compact table whose letters are left to napari's shortcuts, and whose columns the user chooses.

    Parameters
    ----------
    parent : QWidget
    """

    key = Signal(str)
    """ "delete", "open" or "copy"."""

    measure_asked = Signal(bool)
    """Whether the user wants shapes and intensities to be measured."""

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
        self.setIconSize(QSize(SWATCH, SWATCH))
        # What the user wants to see or not; what the image has nothing for is not shown in any case.
        self._wanted: dict[str, bool] = {}
        self._missing = {COLUMNS[number].field for number in (SIZE, PLANES, PARENT)}
        self.unmeasured: AbstractSet[str] = frozenset()
        self.measures = False

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
        self._set_widths_from(0)
        self.setMinimumHeight(6 * down.defaultSectionSize())
        across.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        across.customContextMenuRequested.connect(self._show_columns_menu)
        self._show_columns()

    def _set_widths_from(self, first: int) -> None:
        metrics = self.fontMetrics()
        for number, column in enumerate(self.columns[first:], first):
            swatch = SWATCH + 6 if number == 0 else 0
            self.setColumnWidth(number, metrics.horizontalAdvance(column.sample) + swatch + 10)

    # Columns

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of the model."""
        model = self.model()
        assert isinstance(model, ObjectRows)
        return model.columns

    def set_measured(self, columns: Sequence[Column], unmeasured: AbstractSet[str]) -> None:
        """Have these columns behind the usual ones; those that no object has a number for are not offered."""
        model, across = self.model(), self.horizontalHeader()
        assert isinstance(model, ObjectRows)
        assert across is not None
        if tuple(columns) != model.columns[len(COLUMNS) :]:
            by, order = across.sortIndicatorSection(), across.sortIndicatorOrder()
            field = model.columns[by].field if 0 <= by < len(model.columns) else ""
            model.set_measured_columns(columns)
            self._set_widths_from(len(COLUMNS))
            if by >= len(COLUMNS):
                fields = [column.field for column in model.columns]
                self.sortByColumn(fields.index(field) if field in fields else 0, order)
        elif unmeasured == self.unmeasured:
            return
        self.unmeasured = frozenset(unmeasured)
        self._show_columns()

    def offer(
        self, *, sizes: bool | None = None, planes: bool | None = None, parents: bool | None = None
    ) -> None:
        """Whether there are sizes in physical units, several planes, and objects that came from others.

        What is not given stays as it was.
        """
        missing = set(self._missing)
        for number, there in ((SIZE, sizes), (PLANES, planes), (PARENT, parents)):
            if there is not None:
                (missing.discard if there else missing.add)(COLUMNS[number].field)
        if missing != self._missing:
            self._missing = missing
            self._show_columns()

    def is_shown(self, column: int) -> bool:
        """Whether a column is to be seen."""
        described = self.columns[column]
        if not self._is_offered(described):
            return False
        # Where there are physical units, they say more than pixels do.
        usual = {AREA: not self._is_offered(COLUMNS[SIZE]), SIZE: True}.get(column, described.shown)
        return self._wanted.get(described.field, usual)

    def _is_offered(self, column: Column) -> bool:
        return column.field not in self._missing and column.field not in self.unmeasured

    def show_column(self, column: int, shown: bool) -> None:
        """Show a column or not; the last one that is shown stays."""
        # Those that are measured may go.
        others = any(self.is_shown(number) for number in range(len(COLUMNS)) if number != column)
        if shown or others:
            self._wanted[self.columns[column].field] = shown
            self._show_columns()

    def columns_menu(self) -> QMenu:
        """A menu to choose columns from."""
        menu, rows = QMenu(self), self.model()
        assert rows is not None
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setToolTipsVisible(True)
        for number, column in enumerate(self.columns):
            if not self._is_offered(column):
                continue
            title = rows.headerData(number, Qt.Orientation.Horizontal)
            action = menu.addAction(column.title if title == column.title else f"{column.title} ({title})")
            assert action is not None
            action.setToolTip(column.tip)
            action.setCheckable(True)
            action.setChecked(self.is_shown(number))
            action.toggled.connect(lambda shown, number=number: self.show_column(number, shown))
        menu.addSeparator()
        action = menu.addAction("Measure shapes and intensities")
        assert action is not None
        action.setToolTip("Measure every object, and again when it changed: more columns to choose from")
        action.setCheckable(True)
        action.setChecked(self.measures)
        action.toggled.connect(self.measure_asked.emit)
        return menu

    def _show_columns_menu(self, at: QPoint) -> None:
        across = self.horizontalHeader()
        assert across is not None
        self.columns_menu().popup(across.mapToGlobal(at))

    def _show_columns(self) -> None:
        for number in range(len(self.columns)):
            self.setColumnHidden(number, not self.is_shown(number))
        self._fit()

    # Size

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Give the class what the other columns leave."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        across, viewport = self.horizontalHeader(), self.viewport()
        if across is not None and viewport is not None and across.count() and self.is_shown(CLASS):
            others = across.length() - self.columnWidth(CLASS)
            least = self.fontMetrics().horizontalAdvance(COLUMNS[CLASS].sample) + 10
            self.setColumnWidth(CLASS, max(viewport.width() - others, least))

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
        """Keep the keys that mean something here."""
        # Else a shortcut of napari's main window would take these keys. Now and then, PyQt takes an event for
        # another one that was at the same address, and so for a plain QEvent.
        if (
            isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.ShortcutOverride
            and self._meaning(event)
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Say what a key means, and leave letters to the window."""
        if event is None:
            return
        if what := self._meaning(event):
            self.key.emit(what)
        elif event.text() and event.text().isprintable():
            event.ignore()
        else:
            super().keyPressEvent(event)

    @staticmethod
    def _meaning(event: QKeyEvent) -> str:
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.NoModifier:
            return _KEYS.get(Qt.Key(event.key()), "")
        copies = event.key() == Qt.Key.Key_C and event.modifiers() == Qt.KeyboardModifier.ControlModifier
        return "copy" if copies else ""
