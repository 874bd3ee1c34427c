"""Undo and redo of everything, by keys and buttons, in whichever layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from canvas import CTRL, SHIFT, Canvas, check, points_of, settle, shapes_of, turn
from qtpy.QtCore import Qt

from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

Z = Qt.Key.Key_Z


def seen(controller: Controller) -> tuple[object, ...]:
    """Everything that undo may change, as a user sees it."""
    settle(controller)
    check(controller)
    labels = controller.result_layer
    document = controller.document
    return (
        None if labels is None or not labels.data.any() else labels.data.tobytes(),
        points_of(controller),
        shapes_of(controller),
        document.current.id,
        [(item.id, item.class_id, item.accepted, item.score) for item in document.objects],
        [one.name for one in document.classes],
    )


@pytest.mark.parametrize("active", ["coins", "coins: points", "coins: shapes", "coins: objects"])
def test_the_keys_work_whichever_layer_is_active(
    on_coins: Controller, canvas: Canvas, centres, active: str
) -> None:
    canvas.click(on_coins.image, centres[3])
    before = seen(on_coins)
    on_coins.viewer.layers.selection.active = on_coins.viewer.layers[active]
    canvas.key(Z, CTRL)
    settle(on_coins)
    assert not on_coins.labels.any()
    assert points_of(on_coins) == []
    assert on_coins.viewer.layers.selection.active.name == active
    canvas.key(Z, CTRL | SHIFT)
    assert seen(on_coins) == before
    canvas.key(Z, CTRL | SHIFT)  # nothing more to do
    assert seen(on_coins) == before


@pytest.mark.parametrize("active", ["coins: points", "coins: objects"])
def test_undo_while_the_mask_is_being_computed(
    on_coins: Controller, canvas: Canvas, centres, active: str
) -> None:
    canvas.click(on_coins.image, centres[12])
    before = seen(on_coins)
    on_coins.set_tool("positive")
    on_coins._work.requests.hold()
    canvas.click(on_coins.image, centres[3])
    assert on_coins.busy
    on_coins.viewer.layers.selection.active = on_coins.viewer.layers[active]
    canvas.key(Z, CTRL)
    on_coins._work.requests.release()
    assert seen(on_coins) == before
    canvas.key(Z, CTRL | SHIFT)
    settle(on_coins)
    assert len(points_of(on_coins)) == 2
    assert on_coins.document.current.answers
    assert not any(map(on_coins.document.current.is_stale, on_coins.document.current.prompts))
    canvas.key(Z, CTRL)
    assert seen(on_coins) == before


def test_undo_of_an_accepted_object_whose_mask_is_still_to_come(
    on_coins: Controller, canvas: Canvas, centres
) -> None:
    on_coins._work.requests.hold()
    canvas.click(on_coins.image, centres[3])
    canvas.key(Qt.Key.Key_N)
    canvas.key(Z, CTRL)
    assert on_coins.busy
    on_coins._work.requests.release()
    settle(on_coins)
    (item,) = on_coins.document.objects
    assert not item.accepted
    assert item.area > 100
    assert len(points_of(on_coins)) == 1
    canvas.key(Z, CTRL | SHIFT)
    settle(on_coins)
    assert on_coins.document.with_id(1).accepted
    assert on_coins.document.with_id(1).area == item.area


def test_everything_can_be_undone_and_done_again(
    widget: SegmentWidget, canvas: Canvas, centres, true_coins
) -> None:
    controller = widget.controller
    viewer, image, document = controller.viewer, controller.image, controller.document
    prompts = controller.session.prompts
    third, twelfth = np.asarray(centres[3]), np.asarray(centres[12])
    for name in ("two", "three"):
        viewer.add_points(np.asarray(centres[14:16] if name == "two" else centres[16:19]), name=name)
    controller.set_tool("positive")
    states = [seen(controller)]

    def step(text: str, *actions: Callable[[], object]) -> None:
        for action in actions:
            action()
        settle(controller)
        states.append(seen(controller))
        assert widget.current.undo_button.text() == f"Undo: {text[0].lower()}{text[1:]}"
        assert document.undo_text == text
        assert document.redo_text == ""
        assert not widget.current.redo_button.isEnabled()

    def objects() -> None:
        viewer.layers.selection.active = controller.result_layer

    def select() -> None:
        controller.set_tool("positive")
        prompts.points.mode = "select"

    def brush(mode: str, label: int) -> Callable[[], None]:
        def start() -> None:
            objects()
            controller.result_layer.mode = mode
            controller.result_layer.selected_label = label
            controller.result_layer.brush_size = 5

        return start

    def uid(number: int) -> int:
        return document.with_id(number).uid

    step("Add point", lambda: canvas.click(image, third))
    step("Add point", lambda: canvas.click(image, np.add(third, (40, 0)), modifier=CTRL))
    step("Move point", select, lambda: canvas.drag(image, third, np.add(third, (4, 4))))
    step(
        "Delete point",
        lambda: canvas.click(image, np.add(third, (40, 0))),
        lambda: canvas.key(Qt.Key.Key_Delete),
    )
    controller.set_tool("box")
    step("Add box", lambda: canvas.drag(image, third - 25, third + 25))
    step("Accept object 1", lambda: canvas.key(Qt.Key.Key_N))
    step("Add box", lambda: canvas.drag(image, twelfth - 25, twelfth + 25))
    step("Reject object 2", lambda: canvas.key(Qt.Key.Key_Delete, SHIFT))
    controller.set_tool("positive")
    step("Add point", lambda: canvas.click(image, twelfth))
    step("Choose another candidate", lambda: canvas.key(Qt.Key.Key_C))
    step("Accept object 2", lambda: canvas.key(Qt.Key.Key_N))
    step("Open object 1", lambda: canvas.double_click(image, third))
    step("Refine mask", widget.current.refine_button.click)
    step("Accept object 1", lambda: canvas.key(Qt.Key.Key_N))
    step("Change classes", lambda: controller.add_class("coin"))
    step("Class of object 2: coin", lambda: controller.set_class(1, [uid(2)]))
    step("Paint", brush("paint", 1), lambda: canvas.drag(image, (130, 20), (140, 40)))
    step("Erase", brush("erase", 1), lambda: canvas.drag(image, third - (0, 5), np.add(third, (0, 5))))
    step("Split object 1", lambda: controller.split_object(uid(1)))
    step("Paint", brush("fill", 9), lambda: canvas.click(image, twelfth))
    step("Merge 2 objects", lambda: controller.merge_objects([uid(1), uid(9)]))
    step("Delete object 1", lambda: controller.delete_objects([uid(1)]))
    step("Segment 2 points", lambda: controller.segment_each(viewer.layers["two"]))
    step("Segment 3 points", lambda: controller.segment_each(viewer.layers["three"]))

    end = len(states) - 1
    for number in range(end - 1, -1, -1):
        assert widget.current.undo_button.isEnabled()
        canvas.key(Z, CTRL)
        assert seen(controller) == states[number], f"after {document.redo_text} was undone"
    assert not widget.current.undo_button.isEnabled()
    assert widget.current.undo_button.text() == "Undo"
    assert document.redo_text == "Add point"
    for number in range(1, end + 1):
        widget.current.redo_button.click()
        assert seen(controller) == states[number], f"after {document.undo_text} was done again"
    assert not widget.current.redo_button.isEnabled()


def test_undo_of_nothing_says_so(on_coins: Controller, canvas: Canvas) -> None:
    canvas.key(Z, CTRL)
    assert on_coins.status == "There is nothing to undo."
    canvas.key(Z, CTRL | SHIFT)
    assert on_coins.status == "There is nothing to redo."


def test_a_drag_of_a_point_is_one_step(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.click(on_coins.image, centres[3])
    before = seen(on_coins)
    on_coins.session.prompts.points.mode = "select"
    canvas.drag(on_coins.image, centres[3], centres[4], steps=8)
    settle(on_coins)
    assert points_of(on_coins) != before[1]
    canvas.key(Z, CTRL)
    assert seen(on_coins) == before
    assert on_coins.document.undo_text == "Add point"
    turn()
