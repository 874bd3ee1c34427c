"""Many clicks in a row: memory stays, and after closing nothing is left.

A hundred clicks by default; the whole of it: ``SOAK_CLICKS=2000 python -m pytest -s tests/ui/test_soak.py``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from canvas import CTRL, SHIFT, Canvas, check, settle, until
from napari.utils.action_manager import action_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

CLICKS = int(os.environ.get("SOAK_CLICKS", "100"))
LIMIT = 50 * 2**20
"""Bytes by which memory may grow after the first part."""


def memory() -> int:
    """Bytes that belong to this process alone, after what is free was given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_full_info().uss


def listeners(viewer) -> int:
    """Callbacks on everything that outlives a widget."""
    image = viewer.layers["coins"]
    groups = [viewer.layers.events, viewer.dims.events, viewer.layers.selection.events, viewer.events]
    groups += [image.events, action_manager.events, viewer.scene.camera.events]
    count = sum(len(emitter.callbacks) for group in groups for emitter in group.emitters.values())
    lists = (
        viewer.mouse_move_callbacks,
        viewer.mouse_drag_callbacks,
        viewer.mouse_double_click_callbacks,
        image.mouse_drag_callbacks,
        image.mouse_move_callbacks,
    )
    return count + sum(map(len, lists)) + len(viewer.keymap)


def state(viewer) -> dict[str, object]:
    """What is there beside the widget."""
    return {
        "listeners": listeners(viewer),
        "threads": sorted(t.name for t in threading.enumerate() if t.name.startswith("napari-sam")),
        "windows": sum(window.isVisible() for window in QApplication.topLevelWidgets()),
        "layers": [layer.name for layer in viewer.layers],
    }


def soak(widget: SegmentWidget, canvas: Canvas, centres, clicks: int) -> list[int]:
    """Clicks and keys as of somebody who annotates the coins again and again; memory after each tenth."""
    controller, document = widget.controller, widget.controller.document
    image = controller.image
    rng = np.random.default_rng(0)
    memories, done = [], 0

    def click(at, **options) -> None:
        nonlocal done
        canvas.click(image, at, **options)
        done += 1
        assert controller.wait(60)
        if done % max(clicks // 10, 1) == 0:
            memories.append(memory())
            history = document.history.nbytes / 2**20
            print(
                f"{done} clicks: {memories[-1] / 2**20:.0f} MB, of which history {history:.1f} MB", flush=True
            )

    while done < clicks:
        for at in centres:
            canvas.hover(image, np.add(at, 3))
            click(at)
            chance = rng.random(5)
            if chance[0] < 0.3:
                click(np.add(at, (0, 28)), modifier=CTRL)
            if chance[1] < 0.2:
                canvas.key(Qt.Key.Key_Z, CTRL)
                controller.wait(60)
                if chance[2] < 0.5:
                    canvas.key(Qt.Key.Key_Z, CTRL | SHIFT)
            if chance[3] < 0.1:
                canvas.key(Qt.Key.Key_Delete, SHIFT)
            elif not document.current.is_empty:
                canvas.key(Qt.Key.Key_N)
            if chance[4] < 0.1:
                canvas.double_click(image, at)
                controller.wait(60)
                if not document.current.is_empty:
                    canvas.key(Qt.Key.Key_N)
            if done >= clicks:
                break
        assert controller.wait(60)
        check(controller)
        controller.delete_objects([item.uid for item in document.objects])
    settle(controller)
    return memories


def test_soak(viewer, coins, centres, open_widget: Callable[..., SegmentWidget], canvas: Canvas) -> None:
    # Without any plugin, napari 0.9.2 crashes in software OpenGL when a Shapes layer is added, removed and
    # added again beside a single image.
    viewer.add_image(np.zeros((5, 5)), name="other")
    viewer.add_image(coins, name="coins")

    def once(clicks: int) -> list[int]:
        widget = open_widget()
        viewer.reset_view()
        settle(widget.controller)
        memories = soak(widget, canvas, centres, clicks)
        viewer.window.remove_dock_widget(widget)
        viewer.layers.remove("coins: objects")
        until(lambda: not state(viewer)["threads"])
        QTest.qWait(200)  # deferred deletions happen while waiting only
        return memories

    once(10)
    before = state(viewer)
    memories = once(CLICKS)
    assert state(viewer) == before
    assert before["layers"] == ["other", "coins"]
    # PyTorch takes some hundred megabytes now and then, and gives them back some fifty clicks later.
    growth = min(memories[-3:]) - min(memories[:3])
    print(f"{growth / 2**20:.1f} MB more after {CLICKS} clicks than in the beginning")
    if CLICKS >= 1000:
        assert growth < LIMIT
