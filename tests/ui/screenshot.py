"""Makes the picture of the widget in the documentation.

``python tests/ui/screenshot.py docs/images/segment.png``, on a display of at least 1400 x 900 pixels.
"""

from __future__ import annotations

import sys

import numpy as np
from canvas import CTRL, Canvas, turn
from napari import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage.io import imsave

from napari_sam.ui.widget import SegmentWidget

CLICKS = [(44, 334), (51, 155), (51, 215), (54, 44), (56, 100)]


def main(path: str) -> None:
    viewer = Viewer()
    viewer.window.resize(1360, 860)
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment (napari-sam)", area="right")
    widget.source.sample_button.click()
    QTest.qWait(200)
    viewer.reset_view()
    controller, canvas = widget.controller, Canvas(viewer)
    for at in CLICKS:
        canvas.click(controller.image, at)
        controller.wait()
        canvas.key(Qt.Key.Key_N)
    canvas.key(Qt.Key.Key_W)
    canvas.drag(controller.image, (97, 20), (150, 72))
    controller.wait()
    canvas.key(Qt.Key.Key_N)
    canvas.key(Qt.Key.Key_W)
    canvas.click(controller.image, (122, 110))
    canvas.click(controller.image, (122, 172), modifier=CTRL)
    controller.wait()
    turn(10)
    imsave(path, np.asarray(viewer.screenshot(canvas_only=False))[..., :3], check_contrast=False)
    viewer.close()


if __name__ == "__main__":
    main(sys.argv[1])
