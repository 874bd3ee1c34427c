"""A strip with a cell for each plane of a series: what an object has there, and which plane is displayed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPointF, QRect, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPalette, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_sam.annotation.propagating import PlaneState

__all__ = ["PlaneStrip", "cells"]

_HEIGHT, _MARK, _EDGE = 30, 7, 5
_GAP_FROM = 4
"""Cells that are at least as wide as this, in pixels, have a gap between them."""
_PAGE = 10
_DISPLAYED = "#e69f00"
"""Seen on light and on dark, and with any kind of colour blindness."""
_NAMES = {
    PlaneState.EMPTY: "empty",
    PlaneState.PROPAGATED: "propagated",
    PlaneState.ANNOTATED: "annotated",
}
# Told apart by their heights alone, too: of the strip, and of how much of the text's colour they have.
_LOOKS = {PlaneState.EMPTY: (0.12, 0.14), PlaneState.PROPAGATED: (0.5, 0.55), PlaneState.ANNOTATED: (1, 1)}


def cells(states: NDArray[np.uint8], width: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Where the cells of a strip begin, and what they show.

    Parameters
    ----------
    states : ndarray, shape (N,), uint8
        What is on each plane, as :class:`~napari_sam.annotation.propagating.PlaneState`.
    width : int
        Of the strip, in pixels. If there are more planes than pixels, a cell stands for several of them, and
        shows the most that is on any: a single annotated plane is never lost.

    Returns
    -------
    edges : ndarray, shape (M + 1,), int
        The first pixel of each cell, then the end of the last one.
    shown : ndarray, shape (M,), uint8
        M is the smaller one of N and `width`.

    Examples
    --------
    >>> edges, shown = cells(np.array([0, 2, 0, 1, 0, 0], dtype=np.uint8), 3)
    >>> edges.tolist(), shown.tolist()
    ([0, 1, 2, 3], [2, 1, 0])
    """
    number = min(len(states), max(width, 1))
    edges = np.arange(number + 1) * width // max(number, 1)
    if not number:
        return edges, states
    first = np.arange(number) * len(states) // number
    return edges, np.maximum.reduceat(states, first)


class PlaneStrip(QWidget):
    """The planes of a series from left to right; click one to go there.

    What is annotated is high and bright, what was propagated half as high, and what is empty a line.
    Thousands of planes are drawn as fast as a few.

    Parameters
    ----------
    parent : QWidget, optional
    """

    picked = Signal(int)
    """The user wants to see another plane: its position."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._states = np.zeros(0, dtype=np.uint8)
        self._position: int | None = None
        self._axis = "plane"
        # The canvas keeps the keyboard, so that shortcuts work right after a click.
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Planes of the object")

    def show_planes(self, states: NDArray[np.uint8], position: int | None, axis: str, whose: str) -> None:
        """Show other planes.

        Parameters
        ----------
        states : ndarray, shape (N,), uint8
            As :class:`~napari_sam.annotation.propagating.PlaneState`. It is not copied.
        position : int or None
            The plane that is displayed, if it is one of them.
        axis : str
            What the planes follow each other along, as a user knows it.
        whose : str
            The object, in words.
        """
        same = position == self._position and np.array_equal(states, self._states) and axis == self._axis
        self._states, self._position, self._axis = states, position, axis
        self.setAccessibleName(f"Planes of {whose}")
        if not same:
            self.setAccessibleDescription("" if position is None else self.describe(position))
            self.update()

    @property
    def position(self) -> int | None:
        """The plane that is marked as displayed."""
        return self._position

    def describe(self, position: int) -> str:
        """What is on a plane, or on those that share a cell with it, in words."""
        first, last = self._sharing(position)
        state = PlaneState(int(self._states[first : last + 1].max()))
        where = f"{first}" if first == last else f"{first} to {last}"
        return f"{self._axis} {where}: {_NAMES[state]}"

    def position_at(self, x: float) -> int:
        """The plane that is drawn at a pixel from the left."""
        count, room = len(self._states), max(self._room.width(), 1)
        return int(np.clip((x - self._room.left()) * count // room, 0, max(count - 1, 0)))

    def pixel_of(self, position: int) -> int:
        """The pixel from the left at which the middle of a plane is drawn."""
        return self._room.left() + round((position + 0.5) * self._room.width() / max(len(self._states), 1))

    def sizeHint(self) -> QSize:
        """Low, and as wide as a dock widget usually is."""
        return QSize(320, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Wide enough for a few planes."""
        return QSize(80, _HEIGHT)

    @property
    def _room(self) -> QRect:
        """Where cells are drawn; at the sides there is room for half of the mark."""
        return self.rect().adjusted(_EDGE, _MARK + 1, -_EDGE, -2)

    def _sharing(self, position: int) -> tuple[int, int]:
        """The first and the last plane of the cell in which a plane is."""
        count = len(self._states)
        number = min(count, max(self._room.width(), 1))
        cell = min(((position + 1) * number - 1) // count, number - 1)
        return cell * count // number, (cell + 1) * count // number - 1

    # From the user

    def event(self, event: QEvent | None) -> bool:
        """Say which plane is under the mouse, and what is there."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip and len(self._states):
            QToolTip.showText(event.globalPos(), self.describe(self.position_at(event.pos().x())), self)
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go to the plane under the mouse."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._pick(self.position_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Follow the mouse while its button is down."""
        if event is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self._pick(self.position_at(event.position().x()))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows go one plane on, Page keys ten; with Ctrl, arrows go on to where something else begins."""
        if event is None or self._position is None:
            return
        last, here = len(self._states) - 1, self._position
        key, far = Qt.Key(event.key()), bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        where = {
            Qt.Key.Key_Left: self._next_change(-1) if far else here - 1,
            Qt.Key.Key_Right: self._next_change(1) if far else here + 1,
            Qt.Key.Key_PageUp: here - _PAGE,
            Qt.Key.Key_PageDown: here + _PAGE,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: last,
        }.get(key)
        if where is None:
            super().keyPressEvent(event)
        else:
            self._pick(min(max(where, 0), last))

    def _next_change(self, way: int) -> int:
        """The next plane in a direction with another state than this one."""
        assert self._position is not None
        ahead = self._states[self._position :] if way > 0 else self._states[: self._position + 1][::-1]
        others = np.flatnonzero(ahead != ahead[0])
        return self._position + way * int(others[0] if others.size else len(ahead) - 1)

    def _pick(self, position: int) -> None:
        if len(self._states) and position != self._position:
            self.picked.emit(position)

    # Drawing

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        """Draw runs of equal cells at once."""
        room = self._room
        painter = QPainter(self)
        edges, shown = cells(self._states, room.width())
        gap = 1 if len(shown) and room.width() // len(shown) >= _GAP_FROM else 0
        # With gaps between them, each is drawn by itself.
        starts = np.arange(len(shown)) if gap else np.flatnonzero(np.diff(shown, prepend=255))
        stops = [*starts[1:], len(shown)] if len(shown) else []
        for start, stop in zip(starts, stops, strict=True):
            share, strength = _LOOKS[PlaneState(int(shown[start]))]
            height = max(2, round(share * room.height()))
            left, right = room.left() + int(edges[start]), room.left() + int(edges[stop]) - gap
            painter.fillRect(left, room.bottom() + 1 - height, right - left, height, self._colour(strength))
        if self._position is not None and len(self._states):
            self._mark(painter, room)
        if self.hasFocus():
            painter.setPen(self._colour(0.6))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def _mark(self, painter: QPainter, room: QRect) -> None:
        """A triangle above the plane that is displayed, and a line below it."""
        assert self._position is not None
        x = self.pixel_of(self._position)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(_DISPLAYED))
        top = QPolygonF([QPointF(x - _EDGE, 0), QPointF(x + _EDGE, 0), QPointF(x, _MARK)])
        painter.drawPolygon(top)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.fillRect(x - 1, _MARK - 1, 2, room.bottom() + 3 - _MARK, QColor(_DISPLAYED))

    def _colour(self, strength: float) -> QColor:
        """Between the theme's background and its text."""
        palette = self.palette()
        ends = palette.color(QPalette.ColorRole.Window), palette.color(QPalette.ColorRole.WindowText)
        low, high = (np.array(end.getRgb()[:3], dtype=float) for end in ends)
        return QColor(*(int(part) for part in np.round(low + strength * (high - low))))
