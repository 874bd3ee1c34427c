"""Stacks, axes in any order, scale and units, colours: the object lands where it was clicked."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import Canvas, coin, iou, settle, turn
from napari.layers import Image

from napari_sam.annotation import Plane
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def session(viewer, open_widget):
    """Opens the widget on an image."""

    def start(image, **options):
        if not isinstance(image, Image):
            image = viewer.add_image(image, name="image", **options)
        turn()
        widget: SegmentWidget = open_widget(image=image)
        viewer.reset_view()
        settle(widget.controller)
        return widget.controller

    return start


def test_scale_translate_rotate_and_units(session, canvas: Canvas, coins, centres, true_coins) -> None:
    transform = {"scale": (0.25, 0.5), "translate": (100, -30), "rotate": 25, "units": ("um", "um")}
    controller = session(coins, **transform)
    canvas.click(controller.image, centres[5])
    settle(controller)
    assert iou(controller.labels > 0, coin(true_coins, centres[5])) > 0.7
    labels = controller.result_layer
    for name in ("scale", "translate", "rotate", "shear", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(controller.image, name))
    assert controller.image.scale.tolist() == [0.25, 0.5]


def test_moving_the_image_moves_the_prompts_with_it(session, coins) -> None:
    controller = session(coins)
    controller.image.translate = (7, 8)
    controller.image.scale = (2, 3)
    for layer in (controller.session.prompts.points, controller.session.prompts.shapes):
        np.testing.assert_array_equal(layer.translate, (7, 8))
        np.testing.assert_array_equal(layer.scale, (2, 3))


def test_planes_of_a_stack_share_an_object(
    viewer, session, canvas: Canvas, coins, centres, true_coins
) -> None:
    stack = np.stack([coins, coins[::-1, ::-1], coins])
    controller = session(stack)
    first, second = centres[5], centres[12]
    viewer.dims.set_point(0, 0)
    canvas.click(controller.image, (0, *first))
    settle(controller)
    viewer.dims.set_point(0, 2)
    settle(controller)
    assert "no prompts on this plane" in controller.status
    canvas.click(controller.image, (2, *second))
    settle(controller)
    controller.accept()
    viewer.dims.set_point(0, 0)
    settle(controller)
    labels = controller.labels
    assert labels.shape == stack.shape
    assert set(np.unique(labels)) == {0, 1}
    assert iou(labels[0] > 0, coin(true_coins, first)) > 0.7
    assert not labels[1].any()
    assert iou(labels[2] > 0, coin(true_coins, second)) > 0.7
    (item,) = controller.session.document.objects
    assert set(item.masks) == {Plane((0, None, None)), Plane((2, None, None))}


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
def test_any_order_of_axes(
    viewer, session, canvas: Canvas, coins, centres, true_coins, order: tuple[int, int, int]
) -> None:
    """The coins are the middle plane of a thin stack, whose axes lie so that the order shows them."""
    middle, sides = order[0], sorted(order[1:])
    data = np.moveaxis(np.stack([np.zeros_like(coins), coins, np.zeros_like(coins)]), 0, middle)
    image = viewer.add_image(data, name="image", rgb=False)
    viewer.dims.order = order
    viewer.dims.set_point(middle, 1)
    controller = session(image)
    at = np.ones(3)
    at[sides] = centres[5]
    canvas.click(image, at)
    settle(controller)
    result = np.moveaxis(controller.labels, middle, 0)
    assert iou(result[1] > 0, coin(true_coins, centres[5])) > 0.7
    assert not result[[0, 2]].any()
    current = controller.session.document.current
    (plane,) = current.prompts
    assert plane.axes == tuple(sides)
    assert set(current.answers) == {plane}
    # Pixels are kept on planes of the last two axes, whichever plane was prompted.
    assert {plane.axes for plane in current.masks} == {(1, 2)}


def test_rgb(session, canvas: Canvas, coins, centres, true_coins) -> None:
    tinted = np.stack([coins, coins, coins // 2, np.full_like(coins, 255)], axis=-1)
    controller = session(tinted, rgb=True)
    canvas.click(controller.image, centres[5])
    settle(controller)
    assert controller.labels.shape == coins.shape
    assert iou(controller.labels > 0, coin(true_coins, centres[5])) > 0.7


def test_a_channel_axis_is_a_slider(viewer, session, canvas: Canvas, coins, centres, true_coins) -> None:
    controller = session(np.stack([np.zeros_like(coins), coins]))
    viewer.dims.set_point(0, 1)
    settle(controller)
    canvas.click(controller.image, (1, *centres[5]))
    settle(controller)
    assert iou(controller.labels[1] > 0, coin(true_coins, centres[5])) > 0.7


def test_multiscale_and_dask(session, canvas: Canvas, coins, centres, true_coins) -> None:
    dask_array = pytest.importorskip("dask.array")
    levels = [dask_array.from_array(coins), dask_array.from_array(coins[::2, ::2])]
    controller = session(levels, multiscale=True)
    canvas.click(controller.image, centres[5])
    settle(controller)
    assert iou(controller.labels > 0, coin(true_coins, centres[5])) > 0.7


def test_an_image_with_fewer_axes_than_the_viewer(
    viewer, session, canvas, coins, centres, true_coins
) -> None:
    viewer.add_image(np.zeros((4, *coins.shape), dtype=np.uint8), name="other")
    controller = session(coins)
    viewer.dims.set_point(0, 2)
    settle(controller)
    canvas.click(controller.image, centres[5])
    settle(controller)
    assert controller.labels.shape == coins.shape
    assert iou(controller.labels > 0, coin(true_coins, centres[5])) > 0.7


def test_in_3d_display_it_says_what_to_do(viewer, session, coins) -> None:
    controller = session(np.stack([coins] * 3))
    viewer.dims.ndisplay = 3
    assert "switch to 2D display" in controller.status
    viewer.dims.ndisplay = 2
    settle(controller)
    assert "Click an object" in controller.status


def test_contrast_limits_are_what_the_model_sees(session, canvas: Canvas, coins, centres) -> None:
    controller = session(coins)
    canvas.click(controller.image, centres[5])
    settle(controller)
    before = controller.labels.copy()
    assert before.any()
    controller.image.contrast_limits = (250, 255)
    settle(controller)
    dark = controller.labels.copy()
    assert not np.array_equal(before, dark)
    controller.image.contrast_limits = (0, 255)
    settle(controller)
    np.testing.assert_array_equal(controller.labels, before)
    controller.image.gamma = 2
    settle(controller)
    assert not np.array_equal(controller.labels, before)
