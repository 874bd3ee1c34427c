"""A person at the canvas: presses, moves and releases of a mouse, keys; all as Qt events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from napari import Viewer
from napari.layers import Layer
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QEnterEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.inference.prompts import Prompts
from napari_sam.ui.controller import Controller

PATIENCE = 300
"""Seconds after which a result will not come any more; it only matters where something is broken."""

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NO_BUTTON = Qt.MouseButton.NoButton
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

    def double_click(self, layer: Layer, at: Sequence[float]) -> None:
        """What Qt sends for one: press, release, double click, release."""
        spot = self.pixel(layer, at).toPoint()
        native = self._canvas.native
        assert native.rect().contains(spot), "the click would miss the canvas"
        QTest.mouseClick(native, LEFT, NONE, spot)
        turn()
        QTest.mouseDClick(native, LEFT, NONE, spot)
        turn()

    def drag(
        self,
        layer: Layer,
        *stops: Sequence[float],
        steps: int = 4,
        release: bool = True,
        button=LEFT,
        modifier=NONE,
    ) -> None:
        """Press at the first stop, pass by all others, release at the last."""
        spots = [self.pixel(layer, stop) for stop in stops]
        self.press(spots[0], button, modifier)
        for start, stop in pairwise(spots):
            for part in np.linspace(0, 1, steps + 1)[1:]:
                self.move(start * (1 - part) + stop * part, button, modifier)
        if release:
            self.release(spots[-1], button, modifier)

    def hover(self, layer: Layer, at: Sequence[float], modifier=NONE) -> None:
        """Move over a place with no button down."""
        spot = self.pixel(layer, at)
        # Where another window covers this one, nobody else says so, and the mouse could not leave either.
        QApplication.sendEvent(self._canvas.native, QEnterEvent(spot, spot, spot))
        assert self._canvas.native.rect().contains(spot.toPoint()), "the mouse would miss the canvas"
        self.move(spot, NO_BUTTON, modifier)

    def leave(self) -> None:
        """Move out of the canvas."""
        QApplication.sendEvent(self._canvas.native, QEvent(QEvent.Type.Leave))
        turn()

    def press(self, spot: QPointF, button=LEFT, modifier=NONE) -> None:
        QTest.mousePress(self._canvas.native, button, modifier, spot.toPoint())
        turn()

    def move(self, spot: QPointF, button=LEFT, modifier=NONE) -> None:
        native = self._canvas.native
        event = QMouseEvent(
            QEvent.Type.MouseMove, spot, native.mapToGlobal(spot), NO_BUTTON, button, modifier
        )
        QApplication.sendEvent(native, event)
        QTest.qWait(10)  # napari drops moves that follow each other faster than this

    def release(self, spot: QPointF, button=LEFT, modifier=NONE) -> None:
        QTest.mouseRelease(self._canvas.native, button, modifier, QPoint(round(spot.x()), round(spot.y())))
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


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Let the event loop turn until something is so."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        turn()
        time.sleep(0.005)


def coin(true_coins: NDArray[np.int32], at: Sequence[float]) -> NDArray[np.bool_]:
    """The coin at a place."""
    return true_coins == true_coins[round(at[0]), round(at[1])]


def points_of(controller: Controller) -> list[tuple[tuple[float, ...], str]]:
    """What the Points layer shows: data coordinates, rounded, and polarity."""
    points = controller.session.prompts.points
    polarity = points.features["polarity"]
    return [(tuple(np.round(at).tolist()), str(p)) for at, p in zip(points.data, polarity, strict=True)]


def shapes_of(controller: Controller) -> list[str]:
    """The kinds of what the Shapes layer shows."""
    return controller.session.prompts.shapes.features["kind"].tolist()


def check(controller: Controller) -> None:
    """All that must always hold: layers show what the document says."""
    for result in controller._results:
        if result.labels is not None and tuple(result.labels.data.shape) == result.document.shape:
            shown = np.asarray(result.labels.data)
            said = result.document.to_labels(np.int64)
            said[said > result.canvas.greatest_id] = 0
            np.testing.assert_array_equal(shown, said)
        if result.class_labels is not None:
            said = result.document.to_labels(np.int64, classes=True)
            np.testing.assert_array_equal(result.class_labels.data, said)
    session = controller.session
    if session is None or session.ignored or session.plane is None:
        return
    shown, said = session.prompts.read()[0], session.document.current.prompts
    for plane in shown.keys() | said.keys():
        assert _drawn(shown.get(plane)) == _drawn(said.get(plane))


def _drawn(prompts: Prompts | None) -> tuple[object, ...]:
    """What is in the prompt layers, to be compared; nothing for a mask alone."""
    if prompts is None:
        return ([], [], None, None, ())
    box, lasso = (None if array is None else array.tolist() for array in (prompts.box, prompts.lasso))
    return (prompts.points.tolist(), prompts.labels.tolist(), box, lasso, prompts.scribbles)
