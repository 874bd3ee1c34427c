"""A person at the canvas: presses, moves and releases of a mouse, keys; all as Qt events."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from napari import Viewer
from napari.layers import Layer
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.ui.controller import Controller

PATIENCE = 300
"""Seconds after which a result will not come any more; it only matters where something is broken."""

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NONE, CTRL, SHIFT = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
)


class Canvas:
    """The canvas of a viewer, addressed by the data coordinates of a layer."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._canvas = viewer.window._qt_window._qt_viewer.canvas

    def pixel(self, layer: Layer, at: Sequence[float]) -> QPointF:
        """Where on the canvas a position in a layer is drawn."""
        dims = self.viewer.dims
        world = (0.0,) * (dims.ndim - layer.ndim) + tuple(layer.data_to_world(at))
        row, column = (world[axis] for axis in dims.displayed)
        view = self._canvas.view
        x, y, _, w = (view.transform * view.scene.transform).map([column, row])
        return QPointF(x / w, y / w)

    def click(self, layer: Layer, at: Sequence[float], button=LEFT, modifier=NONE) -> None:
        spot = self.pixel(layer, at).toPoint()
        native = self._canvas.native
        assert native.rect().contains(spot), "the click would miss the canvas"
        QTest.mouseClick(native, button, modifier, spot)
        turn()

    def drag(self, layer: Layer, *stops: Sequence[float], steps: int = 4, release: bool = True) -> None:
        """Press at the first stop, pass by all others, release at the last."""
        spots = [self.pixel(layer, stop) for stop in stops]
        self.press(spots[0])
        for start, stop in pairwise(spots):
            for part in np.linspace(0, 1, steps + 1)[1:]:
                self.move(start * (1 - part) + stop * part)
        if release:
            self.release(spots[-1])

    def press(self, spot: QPointF) -> None:
        QTest.mousePress(self._canvas.native, LEFT, NONE, spot.toPoint())
        turn()

    def move(self, spot: QPointF, button=LEFT) -> None:
        native = self._canvas.native
        event = QMouseEvent(
            QEvent.Type.MouseMove, spot, native.mapToGlobal(spot), Qt.MouseButton.NoButton, button, NONE
        )
        QApplication.sendEvent(native, event)
        QTest.qWait(10)  # napari drops moves that follow each other faster than this

    def release(self, spot: QPointF) -> None:
        QTest.mouseRelease(self._canvas.native, LEFT, NONE, QPoint(round(spot.x()), round(spot.y())))
        turn()

    def key(self, key: Qt.Key, modifier=NONE) -> None:
        QTest.keyClick(self._canvas.native, key, modifier)
        turn()


def turn(times: int = 3) -> None:
    """Let the event loop turn."""
    for _ in range(times):
        QApplication.processEvents()


def settle(controller: Controller) -> None:
    """Wait until all masks that were asked for are there."""
    assert controller.wait(PATIENCE)
    turn()


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())
