"""napari's own tools on the layer of objects, by mouse, and scripts that write there."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, SHIFT, Canvas, check, points_of, settle, until
from qtpy.QtCore import Qt

from napari_sam.annotation import Source
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

FREE = (287.0, 30.0), (287.0, 80.0)
"""A stroke below all coins."""


def brush(controller: Controller, mode: str, label: int, size: int = 7) -> None:
    labels = controller.session.ensure_labels()
    controller.viewer.layers.selection.active = labels
    labels.mode, labels.selected_label, labels.brush_size = mode, label, size


def test_a_stroke_is_an_object_of_its_own(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller = widget.controller
    document = controller.document
    brush(controller, "paint", 40)
    canvas.drag(controller.image, *FREE)
    settle(controller)
    painted = controller.labels == 40
    assert painted.sum() > 200
    (item,) = document.objects
    assert (item.id, item.source, item.accepted) == (40, Source.PAINTED, True)
    assert [row.source for row in widget.objects.table.rows] == ["painted"]
    assert widget.current.undo_button.text() == "Undo: paint"

    # Later objects leave it alone, even where they are told to overwrite.
    controller.set_overwrite(True)
    controller.add_box((240, 10), (300, 100))
    settle(controller)
    controller.accept()
    np.testing.assert_array_equal(controller.labels == 40, painted)
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert not controller.labels.any()
    assert document.objects == []
    canvas.key(Qt.Key.Key_Z, CTRL | SHIFT)
    np.testing.assert_array_equal(controller.labels == 40, painted)


def test_a_stroke_with_the_current_label_belongs_to_the_current_object(
    on_coins: Controller, canvas: Canvas, centres
) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    # The layer has the current object's label selected already.
    assert on_coins.result_layer.selected_label == 1
    brush(on_coins, "paint", 1)
    canvas.drag(on_coins.image, *FREE)
    settle(on_coins)
    assert len(on_coins.document.objects) == 1
    stroke = on_coins.labels[int(FREE[0][0])] == 1
    assert stroke[35:75].all()
    on_coins.set_tool("positive")
    canvas.click(on_coins.image, np.add(centres[3], 4))
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels[int(FREE[0][0])] == 1, stroke)
    canvas.key(Qt.Key.Key_Delete, SHIFT)
    settle(on_coins)
    assert not on_coins.labels.any()


def test_what_was_erased_stays_erased(on_coins: Controller, canvas: Canvas, centres) -> None:
    row, column = (round(at) for at in centres[3])
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    whole = on_coins.labels.copy()
    brush(on_coins, "erase", 1, size=5)
    canvas.drag(on_coins.image, (row, column - 6), (row, column + 6))
    settle(on_coins)
    erased = (whole == 1) & (on_coins.labels == 0)
    assert erased[row, column - 5 : column + 6].all()
    assert on_coins.document.undo_text == "Erase"
    on_coins.set_tool("positive")
    canvas.click(on_coins.image, (row + 8, column))
    settle(on_coins)
    assert on_coins.labels[row + 8, column] == 1
    assert not on_coins.labels[erased].any()
    canvas.key(Qt.Key.Key_N)
    canvas.double_click(on_coins.image, (row + 8, column))
    settle(on_coins)
    assert len(points_of(on_coins)) == 2
    canvas.click(on_coins.image, (row - 8, column))
    settle(on_coins)
    assert not on_coins.labels[erased].any()
    for _ in range(4):
        canvas.key(Qt.Key.Key_Z, CTRL)
    settle(on_coins)
    assert on_coins.document.undo_text == "Erase"
    canvas.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(on_coins.labels, whole)


def test_a_bucket_gives_an_object_to_another(on_coins: Controller, canvas: Canvas, centres) -> None:
    for at in centres[3:5]:
        canvas.click(on_coins.image, at)
        settle(on_coins)
        canvas.key(Qt.Key.Key_N)
    before = on_coins.labels.copy()
    brush(on_coins, "fill", 1)
    canvas.click(on_coins.image, centres[4])
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels > 0, before > 0)
    assert set(np.unique(on_coins.labels)) == {0, 1}
    assert on_coins.document.with_id(2) is None or on_coins.document.with_id(2).area == 0
    canvas.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(on_coins.labels, before)


def test_a_polygon_of_the_layer(on_coins: Controller, canvas: Canvas) -> None:
    brush(on_coins, "polygon", 7)
    for at in ((270, 20), (270, 80), (300, 80), (300, 20)):
        canvas.click(on_coins.image, at)
    canvas.double_click(on_coins.image, (300, 20))
    settle(on_coins)
    (item,) = on_coins.document.objects
    assert item.id == 7
    assert item.area > 1000
    check(on_coins)
    canvas.key(Qt.Key.Key_Z, CTRL)
    assert not on_coins.labels.any()


def test_a_stroke_while_the_mask_is_being_computed(on_coins: Controller, canvas: Canvas, centres) -> None:
    """The model answers between two moves of the brush."""
    labels = on_coins.session.ensure_labels()
    canvas.click(on_coins.image, centres[3])
    brush(on_coins, "paint", 40)
    row, column = centres[3]
    across = (
        canvas.pixel(on_coins.image, (row, column - 10)),
        canvas.pixel(on_coins.image, (row, column + 10)),
    )
    canvas.press(across[0])
    until(lambda: not on_coins.busy)
    assert (labels.data == 1).any()
    assert (labels.data == 40).any()
    canvas.move(across[1])
    canvas.release(across[1])
    settle(on_coins)
    assert (labels.data[round(row), round(column) - 10 : round(column) + 11] == 40).all()
    check(on_coins)
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(on_coins)
    assert not labels.data.any()


def test_another_array_and_edits_in_place(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    canvas.key(Qt.Key.Key_N)
    labels = on_coins.result_layer
    other = labels.data.copy()
    other[280:295, 20:60] = 77
    other[other == 1] = 0
    labels.data = other.copy()
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels, other)
    assert [item.id for item in on_coins.document.objects if item.masks] == [77]
    check(on_coins)
    on_coins.set_tool("positive")
    canvas.click(on_coins.image, centres[12])
    settle(on_coins)
    assert (on_coins.labels[280:295, 20:60] == 77).all()
    # Nobody tells of what a script does to the array; what comes later goes around it.
    row, column = (round(at) for at in centres[5])
    labels.data[row - 4 : row + 5, column - 4 : column + 5] = 99
    canvas.key(Qt.Key.Key_N)
    canvas.click(on_coins.image, (row, column + 8))
    settle(on_coins)
    assert (on_coins.labels[row - 4 : row + 5, column - 4 : column + 5] == 99).all()
    assert on_coins.document.with_id(99).area == 81
    check(on_coins)
