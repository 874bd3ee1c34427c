"""The objects as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from qtpy.QtCore import (  # type: ignore[attr-defined]
    QItemSelection,
    QItemSelectionModel,
    QItemSelectionRange,
    QModelIndex,
    QPoint,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QAction, QGuiApplication  # type: ignore[attr-defined]
from qtpy.QtWidgets import QLabel, QMenu, QSizePolicy, QStackedLayout, QWidget

from napari_sam.ui.object_columns import COLUMNS, Measured, Row, as_csv, measured_columns
from napari_sam.ui.object_rows import ObjectRows, runs
from napari_sam.ui.object_view import ObjectView

__all__ = ["ObjectTable", "Row"]

_WIDTH = 320

_HINT = "Objects appear here as you click them."


class ObjectTable(QWidget):
    """The objects, one a row; a hint while there are none.

    Parameters
    ----------
    parent : QWidget, optional

    Attributes
    ----------
    classes : list of (int, str)
        Ids and names of the classes that the menu offers.
    """

    picked = Signal(object)
    """The user selected other rows: the list of their uids, from top to bottom."""

    opened = Signal(int)
    """The user wants to go on with an object: its uid."""

    delete_asked = Signal(object)
    """The user wants objects to go: the list of their uids."""

    merge_asked = Signal(object)
    """The user wants objects to become one: the list of their uids, two or more."""

    class_asked = Signal(object, int)
    """The user gives objects a class: the list of their uids, and the id of the class."""

    split_asked = Signal(int)
    """The user wants the parts of an object to become objects: its uid."""

    relate_asked = Signal(object)
    """The user says that one of several objects divided into the others: the list of their uids."""

    unrelate_asked = Signal(object)
    """The user says that objects came from no others: the list of their uids."""

    measure_asked = Signal(bool)
    """Whether the user wants shapes and intensities to be measured."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.classes: list[tuple[int, str]] = []
        self._rows = ObjectRows(self)
        self._quiet = self._stack = self._related = False
        self.view = ObjectView(self)
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
        self.view.measure_asked.connect(self.measure_asked.emit)
        self.view.customContextMenuRequested.connect(self._show_menu)

    # What is shown

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show these objects; those that were shown and selected stay selected."""
        with self._undisturbed():
            self._rows.replace(rows)
        self._look_for_parents(rows)

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
        self._look_for_parents(changed)

    def _look_for_parents(self, changed: Sequence[Row]) -> None:
        """Offer the parents of objects if one has a parent."""
        related = any(row.parent for row in changed)
        if not related and self._related:
            related = any(row.parent for row in self._rows.rows)
        if related != self._related:
            self._related = related
            self.view.offer(parents=related)

    @property
    def related(self) -> bool:
        """Whether any object came from another one."""
        return self._related

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
        for first, last in runs(numbers):
            corners = self._rows.index(first, 0), self._rows.index(last, self._rows.columnCount() - 1)
            wanted.append(QItemSelectionRange(*corners))
        flags = QItemSelectionModel.SelectionFlag
        was, self._quiet = self._quiet, True
        self._selection.select(wanted, flags.ClearAndSelect | flags.Rows)
        if numbers and scroll:
            first_index = self._rows.index(numbers[0], 0)
            self._selection.setCurrentIndex(first_index, flags.NoUpdate)
            self.view.scrollTo(first_index)
        self._quiet = was

    def fit_image(self, unit: str, stack: bool) -> None:
        """Offer the columns that an image has something for.

        Parameters
        ----------
        unit : str
            Of length: sizes are in its square. Empty if the image has none.
        stack : bool
            Whether it has more than one plane.
        """
        self._stack = stack
        self._rows.set_unit(unit)
        self.view.offer(sizes=bool(unit), planes=stack)

    def show_measured(
        self,
        names: Sequence[str],
        measured: Mapping[int, Measured],
        outdated: AbstractSet[int] = frozenset(),
        unmeasured: AbstractSet[str] = frozenset(),
    ) -> None:
        """Show what was measured, in columns behind the others.

        Parameters
        ----------
        names : sequence of str
            What :func:`napari_sam.formats.measure` calls it; none takes the columns away.
        measured : mapping of int to sequence of (float or None)
            By uid, as many numbers as there are names. It is not copied.
        outdated : set of int
            The uids of objects that have changed since: their numbers are grey, and not copied as CSV.
        unmeasured : set of str
            Names that no object has a number for: not shown.
        """
        columns, selected = measured_columns(names), self.selected
        anew = columns != self._rows.columns[len(COLUMNS) :]
        with self._undisturbed():
            if anew:
                # What there is may be of other columns.
                self._rows.set_measured({}, frozenset())
            self.view.set_measured(columns, unmeasured)
            self._rows.set_measured(measured, outdated)
            if anew:
                # New columns are in no row that was selected.
                self.select(selected, scroll=False)

    @property
    def measures(self) -> bool:
        """Whether the menu says that shapes and intensities are measured."""
        return self.view.measures

    @measures.setter
    def measures(self, measures: bool) -> None:
        self.view.measures = measures

    def csv(self) -> str:
        """The selected rows as comma-separated values, below the names of the columns."""
        chosen = self.selected
        rows = [self._rows.rows[self._rows.where[uid]] for uid in chosen]
        taken = [
            (number, column.field)
            for number, column in enumerate(self.view.columns[len(COLUMNS) :])
            if column.field not in self.view.unmeasured
        ]
        measured = {
            uid: [values[number] for number, _ in taken]
            for uid in chosen
            if uid not in self._rows.outdated and (values := self._rows.measured.get(uid)) is not None
        }
        return as_csv(rows, self._rows.unit, [name for _, name in taken], measured)

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
            *self._family(),
            ("class", "Class", "Give the selected objects a class", count > 0),
            ("delete", "Delete", "Remove the selected objects", count > 0),
            ("copy", "Copy as CSV", "Copy the selected rows for a spreadsheet", count > 0),
        ):
            if what == "copy":
                menu.addSeparator()
            action = menu.addAction(text) if what != "class" else self._add_classes(menu, text)
            assert action is not None
            action.setData(what)
            action.setToolTip(tip)
            action.setEnabled(enabled)
        menu.triggered.connect(self._on_action)
        return menu

    def _family(self) -> list[tuple[str, str, str, bool]]:
        """What can be said about who came from whom, where there is time."""
        if not self._stack:
            return []
        chosen = [self._rows.rows[self._rows.where[uid]] for uid in self.selected]
        return [
            (
                "relate",
                "Mother and daughters",
                "The one that is there first divided into the others",
                len(chosen) > 1,
            ),
            ("unrelate", "No parent", "They came from no other object", any(row.parent for row in chosen)),
        ]

    def _add_classes(self, menu: QMenu, text: str) -> QAction | None:
        """A menu of the classes inside the menu."""
        inner = menu.addMenu(text)
        assert inner is not None
        for number, name in ((0, "none"), *self.classes):
            action = inner.addAction(name)
            assert action is not None
            action.setData(number)
        return inner.menuAction()

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
        if isinstance(what := action.data(), int):
            self.class_asked.emit(self.selected, what)
        else:
            self._do(what)

    def _do(self, what: str) -> None:
        """What a key or the menu says, if it can be done with as many rows as are selected."""
        uids = self.selected
        if what == "open" and len(uids) == 1:
            self.opened.emit(uids[0])
        elif what == "split" and len(uids) == 1:
            self.split_asked.emit(uids[0])
        elif what == "merge" and len(uids) > 1:
            self.merge_asked.emit(uids)
        elif what == "relate" and len(uids) > 1:
            self.relate_asked.emit(uids)
        elif what == "unrelate" and uids:
            self.unrelate_asked.emit(uids)
        elif what == "delete" and uids:
            self.delete_asked.emit(uids)
        elif what == "copy" and uids and (clipboard := QGuiApplication.clipboard()) is not None:
            clipboard.setText(self.csv())

    def _show_menu(self, at: QPoint) -> None:
        viewport = self.view.viewport()
        assert viewport is not None
        self.menu().popup(viewport.mapToGlobal(at))
