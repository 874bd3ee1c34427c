"""Several images, result layers, models and planes: each annotation is kept, whatever is switched."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, Canvas, check, points_of, settle, shapes_of
from qtpy.QtCore import Qt

from napari_sam.ui.segmenter import ModelChoice
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def test_to_and_fro(widget: SegmentWidget, canvas: Canvas, centres, coins) -> None:
    controller = widget.controller
    viewer, first = controller.viewer, controller.image
    canvas.click(first, centres[3])
    settle(controller)
    canvas.key(Qt.Key.Key_N)
    canvas.click(first, centres[12])
    controller.add_box(np.subtract(centres[12], 25), np.add(centres[12], 25))
    settle(controller)
    mine, labels = controller.document, controller.result_layer
    before = labels.data.copy()

    second = viewer.add_image(coins[::-1, ::-1].copy(), name="second")
    controller.set_image(second)
    settle(controller)
    assert controller.document is not mine
    assert controller.document.objects == []
    assert points_of(controller) == []
    assert not widget.current.undo_button.isEnabled()
    assert widget.objects.table.rows == []
    end = np.subtract(coins.shape, 1)
    canvas.click(second, end - centres[5])
    settle(controller)
    theirs, others = controller.document, controller.result_layer
    assert others is not labels
    np.testing.assert_array_equal(labels.data, before)
    after = others.data.copy()

    for _ in range(2):
        controller.set_image(first)
        settle(controller)
        assert controller.document is mine
        assert controller.result_layer is labels
        assert len(points_of(controller)) == 1
        assert shapes_of(controller) == ["box"]
        assert [row.state for row in widget.objects.table.rows] == ["accepted", "current"]
        np.testing.assert_array_equal(labels.data, before)
        controller.set_image(second)
        settle(controller)
        assert controller.document is theirs
        assert len(points_of(controller)) == 1
        assert shapes_of(controller) == []
        np.testing.assert_array_equal(others.data, after)

    # Undo is that of the image that is being worked on; each keeps its own.
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert not others.data.any()
    np.testing.assert_array_equal(labels.data, before)
    controller.set_image(first)
    settle(controller)
    controller.undo()
    assert shapes_of(controller) == []
    assert controller.document.redo_text == "Add box"


def test_a_mask_that_comes_late_is_in_its_own_image(
    widget: SegmentWidget, canvas: Canvas, centres, coins
) -> None:
    controller = widget.controller
    first = controller.image
    second = controller.viewer.add_image(coins[::-1, ::-1].copy(), name="second")
    controller.set_tool("positive")
    controller._work.requests.hold()
    canvas.click(first, centres[3])
    mine = controller.document
    controller.set_image(second)
    # The object has the same number there, and waits, too.
    end = np.subtract(coins.shape, 1)
    canvas.click(second, end - centres[12])
    theirs = controller.document
    assert theirs is not mine
    controller._work.requests.release()
    settle(controller)
    assert mine.current.area > 100
    assert theirs.current.area > 100
    assert (controller.labels == 1).sum() == theirs.current.area
    controller.set_image(first)
    settle(controller)
    assert (controller.labels == 1).sum() == mine.current.area
    check(controller)


def test_result_layers(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller = widget.controller
    viewer, image = controller.viewer, controller.image
    canvas.click(image, centres[3])
    settle(controller)
    first, mine = controller.result_layer, controller.document
    held = first.data.copy()
    empty = viewer.add_labels(np.zeros(image.data.shape, dtype=np.uint8), name="other")
    assert controller.set_result(empty)
    settle(controller)
    assert points_of(controller) == []
    controller.set_tool("positive")
    canvas.click(image, centres[12])
    settle(controller)
    assert set(np.unique(empty.data)) == {0, 1}
    np.testing.assert_array_equal(first.data, held)
    assert controller.set_result(first)
    settle(controller)
    assert controller.document is mine
    assert len(points_of(controller)) == 1
    canvas.key(Qt.Key.Key_N)
    assert controller.set_result(empty)
    assert len(points_of(controller)) == 1
    assert controller.set_result(None)
    settle(controller)
    controller.set_tool("positive")
    canvas.click(image, centres[5])
    settle(controller)
    assert controller.result_layer not in (first, empty)
    np.testing.assert_array_equal(first.data, held)


def test_models_planes_and_contrast(viewer, open_widget, canvas: Canvas, coins, centres) -> None:
    stack = np.stack([coins, coins[::-1, ::-1]])
    image = viewer.add_image(stack, name="stack", rgb=False)
    viewer.dims.set_point(0, 0)
    controller = open_widget(image=image).controller
    viewer.reset_view()
    settle(controller)
    canvas.click(image, (0, *centres[3]))
    settle(controller)
    canvas.key(Qt.Key.Key_N)
    accepted = controller.labels.copy()
    canvas.click(image, (0, *centres[12]))
    settle(controller)
    viewer.dims.set_point(0, 1)
    settle(controller)
    assert len(points_of(controller)) == 1
    controller.set_model(ModelChoice("nano", "cpu"))
    settle(controller)
    image.contrast_limits = (10, 240)
    settle(controller)
    viewer.dims.set_point(0, 0)
    settle(controller)
    assert len(points_of(controller)) == 1
    np.testing.assert_array_equal(controller.labels == 1, accepted == 1)
    assert (controller.labels[0] == 2).any()
    assert controller.document.current.id == 2


def test_closing_and_opening_again_goes_on(
    widget: SegmentWidget, open_widget, canvas: Canvas, centres
) -> None:
    controller = widget.controller
    viewer, image = controller.viewer, controller.image
    canvas.click(image, centres[3])
    settle(controller)
    canvas.key(Qt.Key.Key_N)
    canvas.click(image, centres[12])
    settle(controller)
    before = controller.labels.copy()
    labels, objects = controller.result_layer, controller.document.objects
    viewer.window.remove_dock_widget(widget)
    np.testing.assert_array_equal(labels.data, before)
    again = open_widget(image=image).controller
    settle(again)
    assert again.result_layer is labels
    assert again.document.objects == objects
    assert len(points_of(again)) == 1
    canvas.double_click(image, centres[3])
    settle(again)
    assert again.document.current.id == 1
    assert len(points_of(again)) == 1
    np.testing.assert_array_equal(again.labels, before)
