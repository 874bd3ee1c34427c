"""The table and the canvas in step: a picked label selects its row, a selected row outlines its object."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import Canvas, settle, turn
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from scipy import ndimage

from napari_sam.ui.object_columns import SIZE
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def three(widget: SegmentWidget, centres) -> SegmentWidget:
    """Three coins that are objects."""
    controller = widget.controller
    controller.viewer.add_points(np.asarray(centres[10:13]), name="seeds")
    controller.segment_each(controller.viewer.layers["seeds"])
    settle(controller)
    controller.viewer.layers.remove("seeds")
    assert len(controller.document.objects) == 3
    return widget


def outlined(widget: SegmentWidget) -> np.ndarray:
    """The pixels inside the outlines that are shown, holes included; none without the layer."""
    controller = widget.controller
    name = f"{controller.image.name}: selected"
    if name not in controller.viewer.layers:
        return np.zeros(controller.labels.shape, dtype=bool)
    outlines = np.asarray(controller.viewer.layers[name].data) > 0
    filled = ndimage.binary_fill_holes(outlines)
    assert outlines.sum() < filled.sum() / 2 or not filled.any()
    return np.asarray(filled)


def test_a_label_that_is_picked_selects_its_row(three: SegmentWidget, canvas: Canvas, centres) -> None:
    controller, table = three.controller, three.objects.table
    layer = controller.result_layer
    controller.viewer.layers.selection.active = layer
    layer.mode = "pick"
    turn()
    assert table.selected == []
    for at in centres[10:13]:
        canvas.click(layer, at)
        item = controller.document.object_at(np.round(at).astype(int))
        assert table.selected == [item.uid]
        np.testing.assert_array_equal(
            outlined(three), ndimage.binary_fill_holes(controller.labels == item.id)
        )
    # What nobody has.
    canvas.click(layer, (2, 2))
    assert table.selected == []
    assert not outlined(three).any()


def test_a_row_that_is_selected_outlines_its_object(three: SegmentWidget, canvas: Canvas) -> None:
    controller, table = three.controller, three.objects.table
    first, second = controller.document.objects[:2]
    camera = controller.viewer.scene.camera
    before = camera.center
    view = table.view
    for row, modifier in ((0, Qt.KeyboardModifier.NoModifier), (1, Qt.KeyboardModifier.ControlModifier)):
        spot = view.visualRect(view.model().index(row, 0)).center()
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, modifier, spot)
    turn()
    assert table.selected == [first.uid, second.uid]
    assert camera.center != before
    both = np.isin(controller.labels, (first.id, second.id))
    np.testing.assert_array_equal(outlined(three), ndimage.binary_fill_holes(both))
    # The outlines follow the objects, and are nothing to segment.
    assert controller.only_shows(controller.viewer.layers["coins: selected"])
    QTest.keyClick(view, Qt.Key.Key_Delete)
    settle(controller)
    assert len(controller.document.objects) == 1
    assert not outlined(three).any()
    controller.undo()
    settle(controller)
    assert len(controller.document.objects) == 3


def test_facts_in_the_table_are_those_of_the_mask(viewer, open_widget, coins, centres) -> None:
    image = viewer.add_image(coins, name="coins", scale=(0.5, 0.5), units=("um", "um"))
    widget = open_widget(image=image)
    controller, table = widget.controller, widget.objects.table
    controller.add_point(centres[12])
    settle(controller)
    mask = controller.labels == 1
    (row,) = table.rows
    rows, columns = np.nonzero(mask)
    assert row.area == mask.sum()
    assert row.size == mask.sum() / 4
    assert row.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert row.planes == 1
    assert not table.view.isColumnHidden(SIZE)
    table.select([row.uid])
    assert f",{row.area},{row.size},µm²," in table.csv()
    # Another scale is another size.
    image.scale = (1, 1)
    controller.changed.emit()
    assert table.rows[0].size == row.area
