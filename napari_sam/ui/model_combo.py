"""The list of models, and the dialog for a checkpoint of one's own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from qtpy.QtCore import QModelIndex, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_sam.models.zoo import ZOO
from napari_sam.ui.catalogue import Entry, catalogue

__all__ = ["ModelCombo"]

_NAME = Qt.ItemDataRole.UserRole
_DETAIL = Qt.ItemDataRole.UserRole + 1
_OPEN = "Open checkpoint…"
_FILES = "Checkpoints (*.safetensors *.pth *.pt *.ckpt *.bin);;All files (*)"


class ModelCombo(QComboBox):
    """Every model there is; those that are on disk first.

    Parameters
    ----------
    parent : QWidget, optional
    """

    picked = Signal(str)
    """The user chose a model by name, or a checkpoint by path."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._on_disk: frozenset[str] = frozenset(name for name, info in ZOO.items() if info.url is None)
        self._own: list[str] = []
        self._current = ""
        self._lines = QStandardItemModel(self)
        self.setModel(self._lines)
        self.setItemDelegate(_WithDetail(self))
        self.setMaxVisibleItems(30)
        # The name is what there is room for; the rest is in the list.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.activated.connect(self._on_activated)
        self._fill()

    def mark_on_disk(self, names: Collection[str]) -> None:
        """Show which models need no download."""
        if self._on_disk != frozenset(names):
            self._on_disk = frozenset(names)
            self._fill()

    def select(self, name: str) -> None:
        """Show that this model, or checkpoint, is the one in use."""
        if name != self._current:
            self._current = name
            if name not in ZOO and name not in self._own:
                self._own.append(name)
                self._fill()
        self._show_current()

    def choose_file(self) -> str:
        """Ask for a checkpoint; the path, or nothing if the user thought better of it."""
        start = str(Path(self._own[-1]).parent) if self._own else ""
        path, _ = QFileDialog.getOpenFileName(self, "Open a checkpoint", start, _FILES)
        return path

    def showPopup(self) -> None:
        """Make the list as wide as its longest line."""
        view = self.view()
        if view is not None:
            view.setMinimumWidth(view.sizeHintForColumn(0) + 24)
        super().showPopup()

    def _fill(self) -> None:
        blocked = self.blockSignals(True)
        self._lines.clear()
        for entry in catalogue(self._on_disk, self._own):
            self._lines.appendRow(_line(entry))
        self.insertSeparator(self.count())
        self._lines.appendRow(
            _line(Entry(_OPEN, _OPEN, "", "Weights of SAM, SAM 2 or nano that you have as a file."))
        )
        self.blockSignals(blocked)
        self._show_current()

    def _show_current(self) -> None:
        index = self.findData(self._current, _NAME)
        blocked = self.blockSignals(True)
        self.setCurrentIndex(index)
        self.blockSignals(blocked)
        tip = self.itemData(index, Qt.ItemDataRole.ToolTipRole) if index >= 0 else self._current
        self.setToolTip(f"The network that segments.\n\n{tip}")

    def _on_activated(self, index: int) -> None:
        name = self.itemData(index, _NAME)
        if name == _OPEN:
            name = self.choose_file()
        if name:
            self.picked.emit(name)
        self._show_current()


class _WithDetail(QStyledItemDelegate):
    """Adds to each name in the list, but not in the closed box, what the model is for."""

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        detail = index.data(_DETAIL)
        if option is not None and detail:
            option.text = f"{option.text}   –   {detail}"


def _line(entry: Entry) -> QStandardItem:
    item = QStandardItem(entry.title)
    item.setData(entry.name, _NAME)
    item.setData(entry.detail, _DETAIL)
    item.setToolTip(entry.tip)
    if not entry.name:
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        font = item.font()
        font.setBold(True)
        item.setFont(font)
    return item
