"""Volumes and time: an object clicked on one plane is carried on to others, step by step, undone at once."""

from __future__ import annotations

from collections.abc import Callable

import dask.array as da
import numpy as np
import pytest
from canvas import CTRL, PATIENCE, Canvas, check, iou, settle, turn, until
from napari import Viewer
from napari.layers import Image, Tracks
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam.annotation import Plane
from napari_sam.errors import AnnotationError
from napari_sam.models import store
from napari_sam.ui.controller import Controller
from napari_sam.ui.propagating import Reach
from napari_sam.ui.propagation_panel import PropagationPanel
from napari_sam.ui.segmenter import ModelChoice
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

PLANES, HEIGHT, WIDTH = 9, 96, 128
LEFT = Qt.MouseButton.LeftButton


def balls(step: float = 2.0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two bright discs that move apart on textured ground: the image, and which is where (1 and 2)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rng = np.random.default_rng(4)
    truth = np.zeros((PLANES, HEIGHT, WIDTH), dtype=np.uint8)
    for z in range(PLANES):
        truth[z][(y - 30 - step * z) ** 2 + (x - 30) ** 2 < 13**2] = 1
        truth[z][(y - 60) ** 2 + (x - 75 - step * z) ** 2 < 12**2] = 2
    image = 40 + 110 * (truth > 0) + rng.normal(0, 5, truth.shape)
    return image.clip(0, 255).astype(np.uint8), truth


IMAGE, TRUTH = balls()
FIRST, SECOND = (4, 38, 30), (4, 60, 83)


@pytest.fixture
def stacked(viewer: Viewer, open_widget: Callable[..., SegmentWidget]) -> SegmentWidget:
    """Nine planes with two discs, on the middle one, the panel open."""
    return opened(viewer, open_widget, IMAGE)


def opened(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], data, at=(4,), **options
) -> SegmentWidget:
    image = viewer.add_image(data, name="stack", rgb=False, **options)
    for axis, position in enumerate(at):
        viewer.dims.set_current_step(axis, position)
    widget = open_widget(image=image)
    viewer.reset_view()
    settle(widget.controller)
    widget.propagation.button.click()
    turn()
    return widget


def clicked(widget: SegmentWidget, canvas: Canvas, at) -> Controller:
    controller = widget.controller
    canvas.click(controller.image, at)
    settle(controller)
    return controller


def done(controller: Controller) -> int:
    return controller.propagation_progress[0]


def choose(combo, index: int) -> None:
    """What a click on a line of a combo box does."""
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def states(widget: SegmentWidget) -> list[int]:
    return widget.controller.states_of(widget.controller.in_focus).tolist()


def test_an_object_on_all_planes_from_one_click(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    assert states(stacked) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert "1 annotated and 0 propagated of 9" in panel.said.text()
    QTest.mouseClick(panel.both_button, LEFT)
    assert panel.running.isVisible()
    assert not panel.both_button.isEnabled()
    # Planes appear one after the other.
    seen = set()
    until(lambda: seen.add(done(controller)) or not controller.propagating)
    assert len(seen) > 3
    settle(controller)
    assert states(stacked) == [1, 1, 1, 1, 2, 1, 1, 1, 1]
    labels = controller.labels
    for z in range(PLANES):
        assert iou(labels[z] == 1, TRUTH[z] == 1) > 0.8
    assert "found on 8 of 8 planes" in controller.status
    assert not panel.running.isVisible()
    check(controller)
    # One undo takes all of it back, and nothing else.
    assert controller.document.undo_text == "Propagate"
    controller.undo()
    settle(controller)
    assert states(stacked) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert controller.document.undo_text == "Add point"
    controller.redo()
    settle(controller)
    np.testing.assert_array_equal(controller.labels, labels)


@pytest.mark.parametrize(
    ("button", "expected"),
    [("backward_button", [1, 1, 1, 1, 2, 0, 0, 0, 0]), ("forward_button", [0, 0, 0, 0, 2, 1, 1, 1, 1])],
)
def test_one_direction(stacked: SegmentWidget, canvas: Canvas, button: str, expected: list[int]) -> None:
    controller = clicked(stacked, canvas, FIRST)
    QTest.mouseClick(getattr(stacked.propagation, button), LEFT)
    settle(controller)
    assert states(stacked) == expected


def test_up_to_a_plane_with_a_key(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    panel.stop_box.click()
    panel.stop_number.setValue(6)
    canvas.key(Qt.Key.Key_K)
    settle(controller)
    assert states(stacked) == [0, 0, 0, 0, 2, 1, 1, 0, 0]
    panel.stop_number.setValue(3)
    canvas.key(Qt.Key.Key_J)
    settle(controller)
    assert states(stacked) == [0, 0, 0, 1, 2, 1, 1, 0, 0]
    panel.stop_box.click()
    canvas.key(Qt.Key.Key_G)
    settle(controller)
    assert states(stacked) == [1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_a_last_plane_that_another_image_does_not_have(
    stacked: SegmentWidget, canvas: Canvas, viewer: Viewer
) -> None:
    """It was chosen on nine planes; the panel is folded when an image of five comes."""
    controller, panel = stacked.controller, stacked.propagation
    panel.stop_box.click()
    panel.stop_number.setValue(8)
    panel.button.click()
    controller.set_image(viewer.add_image(IMAGE[2:7], name="short"))
    viewer.dims.set_current_step(0, 2)
    settle(controller)
    clicked(stacked, canvas, (2, *FIRST[1:]))
    canvas.key(Qt.Key.Key_G)
    settle(controller)
    assert states(stacked) == [0, 0, 2, 1, 1]
    assert not controller.propagating


def test_a_propagation_that_cannot_begin_ends(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    controller.propagate(reach=Reach(stop=40))
    with pytest.raises(AnnotationError, match="Plane 40 is not one of the 9"):
        controller.wait(PATIENCE)
    assert not controller.propagating
    assert "Plane 40" in controller.status
    assert panel.both_button.isEnabled()
    panel.both_button.click()
    settle(controller)
    assert states(stacked).count(1) == 8


def test_a_correction_changes_only_what_follows_from_it(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    panel.both_button.click()
    settle(controller)
    before = controller.labels.copy()
    # A second plane is annotated; between the two and beyond, something else follows.
    controller.go_to(6)
    turn()
    canvas.click(controller.image, (6, 42, 30))
    settle(controller)
    assert states(stacked) == [1, 1, 1, 1, 2, 1, 2, 1, 1]
    corrected = controller.labels[6].copy()
    choose(panel.from_combo, 1)
    panel.forward_button.click()
    settle(controller)
    np.testing.assert_array_equal(controller.labels[:6], before[:6])
    np.testing.assert_array_equal(controller.labels[6], corrected)
    # Where nothing of an object is annotated at all, there is nothing to go on from.
    controller.accept()
    controller.go_to(1)
    turn()
    controller.propagate()
    assert "no object" in controller.status


def test_cancelled_in_the_middle_what_is_done_stays(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    panel.both_button.click()
    until(lambda: done(controller) >= 2)
    QTest.mouseClick(panel.cancel_button, LEFT)
    settle(controller)
    count = states(stacked).count(1)
    assert 2 <= count < 8
    assert f"Stopped: {count} of 8 planes are done" in controller.status
    assert not controller.propagating
    controller.undo()
    settle(controller)
    assert states(stacked).count(1) == 0


def test_a_click_is_answered_first(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = clicked(stacked, canvas, FIRST)
    controller.accept()
    controller.highlight([controller.document.objects[0].uid])
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 1)
    canvas.click(controller.image, SECOND)
    until(lambda: controller.document.current.masks)
    assert controller.propagating
    assert iou(controller.session.result.labels.data[4] == 2, TRUTH[4] == 2) > 0.8
    settle(controller)
    assert states(stacked) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    first = controller.document.objects[0]
    assert len(first.masks) == PLANES
    check(controller)


def test_a_mask_that_is_still_computed_is_what_it_starts_from(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = stacked.controller
    canvas.click(controller.image, FIRST)
    controller.propagate()
    settle(controller)
    assert states(stacked) == [1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_undone_while_it_runs(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = clicked(stacked, canvas, FIRST)
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 2)
    canvas.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert states(stacked) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    settle(controller)
    assert states(stacked) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert controller.document.redo_text == "Propagate"
    assert "Stopped by the undo" in controller.status
    # It can begin again.
    stacked.propagation.both_button.click()
    settle(controller)
    assert states(stacked).count(1) == 8


@pytest.mark.parametrize("where", ["the image", "another image"])
def test_undone_by_the_key_of_the_labels_layer(
    stacked: SegmentWidget, canvas: Canvas, viewer: Viewer, where: str
) -> None:
    """A layer's own keys come before those of the viewer, also while another image is worked on."""
    controller, document = clicked(stacked, canvas, FIRST), stacked.controller.document
    labels, known = controller.result_layer, document.snapshot.objects
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 2)
    if where == "another image":
        controller.set_image(viewer.add_image(IMAGE[::-1], name="other"))
    viewer.layers.selection.active = labels
    canvas.key(Qt.Key.Key_Z, CTRL)
    settle(controller)
    assert not controller.propagating
    assert document.snapshot.objects == known
    assert document.redo_text == "Propagate"
    assert document.undo_text == "Add point"
    assert "Stopped by the undo" in controller.status
    np.testing.assert_array_equal(labels.data, document.to_labels())
    viewer.layers.selection.active = labels
    canvas.key(Qt.Key.Key_Z, CTRL)
    canvas.key(Qt.Key.Key_Z, CTRL)
    assert controller.status == "There is nothing to undo."
    assert not labels.data.any()


def test_several_objects_in_one_pass(
    stacked: SegmentWidget, canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    controller.accept()
    clicked(stacked, canvas, SECOND)
    controller.accept()
    table = stacked.objects.table
    assert not controller.targets
    # Those that are selected in the table.
    uids = [item.uid for item in controller.document.objects]
    table.select(uids)
    table.picked.emit(table.selected)
    assert panel.objects_combo.itemText(0) == "objects 1, 2"
    panel.forward_button.click()
    settle(controller)
    assert [len(item.masks) for item in controller.document.objects] == [5, 5]
    # All of them, whatever is selected.
    table.select([])
    table.picked.emit([])
    choose(panel.objects_combo, 1)
    assert panel.objects_combo.itemText(1) == "all 2 objects"
    panel.backward_button.click()
    settle(controller)
    labels = controller.labels.copy()
    for number in (1, 2):
        for z in range(PLANES):
            assert iou(labels[z] == number, TRUTH[z] == number) > 0.75
    assert "2 objects were propagated: 8 masks on 4 planes" in controller.status
    assert all(item.accepted for item in controller.document.objects)
    controller.undo()
    settle(controller)
    assert [len(item.masks) for item in controller.document.objects] == [5, 5]
    # So many that the GUI has its turn in between: the same comes of it, where there was something, too.
    monkeypatch.setattr("napari_sam.ui.propagating._PORTION", 1)
    panel.both_button.click()
    settle(controller)
    np.testing.assert_array_equal(controller.labels, labels)
    assert controller.document.undo_text == "Propagate"
    controller.undo()
    settle(controller)
    assert [len(item.masks) for item in controller.document.objects] == [5, 5]
    check(controller)


def test_the_strip_shows_the_object_that_was_touched_last(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller, strip = clicked(stacked, canvas, FIRST), stacked.propagation.strip
    stacked.propagation.forward_button.click()
    settle(controller)
    controller.accept()
    table = stacked.objects.table
    table.select([controller.document.objects[0].uid])
    table.picked.emit(table.selected)
    assert strip.accessibleName() == "Planes of object 1"
    # A click on the strip goes to the plane, and nowhere else.
    point = controller.viewer.dims.point
    QTest.mouseClick(strip, LEFT, pos=QPoint(strip.pixel_of(7), 15))
    turn()
    assert controller.viewer.dims.point == (7, *point[1:])
    assert strip.position == 7
    # To begin another object brings that one into view.
    canvas.click(controller.image, (7, 60, 89))
    settle(controller)
    assert strip.accessibleName() == "Planes of object 2"
    assert states(stacked) == [0, 0, 0, 0, 0, 0, 0, 2, 0]


def test_a_plane_that_cannot_be_read_stops_it_and_keeps_what_is_done(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], canvas: Canvas
) -> None:
    gone = []

    def plane(block_info=None) -> NDArray[np.uint8]:
        z = block_info[None]["array-location"][0][0]
        if z in gone:
            raise OSError("the disk is gone")
        return IMAGE[z : z + 1]

    lazy = da.map_blocks(plane, chunks=((1,) * PLANES, (HEIGHT,), (WIDTH,)), dtype=np.uint8)
    widget = opened(viewer, open_widget, lazy, contrast_limits=(0, 255))
    controller = clicked(widget, canvas, FIRST)
    gone.append(7)
    widget.propagation.forward_button.click()
    until(lambda: not controller.propagating)
    turn()
    assert "7" in controller.status
    assert "the disk is gone" in controller.status
    assert "kept" in controller.status
    assert states(widget) == [0, 0, 0, 0, 2, 1, 1, 0, 0]
    with pytest.raises(Exception, match="disk is gone"):
        controller.wait()
    # The others can be had all the same.
    widget.propagation.backward_button.click()
    settle(controller)
    assert states(widget) == [1, 1, 1, 1, 2, 1, 1, 0, 0]


def test_from_a_plane_without_the_object_nothing_begins(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = clicked(stacked, canvas, FIRST)
    controller.reach = Reach(from_here=True)
    controller.viewer.dims.set_current_step(0, 7)
    settle(controller)
    before = states(stacked)
    controller.propagate()
    settle(controller)
    assert "Object 1 is not on this plane" in controller.status
    assert states(stacked) == before


def test_an_image_that_is_removed_meanwhile(stacked: SegmentWidget, canvas: Canvas) -> None:
    # With another one behind it: software OpenGL crashes where the last image of three axes goes.
    layers = stacked.controller.viewer.layers
    layers.insert(0, Image(IMAGE, name="other"))
    layers.selection.active = layers["stack: points"]
    controller = clicked(stacked, canvas, FIRST)
    document, labels = controller.document, controller.result_layer
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 2)
    controller.viewer.layers.remove("stack")
    settle(controller)
    assert not controller.propagating
    assert "“stack” was removed, so the propagation stopped" in controller.status
    assert not stacked.propagation.isVisible()
    (item,) = document.objects
    assert 2 <= sum(answer.propagated for answer in item.base.values()) < 8
    np.testing.assert_array_equal(labels.data, document.to_labels())


def test_it_goes_on_while_another_image_is_worked_on(
    stacked: SegmentWidget, canvas: Canvas, coins: NDArray[np.uint8]
) -> None:
    controller = clicked(stacked, canvas, FIRST)
    document = controller.document
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 1)
    controller.set_image(controller.viewer.add_image(coins, name="coins"))
    assert controller.propagating
    assert not stacked.propagation.isVisible()
    settle(controller)
    assert len(document.objects[0].masks) == PLANES
    controller.set_image(controller.viewer.layers["stack"])
    settle(controller)
    check(controller)
    assert stacked.propagation.isVisible()


def test_another_model_stops_it(stacked: SegmentWidget, canvas: Canvas, tmp_path) -> None:
    found = store.find("nano")
    assert found is not None
    other = tmp_path / found.name
    other.write_bytes(found.read_bytes())
    controller = clicked(stacked, canvas, FIRST)
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 1)
    controller.set_model(ModelChoice(str(other), "cpu"))
    until(lambda: not controller.propagating)
    settle(controller)
    count = states(stacked).count(1)
    assert 1 <= count < 8
    # With the other one, it can be done again.
    stacked.propagation.both_button.click()
    settle(controller)
    assert states(stacked).count(1) == 8


def test_the_widget_can_be_closed_meanwhile(stacked: SegmentWidget, canvas: Canvas, viewer: Viewer) -> None:
    controller = clicked(stacked, canvas, FIRST)
    document = controller.document
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 1)
    viewer.window.remove_dock_widget(stacked)
    turn()
    count = len(document.objects[0].masks)
    assert 2 <= count < PLANES
    QTest.qWait(300)
    assert len(document.objects[0].masks) == count


def test_what_there_is_not_to_do_is_said(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = stacked.controller
    assert not stacked.propagation.both_button.isEnabled()
    controller.propagate()
    assert "There is no object to propagate" in controller.status
    clicked(stacked, canvas, FIRST)
    controller.propagate("forward", reach=Reach(stop=4))
    settle(controller)
    assert "There is no plane to fill" in controller.status
    assert not controller.propagating
    controller.accept()
    # Points on the background alone are no mask.
    canvas.click(controller.image, SECOND, modifier=CTRL)
    settle(controller)
    controller.propagate()
    settle(controller)
    assert "Object 2 has no mask to start from" in controller.status
    assert not controller.propagating


def test_a_deleted_object_ends_it(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = clicked(stacked, canvas, FIRST)
    stacked.propagation.both_button.click()
    until(lambda: done(controller) >= 1)
    controller.delete_objects([controller.document.objects[0].uid])
    settle(controller)
    assert not controller.document.objects
    assert not controller.propagating
    assert not controller.labels.any()


def test_there_is_no_panel_for_an_image_of_one_plane(on_coins: Controller, widget: SegmentWidget) -> None:
    assert not widget.propagation.isVisible()
    on_coins.propagate()
    assert "single plane" in on_coins.status


# Axes


def test_time_and_depth(viewer: Viewer, open_widget: Callable[..., SegmentWidget], canvas: Canvas) -> None:
    """TZYX: along z at one time, then along t at one depth."""
    film = np.stack([np.roll(IMAGE, 3 * t, axis=2) for t in range(3)])
    widget = opened(
        viewer, open_widget, film, (1, 4), axis_labels=("t", "z", "y", "x"), scale=(1, 3, 0.5, 0.5)
    )
    controller, panel = clicked(widget, canvas, (1, *FIRST[:2], FIRST[2] + 3)), widget.propagation
    assert panel.axis_combo.isVisible()
    assert [panel.axis_combo.itemText(i) for i in range(2)] == ["t", "z"]
    assert controller.series_axis == 1
    assert panel.strip.describe(4) == "z 4: annotated"
    panel.both_button.click()
    settle(controller)
    (item,) = controller.document.objects
    assert sorted(plane.index[:2] for plane in item.masks) == [(1, z) for z in range(PLANES)]
    choose(panel.axis_combo, 0)
    assert controller.series_axis == 0
    assert states(widget) == [0, 2, 0]
    panel.both_button.click()
    settle(controller)
    assert states(widget) == [1, 2, 1]
    for t in range(3):
        assert iou(controller.labels[t, 4] == 1, np.roll(TRUTH, 3 * t, axis=2)[4] == 1) > 0.8
    # The strip goes through the other axis, and the plane stays where it is along the first.
    controller.go_to(2)
    turn()
    assert controller.session.plane == Plane((2, 4, None, None))
    check(controller)


def test_axes_in_another_order(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], canvas: Canvas
) -> None:
    """An image of (y, z, x): its planes are displayed with the axes rolled."""
    image = np.ascontiguousarray(IMAGE.transpose(1, 0, 2))
    widget = opened(viewer, open_widget, image, scale=(0.5, 4, 0.5))
    controller = widget.controller
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 4)
    viewer.reset_view()
    settle(controller)
    assert controller.session.plane == Plane((None, 4, None))
    assert controller.series_axes == [1]
    canvas.click(controller.image, (FIRST[1], 4, FIRST[2]))
    settle(controller)
    assert states(widget) == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    widget.propagation.both_button.click()
    settle(controller)
    labels = controller.labels
    for z in range(PLANES):
        assert iou(labels[:, z] == 1, TRUTH[z] == 1) > 0.75
    assert states(widget).count(1) == 8
    controller.go_to(8)
    turn()
    assert controller.session.plane == Plane((None, 8, None))
    check(controller)
    controller.undo()
    settle(controller)
    assert states(widget) == [0, 0, 0, 0, 2, 0, 0, 0, 0]


def test_channels_are_not_what_one_goes_through(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], canvas: Canvas
) -> None:
    image = np.stack([IMAGE, 255 - IMAGE], axis=1)
    widget = opened(viewer, open_widget, image, (4, 1), axis_labels=("z", "c", "y", "x"))
    controller = clicked(widget, canvas, (4, 1, *FIRST[1:]))
    assert controller.series_axis == 0
    widget.propagation.forward_button.click()
    settle(controller)
    (item,) = controller.document.objects
    assert sorted(plane.index[:2] for plane in item.masks) == [(z, 1) for z in range(4, PLANES)]
    assert iou(controller.labels[8, 1] == 1, TRUTH[8] == 1) > 0.75


def test_a_turned_image_is_gone_through_plane_by_plane(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget]
) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.1
    controller = opened(viewer, open_widget, IMAGE, affine=affine, scale=(2, 1, 1)).controller
    for position in (0, 8, 3):
        controller.go_to(position)
        turn()
        assert controller.series_position == position


def test_the_panel_looks_on_in_three_dimensions(
    stacked: SegmentWidget, canvas: Canvas, viewer: Viewer
) -> None:
    controller, panel = clicked(stacked, canvas, FIRST), stacked.propagation
    panel.both_button.click()
    until(lambda: done(controller) >= 1)
    viewer.dims.ndisplay = 3
    settle(controller)
    assert panel.isVisible()
    assert not panel.both_button.isEnabled()
    viewer.dims.ndisplay = 2
    settle(controller)
    assert states(stacked).count(1) == 8


# Divisions and tracks


def dividing() -> NDArray[np.uint8]:
    """A disc that becomes two after the fourth time."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    film = np.full((7, HEIGHT, WIDTH), 40, dtype=np.uint8)
    for t in range(7):
        apart = 0 if t < 4 else 16 + 2 * (t - 4)
        for side in (-1, 1):
            film[t][(y - 48) ** 2 + (x - 64 - side * apart) ** 2 < 11**2] = 150
    return film


def test_divisions_and_tracks(viewer: Viewer, open_widget: Callable[..., SegmentWidget]) -> None:
    film = dividing()
    widget = opened(viewer, open_widget, film, (2,), axis_labels=("t", "y", "x"))
    viewer.add_labels((film > 100).astype(np.int32), name="known")
    controller = widget.controller
    assert controller.set_result(viewer.layers["known"])
    panel, table = widget.propagation, widget.objects.table
    (mother,) = controller.document.objects
    panel.tracks_box.click()
    settle(controller)
    tracks = viewer.layers["stack: tracks"]
    assert isinstance(tracks, Tracks)
    assert len(np.unique(tracks.data[:, 0])) == 1
    table.select([mother.uid])
    table.picked.emit([mother.uid])
    # Where it is one part, there is nothing to divide.
    panel.divide_button.click()
    assert "one part only" in controller.status
    controller.go_to(4)
    turn()
    QTest.mouseClick(panel.divide_button, LEFT)
    settle(controller)
    assert "divides here, into 2 and 3" in controller.status
    mother, *daughters = controller.document.objects
    assert [item.parent for item in daughters] == [mother.uid] * 2
    assert sorted(plane.index[0] for plane in mother.masks) == [0, 1, 2, 3]
    assert all(sorted(plane.index[0] for plane in item.masks) == [4, 5, 6] for item in daughters)
    assert tracks.graph == {2: [1], 3: [1]}
    assert len(tracks.data) == 4 + 3 + 3
    assert {row.id: row.parent for row in table.rows} == {1: 0, 2: 1, 3: 1}
    check(controller)
    # By hand: away with it, and back.
    controller.set_parent([daughters[0].uid], 0)
    settle(controller)
    assert tracks.graph == {3: [1]}
    controller.relate([daughters[0].uid, mother.uid])
    settle(controller)
    assert tracks.graph == {2: [1], 3: [1]}
    # Without the mother, the daughters come from nobody.
    controller.delete_objects([mother.uid])
    settle(controller)
    assert {row.id: row.parent for row in table.rows} == {2: 0, 3: 0}
    assert tracks.graph == {}
    for _ in range(4):
        controller.undo()
    settle(controller)
    assert len(controller.document.objects) == 1
    assert tracks.graph == {}
    # Removed by the user, the layer stays away.
    viewer.layers.remove(tracks)
    turn()
    assert not panel.tracks_box.isChecked()
    controller.redo()
    settle(controller)
    assert "stack: tracks" not in viewer.layers


def test_tracks_follow_a_propagation(stacked: SegmentWidget, canvas: Canvas) -> None:
    controller = clicked(stacked, canvas, FIRST)
    active = controller.viewer.layers.selection.active
    stacked.propagation.tracks_box.click()
    settle(controller)
    tracks = controller.viewer.layers["stack: tracks"]
    assert len(tracks.data) == 1
    assert controller.viewer.layers.selection.active is active
    stacked.propagation.both_button.click()
    settle(controller)
    assert tracks.data[:, 1].tolist() == list(range(PLANES))
    # The disc goes down by two pixels from plane to plane.
    np.testing.assert_allclose(np.diff(tracks.data[:, 2]), 2, atol=1)
    stacked.propagation.tracks_box.click()
    assert "stack: tracks" not in controller.viewer.layers


def test_the_panel_stops_listening(stacked: SegmentWidget, viewer: Viewer) -> None:
    panel, controller = stacked.propagation, stacked.controller
    assert isinstance(panel, PropagationPanel)
    viewer.window.remove_dock_widget(stacked)
    turn()
    controller.propagation_changed.emit()
    assert len(controller.propagation_changed) == 0
