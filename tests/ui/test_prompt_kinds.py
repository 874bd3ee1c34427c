"""Scribbles, lassos and candidates, drawn and chosen with mouse and keys."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import CTRL, LEFT, RIGHT, Canvas, coin, iou, points_of, settle, shapes_of
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def ring(at, radius: float, count: int = 12) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.asarray(at) + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)


def test_a_scribble_selects_what_it_runs_through(
    widget: SegmentWidget, canvas: Canvas, centres, true_coins
) -> None:
    controller, at = widget.controller, np.asarray(centres[5])
    canvas.key(Qt.Key.Key_U)
    assert controller.tool == "scribble"
    assert widget.current.scribble_button.isChecked()
    canvas.drag(controller.image, at - (8, 10), np.add(at, (6, 0)), at - (4, -10))
    settle(controller)
    assert shapes_of(controller) == ["scribble"]
    assert controller.document.undo_text == "Add scribble"
    (prompts,) = controller.document.current.prompts.values()
    (scribble,) = prompts.scribbles
    assert scribble.label == 1
    assert len(scribble.path) >= 3
    assert iou(controller.labels > 0, coin(true_coins, at)) > 0.7
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert shapes_of(controller) == []
    assert not controller.labels.any()
    canvas.key(Qt.Key.Key_U)
    assert controller.tool == "positive"


@pytest.mark.parametrize("how", ["ctrl", "right", "key"])
def test_a_negative_scribble_cuts(on_coins: Controller, canvas: Canvas, centres, how: str) -> None:
    first, second = np.asarray(centres[3]), np.asarray(centres[4])
    on_coins.set_tool("box")
    canvas.drag(on_coins.image, np.minimum(first, second) - 28, np.maximum(first, second) + 28)
    on_coins.set_tool("scribble")
    canvas.drag(on_coins.image, first - (0, 8), np.add(first, (0, 8)))
    canvas.drag(on_coins.image, second - (0, 8), np.add(second, (0, 8)))
    settle(on_coins)
    assert on_coins.labels[round(second[0]), round(second[1])]
    on_coins.undo()
    options = {"ctrl": {"modifier": CTRL}, "right": {"button": RIGHT}, "key": {}}[how]
    if how == "key":
        canvas.key(Qt.Key.Key_Q)
        assert on_coins.tool == "scribble"
    canvas.drag(on_coins.image, second - (0, 8), np.add(second, (0, 8)), **options)
    settle(on_coins)
    shapes = on_coins.session.prompts.shapes
    drawn = list(zip(shapes_of(on_coins), shapes.features["polarity"], strict=True))
    assert sorted(drawn) == [("box", "positive"), ("scribble", "negative"), ("scribble", "positive")]
    red, green = shapes.edge_color[:, 0], shapes.edge_color[:, 1]
    assert (red > green).tolist() == [polarity == "negative" for _, polarity in drawn]
    assert on_coins.labels[round(first[0]), round(first[1])]
    assert not on_coins.labels[round(second[0]), round(second[1])]


def test_a_lasso_selects_what_it_goes_around(
    on_coins: Controller, canvas: Canvas, centres, true_coins
) -> None:
    canvas.key(Qt.Key.Key_O)
    assert on_coins.tool == "lasso"
    for at in (centres[5], centres[12]):
        around = ring(at, 27)
        canvas.drag(on_coins.image, *around, around[0], steps=2)
        settle(on_coins)
        assert shapes_of(on_coins) == ["lasso"]
        assert iou(on_coins.labels > 0, coin(true_coins, at)) > 0.7
    canvas.key(Qt.Key.Key_N)
    assert shapes_of(on_coins) == []
    canvas.double_click(on_coins.image, centres[12])
    settle(on_coins)
    assert on_coins.document.current.id == 1
    assert shapes_of(on_coins) == ["lasso"]
    canvas.key(Qt.Key.Key_O)
    canvas.click(on_coins.image, np.add(centres[12], (24, 24)), modifier=CTRL)
    settle(on_coins)
    (prompts,) = on_coins.document.current.prompts.values()
    assert prompts.lasso is not None
    assert prompts.labels.tolist() == [0]


@pytest.mark.parametrize("tool", ["box", "scribble", "lasso"])
def test_a_mere_click_draws_nothing(on_coins: Controller, canvas: Canvas, centres, tool: str) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    before = on_coins.labels.copy()
    on_coins.set_tool(tool)
    canvas.click(on_coins.image, centres[12])
    settle(on_coins)
    assert shapes_of(on_coins) == []
    assert on_coins.document.undo_text == "Add point"
    np.testing.assert_array_equal(on_coins.labels, before)
    # And the tool still draws.
    at = np.asarray(centres[12])
    stops = ring(at, 27) if tool == "lasso" else (at - 15, at + 15)
    canvas.drag(on_coins.image, *stops)
    settle(on_coins)
    assert shapes_of(on_coins) == [tool]


def test_several_kinds_are_one_object(on_coins: Controller, canvas: Canvas, centres, true_coins) -> None:
    at = np.asarray(centres[5])
    canvas.click(on_coins.image, at)
    on_coins.set_tool("scribble")
    canvas.drag(on_coins.image, at - (5, 8), at - (5, -8))
    on_coins.set_tool("box")
    canvas.drag(on_coins.image, at - 25, at + 25)
    settle(on_coins)
    (prompts,) = on_coins.document.current.prompts.values()
    assert len(prompts.points) == len(prompts.scribbles) == 1
    assert prompts.box is not None
    assert iou(on_coins.labels > 0, coin(true_coins, at)) > 0.75
    assert len(on_coins.document.objects) == 1


def test_candidates_by_key_and_by_picture(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller, row = widget.controller, widget.current.candidates
    assert not row.isVisible()
    canvas.click(controller.image, centres[5])
    settle(controller)
    (answer,) = controller.document.current.answers.values()
    masks = [mask.to_array() for mask, _ in answer.candidates]
    assert len(masks) == 3
    assert row.isVisible()
    assert [button.text() for button in row.buttons] == [f"{score:.2f}" for _, score in answer.candidates]
    for turn_ in range(1, 4):
        canvas.key(Qt.Key.Key_C)
        chosen = (answer.chosen + turn_) % 3
        np.testing.assert_array_equal(controller.labels > 0, masks[chosen])
        assert [button.isChecked() for button in row.buttons] == [i == chosen for i in range(3)]
    for number in (2, 0, 1):
        QTest.mouseClick(row.buttons[number], LEFT)
        np.testing.assert_array_equal(controller.labels > 0, masks[number])
    # The choice is part of the object, for as long as its prompts are these.
    canvas.key(Qt.Key.Key_N)
    assert not row.isVisible()
    canvas.double_click(controller.image, centres[5])
    settle(controller)
    np.testing.assert_array_equal(controller.labels > 0, masks[1])
    assert row.isVisible()
    canvas.click(controller.image, np.add(centres[5], 5))
    settle(controller)
    assert len(points_of(controller)) == 2
    controller.reject()
    canvas.key(Qt.Key.Key_C)
    assert "one mask only" in controller.status


def test_refining_takes_the_mask_as_prompt(
    widget: SegmentWidget, canvas: Canvas, centres, true_coins
) -> None:
    controller = widget.controller
    assert not widget.current.refine_button.isEnabled()
    canvas.click(controller.image, centres[5])
    settle(controller)
    before = controller.labels > 0
    widget.current.refine_button.click()
    settle(controller)
    (prompts,) = controller.document.current.prompts.values()
    np.testing.assert_array_equal(prompts.mask.to_array(), before)
    assert points_of(controller) == []
    assert iou(controller.labels > 0, coin(true_coins, centres[5])) > 0.7
    canvas.click(controller.image, np.add(centres[5], 3))
    settle(controller)
    (prompts,) = controller.document.current.prompts.values()
    assert prompts.mask is not None
    assert len(prompts.points) == 1
