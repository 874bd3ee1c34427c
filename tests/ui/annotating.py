"""Segments the first two coins in a viewer of its own, says so, and waits to be killed."""

from __future__ import annotations

import time

from canvas import Canvas, turn
from napari import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage.data import coins

from napari_sam.ui.widget import SegmentWidget

CLICKS = [(44, 334), (51, 155)]


def main() -> None:
    viewer = Viewer()
    viewer.window.resize(1200, 800)
    viewer.add_image(coins(), name="coins")
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, area="right")
    QTest.qWait(300)  # until the window has its size
    viewer.reset_view()
    controller, canvas = widget.controller, Canvas(viewer)
    controller.wait()
    for at in CLICKS:
        canvas.click(controller.image, at)
        controller.wait()
        canvas.key(Qt.Key.Key_N)
    accepted = time.monotonic()
    while time.monotonic() - accepted < 1:
        turn()
    print("accepted", flush=True)
    while True:
        turn()


if __name__ == "__main__":
    main()
