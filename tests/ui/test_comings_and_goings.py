"""Layers that are removed, replaced or come back while something is done with them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from canvas import check, settle, turn, until
from napari import Viewer
from skimage import data

from napari_sam.annotation.recovery import Recoverable
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


def segment(controller: Controller, at) -> None:
    """An accepted object at a place."""
    controller.add_point(at)
    settle(controller)
    controller.accept()
    settle(controller)


@pytest.fixture
def other(on_coins: Controller, viewer: Viewer):
    """A second image, which is not chosen."""
    image = viewer.add_image(data.coins()[::-1].copy(), name="other")
    turn()
    return image


def test_an_image_that_changed_its_shape_meanwhile_begins_anew(
    on_coins: Controller, other, viewer: Viewer, centres
) -> None:
    image, before = on_coins.image, on_coins.document
    segment(on_coins, centres[3])
    labels = on_coins.result_layer
    on_coins.set_image(other)
    settle(on_coins)
    image.data = np.ascontiguousarray(image.data[:200, :300])
    on_coins.set_image(image)
    settle(on_coins)
    assert on_coins.document is not before
    assert on_coins.document.shape == (200, 300)
    assert not len(on_coins.document)
    assert "another shape" in on_coins.status
    assert labels in viewer.layers
    assert labels.data.any()


def test_what_was_deleted_with_its_layers_is_offered_again(
    on_coins: Controller, viewer: Viewer, centres
) -> None:
    for at in centres[3], centres[12]:
        segment(on_coins, at)
    before = on_coins.labels.copy()
    viewer.layers.select_all()
    viewer.layers.remove_selected()  # what Ctrl+A and Delete do
    assert list(viewer.layers) == []
    settle(on_coins)
    assert on_coins.image is None
    assert "removed" in on_coins.status
    assert "stay in their layer" not in on_coins.status
    assert list(viewer.layers) == []
    on_coins.set_image(viewer.add_image(data.coins(), name="again"))
    settle(on_coins)
    assert on_coins.offer is not None
    on_coins.recover()
    settle(on_coins)
    np.testing.assert_array_equal(on_coins.labels, before)


def test_objects_whose_layer_was_removed_meanwhile_are_shown_on_return(
    on_coins: Controller, other, viewer: Viewer, centres
) -> None:
    segment(on_coins, centres[3])
    image, before = on_coins.image, on_coins.labels.copy()
    labels = on_coins.result_layer
    on_coins.set_image(other)
    settle(on_coins)
    viewer.layers.remove(labels)
    on_coins.set_image(image)
    settle(on_coins)
    assert on_coins.result_layer in viewer.layers
    np.testing.assert_array_equal(on_coins.labels, before)
    check(on_coins)


def test_the_removed_layer_of_classes_gives_way_to_the_objects(
    widget: SegmentWidget, viewer: Viewer, centres
) -> None:
    controller = widget.controller
    segment(controller, centres[3])
    controller.show_classes(True)
    assert not controller.result_layer.visible
    viewer.layers.remove(controller.session.result.class_labels)
    settle(controller)
    assert controller.result_layer.visible
    assert not widget.objects.classes_button.isChecked()
    controller.show_classes(True)
    assert controller.classes_shown
    check(controller)


def test_an_offer_stays_if_another_image_is_chosen_while_it_is_read(
    on_coins: Controller, centres, monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    segment(on_coins, centres[3])
    viewer.layers.clear()
    settle(on_coins)
    other = viewer.add_image(data.coins()[::-1].copy(), name="other")
    image = viewer.add_image(data.coins(), name="again")
    on_coins.set_image(image)
    settle(on_coins)
    offer = on_coins.offer
    chosen, load = threading.Event(), Recoverable.load

    def slowly(self: Recoverable):
        assert chosen.wait(60)
        return load(self)

    monkeypatch.setattr(Recoverable, "load", slowly)
    on_coins.recover()
    on_coins.set_image(other)
    chosen.set()
    settle(on_coins)
    assert not len(on_coins.document)
    on_coins.set_image(image)
    settle(on_coins)
    assert on_coins.offer is offer
    on_coins.recover()
    settle(on_coins)
    assert len(on_coins.document) == 1


def test_new_pixels_stop_what_goes_through_the_old_ones(viewer: Viewer, open_widget) -> None:
    stack = np.stack([data.coins()[:160, :160]] * 12)
    viewer.add_image(stack, name="stack")
    controller = open_widget().controller
    viewer.dims.set_current_step(0, 0)
    settle(controller)
    controller.add_point((0, 116, 101))
    settle(controller)
    said = []
    controller.changed.connect(lambda: said.append(controller.notice))
    controller.propagate()
    until(lambda: controller.propagation_progress[0] > 0 or not controller.propagating)
    controller.image.data = np.zeros_like(stack)
    settle(controller)
    assert any("has other pixels" in sentence for sentence in said)
    assert controller.propagation_progress[0] < 11
    controller.find_everything(all_planes=True)
    until(lambda: controller.finding)
    controller.image.data = stack
    settle(controller)
    assert len(controller.planes_found) < 12


def test_what_is_done_with_one_image_says_nothing_about_another(viewer: Viewer, open_widget) -> None:
    stack = viewer.add_image(np.stack([data.coins()[:160, :160]] * 6), name="stack")
    controller = open_widget().controller
    viewer.dims.set_current_step(0, 0)
    settle(controller)
    controller.add_point((0, 116, 101))
    settle(controller)
    controller.propagate()
    controller.set_image(viewer.add_image(data.coins(), name="other"))
    settle(controller)
    assert "propagated" not in controller.status
    controller.set_image(stack)
    settle(controller)
    assert len(controller.document.current.masks) > 1


def test_a_read_only_array_is_refused(on_coins: Controller, viewer: Viewer, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(on_coins.image.data.shape, dtype=np.int32))
    labels = viewer.add_labels(np.load(tmp_path / "labels.npy", mmap_mode="r"), name="mapped")
    assert not on_coins.set_result(labels)
    assert "'mapped' is read-only" in on_coins.status
    assert on_coins.result_layer is None


def test_a_layer_whose_file_is_gone_is_refused(
    widget: SegmentWidget, viewer: Viewer, centres, tmp_path: Path
) -> None:
    controller = widget.controller
    segment(controller, centres[3])
    mine = controller.result_layer
    path = tmp_path / "a.napari-sam.zip"
    controller.save(path)
    settle(controller)
    (labels,) = viewer.open(path, plugin="napari-sam")
    path.rename(tmp_path / "b.napari-sam.zip")
    box = widget.source.result_combo
    index = [box.itemData(i) for i in range(box.count())].index(labels)
    box.setCurrentIndex(index)
    box.activated.emit(index)
    assert "a.napari-sam.zip" in controller.status
    assert controller.result_layer is mine
    assert box.currentData() is mine


def test_colours_in_the_table_follow_the_layer(widget: SegmentWidget, centres) -> None:
    controller = widget.controller
    segment(controller, centres[3])
    labels, before = controller.result_layer, widget.objects.table.rows[0].colour
    labels.new_colormap(seed=17)
    turn()
    after = widget.objects.table.rows[0].colour
    assert after != before
    assert after == pytest.approx(labels.get_color(1))
