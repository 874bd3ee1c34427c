"""The mask that a click would give, under a real mouse, with the real model."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, Canvas, coin, iou, points_of, settle, turn, until
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam.annotation import Answer, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

PATIENCE = 30


def previewed(controller: Controller) -> NDArray[np.uint8]:
    """The displayed plane in the preview: 1 where a click would add, 2 where it would cut."""
    layer = controller._hovering.layer.layer
    if layer is None or not layer.visible:
        row, column = controller.session.plane.axes
        return np.zeros((controller.session.shape[row], controller.session.shape[column]), dtype=np.uint8)
    return np.squeeze(layer.data)


def at(controller: Controller, where) -> int:
    return int(previewed(controller)[round(where[0]), round(where[1])])


def hover(controller: Controller, canvas: Canvas, where, **options) -> None:
    canvas.hover(controller.image, where, **options)
    until(lambda: at(controller, where), PATIENCE)


def nothing(controller: Controller) -> bool:
    return not previewed(controller).any()


def test_it_appears_follows_and_goes(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    assert nothing(on_coins)
    layers = [layer.name for layer in on_coins.viewer.layers]
    for where in (centres[3], centres[12], centres[5]):
        hover(on_coins, canvas, where)
        assert iou(previewed(on_coins) > 0, coin(true_coins, where)) > 0.7
    assert on_coins.document.current.is_empty
    assert on_coins.document.undo_text == ""
    assert points_of(on_coins) == []
    assert "Click an object" in on_coins.status
    canvas.leave()
    until(lambda: nothing(on_coins), PATIENCE)
    preview = on_coins._hovering.layer.layer
    assert [layer.name for layer in on_coins.viewer.layers if layer is not preview] == layers
    assert on_coins.viewer.layers.selection.active is on_coins.session.prompts.points
    assert not preview.editable


def test_a_click_gives_what_was_shown(on_coins: Controller, canvas: Canvas, centres) -> None:
    for number, where in enumerate((centres[3], centres[12]), 1):
        hover(on_coins, canvas, where)
        shown = previewed(on_coins) == 1
        canvas.click(on_coins.image, where)
        settle(on_coins)
        others = (on_coins.labels > 0) & (on_coins.labels != number)
        np.testing.assert_array_equal(on_coins.labels == number, shown & ~others)
        assert len(points_of(on_coins)) == 1
        assert nothing(on_coins)
        canvas.key(Qt.Key.Key_N)


def test_a_mask_that_is_empty_here_is_no_prompt(on_coins: Controller, canvas: Canvas, centres) -> None:
    nothing_there = Answer(((Mask.empty(on_coins.session.shape), None),))
    draft = SamObject(0, 0, base={on_coins.session.plane: nothing_there})
    (item,) = on_coins.document.add_objects([draft])
    on_coins.open_object(item.uid)
    hover(on_coins, canvas, centres[3])
    shown = previewed(on_coins) == 1
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels == item.id, shown)


def test_clicks_between_moves_are_all_there(on_coins: Controller, canvas: Canvas, centres) -> None:
    for where in centres[:8]:
        canvas.hover(on_coins.image, np.add(where, 2))
        canvas.click(on_coins.image, where)
        canvas.hover(on_coins.image, np.add(where, 4))
        canvas.key(Qt.Key.Key_N)
    settle(on_coins)
    assert [item.id for item in on_coins.document.objects] == list(range(1, 9))
    assert all(item.area > 100 for item in on_coins.document.objects)
    assert all(len(one.points) == 1 for item in on_coins.document.objects for one in item.prompts.values())


def test_with_ctrl_it_shows_what_a_cut_would_leave(on_coins: Controller, canvas: Canvas, centres) -> None:
    first, second = np.asarray(centres[3]), np.asarray(centres[4])
    on_coins.set_tool("box")
    canvas.drag(on_coins.image, np.minimum(first, second) - 28, np.maximum(first, second) + 28)
    on_coins.set_tool("positive")
    canvas.click(on_coins.image, first)
    settle(on_coins)
    hover(on_coins, canvas, first - 5)
    assert set(np.unique(previewed(on_coins))) == {0, 1}
    canvas.hover(on_coins.image, second, modifier=CTRL)
    until(lambda: 2 in previewed(on_coins), PATIENCE)
    assert at(on_coins, second) == 0


def test_it_can_be_switched_off(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller, box = widget.controller, widget.current.preview_box
    hover(controller, canvas, centres[3])
    canvas.key(Qt.Key.Key_H)
    assert not box.isChecked()
    assert nothing(controller)
    canvas.hover(controller.image, centres[12])
    QTest.qWait(300)
    assert nothing(controller)
    canvas.key(Qt.Key.Key_H)
    assert box.isChecked()
    hover(controller, canvas, centres[5])
    box.click()
    assert nothing(controller)
    assert not controller.preview
    # Another image begins without it, too.
    other = controller.viewer.add_image(controller.image.data[::-1], name="other")
    controller.set_image(other)
    settle(controller)
    canvas.hover(other, (100, 100))
    QTest.qWait(300)
    assert nothing(controller)


def test_it_is_for_the_point_tools_alone(on_coins: Controller, canvas: Canvas, centres) -> None:
    hover(on_coins, canvas, centres[3])
    on_coins.set_tool("box")
    canvas.hover(on_coins.image, centres[12])
    until(lambda: nothing(on_coins), PATIENCE)
    on_coins.viewer.layers.selection.active = on_coins.image
    canvas.hover(on_coins.image, centres[5])
    QTest.qWait(300)
    assert nothing(on_coins)
    on_coins.set_tool("positive")
    hover(on_coins, canvas, centres[5])


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_axes_in_any_order(
    viewer, open_widget, canvas: Canvas, coins, centres, true_coins, order: tuple[int, int, int]
) -> None:
    middle, sides = order[0], sorted(order[1:])
    data = np.moveaxis(np.stack([coins, coins[::-1, ::-1]]), 0, middle)
    image = viewer.add_image(data, name="image", rgb=False)
    viewer.dims.order = order
    viewer.dims.set_point(middle, 0)
    controller = open_widget(image=image).controller
    viewer.reset_view()
    settle(controller)
    for plane, where in ((0, centres[5]), (1, np.subtract(np.subtract(coins.shape, 1), centres[5]))):
        viewer.dims.set_point(middle, plane)
        settle(controller)
        spot = np.full(3, float(plane))
        spot[sides] = where
        canvas.hover(image, spot)
        until(lambda where=where: at(controller, where), PATIENCE)
        target = true_coins if plane == 0 else true_coins[::-1, ::-1]
        assert iou(previewed(controller) > 0, coin(target, where)) > 0.7
        preview = controller._hovering.layer.layer
        np.testing.assert_allclose(
            preview.data_to_world(np.where(np.arange(3) == middle, 0, spot)), image.data_to_world(spot)
        )
    canvas.leave()
    turn()
