"""The classes, with their colours, and how new ones are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QSizePolicy

from napari_sam.ui.parts import quiet

if TYPE_CHECKING:
    from napari_sam.ui.controller import Controller

__all__ = ["ClassCombo"]

_NONE = "none"


class ClassCombo(QComboBox):
    """Chooses the class of the current object and of those that follow; a name that is typed is a new class.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._shown: object = None
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "The class of the current object and of new ones. Type a name to make a class; Alt with 1 to 9 "
            "chooses one, and so do 1 to 9 alone where napari does not use them itself."
        )
        self.activated.connect(self._choose)
        line = self.lineEdit()
        assert line is not None
        line.setPlaceholderText("none (type a name for a new class)")
        # With Enter, and when one goes on to something else: what is seen is what counts.
        line.editingFinished.connect(self._take_name)

    def refresh(self) -> None:
        """Show the document's classes and the current object's."""
        session = self._controller.session
        self.setEnabled(session is not None)
        if session is None:
            return
        classes, number = session.document.classes, session.document.current.class_id
        if (classes, number) == self._shown:
            return
        self._shown = classes, number
        with quiet(self):
            self.clear()
            self.addItem(_NONE, 0)
            for one in classes:
                self.addItem(_swatch(one.colour), one.name, one.id)
            self.setCurrentIndex(max(self.findData(number), 0))
            if number == 0:
                self.setEditText("")

    def _choose(self, index: int) -> None:
        if index >= 0:
            self._controller.set_class(int(self.itemData(index)))

    def _take_name(self) -> None:
        session, name = self._controller.session, self.currentText().strip()
        if session is None:
            return
        document = session.document
        names = {0: "", **{one.id: one.name for one in document.classes}}
        name = "" if name == _NONE else name
        if name != names.get(document.current.class_id):
            if name:
                self._controller.set_new_class(name)
            else:
                self._controller.set_class(0)
        self._shown = None
        self.refresh()
        self.clearFocus()


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(16, 16)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
