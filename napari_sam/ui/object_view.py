"""How a table of objects looks and which keys it takes."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QPoint, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTableView, QWidget

from napari_sam.ui.object_columns import AREA, CLASS, COLUMNS, PLANES, SIZE
from napari_sam.ui.object_rows import SWATCH

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
        self._wanted: dict[int, bool] = {}
        self._missing = {SIZE, PLANES}

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
        for number, column in enumerate(COLUMNS):
            swatch = SWATCH + 6 if number == 0 else 0
            self.setColumnWidth(number, metrics.horizontalAdvance(column.sample) + swatch + 10)
        self.setMinimumHeight(6 * down.defaultSectionSize())
        across.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        across.customContextMenuRequested.connect(self._show_columns_menu)
        self._show_columns()

    # Columns

    def offer(self, *, sizes: bool, planes: bool) -> None:
        """Whether there are sizes in physical units, and objects on several planes."""
        missing = {number for number, there in ((SIZE, sizes), (PLANES, planes)) if not there}
        if missing != self._missing:
            self._missing = missing
            self._show_columns()

    def is_shown(self, column: int) -> bool:
        """Whether a column is to be seen."""
        if column in self._missing:
            return False
        # Where there are physical units, they say more than pixels do.
        usual = {AREA: SIZE in self._missing, SIZE: True}.get(column, COLUMNS[column].shown)
        return self._wanted.get(column, usual)

    def show_column(self, column: int, shown: bool) -> None:
        """Show a column or not; the last one that is shown stays."""
        others = any(self.is_shown(number) for number in range(len(COLUMNS)) if number != column)
        if shown or others:
            self._wanted[column] = shown
            self._show_columns()

    def columns_menu(self) -> QMenu:
        """A menu to choose columns from."""
        menu, rows = QMenu(self), self.model()
        assert rows is not None
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setToolTipsVisible(True)
        for number, column in enumerate(COLUMNS):
            if number in self._missing:
                continue
            title = rows.headerData(number, Qt.Orientation.Horizontal)
            action = menu.addAction(column.title if title == column.title else f"{column.title} ({title})")
            assert action is not None
            action.setToolTip(column.tip)
            action.setCheckable(True)
            action.setChecked(self.is_shown(number))
            action.toggled.connect(lambda shown, number=number: self.show_column(number, shown))
        return menu

    def _show_columns_menu(self, at: QPoint) -> None:
        across = self.horizontalHeader()
        assert across is not None
        self.columns_menu().popup(across.mapToGlobal(at))

    def _show_columns(self) -> None:
        for number in range(len(COLUMNS)):
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
        # Else a shortcut of napari's main window would take these keys.
        if event is not None and event.type() == QEvent.Type.ShortcutOverride and self._meaning(event):
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
    def _meaning(event: QEvent) -> str:
        assert isinstance(event, QKeyEvent)
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.NoModifier:
            return _KEYS.get(Qt.Key(event.key()), "")
        copies = event.key() == Qt.Key.Key_C and event.modifiers() == Qt.KeyboardModifier.ControlModifier
        return "copy" if copies else ""
