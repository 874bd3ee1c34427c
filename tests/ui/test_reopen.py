"""Objects that are opened again: by double click, from the table, imported ones."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, SHIFT, Canvas, coin, iou, points_of, settle, shapes_of, turn
from qtpy.QtCore import Qt

from napari_sam.annotation import Source
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def two(on_coins: Controller, canvas: Canvas, centres) -> Controller:
    """Object 1 with a point, a negative point and a box; object 2 with a point; both accepted."""
    image, at = on_coins.image, np.asarray(centres[3])
    on_coins.set_tool("box")
    canvas.drag(image, at - 25, at + 25)
    on_coins.set_tool("positive")
    canvas.click(image, at + 3)
    canvas.click(image, np.add(at, (24, 24)), modifier=CTRL)
    settle(on_coins)
    canvas.key(Qt.Key.Key_N)
    canvas.click(image, centres[12])
    settle(on_coins)
    canvas.key(Qt.Key.Key_N)
    return on_coins


def test_a_double_click_brings_the_prompts_back(two: Controller, canvas: Canvas, centres, true_coins) -> None:
    document, before = two.document, two.labels.copy()
    first = document.with_id(1)
    assert points_of(two) == []
    canvas.double_click(two.image, centres[3])
    settle(two)
    assert document.current.uid == first.uid
    assert [polarity for _, polarity in points_of(two)] == ["positive", "negative"]
    assert shapes_of(two) == ["box"]
    assert document.current.prompts == first.prompts
    np.testing.assert_array_equal(two.labels, before)
    assert len(document.objects) == 2
    assert document.undo_text == "Open object 1"
    assert "Object 1" in two.status

    # Going on changes this object only; rejecting goes back to where it was opened.
    canvas.click(two.image, centres[4])
    settle(two)
    changed = two.labels.copy()
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(changed == 2, before == 2)
    canvas.key(Qt.Key.Key_Delete, SHIFT)
    settle(two)
    np.testing.assert_array_equal(two.labels, before)
    assert document.with_id(1) == first
    assert points_of(two) == []

    canvas.double_click(two.image, centres[3])
    canvas.double_click(two.image, centres[12])
    settle(two)
    assert document.current.id == 2
    assert len(points_of(two)) == 1
    assert document.with_id(1).accepted
    np.testing.assert_array_equal(two.labels, before)
    canvas.key(Qt.Key.Key_N)
    canvas.click(two.image, centres[5])
    settle(two)
    assert document.current.id == 3


def test_a_double_click_keeps_what_is_being_done(two: Controller, canvas: Canvas, centres) -> None:
    """A new object with one point, and then a double click that adds none since another tool is active."""
    canvas.click(two.image, centres[5])
    settle(two)
    for layer in (two.image, two.result_layer, two.session.prompts.shapes):
        two.viewer.layers.selection.active = layer
        canvas.double_click(two.image, centres[3])
        settle(two)
        assert two.document.current.id == 1
        assert shapes_of(two) == ["box"]
        third = two.document.with_id(3)
        assert third is not None
        assert third.accepted
        assert [len(one.points) for one in third.prompts.values()] == [1]
        # napari itself zooms in where the mouse moves the camera.
        two.viewer.reset_view()
        canvas.double_click(two.image, centres[5])
        settle(two)
        two.viewer.reset_view()
        assert two.document.current.id == 3
    two.set_tool("positive")
    canvas.double_click(two.image, centres[3])
    settle(two)
    assert [len(one.points) for one in two.document.with_id(3).prompts.values()] == [1]


def test_a_double_click_while_the_mask_is_being_computed(two: Controller, canvas: Canvas, centres) -> None:
    canvas.click(two.image, centres[5])
    canvas.double_click(two.image, centres[12])
    settle(two)
    assert two.document.current.id == 2
    assert two.document.with_id(3).accepted
    assert two.document.with_id(3).area > 100


def test_a_double_click_on_the_current_object_or_on_nothing_opens_nothing(
    two: Controller, canvas: Canvas, centres
) -> None:
    canvas.double_click(two.image, centres[5])
    settle(two)
    assert two.document.current.id == 3
    assert len(points_of(two)) == 1
    canvas.double_click(two.image, centres[5])
    settle(two)
    assert two.document.current.id == 3
    assert set(np.unique(two.labels)) == {0, 1, 2, 3}


def test_a_row_of_the_table_opens_its_object(widget: SegmentWidget, two: Controller) -> None:
    table = widget.objects.table
    assert [row.state for row in table.rows] == ["accepted", "accepted"]
    index = table.view.model().index(0, 0)
    table.view.doubleClicked.emit(index)
    settle(two)
    assert two.document.current.id == 1
    assert len(points_of(two)) == 2
    assert [row.state for row in table.rows] == ["current", "accepted"]
    two.undo()
    assert [row.state for row in table.rows] == ["accepted", "accepted"]
    assert points_of(two) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_objects_on_other_planes_of_a_stack(
    viewer, open_widget, canvas: Canvas, coins, centres, order: tuple[int, int, int]
) -> None:
    middle = order[0]
    data = np.moveaxis(np.stack([coins, coins[::-1, ::-1], coins]), 0, middle)
    image = viewer.add_image(data, name="image", rgb=False)
    viewer.dims.order = order
    viewer.dims.set_point(middle, 0)
    controller = open_widget(image=image).controller
    viewer.reset_view()
    settle(controller)

    def on(plane: int, at: tuple[float, float]) -> np.ndarray:
        where = np.full(3, float(plane))
        where[sorted(order[1:])] = at
        return where

    canvas.click(image, on(0, centres[5]))
    settle(controller)
    controller.accept()
    viewer.dims.set_point(middle, 2)
    settle(controller)
    canvas.click(image, on(2, centres[12]))
    settle(controller)
    before = controller.labels.copy()
    viewer.dims.set_point(middle, 0)
    settle(controller)
    canvas.double_click(image, on(0, centres[5]))
    settle(controller)
    assert controller.document.current.id == 1
    ((at, _),) = points_of(controller)
    np.testing.assert_allclose(at, on(0, centres[5]), atol=2)
    np.testing.assert_array_equal(controller.labels, before)
    viewer.dims.set_point(middle, 2)
    settle(controller)
    canvas.double_click(image, on(2, centres[12]))
    settle(controller)
    assert controller.document.current.id == 2
    ((at, _),) = points_of(controller)
    np.testing.assert_allclose(at, on(2, centres[12]), atol=2)
    np.testing.assert_array_equal(controller.labels, before)


def test_imported_labels_are_objects_that_a_click_refines(
    widget: SegmentWidget, canvas: Canvas, centres, true_coins
) -> None:
    """Half of each coin, as from another program: a click on it makes it whole."""
    controller = widget.controller
    halves = np.where(np.indices(true_coins.shape)[1] % 2 < 2, true_coins, 0).astype(np.uint16)
    for at in centres:
        rows = np.arange(true_coins.shape[0])[:, np.newaxis]
        halves[coin(true_coins, at) & (rows > at[0] + 3)] = 0
    mine = controller.viewer.add_labels(halves.copy(), name="mine")
    assert controller.set_result(mine)
    settle(controller)
    document = controller.document
    numbers = np.unique(halves)[1:]
    assert [item.id for item in document.objects] == numbers.tolist()
    assert {item.source for item in document.objects} == {Source.IMPORTED}
    assert len(widget.objects.table.rows) == len(numbers)
    assert document.undo_text == ""

    at = centres[12]
    number = int(true_coins[round(at[0]), round(at[1])])
    whole = coin(true_coins, at)
    before = mine.data.copy()
    canvas.double_click(controller.image, (at[0] - 5, at[1]))
    settle(controller)
    assert document.current.id == number
    np.testing.assert_array_equal(mine.data, before)
    canvas.click(controller.image, (at[0] + 10, at[1]))
    settle(controller)
    (prompts,) = document.current.prompts.values()
    assert prompts.mask is not None
    assert iou(mine.data == number, whole) > iou(before == number, whole) + 0.1
    assert iou(mine.data == number, whole) > 0.85
    np.testing.assert_array_equal(np.where(before == number, 0, before)[~whole],
                                  np.where(mine.data == number, 0, mine.data)[~whole])  # fmt: skip
    canvas.key(Qt.Key.Key_Delete, SHIFT)
    settle(controller)
    np.testing.assert_array_equal(mine.data, before)
    assert document.with_id(number).source == Source.IMPORTED
    turn()
