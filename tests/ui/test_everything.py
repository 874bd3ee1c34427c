"""Everything on a plane: one run, sliders that need no model, one step that makes objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from canvas import CTRL, Canvas, check, coin, iou, settle, turn, until
from napari import Viewer
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt

from napari_sam.annotation import Source
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask
from napari_sam.ui.automatic_panel import AutomaticPanel
from napari_sam.ui.controller import Controller
from napari_sam.ui.segmenter import Loaded, ModelChoice
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def open_panel(widget: SegmentWidget, points: int) -> AutomaticPanel:
    """Open the panel and choose a grid of points."""
    panel = widget.automatic
    if not panel.is_open:
        panel.button.click()
    panel.asking_combo.setCurrentIndex(panel.asking_combo.findData("grid"))
    panel.asking_combo.activated.emit(panel.asking_combo.currentIndex())
    panel.points_box.setValue(points)
    return panel


def run(widget: SegmentWidget, points: int = 8) -> AutomaticPanel:
    """Open the panel and find everything."""
    panel = open_panel(widget, points)
    panel.run_button.click()
    settle(widget.controller)
    return panel


def preview_of(controller: Controller) -> Labels:
    return controller.viewer.layers[f"{controller.image.name}: automatic"]


def shown(controller: Controller) -> NDArray[np.int32]:
    """The preview's pixels."""
    return np.array(preview_of(controller).data)


def requests_of(controller: Controller) -> list[object]:
    """What is asked of the worker from now on."""
    asked: list[object] = []
    submit = controller._work.requests.submit

    def counting(key: object, *args: object, **options: object) -> None:
        asked.append(key)
        submit(key, *args, **options)

    controller._work.requests.submit = counting
    return asked


def test_run_filter_accept_undo(widget: SegmentWidget, canvas: Canvas, centres, true_coins) -> None:
    controller = widget.controller
    panel, document = widget.automatic, controller.document
    assert not panel.inside.isVisible()
    canvas.click(controller.image, centres[0])
    settle(controller)
    controller.accept()
    before = controller.labels.copy()
    told: list[tuple[int, int]] = []
    controller.everything_changed.connect(lambda: told.append(controller.everything_progress))
    panel.button.click()
    assert panel.run_button.isVisible()
    assert not panel.filters.isVisible()
    open_panel(widget, 16).run_button.click()
    assert not panel.run_button.isEnabled()
    assert panel.cancel_button.isVisible()
    settle(controller)
    assert (1, 4) in told
    assert (4, 4) in told
    assert not panel.cancel_button.isVisible()
    # All coins but that which is an object already.
    found = shown(controller)
    assert not found[before > 0].any()
    there = [at for at in centres[1:] if found[round(at[0]), round(at[1])]]
    good = [iou(found == found[round(y), round(x)], coin(true_coins, (y, x))) > 0.7 for y, x in there]
    assert sum(good) >= len(centres) - 4
    count = len(np.unique(found)) - 1
    assert panel.accept_button.text() == f"Accept {count} objects"
    # The document does not know of it.
    np.testing.assert_array_equal(controller.labels, before)
    assert document.undo_text == "Accept object 1"
    panel.accept_button.click()
    turn()
    assert document.undo_text == "Segment everything"
    after = controller.labels.copy()
    np.testing.assert_array_equal(after > 0, (before > 0) | (found > 0))
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    added = document.objects[1:]
    assert len(added) == count
    assert all(item.accepted and item.source == Source.AUTOMATIC and item.score for item in added)
    assert len(widget.objects.table.rows) == count + 1
    assert not shown(controller).any()
    assert not panel.accept_button.isEnabled()
    check(controller)
    controller.viewer.layers.selection.active = controller.result_layer
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    np.testing.assert_array_equal(controller.labels, before)
    np.testing.assert_array_equal(shown(controller), found)
    canvas.key(Qt.Key.Key_Z, CTRL | Qt.KeyboardModifier.ShiftModifier)
    settle(controller)
    np.testing.assert_array_equal(controller.labels, after)
    assert not shown(controller).any()


def test_sliders_change_the_preview_without_the_model(widget: SegmentWidget) -> None:
    controller = widget.controller
    panel = run(widget)
    panel.iou_slider.setValue(0.0)
    panel.stability_slider.setValue(0.0)
    panel.area_slider.setValue((0, panel.area_slider.maximum()))
    turn()
    asked = requests_of(controller)
    everything = shown(controller)
    found = controller.everything.candidates

    def indices() -> NDArray[np.int64]:
        return np.unique(shown(controller))[1:] - 1

    assert len(indices()) == controller.number_found > 10
    middle = round(float(np.median(found.predicted_iou[indices()])), 2)
    panel.iou_slider.setValue(middle)
    turn()
    assert (found.predicted_iou[indices()] >= middle).all()
    assert 0 < len(indices()) < len(np.unique(everything)) - 1
    panel.iou_slider.setValue(0.0)
    panel.stability_slider.setValue(0.9)
    turn()
    assert (found.stability[indices()] >= 0.9).all()
    panel.stability_slider.setValue(0.0)
    panel.area_slider.setValue((2.5, 3.2))
    turn()
    areas = found.areas[indices()]
    assert len(areas)
    assert areas.min() >= round(10**2.5)
    assert areas.max() <= round(10**3.2)
    assert panel.area_label.text() == "316 to 1,585 pixels"
    panel.area_slider.setValue((0, panel.area_slider.maximum()))
    turn()
    np.testing.assert_array_equal(shown(controller), everything)
    assert panel.area_label.text() == "any size"
    panel.border_box.click()
    turn()
    edges = (shown(controller)[[0, -1]], shown(controller)[:, [0, -1]])
    assert not any(edge.any() for edge in edges)
    panel.border_box.click()
    panel.overlap_slider.setValue(0.1)
    turn()
    assert not np.array_equal(shown(controller), everything)
    panel.overlap_slider.setValue(0.7)
    panel.smaller_box.click()
    turn()
    assert not np.array_equal(shown(controller), everything)
    panel.smaller_box.click()
    turn()
    np.testing.assert_array_equal(shown(controller), everything)
    panel.iou_slider.setValue(1.0)
    turn()
    assert not shown(controller).any()
    assert panel.accept_button.text() == "Accept 0 objects"
    assert not asked
    panel.discard_button.click()
    turn()
    assert "coins: automatic" not in controller.viewer.layers
    assert not panel.filters.isVisible()
    assert len(controller.document.objects) == 0


def test_cancelled_within_a_batch_and_run_again(widget: SegmentWidget) -> None:
    controller, panel = widget.controller, open_panel(widget, 64)
    panel.run_button.click()
    until(lambda: controller.everything_progress[0] >= 1)
    panel.cancel_button.click()
    settle(controller)
    done, total = controller.everything_progress
    assert done <= 4 < total == 64
    assert "Cancelled" in controller.status
    assert controller.everything is None
    assert not panel.filters.isVisible()
    assert panel.run_button.isEnabled()
    run(widget)
    assert controller.everything is not None


def test_clicks_are_answered_during_a_run(widget: SegmentWidget, canvas: Canvas, centres) -> None:
    controller, panel = widget.controller, open_panel(widget, 64)
    panel.run_button.click()
    until(lambda: controller.everything_progress[0] >= 1)
    canvas.click(controller.image, centres[3])
    until(lambda: controller.document.current.masks)
    done, total = controller.everything_progress
    assert controller.finding
    assert done < total
    panel.cancel_button.click()
    settle(controller)
    assert controller.document.current.masks
    check(controller)


def test_another_model_stops_the_run_and_the_first_one_is_waited_for(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins
) -> None:
    viewer.add_image(coins[:150, :150], name="coins")
    controller = open_widget().controller
    assert not controller.models.ready
    controller.find_everything(points_per_side=8)
    settle(controller)
    assert controller.everything is not None
    controller.discard_everything()
    controller.find_everything(points_per_side=64)
    until(lambda: controller.everything_progress[0] >= 1)
    controller.set_model(ModelChoice("nano", "cpu"))
    settle(controller)
    assert controller.everything_progress[0] < 64
    assert controller.everything is None
    assert controller.device == "cpu"


def test_everything_at_a_glance(widget: SegmentWidget, centres, true_coins) -> None:
    controller, panel = widget.controller, run(widget)
    assert controller.wanted.min_stability > 0.5
    assert controller.wanted.min_area == 25
    panel.asking_combo.setCurrentIndex(panel.asking_combo.findData("none"))
    panel.asking_combo.activated.emit(panel.asking_combo.currentIndex())
    assert not panel.points_box.isVisible()
    panel.run_button.click()
    settle(controller)
    found = shown(controller)
    there = [at for at in centres if found[round(at[0]), round(at[1])]]
    good = [iou(found == found[round(y), round(x)], coin(true_coins, (y, x))) > 0.8 for y, x in there]
    assert sum(good) == len(centres)
    assert controller.number_found == len(centres)
    panel._on_loaded(Loaded("cpu", ["cpu"], finds_centres=False))
    assert [panel.asking_combo.itemData(i) for i in range(panel.asking_combo.count())] == ["grid"]
    assert panel.points_box.isVisible()


def test_holes_up_to_a_size_are_filled(widget: SegmentWidget) -> None:
    """Two washers, as from a file; of one the hole is small."""
    controller, panel = widget.controller, open_panel(widget, 8)
    shape = controller.image.data.shape
    y, x = np.indices(shape)
    away = [np.hypot(y - 100, x - at) for at in (80, 250)]
    holes = np.array([away[0] < 10, away[1] < 25])
    rings = [(distance < 50) & ~hole for distance, hole in zip(away, holes, strict=True)]
    controller.document.keep_candidates(
        controller.session.plane,
        MaskCandidates.of(
            [Mask.from_array(ring) for ring in rings],
            [0.9, 0.9], [0.9, 0.9], [[40, 100], [210, 100]], [[0, 0, *shape[::-1]]] * 2, shape,
        ),
    )  # fmt: skip
    settle(controller)
    before = shown(controller)
    np.testing.assert_array_equal(before > 0, rings[0] | rings[1])
    panel.holes_size.setValue(1_000)
    panel.holes_box.click()
    turn()
    np.testing.assert_array_equal(shown(controller) > 0, rings[0] | rings[1] | holes[0])
    panel.holes_size.setValue(10_000)
    turn()
    np.testing.assert_array_equal(shown(controller) > 0, (away[0] < 50) | (away[1] < 50))
    panel.holes_box.click()
    turn()
    np.testing.assert_array_equal(shown(controller), before)


def test_objects_that_come_later_are_left_out_of_the_preview(
    widget: SegmentWidget, canvas: Canvas, centres
) -> None:
    controller = widget.controller
    run(widget)
    at = round(centres[5][0]), round(centres[5][1])
    assert shown(controller)[at]
    count = controller.number_found
    canvas.click(controller.image, centres[5])
    settle(controller)
    assert not shown(controller)[controller.labels > 0].any()
    assert controller.number_found == count - 1
    controller.undo()
    settle(controller)
    assert controller.number_found == count


def test_only_inside_a_shape(widget: SegmentWidget) -> None:
    controller, viewer = widget.controller, widget.controller.viewer
    panel = run(widget)
    region = viewer.add_shapes(
        [[[0, 0], [0, 200], [160, 200], [160, 0]]], shape_type="rectangle", name="region", scale=(2, 2)
    )
    region.scale = (1, 1)
    viewer.add_shapes(name="others")
    turn()
    combo = panel.region_combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["the whole plane", "region", "others"]
    combo.setCurrentIndex(1)
    combo.activated.emit(1)
    turn()
    at = controller.everything.centres[np.unique(shown(controller))[1:] - 1]
    assert 0 < len(at) == controller.number_found
    assert (at <= (200, 160)).all()
    # Another shape counts as soon as it is drawn.
    few = controller.number_found
    region.add_ellipses([[[150, 250], [150, 380], [300, 380], [300, 250]]])
    turn()
    assert controller.number_found > few
    viewer.layers.remove("region")
    turn()
    assert combo.currentText() == "the whole plane"
    assert controller.number_found > few


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_candidates_stay_with_their_plane(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins, order: tuple[int, ...]
) -> None:
    volume = np.stack([coins[:200], coins[:200][::-1], coins[:200][:, ::-1]])
    volume = np.ascontiguousarray(np.transpose(volume, np.argsort(order)))
    image = viewer.add_image(volume, name="stack", scale=(2, 0.5, 0.7), translate=(3, 4, 5), rgb=False)
    viewer.dims.order = order
    widget = open_widget(image=image)
    controller = widget.controller
    viewer.dims.set_current_step(order[0], 0)
    viewer.reset_view()
    settle(controller)
    panel = run(widget)
    plane = controller.session.plane
    assert plane.index[order[0]] == 0
    here, count = shown(controller), controller.number_found
    assert count >= 5
    # What is seen at a place of the preview is what belongs there in the image.
    preview = preview_of(controller)
    spot = np.argwhere(here > 0)[0]
    where = image.world_to_data(preview.data_to_world(spot))
    assert round(float(where[order[0]])) == 0
    viewer.dims.set_current_step(order[0], 1)
    settle(controller)
    assert controller.everything is None
    assert not shown(controller).any()
    assert not panel.filters.isVisible()
    viewer.dims.set_current_step(order[0], 0)
    settle(controller)
    np.testing.assert_array_equal(shown(controller), here)
    assert controller.number_found == count
    panel.accept_button.click()
    settle(controller)
    labels = controller.labels
    np.testing.assert_array_equal(labels[plane.slices] > 0, here.reshape(labels[plane.slices].shape) > 0)
    assert np.count_nonzero(labels) == np.count_nonzero(here)
    check(controller)


def test_another_image_and_back(widget: SegmentWidget, viewer: Viewer, coins) -> None:
    controller = widget.controller
    run(widget)
    first, count = controller.image, controller.number_found
    other = viewer.add_image(coins[::-1], name="other")
    controller.set_image(other)
    settle(controller)
    assert "coins: automatic" not in viewer.layers
    assert controller.everything is None
    controller.set_image(first)
    settle(controller)
    assert controller.number_found == count
    assert np.count_nonzero(shown(controller))


def test_closing_during_a_run(widget: SegmentWidget, viewer: Viewer) -> None:
    controller, panel = widget.controller, open_panel(widget, 32)
    panel.run_button.click()
    until(lambda: controller.everything_progress[1] > 0)
    viewer.window.remove_dock_widget(widget)
    until(lambda: not controller._work.requests._worker.running)
    assert not [layer for layer in viewer.layers if "automatic" in layer.name]


def test_area_in_physical_units(viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins) -> None:
    image = viewer.add_image(coins[:150, :150], name="coins", scale=(0.5, 0.5), units=("um", "um"))
    widget = open_widget(image=image)
    settle(widget.controller)
    panel = run(widget)
    panel.area_slider.setValue((2, 3))
    turn()
    assert panel.area_label.text() == "100 to 1,000 pixels (25 to 250 µm²)"
    panel.area_slider.setValue((0, 3))
    turn()
    assert panel.area_label.text() == "up to 1,000 pixels (up to 250 µm²)"
