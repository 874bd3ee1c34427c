"""A part of the widget that can be folded away."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QToolButton, QVBoxLayout, QWidget

__all__ = ["Folding"]


class Folding(QWidget):
    """A heading that shows or hides what is below it; closed to begin with.

    Parameters
    ----------
    title : str
    tip : str

    Attributes
    ----------
    inside : QWidget
        What is shown and hidden; give it a layout.
    """

    def __init__(self, title: str, tip: str = "") -> None:
        super().__init__()
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setToolTip(tip)
        self.button.setCheckable(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.button.setStyleSheet("QToolButton { border: none; background: transparent; font-weight: bold }")
        self.button.toggled.connect(self._show)
        self.inside = QWidget()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.button)
        layout.addWidget(self.inside)
        self._show(False)

    @property
    def is_open(self) -> bool:
        """Whether the inside is shown."""
        return self.button.isChecked()

    def _show(self, shown: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.inside.setVisible(shown)
