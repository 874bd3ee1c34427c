"""Everything in a stack: plane by plane, linked, one step; regions; what was found stays with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from canvas import Canvas, check, settle, turn, until
from napari import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam.annotation import Plane
from napari_sam.ui.automatic_panel import AutomaticPanel
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def stacked(viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins) -> SegmentWidget:
    """Three planes of 25 coins, the second and third moved by two pixels each; the panel is open."""
    small = coins[20:120, 20:200]
    planes = [np.roll(small, 2 * z, axis=1) for z in range(3)]
    image = viewer.add_image(np.stack(planes), name="stack", rgb=False)
    viewer.dims.set_current_step(0, 1)
    widget = open_widget(image=image)
    viewer.reset_view()
    settle(widget.controller)
    widget.automatic.button.click()
    return widget


def choose(combo, index: int) -> None:
    """What a click on a line of a combo box does."""
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def shown(widget: SegmentWidget) -> np.ndarray:
    """The preview's pixels; none without the layer."""
    layers = widget.controller.viewer.layers
    return np.asarray(layers["stack: automatic"].data) if "stack: automatic" in layers else np.zeros(1)


def on_all_planes(panel: AutomaticPanel) -> AutomaticPanel:
    assert [panel.scope_combo.itemText(i) for i in range(2)] == ["this plane", "all 3 planes"]
    choose(panel.scope_combo, 1)
    return panel


def test_all_planes_linked_in_one_step(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = stacked.controller, on_all_planes(stacked.automatic)
    document, viewer = controller.document, controller.viewer
    # One coin is an object already.
    canvas.click(controller.image, (1, 31, 24))
    settle(controller)
    controller.accept()
    before = controller.labels.copy()
    assert panel.asking_combo.currentData() == "centres"
    panel.run_button.click()
    assert not panel.scope_combo.isEnabled()
    # The displayed plane is the first that can be looked at.
    until(lambda: shown(stacked).any())
    assert controller.finding
    assert list(document.candidates) == [Plane((1, None, None))]
    settle(controller)
    assert sorted(plane.index[0] for plane in document.candidates) == [0, 1, 2]
    assert controller.everything_progress[0] == controller.everything_progress[1] > 0
    # Each plane has a preview of its own, by the same filter.
    previews = []
    for z in range(3):
        viewer.dims.set_current_step(0, z)
        settle(controller)
        previews.append(shown(stacked)[0] > 0)
        assert previews[z].any()
    assert panel.accept_button.text() == "Accept 3 planes"
    assert panel.linking.isVisible()
    QTest.mouseClick(panel.accept_button, Qt.MouseButton.LeftButton)
    settle(controller)
    assert document.undo_text == "Segment everything"
    np.testing.assert_array_equal(controller.labels > 0, (before > 0) | np.stack(previews))
    np.testing.assert_array_equal(controller.labels[before > 0], before[before > 0])
    through = [item for item in document.objects if len(item.masks) == 3]
    assert len(through) >= 3
    assert {row.planes for row in stacked.objects.table.rows} >= {1, 3}
    assert not shown(stacked).any()
    check(controller)
    controller.undo()
    settle(controller)
    np.testing.assert_array_equal(controller.labels, before)
    assert shown(stacked).any()
    # Without links, each plane has objects of its own.
    count = len(through)
    panel.link_box.click()
    panel.accept_button.click()
    settle(controller)
    assert all(len(item.masks) == 1 for item in document.objects)
    assert len(document.objects) > 2 * count
    panel.discard_button.click()
    turn()
    assert not document.candidates
    assert not panel.filters.isVisible()


def test_stopped_in_the_middle_and_gone_on_with(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = stacked.controller, on_all_planes(stacked.automatic)
    choose(panel.asking_combo, panel.asking_combo.findData("grid"))
    panel.points_box.setValue(8)
    panel.run_button.click()
    until(lambda: len(controller.document.candidates) == 1)
    # Clicks go first.
    canvas.click(controller.image, (1, 31, 24))
    until(lambda: controller.document.current.masks)
    assert controller.finding
    panel.cancel_button.click()
    settle(controller)
    done = dict(controller.document.candidates)
    assert 1 <= len(done) < 3
    assert f"Stopped: {len(done)} of 3 planes" in controller.status
    assert panel.accept_button.text() == ("Accept 1 plane" if len(done) == 1 else "Accept 2 planes")
    # What is done is not done again.
    panel.run_button.click()
    settle(controller)
    assert len(controller.document.candidates) == 3
    assert all(controller.document.candidates[plane] is found for plane, found in done.items())


def test_one_object_of_the_class(stacked: SegmentWidget) -> None:
    controller, panel = stacked.controller, stacked.automatic
    controller.set_class(controller.add_class("coin"))
    panel.run_button.click()
    settle(controller)
    preview = shown(stacked)[0] > 0
    choose(panel.as_combo, 1)
    turn()
    assert shown(stacked).max() == 1
    assert panel.accept_button.text() == "Accept as one object"
    panel.accept_button.click()
    settle(controller)
    (item,) = controller.document.objects
    assert item.class_id == 1
    np.testing.assert_array_equal(controller.labels[1] > 0, preview)
    assert not controller.labels[[0, 2]].any()


def test_all_planes_have_the_class_that_was_chosen(stacked: SegmentWidget) -> None:
    controller, panel = stacked.controller, on_all_planes(stacked.automatic)
    controller.set_class(controller.add_class("coin"))
    panel.run_button.click()
    settle(controller)
    panel.accept_button.click()
    settle(controller)
    assert len(controller.document.objects) > 1
    assert {item.class_id for item in controller.document.objects} == {1}
    controller.undo()
    choose(panel.as_combo, 1)
    turn()
    panel.accept_button.click()
    settle(controller)
    (item,) = controller.document.objects
    assert (item.class_id, len(item.masks)) == (1, 3)


def test_only_what_is_inside_a_shape_is_asked_about(stacked: SegmentWidget) -> None:
    controller, panel = stacked.controller, stacked.automatic
    region = controller.viewer.add_shapes(name="region", ndim=3)
    choose(panel.region_combo, 1)
    panel.run_button.click()
    assert "Nothing is drawn in 'region'" in controller.status
    assert not controller.finding
    # Drawn on the first plane: it holds for those without shapes, too.
    region.add_rectangles([[[0, 0, 0], [0, 0, 90], [0, 99, 90], [0, 99, 0]]])
    choose(panel.asking_combo, panel.asking_combo.findData("grid"))
    panel.points_box.setValue(16)
    panel.run_button.click()
    settle(controller)
    points = controller.everything.candidates.points
    assert len(points)
    assert points[:, 0].max() <= 90
    assert len(np.unique(points, axis=0)) <= 8 * 16
    assert shown(stacked).any()
    # An ellipse on this plane counts instead.
    region.add_ellipses([[[1, 40, 100], [1, 40, 170], [1, 99, 170], [1, 99, 100]]])
    turn()
    assert not shown(stacked).any()
    panel.run_button.click()
    settle(controller)
    x, y = controller.everything.candidates.points.T
    assert (((x - 135) / 35.5) ** 2 + ((y - 69.5) / 30) ** 2).max() <= 1


@pytest.mark.parametrize("asking", ["centres", "none"])
def test_sliders_come_back_without_the_model(
    stacked: SegmentWidget, viewer: Viewer, open_widget: Callable[..., SegmentWidget], tmp_path, asking: str
) -> None:
    controller, panel = stacked.controller, stacked.automatic
    choose(panel.asking_combo, panel.asking_combo.findData(asking))
    panel.run_button.click()
    settle(controller)
    found, wanted = controller.document.candidates, controller.wanted
    before, count = shown(stacked).copy(), controller.number_found
    assert count
    assert (wanted.min_stability < 0.1) == (asking == "none")
    controller.save(tmp_path / "found.napari-sam.zip")
    settle(controller)
    # Another widget takes it up, though there is no object yet.
    viewer.window.remove_dock_widget(stacked)
    widget = open_widget(image=controller.image)
    again = widget.controller
    settle(again)
    assert again.document.candidates == found
    assert again.wanted == wanted
    np.testing.assert_array_equal(shown(widget), before)
    again.discard_everything()
    settle(again)
    assert not again.document.candidates
    # So does an annotation that is opened.
    again.open_annotation(tmp_path / "found.napari-sam.zip")
    settle(again)
    assert again.document.candidates == found
    assert again.number_found == count
    np.testing.assert_array_equal(shown(widget), before)
    widget.automatic.button.click()
    widget.automatic.iou_slider.setValue(1.0)
    settle(again)
    assert not shown(widget).any()
