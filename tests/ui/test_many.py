"""An object for each point, box or label of another layer, in one step."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, Canvas, check, coin, iou, settle
from qtpy.QtCore import Qt

from napari_sam.annotation import Source
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def choose(widget: SegmentWidget, layer_name: str) -> None:
    """What a click on a line of the menu does."""
    menu = widget.objects.each_menu
    menu.aboutToShow.emit()
    (action,) = [action for action in menu.actions() if layer_name in action.text()]
    action.trigger()


def good(controller: Controller, true_coins, centres) -> int:
    """How many coins have an object of their own that fits them."""
    labels = controller.labels
    found = [(labels[round(row), round(column)], (row, column)) for row, column in centres]
    return sum(n > 0 and iou(labels == n, coin(true_coins, at)) > 0.7 for n, at in found)


def test_each_point_is_an_object(widget: SegmentWidget, canvas: Canvas, centres, true_coins) -> None:
    controller = widget.controller
    menu = widget.objects.each_menu
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["Add a Points, Shapes or Labels layer first"]
    canvas.click(controller.image, centres[0])
    settle(controller)
    controller.viewer.add_points(np.asarray(centres), name="seeds")
    choose(widget, "seeds")
    settle(controller)
    document = controller.document
    assert document.undo_text == f"Segment {len(centres)} points"
    added = [item for item in document.objects if item.accepted]
    # The first coin belongs to the object that was clicked, but perhaps for a few pixels at its edge.
    assert len(centres) - 1 <= len(added) <= len(centres)
    assert {item.source for item in added} == {Source.CLICKED}
    assert document.current.id == 1  # is still the one that was clicked
    assert good(controller, true_coins, centres[1:]) >= len(centres) - 3
    assert len(widget.objects.table.rows) == len(added) + 1
    check(controller)
    controller.viewer.layers.selection.active = controller.result_layer
    canvas.key(Qt.Key.Key_Z, CTRL)
    assert len(document.objects) == 1
    assert set(np.unique(controller.labels)) == {0, 1}
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert not controller.labels.any()


def test_each_shape_and_each_label_is_an_object(
    widget: SegmentWidget, canvas: Canvas, centres, true_coins
) -> None:
    controller, viewer = widget.controller, widget.controller.viewer
    boxes = [[np.subtract(at, 25), np.add(at, 25)] for at in centres[10:14]]
    viewer.add_shapes(boxes, name="boxes", shape_type="rectangle")
    choose(widget, "boxes")
    settle(controller)
    assert controller.document.undo_text == "Segment 4 boxes"
    assert good(controller, true_coins, centres[10:14]) == 4
    controller.undo()
    rough = np.where(np.indices(true_coins.shape)[0] > 150, true_coins, 0)
    viewer.add_labels(rough, name="rough")
    choose(widget, "rough")
    settle(controller)
    count = len(np.unique(rough)) - 1
    assert controller.document.undo_text == f"Segment {count} labels"
    assert {item.source for item in controller.document.objects} == {Source.IMPORTED}
    assert all(p.mask is not None for item in controller.document.objects for p in item.prompts.values())
    np.testing.assert_array_equal(viewer.layers["rough"].data, rough)
    inside = [at for at in centres if at[0] > 180]
    assert good(controller, true_coins, inside) >= len(inside) - 2
    # One of them, opened again, begins with its label.
    controller.set_tool("positive")
    canvas.double_click(controller.image, inside[0])
    settle(controller)
    assert not controller.document.current.accepted
    check(controller)


def test_points_of_another_scale_and_outside(widget: SegmentWidget, centres, true_coins) -> None:
    controller, viewer = widget.controller, widget.controller.viewer
    seeds = np.asarray([*centres[:6], (-40.0, 10.0)]) / 0.5
    viewer.add_points(seeds, name="seeds", scale=(0.5, 0.5))
    choose(widget, "seeds")
    settle(controller)
    assert len(controller.document.objects) == 6
    assert "1 of 7 points" in controller.status
    assert good(controller, true_coins, centres[:6]) >= 5
    viewer.add_points(np.empty((0, 2)), name="empty")
    choose(widget, "empty")
    assert "no points in 'empty'" in controller.status
    viewer.add_labels(np.zeros((7, 7), dtype=np.int32), name="small")
    choose(widget, "small")
    assert "shape (7, 7)" in controller.status
    assert len(controller.document.objects) == 6


def test_points_on_several_planes(viewer, open_widget, coins, centres, true_coins) -> None:
    stack = np.stack([coins, coins[::-1, ::-1]])
    image = viewer.add_image(stack, name="stack", rgb=False)
    widget = open_widget(image=image)
    controller = widget.controller
    settle(controller)
    end = np.subtract(coins.shape, 1)
    seeds = [(0, *centres[5]), (1, *(end - centres[5])), (1, *(end - centres[12]))]
    viewer.add_points(np.asarray(seeds), name="seeds")
    choose(widget, "seeds")
    settle(controller)
    labels = controller.labels
    assert len(controller.document.objects) == 3
    assert iou(labels[0] > 0, coin(true_coins, centres[5])) > 0.7
    both = coin(true_coins, centres[5]) | coin(true_coins, centres[12])
    assert iou(labels[1] > 0, both[::-1, ::-1]) > 0.7


def test_a_class_that_is_chosen_is_that_of_all(on_coins: Controller, centres) -> None:
    on_coins.set_class(on_coins.add_class("penny"))
    on_coins.viewer.add_points(np.asarray(centres[:5]), name="seeds")
    on_coins.segment_each(on_coins.viewer.layers["seeds"])
    settle(on_coins)
    assert [item.class_id for item in on_coins.document.objects] == [1] * 5


def test_labels_of_several_levels(widget: SegmentWidget, true_coins, centres) -> None:
    controller = widget.controller
    levels = [true_coins[: s * (true_coins.shape[0] // s) : s, ::s] for s in (1, 2)]
    controller.viewer.add_labels(levels, name="pyramid", multiscale=True)
    choose(widget, "pyramid")
    settle(controller)
    assert controller.document.undo_text == f"Segment {len(np.unique(true_coins)) - 1} labels"
    assert good(controller, true_coins, centres) >= len(centres) - 3


def test_two_requests_at_once_are_both_done(viewer, open_widget, coins, centres) -> None:
    """The second one does not replace the first, which may still wait for the model."""
    viewer.add_image(coins, name="coins")
    controller = open_widget().controller
    for name, seeds in ("one", centres[3:5]), ("two", centres[12:14]):
        controller.segment_each(viewer.add_points(np.asarray(seeds), name=name))
    settle(controller)
    assert len(controller.document) == 4
    check(controller)
