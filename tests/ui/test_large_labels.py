"""Labels layers whose objects take a while to read: nobody waits for them."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import check, settle
from napari import Viewer
from napari.layers import Labels

from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

SHAPE = 2, 2000, 1200  # more pixels than are read at once


@pytest.fixture
def large(open_widget, viewer: Viewer) -> tuple[SegmentWidget, Labels]:
    """A stack, and a layer with three objects of it."""
    viewer.add_image(np.zeros((8, 8), dtype=np.uint8))  # a Labels layer alone crashes software OpenGL
    viewer.add_image(np.zeros(SHAPE, dtype=np.uint8), name="stack")
    widget = open_widget()
    known = np.zeros(SHAPE, dtype=np.int32)
    known[0, 100:200, 100:200] = 3
    known[:, 500:600, 100:300] = 8
    known[1, 900:950, 700:900] = 21
    labels = viewer.add_labels(known, name="known")
    settle(widget.controller)
    return widget, labels


def choose(widget: SegmentWidget, labels: Labels | None) -> Controller:
    """Choose a layer in the widget, as a user does."""
    box = widget.source.result_combo
    index = [box.itemData(i) for i in range(box.count())].index(labels)
    box.setCurrentIndex(index)
    box.activated.emit(index)
    return widget.controller


def test_the_layer_before_goes_on_until_the_objects_are_read(large) -> None:
    widget, labels = large
    controller = choose(widget, labels)
    assert controller.result_layer is None
    assert controller.chosen_layer is labels
    assert widget.source.result_combo.currentData() is labels
    assert controller.busy
    settle(controller)
    assert controller.result_layer is controller.chosen_layer is labels
    assert [item.id for item in controller.document.objects] == [3, 8, 21]
    assert not controller.document.undo_text
    check(controller)


def test_what_is_painted_meanwhile_is_taken_over(large) -> None:
    widget, labels = large
    controller = choose(widget, labels)
    labels.data_setitem((np.array([1, 1]), np.array([1500, 1501]), np.array([40, 40])), 30)
    labels.data_setitem((np.array([0]), np.array([150]), np.array([150])), 0)
    settle(controller)
    assert [item.id for item in controller.document.objects] == [3, 8, 21, 30]
    assert controller.document.with_id(3).area == 100 * 100 - 1
    check(controller)


def test_another_choice_is_the_one_that_counts(large, viewer: Viewer) -> None:
    widget, labels = large
    small = viewer.add_labels(np.zeros(SHAPE, dtype=np.uint8), name="other")
    choose(widget, labels)
    controller = choose(widget, small)
    settle(controller)
    assert controller.result_layer is small
    choose(widget, labels)
    choose(widget, None)
    settle(controller)
    assert controller.result_layer is None
    assert not len(controller.document)


@pytest.mark.parametrize("gone", ["labels", "image"])
def test_a_layer_that_goes_is_not_waited_for(large, viewer: Viewer, gone: str) -> None:
    widget, labels = large
    controller = choose(widget, labels)
    viewer.layers.remove(labels if gone == "labels" else controller.image)
    settle(controller)
    assert controller.chosen_layer is controller.result_layer is None


def test_labels_that_cannot_be_objects_are_refused(large, viewer: Viewer) -> None:
    widget, _ = large
    data = np.zeros(SHAPE, dtype=np.uint64)
    data[0, 0, 0] = 2**63
    wide = viewer.add_labels(data, name="wide")
    controller = choose(widget, wide)
    settle(controller)
    assert controller.chosen_layer is controller.result_layer is None
    assert "63 bits" in controller.notice


def test_a_script_has_the_objects_at_once(large) -> None:
    widget, labels = large
    controller = choose(widget, labels)
    assert controller.set_result(labels)
    assert controller.result_layer is labels
    assert len(controller.document) == 3
    settle(controller)
    assert len(controller.document) == 3
