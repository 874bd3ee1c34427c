"""``python -m benchmarks.gui``: the plugin in a real napari viewer.

How long opening the widget takes, how long the event loop stands still while the model is loaded and encodes,
the time from a mouse press on the canvas to new pixels in the Labels layer, how often the preview follows the
mouse, and how long undo takes. Needs a display.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from benchmarks.interactive import Measurement, coins, peak_memory

if TYPE_CHECKING:
    import napari
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QWidget

    from napari_sam.ui.controller import Controller

__all__ = ["main"]

TICK_MS = 5
PATIENCE_S = 120.0
"""How long to wait for the worker."""
GIVE_UP_S = 0.5
"""A click that has not changed anything by then, with the worker idle, found nothing."""
SIDE = 2048
REST_S = 0.15
"""How long the mouse rests where a click follows, when it got there before the button goes down."""


class Ticker:
    """Runs the event loop with a timer that ticks every 5 ms, and keeps the gaps between the ticks."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let the event loop turn.

        Raises
        ------
        TimeoutError
            If it takes minutes.
        """
        from qtpy.QtCore import QEventLoop, Qt, QTimer

        loop, timer = QEventLoop(), QTimer()
        timer.setTimerType(Qt.TimerType.PreciseTimer)
        started = last = time.perf_counter()

        def tick() -> None:
            nonlocal last
            now = time.perf_counter()
            self.gaps.append((now - last) * 1e3)
            last = now
            if done() or now - started > PATIENCE_S:
                loop.quit()

        timer.timeout.connect(tick)
        timer.start(TICK_MS)
        loop.exec()
        timer.stop()
        if not done():
            raise TimeoutError(f"The worker was not done after {PATIENCE_S:.0f} s.")


def _pause(seconds: float) -> list[float]:
    """Let the event loop turn for a while; the gaps in milliseconds."""
    end = time.perf_counter() + seconds
    ticker = Ticker()
    ticker.run_until(lambda: time.perf_counter() > end)
    return ticker.gaps


def _gaps(controller: Controller) -> list[float]:
    """Let the event loop turn until the worker is done; the gaps in milliseconds."""
    ticker = Ticker()
    ticker.run_until(lambda: not controller.busy)
    controller.wait()  # raises what went wrong
    return ticker.gaps


def _canvas() -> QWidget:
    """The widget that napari draws on."""
    from qtpy.QtWidgets import QApplication

    (canvas,) = (w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop")
    return canvas


def _on_canvas(viewer: napari.Viewer, canvas: QWidget, row: float, column: float) -> QPoint:
    """Where on the canvas a pixel of a two-dimensional, unscaled layer is."""
    from qtpy.QtCore import QPoint

    camera = viewer.scene.camera
    _, y, x = camera.center
    return QPoint(
        round((column - x) * camera.zoom + canvas.width() / 2),
        round((row - y) * camera.zoom + canvas.height() / 2),
    )


def _move(canvas: QWidget, place: QPoint) -> None:
    """Move the mouse to a place on the canvas, no button held."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    none, modifier, at = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, QPointF(place)
    QApplication.sendEvent(
        canvas, QMouseEvent(QEvent.Type.MouseMove, at, canvas.mapToGlobal(at), none, none, modifier)
    )


def _clicks(
    viewer: napari.Viewer, controller: Controller, boxes: list[tuple[int, int, int, int]], count: int
) -> list[Measurement]:
    """Click in the middle of coins; from the mouse press until the Labels layer's pixels are others.

    With the preview, the mouse moves there and rests before the button goes down, as a hand does; without,
    the press is the first that the widget hears of the place.
    """
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    canvas = _canvas()
    button, modifier = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    times: list[float] = []
    for index in range(count):
        x0, y0, x1, y1 = boxes[index % len(boxes)]
        # Looking at the whole plane for a change would cost more than the click.
        around = (slice(max(y0 - 40, 0), y1 + 40), slice(max(x0 - 40, 0), x1 + 40))
        at = _on_canvas(viewer, canvas, (y0 + y1) / 2, (x0 + x1) / 2)
        if controller.preview:
            _move(canvas, at)
            _pause(REST_S)
        started = time.perf_counter()

        def is_painted(around: tuple[slice, slice] = around) -> bool:
            layer = controller.result_layer
            return layer is not None and bool(np.any(layer.data[around]))

        def is_over(started: float = started, is_painted: Callable[[], bool] = is_painted) -> bool:
            return is_painted() or (not controller.busy and time.perf_counter() - started > GIVE_UP_S)

        QTest.mousePress(canvas, button, modifier, at)  # type: ignore[call-overload]
        QTest.mouseRelease(canvas, button, modifier, at)  # type: ignore[call-overload]
        Ticker().run_until(is_over)
        if is_painted():
            times.append((time.perf_counter() - started) * 1e3)
        controller.wait()
        controller.reject()
        _pause(0.05)
    before = f", after {REST_S:g} s of preview" if controller.preview else ""
    what = f"mouse press to pixels, {SIDE} x {SIDE}{before}"
    results = [Measurement.of(what, times)] if times else []
    if len(times) < count:
        results.append(Measurement.of("clicks on which nothing was found", [count - len(times)], "clicks"))
    return results


def _hover(viewer: napari.Viewer, controller: Controller, seconds: float = 5.0) -> list[Measurement]:
    """Move the mouse over coins without a stop; how often a second another preview is shown, and the gaps."""
    from qtpy.QtCore import QTimer

    canvas = _canvas()
    shown = 0

    def count() -> None:
        nonlocal shown
        shown += 1

    started = time.perf_counter()

    def move() -> None:
        angle = (time.perf_counter() - started) * 2
        row, column = (SIDE / 2 * (1 + 0.4 * turned(angle)) for turned in (np.sin, np.cos))
        _move(canvas, _on_canvas(viewer, canvas, row, column))

    timer = QTimer()
    timer.timeout.connect(move)
    timer.start(16)
    _pause(1.0)
    previews = [layer for layer in viewer.layers if controller.only_shows(layer)]
    if not previews:
        timer.stop()
        return [Measurement.of("previews while the mouse moves", [0.0], "per s")]
    previews[0].events.set_data.connect(count)
    gaps = _pause(seconds)
    timer.stop()
    previews[0].events.set_data.disconnect(count)
    return [
        Measurement.of(f"previews while the mouse moves, {SIDE} x {SIDE}", [shown / seconds], "per s"),
        Measurement.of("GUI gap meanwhile", gaps),
    ]


def _undo(viewer: napari.Viewer, controller: Controller, side: int = 4096) -> list[Measurement]:
    """Undo and redo accepting and clicking, and a batch of objects, on a large image."""
    photograph, boxes = coins(side)
    image = viewer.add_image(photograph, name="huge")
    controller.set_image(image)
    _gaps(controller)
    for x0, y0, x1, y1 in boxes[:12]:
        controller.add_point(((y0 + y1) / 2, (x0 + x1) / 2))
        controller.wait()
        controller.accept()
    controller.wait()
    times: dict[str, list[float]] = {"undo": [], "redo": []}
    for name, action, steps in (("undo", controller.undo, 24), ("redo", controller.redo, 24)):
        for _ in range(steps):
            started = time.perf_counter()
            action()
            times[name].append((time.perf_counter() - started) * 1e3)
            controller.wait()
    return [Measurement.of(f"{name}, {side} x {side}", values) for name, values in times.items()]


def measure(model: str, device: str, threads: int, clicks: int) -> list[Measurement]:
    """Open a viewer and the widget, encode, click."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    small = viewer.add_image(coins(256)[0], name="small")
    _pause(1.0)

    started = time.perf_counter()
    import napari_sam

    controller = napari_sam.annotate(viewer, small, model=model, device=device)
    results = [Measurement.of("open the widget", [(time.perf_counter() - started) * 1e3])]
    results.append(Measurement.of("GUI gap while torch and the model load", _gaps(controller)))
    import torch

    torch.set_num_threads(threads)

    photograph, boxes = coins(SIDE)
    image = viewer.add_image(photograph, name="large")
    viewer.reset_view()
    _pause(0.5)
    started = time.perf_counter()
    controller.set_image(image)
    chosen = (time.perf_counter() - started) * 1e3
    results.append(Measurement.of("choose an image (adds the prompt layers)", [chosen]))
    _gaps(controller)
    # Once more, without layers being added: with another gamma it is another image to the model.
    image.gamma = 0.9
    Ticker().run_until(lambda: controller.encoding)
    results.append(Measurement.of(f"GUI gap while encoding {SIDE} x {SIDE}", _gaps(controller)))
    results.append(Measurement.of("GUI gap while nothing is done", _pause(1.0)))
    controller.preview = False
    results += _clicks(viewer, controller, boxes, clicks)
    controller.preview = True
    results += _clicks(viewer, controller, boxes, clicks)
    results += _hover(viewer, controller)
    results += _undo(viewer, controller)
    results.append(Measurement.of("peak resident memory, with napari", [peak_memory()], "MiB"))
    viewer.close()
    return results


def main(
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, auto")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch may use.")] = 2,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks in the viewer.")] = 100,
) -> None:
    """Print the measurements as one line of JSON."""
    print(json.dumps([asdict(m) for m in measure(model, device, threads, clicks)]))


if __name__ == "__main__":
    typer.run(main)
