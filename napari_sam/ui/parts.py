"""Small Qt parts that the panels of the widget are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

__all__ = ["button", "combo", "heading", "panel", "quiet", "row", "tool_button", "tool_icon"]

GREEN, RED = "#2fbf4f", "#e5383b"


@contextmanager
def quiet(box: QComboBox) -> Iterator[None]:
    """Change a combo box without its telling anybody."""
    blocked = box.blockSignals(True)
    try:
        yield
    finally:
        box.blockSignals(blocked)


def combo(tip: str) -> QComboBox:
    """A combo box that long names do not make wider."""
    box = QComboBox()
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def button(text: str, tip: str = "") -> QPushButton:
    """A button that leaves the keyboard to the canvas, so that shortcuts work right after it was clicked."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made


def tool_button(text: str, sign: str) -> QPushButton:
    """A checkable button with a picture above its name.

    A push button, since those are what napari's themes show as checked.
    """
    made = button("")
    made.setCheckable(True)
    made.setAccessibleName(text)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    layout = QVBoxLayout(made)
    layout.setContentsMargins(2, 3, 2, 2)
    layout.setSpacing(1)
    picture, name = QLabel(), QLabel(text)
    picture.setPixmap(tool_icon(sign).pixmap(20, 20))
    for label in (picture, name):
        label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        label.setStyleSheet("background: transparent; font-size: 10px")
        layout.addWidget(label)
    made.setFixedHeight(layout.sizeHint().height())
    return made


def row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets side by side."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def heading(text: str) -> QLabel:
    """The name of a part of the widget."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def panel(widget: QWidget, title: str) -> QVBoxLayout:
    """A vertical layout below a heading."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    layout.addWidget(heading(title))
    return layout


def tool_icon(sign: str) -> QIcon:
    """What a tool draws, in the colour of the prompt: "+", "-", "box", "scribble" or "lasso"."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    try:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(QColor(RED if sign == "-" else GREEN), 4)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        painter.setPen(pen)
        if sign == "box":
            painter.drawRect(5, 7, 22, 18)
        elif sign == "scribble":
            painter.drawPolyline(_curve((3, 24), (9, 8), (15, 22), (21, 8), (29, 16)))
        elif sign == "lasso":
            pen.setStyle(Qt.PenStyle.DashLine)
            pen.setDashPattern([1.2, 1.6])
            painter.setPen(pen)
            painter.drawPolygon(_curve((6, 10), (16, 4), (28, 10), (25, 24), (12, 28), (4, 20)))
        else:
            painter.setBrush(pen.color())
            painter.drawEllipse(4, 4, 24, 24)
            painter.setPen(QPen(QColor("white"), 4))
            painter.drawLine(10, 16, 22, 16)
            if sign == "+":
                painter.drawLine(16, 10, 16, 22)
    finally:
        painter.end()
    return QIcon(pixmap)


def _curve(*points: tuple[float, float]) -> QPolygonF:
    return QPolygonF([QPointF(x, y) for x, y in points])
