"""Mouse and keys on a real canvas, the real model, real pixels."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, RIGHT, SHIFT, Canvas, coin, iou, settle, turn
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam.ui.controller import Controller

pytestmark = pytest.mark.gui


def test_a_click_becomes_the_object_under_it(
    on_coins: Controller, canvas: Canvas, centres, true_coins
) -> None:
    for at in (centres[3], centres[-3]):
        canvas.click(on_coins.image, at)
        settle(on_coins)
        item = on_coins.session.document.current
        painted = on_coins.labels == item.id
        assert painted[round(at[0]), round(at[1])]
        assert iou(painted, coin(true_coins, at)) > 0.7
        on_coins.accept()


def test_choosing_an_image_prepares_its_layers(on_coins: Controller) -> None:
    layers = on_coins.viewer.layers
    assert [layer.name for layer in layers] == ["coins", "coins: shapes", "coins: points"]
    assert layers.selection.active is on_coins.session.prompts.points
    assert on_coins.tool == "positive"
    assert "Click an object" in on_coins.status


def test_the_colour_of_points_says_their_polarity(on_coins: Controller, canvas: Canvas, centres) -> None:
    points = on_coins.session.prompts.points
    canvas.click(on_coins.image, centres[3])
    canvas.click(on_coins.image, centres[4], modifier=CTRL)
    canvas.click(on_coins.image, centres[5], button=RIGHT)
    canvas.click(on_coins.image, centres[6])
    canvas.key(Qt.Key.Key_Q)
    canvas.click(on_coins.image, centres[7])
    canvas.click(on_coins.image, centres[8], modifier=CTRL)
    assert points.features["polarity"].tolist() == [
        "positive", "negative", "negative", "positive", "negative", "positive",
    ]  # fmt: skip
    green = points.face_color[:, 1] > points.face_color[:, 0]
    assert green.tolist() == [True, False, False, True, False, True]
    settle(on_coins)


def test_a_negative_point_takes_its_place_out_of_the_mask(
    on_coins: Controller, canvas: Canvas, centres
) -> None:
    first, second = centres[3], centres[4]
    low, high = np.minimum(first, second) - 30, np.maximum(first, second) + 30
    on_coins.add_box(low, high)
    settle(on_coins)
    canvas.click(on_coins.image, second)
    settle(on_coins)
    before = on_coins.labels.copy()
    assert before[round(second[0]), round(second[1])]
    on_coins.session.prompts.points.remove_selected()
    canvas.click(on_coins.image, first)
    canvas.click(on_coins.image, second, modifier=CTRL)
    settle(on_coins)
    assert on_coins.labels[round(first[0]), round(first[1])]
    assert not on_coins.labels[round(second[0]), round(second[1])]


def test_a_box_becomes_the_object_in_it(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    target = coin(true_coins, centres[5])
    rows, columns = np.flatnonzero(target.any(axis=1)), np.flatnonzero(target.any(axis=0))
    canvas.key(Qt.Key.Key_W)
    assert on_coins.tool == "box"
    canvas.drag(on_coins.image, (rows[0] - 2, columns[0] - 2), (rows[-1] + 2, columns[-1] + 2))
    settle(on_coins)
    assert iou(on_coins.labels > 0, target) > 0.75
    (prompts,) = on_coins.session.document.current.prompts.values()
    expected = [columns[0] - 2, rows[0] - 2, columns[-1] + 2, rows[-1] + 2]
    np.testing.assert_allclose(prompts.box, expected, atol=2)


def test_a_new_box_replaces_the_one_before(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    on_coins.set_tool("box")
    for at in (centres[3], centres[12]):
        canvas.drag(on_coins.image, np.subtract(at, 25), np.add(at, 25))
        settle(on_coins)
    assert len(on_coins.session.prompts.shapes.data) == 1
    assert iou(on_coins.labels > 0, coin(true_coins, centres[12])) > 0.7


def test_a_box_can_be_moved(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    on_coins.set_tool("box")
    start, stop = centres[3], centres[12]
    canvas.drag(on_coins.image, np.subtract(start, 25), np.add(start, 25))
    settle(on_coins)
    on_coins.session.prompts.shapes.mode = "select"
    assert on_coins.tool == ""
    canvas.drag(on_coins.image, start, stop)
    settle(on_coins)
    assert iou(on_coins.labels > 0, coin(true_coins, stop)) > 0.7
    assert not on_coins.labels[round(start[0]), round(start[1])]


def test_a_box_can_be_resized(on_coins: Controller, canvas: Canvas, centres) -> None:
    on_coins.set_tool("box")
    at = np.asarray(centres[3])
    canvas.drag(on_coins.image, at - 15, at + 15)
    on_coins.session.prompts.shapes.mode = "direct"
    canvas.drag(on_coins.image, at + 15, at + 30)
    settle(on_coins)
    (prompts,) = on_coins.session.document.current.prompts.values()
    np.testing.assert_allclose(prompts.box, [at[1] - 15, at[0] - 15, at[1] + 30, at[0] + 30], atol=3)


def test_a_click_with_the_box_tool_draws_nothing(on_coins: Controller, canvas: Canvas, centres) -> None:
    on_coins.set_tool("box")
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    assert len(on_coins.session.prompts.shapes.data) == 0
    assert on_coins.session.document.current.is_empty
    assert not on_coins.labels.any()


def test_a_point_can_be_moved_and_the_mask_follows_the_drag(
    on_coins: Controller, canvas: Canvas, centres, true_coins
) -> None:
    start, stop, last = centres[3], centres[12], centres[5]
    canvas.click(on_coins.image, start)
    settle(on_coins)
    on_coins.session.prompts.points.mode = "select"
    canvas.drag(on_coins.image, start, stop, release=False)
    settle(on_coins)
    assert iou(on_coins.labels > 0, coin(true_coins, stop)) > 0.7  # with the button still down
    canvas.move(canvas.pixel(on_coins.image, last))
    canvas.release(canvas.pixel(on_coins.image, last))
    settle(on_coins)
    assert iou(on_coins.labels > 0, coin(true_coins, last)) > 0.7


def test_deleting_the_point_deletes_the_mask(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    assert on_coins.labels.any()
    canvas.key(Qt.Key.Key_Delete)
    settle(on_coins)
    assert not on_coins.labels.any()
    assert on_coins.session.document.current.is_empty


def test_accept_and_reject(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    canvas.key(Qt.Key.Key_N)
    assert len(on_coins.session.prompts.points.data) == 0
    first = on_coins.labels.copy()
    assert set(np.unique(first)) == {0, 1}
    canvas.click(on_coins.image, centres[12])
    settle(on_coins)
    assert set(np.unique(on_coins.labels)) == {0, 1, 2}
    canvas.key(Qt.Key.Key_Delete, SHIFT)
    np.testing.assert_array_equal(on_coins.labels, first)
    assert len(on_coins.session.prompts.points.data) == 0
    canvas.click(on_coins.image, centres[5])
    settle(on_coins)
    assert set(np.unique(on_coins.labels)) == {0, 1, 2}
    (kept, _) = on_coins.session.document.objects
    assert kept.accepted
    assert sum(len(p.points) for p in kept.prompts.values()) == 1


def test_accepting_before_the_mask_is_there_keeps_it(
    on_coins: Controller, canvas: Canvas, centres, true_coins
) -> None:
    canvas.click(on_coins.image, centres[3])
    on_coins.accept()
    canvas.click(on_coins.image, centres[12])
    on_coins.accept()
    settle(on_coins)
    for number, at in ((1, centres[3]), (2, centres[12])):
        assert iou(on_coins.labels == number, coin(true_coins, at)) > 0.7


def test_rejecting_before_the_mask_is_there_drops_it(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.click(on_coins.image, centres[3])
    on_coins.reject()
    settle(on_coins)
    QTest.qWait(50)
    assert not on_coins.labels.any()


def test_labels_that_are_there_stay(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    viewer = on_coins.viewer
    target = coin(true_coins, centres[3])
    before = np.where(target & (np.arange(target.shape[1]) > centres[3][1]), 17, 0).astype(np.int32)
    mine = viewer.add_labels(before.copy(), name="mine")
    assert on_coins.set_result(mine)
    canvas.click(on_coins.image, (centres[3][0], centres[3][1] - 8))
    settle(on_coins)
    assert on_coins.labels is mine.data
    np.testing.assert_array_equal(mine.data == 17, before == 17)
    assert (mine.data == 18).any()
    on_coins.reject()
    np.testing.assert_array_equal(mine.data, before)


def test_the_image_is_not_touched(on_coins: Controller, canvas: Canvas, centres, coins) -> None:
    image = on_coins.image
    before = image.data.copy(), tuple(image.contrast_limits), image.gamma, tuple(image.scale)
    canvas.click(image, centres[3])
    canvas.key(Qt.Key.Key_N)
    settle(on_coins)
    np.testing.assert_array_equal(image.data, before[0])
    assert (tuple(image.contrast_limits), image.gamma, tuple(image.scale)) == before[1:]


def test_dragging_the_canvas_adds_no_point(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.drag(on_coins.image, centres[3], centres[12])
    turn()
    assert len(on_coins.session.prompts.points.data) == 0
