"""Classes: by name, by key, for many objects, and their own layer."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, Canvas, check, settle, turn
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFocusEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def name_class(widget: SegmentWidget, name: str) -> None:
    """Type a name into the box of classes, and press Enter."""
    line = widget.current.class_combo.lineEdit()
    line.selectAll()
    QTest.keyClick(line, Qt.Key.Key_Delete)
    QTest.keyClicks(line, name)
    QTest.keyClick(line, Qt.Key.Key_Return)
    turn()


def test_classes_by_name_and_by_key(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller, combo = widget.controller, widget.current.class_combo
    document = controller.document
    canvas.click(controller.image, centres[3])
    settle(controller)
    name_class(widget, "penny")
    assert [one.name for one in document.classes] == ["penny"]
    assert document.current.class_id == 1
    assert widget.objects.table.rows[0].class_name == "penny"
    canvas.key(Qt.Key.Key_N)
    assert document.current.class_id == 1  # for those that follow, too
    name_class(widget, "dime")
    name_class(widget, "penny")  # is there already
    assert [one.name for one in document.classes] == ["penny", "dime"]
    canvas.click(controller.image, centres[12])
    settle(controller)
    assert combo.currentText() == "penny"

    canvas.key(Qt.Key.Key_8)
    assert "no class 8" in controller.status
    name_class(widget, "")
    assert document.current.class_id == 0
    for number in range(3, 10):
        name_class(widget, f"class {number}")
    # Layers use some of the digits themselves: images 1 and 2, points 1 to 5, shapes and labels 1 to 7.
    prompts = controller.session.prompts
    for layer, free in (
        (controller.image, "3456789"),
        (prompts.points, "6789"),
        (prompts.shapes, "89"),
        (controller.result_layer, "89"),
    ):
        controller.viewer.layers.selection.active = layer
        for digit in free:
            canvas.key(getattr(Qt.Key, f"Key_{digit}"))
            assert document.current.class_id == int(digit), layer.name
    assert combo.currentText() == "class 9"
    prompts.shapes.mode = "add_rectangle"
    controller.set_tool("positive")
    canvas.click(controller.image, np.add(centres[12], 4))
    assert len(prompts.points.data) == 2
    settle(controller)


def test_the_layer_of_classes_follows(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller = widget.controller
    document, button = controller.document, widget.objects.classes_button
    for at, name in ((centres[3], "penny"), (centres[4], "dime"), (centres[5], "penny")):
        canvas.click(controller.image, at)
        settle(controller)
        name_class(widget, name)
        canvas.key(Qt.Key.Key_N)
    button.click()
    assert button.isChecked()
    layer = controller.session.result.class_labels
    assert layer.visible
    assert not controller.result_layer.visible
    assert set(np.unique(layer.data)) == {0, 1, 2}
    for one in document.classes:
        np.testing.assert_allclose(layer.get_color(one.id), transform_color(one.colour)[0], atol=0.01)
    np.testing.assert_allclose(layer.get_color(0)[3] if layer.get_color(0) is not None else 0, 0)

    canvas.click(controller.image, centres[12])
    settle(controller)
    check(controller)
    name_class(widget, "quarter")
    assert layer.data[round(centres[12][0]), round(centres[12][1])] == 3
    np.testing.assert_allclose(layer.get_color(3), transform_color(document.classes[2].colour)[0], atol=0.01)
    controller.set_class(3, [document.with_id(1).uid, document.with_id(2).uid])
    assert document.undo_text == "Class of 2 objects: quarter"
    check(controller)
    assert set(np.unique(layer.data)) == {0, 1, 3}
    canvas.key(Qt.Key.Key_Z, CTRL)
    check(controller)
    assert set(np.unique(layer.data)) == {0, 1, 2, 3}
    button.click()
    assert not layer.visible
    assert controller.result_layer.visible

    # Deleted, it comes back when it is asked for.
    controller.viewer.layers.remove(layer)
    settle(controller)
    controller.add_point(centres[14])
    settle(controller)
    button.click()
    again = controller.session.result.class_labels
    assert again is not layer
    assert again in controller.viewer.layers
    check(controller)


def test_a_class_in_use_is_kept(on_coins: Controller, centres) -> None:
    on_coins.add_point(centres[3])
    settle(on_coins)
    on_coins.set_class(on_coins.add_class("penny"))
    on_coins.set_class(9)
    assert "There is no class 9" in on_coins.status
    on_coins.accept()
    on_coins.set_class(0)
    on_coins.add_point(centres[12])
    settle(on_coins)
    assert [item.class_id for item in on_coins.document.objects] == [1, 0]


def test_a_name_that_was_typed_is_the_class_without_enter(
    widget: SegmentWidget, canvas: Canvas, centres
) -> None:
    controller, line = widget.controller, widget.current.class_combo.lineEdit()
    QTest.keyClicks(line, "penny")
    # What Qt sends when one clicks on something else; without a window manager, no window has the focus.
    QApplication.sendEvent(line, QFocusEvent(QEvent.Type.FocusOut, Qt.FocusReason.MouseFocusReason))
    canvas.click(controller.image, centres[3])
    settle(controller)
    assert [one.name for one in controller.document.classes] == ["penny"]
    assert controller.document.current.class_id == 1
    assert widget.current.class_combo.currentText() == "penny"
