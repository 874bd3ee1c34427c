"""Layers that vanish, widgets that close, odd images: nothing lost, nothing left behind."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from canvas import PATIENCE, Canvas, iou, settle, turn, until
from napari.layers import Image, Labels
from napari.utils.action_manager import action_manager
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.annotation import Answer, Plane
from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.mask import Mask
from napari_sam.ui.controller import Controller

pytestmark = pytest.mark.gui


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("napari-sam")}


def segmented(controller: Controller, canvas: Canvas, at) -> np.ndarray:
    canvas.click(controller.image, at)
    settle(controller)
    labels = controller.labels.copy()
    assert labels.any()
    return labels


def test_no_layers_at_all(viewer, open_widget, coins) -> None:
    widget = open_widget()
    assert "Open an image" in widget.controller.status
    assert widget.source.sample_button.isVisible()
    assert not widget.current.accept_button.isEnabled()
    widget.controller.accept()
    widget.controller.reject()
    widget.controller.set_tool("box")
    with pytest.raises(ImageError, match="No image is chosen"):
        widget.controller.add_point((1, 1))
    widget.source.sample_button.click()
    turn()
    settle(widget.controller)
    assert widget.controller.image is viewer.layers["coins"]
    assert widget.controller.tool == "positive"
    assert not widget.source.sample_button.isVisible()
    assert "Click an object" in widget.current.status_label.text()


def test_removing_the_image_ends_its_session(on_coins: Controller, canvas: Canvas, centres) -> None:
    viewer = on_coins.viewer
    # Without any plugin, napari 0.9.2 crashes in software OpenGL when a Labels layer is all that is left.
    viewer.add_image(np.zeros((5, 5)), name="other")
    on_coins.set_tool("positive")
    before = segmented(on_coins, canvas, centres[3])
    canvas.click(on_coins.image, centres[12])
    viewer.layers.remove(on_coins.image)  # while its mask is being computed
    settle(on_coins)
    assert on_coins.image is None
    assert "image was removed" in on_coins.status
    result = viewer.layers["coins: objects"]
    assert [layer.name for layer in viewer.layers] == ["coins: objects", "other"]
    assert (result.data[before > 0] > 0).any()


@pytest.mark.parametrize("which", ["points", "shapes"])
def test_a_removed_prompt_layer_comes_back(on_coins: Controller, canvas: Canvas, centres, which: str) -> None:
    on_coins.add_box(np.subtract(centres[3], 25), np.add(centres[3], 25))
    canvas.click(on_coins.image, np.add(centres[3], 3))
    settle(on_coins)
    before = on_coins.labels.copy()
    removed = getattr(on_coins.session.prompts, which)
    on_coins.viewer.layers.remove(removed)
    settle(on_coins)
    again = getattr(on_coins.session.prompts, which)
    assert again is not removed
    assert again in on_coins.viewer.layers
    assert len(again.data) == 1
    np.testing.assert_array_equal(on_coins.labels, before)
    on_coins.accept()
    segmented(on_coins, canvas, centres[12])


def test_a_removed_result_layer_is_painted_again(on_coins: Controller, canvas: Canvas, centres) -> None:
    segmented(on_coins, canvas, centres[3])
    on_coins.accept()
    before = segmented(on_coins, canvas, centres[12])
    removed = on_coins.result_layer
    on_coins.viewer.layers.remove(removed)
    settle(on_coins)
    assert on_coins.result_layer is not removed
    np.testing.assert_array_equal(on_coins.labels, before)
    on_coins.reject()
    assert set(np.unique(on_coins.labels)) == {0, 1}


def test_all_layers_removed_at_once(on_coins: Controller, canvas: Canvas, centres) -> None:
    segmented(on_coins, canvas, centres[3])
    canvas.click(on_coins.image, centres[12])
    on_coins.viewer.layers.clear()
    settle(on_coins)
    assert len(on_coins.viewer.layers) == 0
    assert on_coins.image is None


def test_switching_images_keeps_everything(on_coins: Controller, canvas: Canvas, centres, coins) -> None:
    viewer, first = on_coins.viewer, on_coins.image
    segmented(on_coins, canvas, centres[3])
    on_coins.accept()
    before = segmented(on_coins, canvas, centres[12])
    other = viewer.add_image(255 - coins, name="other")
    on_coins.set_image(other)
    settle(on_coins)
    assert on_coins.result_layer is None
    assert "coins: points" not in viewer.layers
    on_coins.set_image(first)
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels, before)
    assert len(on_coins.session.prompts.points.data) == 1
    assert on_coins.session.document.current.id == 2
    assert [layer.name for layer in viewer.layers if isinstance(layer, Labels)] == ["coins: objects"]


def test_a_labels_layer_of_another_shape_is_refused(on_coins: Controller, canvas: Canvas, centres) -> None:
    wrong = on_coins.viewer.add_labels(np.zeros((10, 10), dtype=np.int32), name="wrong")
    assert not on_coins.set_result(wrong)
    assert "(10, 10)" in on_coins.status
    assert on_coins.result_layer is None
    on_coins.set_tool("positive")
    segmented(on_coins, canvas, centres[3])
    assert not wrong.data.any()


def test_prompts_outside_the_image_are_ignored(on_coins: Controller, canvas: Canvas, centres) -> None:
    canvas.click(on_coins.image, (-5, 50))
    settle(on_coins)
    assert "outside the image" in on_coins.status
    assert on_coins.session.document.current.is_empty
    segmented(on_coins, canvas, centres[3])
    with pytest.raises(PromptError, match="outside"):
        on_coins.add_point((-5, 50))
    with pytest.raises(PromptError, match="no area"):
        on_coins.add_box((5, 50), (9, 50))
    with pytest.raises(PromptError, match="2 coordinates"):
        on_coins.add_point((1, 2, 3))


def test_swapped_corners_are_a_box(on_coins: Controller) -> None:
    on_coins.add_box((90, 80), (20, 10))
    (prompts,) = on_coins.session.document.current.prompts.values()
    assert prompts.box.tolist() == [10, 20, 80, 90]
    settle(on_coins)


@pytest.mark.parametrize(
    "data",
    [
        np.full((40, 50), np.nan),
        np.where(np.eye(50) > 0, np.inf, 0.5),
        np.zeros((40, 50), dtype=np.uint8),
        np.full((1, 1), 7, dtype=np.uint16),
        np.eye(50, dtype=bool),
        np.arange(2500, dtype=np.int64).reshape(50, 50) - 1000,
        np.random.default_rng(0).integers(0, 255, (40, 50, 4), dtype=np.uint8),
    ],
    ids=["nan", "inf", "constant", "one pixel", "bool", "int64", "rgba"],
)
def test_odd_images(viewer, open_widget, data) -> None:
    image = viewer.add_image(data)
    controller = open_widget(image=image).controller
    settle(controller)
    controller.add_point((0, 0))
    settle(controller)
    assert controller.labels.shape == data.shape[:2]
    assert controller.notice == "" or "finds nothing" in controller.notice


def test_the_event_loop_turns_while_the_model_works(viewer, open_widget) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2048, 2048), dtype=np.uint8)
    image = viewer.add_image(noise, name="large")
    turn()
    ticks: list[bool] = []
    widget = open_widget(image=image)
    timer = QTimer()
    timer.setInterval(1)
    timer.timeout.connect(lambda: ticks.append(widget.controller.encoding))
    timer.start()
    settle(widget.controller)
    timer.stop()
    assert sum(ticks) > 10


def test_closing_while_encoding_leaves_nothing_behind(viewer, open_widget) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2048, 2048), dtype=np.uint8)
    image = viewer.add_image(noise, name="large")
    widget = open_widget(image=image)
    controller = widget.controller
    until(lambda: "embedding" in controller.doing)
    controller.add_point((100, 100))
    viewer.window.remove_dock_widget(widget)
    assert controller.closed
    assert list(viewer.layers) == [image]
    until(lambda: not threads())
    QTest.qWait(50)
    assert list(viewer.layers) == [image]


def test_closing_keeps_the_result(on_coins: Controller, canvas: Canvas, open_widget, centres) -> None:
    before = segmented(on_coins, canvas, centres[3])
    viewer, labels = on_coins.viewer, on_coins.result_layer
    on_coins.close()
    assert [layer.name for layer in viewer.layers] == ["coins", "coins: objects"]
    np.testing.assert_array_equal(labels.data, before)
    again = open_widget().controller
    assert again.result_layer is labels
    assert again.session.document.current.id == 1  # it was not accepted yet


def listeners(viewer) -> int:
    """Callbacks on everything that outlives a widget."""
    emitters = [viewer.layers.events, viewer.dims.events, viewer.layers.selection.events]
    emitters += [viewer.layers["coins"].events, action_manager.events]
    return sum(len(emitter.callbacks) for group in emitters for emitter in group.emitters.values())


def test_nothing_is_left_behind(viewer, open_widget, coins, centres, canvas: Canvas) -> None:
    viewer.add_image(coins, name="coins")
    viewer.add_labels(np.zeros(coins.shape, dtype=np.int32), name="mine")
    turn()

    def once() -> tuple[int, int]:
        widget = open_widget()
        controller = widget.controller
        controller.set_result(viewer.layers["mine"])
        settle(controller)
        canvas.click(controller.image, centres[3])
        controller.accept()
        settle(controller)
        viewer.window.remove_dock_widget(widget)
        assert {type(layer) for layer in viewer.layers} == {Image, Labels}
        until(lambda: not threads())
        QTest.qWait(100)  # deferred deletions happen while waiting only
        return listeners(viewer), sum(w.isVisible() for w in QApplication.topLevelWidgets())

    first = once()
    assert once() == first
    assert len(viewer.layers) == 2


def test_a_closed_widget_can_be_collected(viewer, open_widget, coins) -> None:
    from napari_sam.ui.widget import SegmentWidget

    viewer.add_image(coins, name="coins")
    widget = SegmentWidget(viewer)
    settle(widget.controller)
    session, controller = weakref.ref(widget.controller.session), weakref.ref(widget.controller)
    widget.close()
    widget.deleteLater()
    del widget
    until(lambda: not threads())

    def gone() -> bool:
        QTest.qWait(50)  # deferred deletions happen while waiting only
        gc.collect()
        return session() is None and controller() is None

    until(gone, patience=10)


def test_two_widgets_share_nothing(viewer, open_widget, coins, centres, canvas: Canvas, true_coins) -> None:
    viewer.add_image(coins, name="coins")
    first = open_widget().controller
    second = open_widget(image=viewer.layers["coins"]).controller
    viewer.reset_view()
    settle(first)
    settle(second)
    for controller, at in ((first, centres[3]), (second, centres[12])):
        controller.set_tool("positive")
        canvas.click(controller.image, at)
        settle(controller)
        assert iou(controller.labels > 0, true_coins == true_coins[round(at[0]), round(at[1])]) > 0.7
    assert first.result_layer is not second.result_layer
    second.close()
    first.add_point(centres[5])
    settle(first)
    assert second.result_layer is None


def test_a_model_that_fails_says_so_once(viewer, open_widget, coins) -> None:
    from napari.utils.notifications import notification_manager

    from napari_sam.errors import NapariSamError

    viewer.add_image(coins, name="coins")
    known = len(notification_manager.records)
    controller = open_widget(model="no-such-model").controller
    with pytest.raises(NapariSamError, match="no-such-model"):
        controller.wait(PATIENCE)
    assert "no-such-model" in controller.status
    assert len(notification_manager.records) == known + 1


def test_an_image_of_another_shape_begins_anew(on_coins: Controller, canvas: Canvas, centres, coins) -> None:
    before = segmented(on_coins, canvas, centres[3])
    old = on_coins.result_layer
    on_coins.image.data = coins[:200, :300]
    settle(on_coins)
    assert on_coins.result_layer is None
    np.testing.assert_array_equal(old.data, before)
    on_coins.add_point((50, 50))
    assert on_coins.labels.shape == (200, 300)


def test_a_removed_prompt_layer_while_the_first_mask_is_computed(
    on_coins: Controller, canvas: Canvas, centres
) -> None:
    on_coins._work.requests.hold()
    canvas.click(on_coins.image, centres[3])
    document, viewer = on_coins.document, on_coins.viewer
    viewer.layers.remove(on_coins.session.prompts.points)
    # The mask arrives before the layer is back.
    answer = Answer(((Mask.from_array(np.eye(*on_coins.session.shape, dtype=bool)), 0.9),))
    assert document.answer(document.current.uid, Plane((None, None)), answer)
    assert on_coins.result_layer in viewer.layers
    on_coins._work.requests.release()
    settle(on_coins)
    assert len(on_coins.session.prompts.points.data) == 1
    assert on_coins.labels.any()
    names = [layer.name for layer in viewer.layers]
    assert names.index("coins: objects") < names.index("coins: shapes")


def test_objects_without_memory_for_their_layer(viewer, open_widget, coins) -> None:
    size = 2**16, 2**16, *coins[:160, :200].shape
    lazy = np.broadcast_to(coins[:160, :200], size)
    image = viewer.add_image(lazy, name="huge", contrast_limits=(0, 255))
    controller = open_widget(image=image).controller
    settle(controller)
    controller.add_point((0, 0, 80, 100))
    settle(controller)
    assert controller.result_layer is None
    assert "more memory than there is: crop the image" in controller.status
    (item,) = controller.document.objects
    assert item.masks
    with pytest.raises(ImageError, match="GiB"):
        _ = controller.labels
    controller.undo()
    controller.redo()
    controller.accept()
    controller.add_point((0, 0, 20, 20))
    settle(controller)
    assert "GiB" in controller.status
    controller.show_classes(True)
    assert "GiB" in controller.status
    # It is tried again with each change.
    image.data = np.broadcast_to(coins[:160, :200], (2, 2, 160, 200))
    settle(controller)
    assert "GiB" not in controller.status
    controller.add_point((0, 0, 80, 100))
    settle(controller)
    assert controller.labels.any()


@pytest.mark.parametrize("shape", [(3, 120, 130), (2, 3, 120, 130), (110, 130)])
def test_an_image_of_other_axes_begins_anew(
    on_coins: Controller, canvas: Canvas, centres, coins, shape: tuple[int, ...]
) -> None:
    before = segmented(on_coins, canvas, centres[3])
    old, session = on_coins.result_layer, on_coins.session
    on_coins.image.data = np.broadcast_to(coins[: shape[-2], : shape[-1]], shape)
    # Until it begins.
    assert session.plane is None
    assert "another shape" in on_coins.status
    on_coins.image.scale = (2.0,) * len(shape)
    session.prompts.points.add([[7, 8]])
    on_coins.undo()
    settle(on_coins)
    assert on_coins.session is not session
    assert on_coins.session.plane is not None
    assert on_coins.result_layer is None
    old_labels = np.asarray(old.data)
    assert old_labels.shape == before.shape
    on_coins.add_point((0,) * (len(shape) - 2) + (50, 50))
    settle(on_coins)
    assert on_coins.labels.shape == shape
    assert on_coins.labels.any()
