"""The main job, as a user does it: with mouse and keys, from the first click to the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from canvas import CTRL, SHIFT, Canvas, check, coin, iou, points_of, settle
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_sam.models import store
from napari_sam.models.checkpoint import read_state
from napari_sam.ui.widget import SegmentWidget

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("folder")]


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """A model whose masks are larger."""
    state = read_state(store.find("nano"))
    for number in range(4):
        state[f"mask_decoder.hypernetworks.{number}.layers.2.bias"][-1] += 3
    torch.save(state, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def test_ten_coins(
    widget: SegmentWidget,
    open_widget,
    canvas: Canvas,
    centres,
    true_coins,
    other_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller = widget.controller
    viewer, image = controller.viewer, controller.image
    ten = centres[2:12]

    # Ten coins: a click and a key each.
    for at in ten:
        canvas.click(image, at)
        settle(controller)
        canvas.key(Qt.Key.Key_N)
    labels = controller.result_layer
    assert set(np.unique(labels.data)) == set(range(11))
    fits = [iou(labels.data == n, coin(true_coins, at)) for n, at in enumerate(ten, 1)]
    assert sum(fit > 0.7 for fit in fits) >= 9
    whole = labels.data.copy()

    # Three steps back, and forward again.
    for _ in range(3):
        canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert set(np.unique(labels.data)) == set(range(10))
    for _ in range(3):
        canvas.key(Qt.Key.Key_Z, CTRL | SHIFT)
    settle(controller)
    np.testing.assert_array_equal(labels.data, whole)

    # Two coins in one object; a negative point cuts one of them off.
    first, second = (np.asarray(at) for at in centres[12:14])
    canvas.key(Qt.Key.Key_W)
    canvas.drag(image, np.minimum(first, second) - 26, np.maximum(first, second) + 26)
    canvas.key(Qt.Key.Key_W)
    canvas.click(image, first)
    canvas.click(image, second)
    settle(controller)
    assert labels.data[round(second[0]), round(second[1])] == 11
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.click(image, second, modifier=CTRL)
    settle(controller)
    assert labels.data[round(first[0]), round(first[1])] == 11
    assert labels.data[round(second[0]), round(second[1])] == 0
    canvas.key(Qt.Key.Key_N)

    # One is opened again by a double click, changed, and kept.
    before = labels.data.copy()
    canvas.double_click(image, ten[4])
    settle(controller)
    assert controller.document.current.id == 5
    assert len(points_of(controller)) == 1
    np.testing.assert_array_equal(labels.data, before)
    canvas.click(image, np.add(ten[4], 5))
    settle(controller)
    canvas.key(Qt.Key.Key_N)
    assert sum(len(one.points) for one in controller.document.with_id(5).prompts.values()) == 2
    others = (before != 5) & (before != 0)
    np.testing.assert_array_equal(labels.data[others], before[others])

    # Another model goes on with the next object; what is accepted stays.
    before = labels.data.copy()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(other_model), ""))
    combo = widget.source.model_combo
    index = combo.findText("Open checkpoint…")
    combo.setCurrentIndex(index)
    combo.activated.emit(index)
    settle(controller)
    assert combo.currentText() == "mine.pth"
    np.testing.assert_array_equal(labels.data, before)
    canvas.click(image, centres[15])
    settle(controller)
    canvas.key(Qt.Key.Key_N)
    answers = [answer for one in controller.document.objects for answer in one.answers.values()]
    assert len({answer.digest for answer in answers}) == 2
    check(controller)

    # Save, close, open again.
    path = tmp_path / "coins.napari-sam.zip"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    widget.objects.save_button.click()
    settle(controller)
    assert path.exists()
    assert "Saved 12 objects" in controller.status
    saved, objects = labels.data.copy(), controller.document.objects
    viewer.window.remove_dock_widget(widget)
    viewer.layers.remove(labels)
    assert list(viewer.layers) == [image]

    again = open_widget(image=image)
    settle(again.controller)
    assert again.controller.document.objects == []
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    again.objects.open_button.click()
    settle(again.controller)
    np.testing.assert_array_equal(again.controller.labels, saved)
    assert again.controller.document.objects == objects
    assert len(again.objects.table.rows) == 12
    canvas.double_click(image, ten[4])
    settle(again.controller)
    assert again.controller.document.current.id == 5
    assert len(points_of(again.controller)) == 2
    canvas.key(Qt.Key.Key_N)

    # Export: the layer is an ordinary Labels layer.
    exported = again.controller.result_layer.save(str(tmp_path / "labels.tif"))
    np.testing.assert_array_equal(tifffile.imread(exported[0]), saved)
