"""``python -m benchmarks.gui``: the plugin in a real napari viewer.

How long opening the widget takes, how long the event loop stands still while the model is loaded and encodes, and
the time from a mouse press on the canvas to new pixels in the Labels layer. Needs a display.
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

__all__ = ["main"]

TICK_MS = 5
PATIENCE_S = 120.0
"""How long to wait for the worker."""
CLICK_PATIENCE_S = 10.0
SIDE = 2048


class Ticker:
    """Runs the event loop with a timer that ticks every 5 ms, and keeps the gaps between the ticks."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    def run_until(self, done: Callable[[], bool], patience: float = PATIENCE_S) -> None:
        """Let the event loop turn.

        Raises
        ------
        TimeoutError
            If it takes longer than `patience` seconds.
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
            if done() or now - started > patience:
                loop.quit()

        timer.timeout.connect(tick)
        timer.start(TICK_MS)
        loop.exec()
        timer.stop()
        if not done():
            raise TimeoutError(f"The worker was not done after {patience:.0f} s.")


def _pause(seconds: float) -> None:
    """Let the event loop turn for a while."""
    end = time.perf_counter() + seconds
    Ticker().run_until(lambda: time.perf_counter() > end)


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


def measure(model: str, device: str, threads: int, clicks: int) -> list[Measurement]:
    """Open a viewer and the widget, encode, click."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    small = viewer.add_image(coins(256)[0], name="small")
    _pause(1.0)

    started = time.perf_counter()
    import napari_sam

    controller = napari_sam.annotate(viewer, small, model=model, device=device)
    results = [Measurement.of("open the widget", [(time.perf_counter() - started) * 1e3])]
    ticker = Ticker()
    ticker.run_until(lambda: not controller.busy)
    results.append(Measurement.of("GUI gap while torch and the model load", ticker.gaps))
    import torch

    torch.set_num_threads(threads)

    photograph, boxes = coins(SIDE)
    image = viewer.add_image(photograph, name="large")
    _pause(0.5)
    started = time.perf_counter()
    controller.set_image(image)
    results.append(
        Measurement.of("choose an image (adds the prompt layers)", [(time.perf_counter() - started) * 1e3])
    )
    Ticker().run_until(lambda: not controller.busy)
    # Once more, without layers being added: another gamma is another image to the model.
    image.gamma = 0.9
    Ticker().run_until(lambda: controller.encoding)
    ticker = Ticker()
    ticker.run_until(lambda: not controller.busy)
    results.append(Measurement.of(f"GUI gap while encoding {SIDE} x {SIDE}", ticker.gaps))
    idle = Ticker()
    end = time.perf_counter() + 1
    idle.run_until(lambda: time.perf_counter() > end)
    results.append(Measurement.of("GUI gap while nothing is done", idle.gaps))

    # The pixels of a coin and around it, not the whole plane: finding the change must not cost much.
    canvas = _canvas()
    left = Qt.MouseButton.LeftButton
    times: list[float] = []
    nothing = 0
    for index in range(clicks):
        x0, y0, x1, y1 = boxes[index % len(boxes)]
        middle = ((y0 + y1) / 2, (x0 + x1) / 2)
        around = (slice(max(y0 - 40, 0), y1 + 40), slice(max(x0 - 40, 0), x1 + 40))
        layer = controller.result_layer
        before = None if layer is None else np.array(layer.data[around])

        def changed(around: tuple[slice, slice] = around, before: np.ndarray | None = before) -> bool:
            layer = controller.result_layer
            if layer is None:
                return False
            now = np.asarray(layer.data[around])
            return bool(now.any() if before is None else (now != before).any())

        at = _on_canvas(viewer, canvas, *middle)
        ticker = Ticker()
        started = time.perf_counter()
        QTest.mousePress(canvas, left, Qt.KeyboardModifier.NoModifier, at)
        QTest.mouseRelease(canvas, left, Qt.KeyboardModifier.NoModifier, at)
        ticker.run_until(lambda changed=changed: changed() or not controller.busy, CLICK_PATIENCE_S)
        if changed():
            times.append((time.perf_counter() - started) * 1e3)
        else:
            nothing += 1
        controller.reject()
        _pause(0.05)
    if times:
        results.append(Measurement.of(f"mouse press to pixels, {SIDE} x {SIDE}", times))
    if nothing:
        results.append(Measurement.of("clicks on which the model found nothing", [nothing], "clicks"))
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
