"""The widget that trains a model: with real processes, clicks on its buttons, and layers that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from canvas import turn, until
from napari import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton

from napari_sam import load_model
from napari_sam.training.progress import run_path
from napari_sam.ui.curves import Curve, Curves
from napari_sam.ui.training_run import _labelled_planes
from napari_sam.ui.training_widget import TrainingWidget
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui

SHORTEST = 0.1
"""Minutes."""


@pytest.fixture
def training(viewer: Viewer, tmp_path: Path) -> Iterator[TrainingWidget]:
    """The widget, docked, that writes into an empty folder; afterwards it is closed, and no process left."""
    widget = TrainingWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Train a model", area="right")
    widget.output_edit.setText(str(tmp_path / "mine.safetensors"))
    turn()
    yield widget
    thread = widget.run._thread
    if widget in viewer.window.dock_widgets.values():
        viewer.window.remove_dock_widget(widget)
    widget.close_training()
    if thread is not None:
        thread.join()
    widget.deleteLater()
    turn()


@pytest.fixture
def part(viewer: Viewer, coins: NDArray[np.uint8], true_coins: NDArray[np.int32]) -> None:
    """Some coins and their labels, as layers."""
    viewer.add_image(coins[150:, :200], name="coins")
    viewer.add_labels(true_coins[150:, :200], name="true")
    turn()


def click(button: QPushButton) -> None:
    assert button.isEnabled()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    turn()


def steps(widget: TrainingWidget) -> list[float]:
    return [step for step, _ in widget.loss_curves.curves[0].points]


@pytest.mark.usefixtures("part")
def test_a_model_is_trained_and_used(viewer: Viewer, training: TrainingWidget, tmp_path: Path) -> None:
    segment = SegmentWidget(viewer)
    viewer.window.add_dock_widget(segment, name="Segment", area="right")
    training.minutes_box.setValue(SHORTEST)
    training.part_combo.setCurrentIndex(training.part_combo.findData("decoder"))
    assert not training.use_button.isEnabled()
    assert training.start_button.text() == "Start"
    click(training.start_button)
    assert training.start_button.text() == "Stop"
    assert not training.model_combo.isEnabled()
    until(lambda: not training.run.running)
    assert training.said.text().startswith("Done."), training.said.text()
    assert steps(training)
    point, box = training.quality_curves.curves
    assert len(point.points) == len(box.points) >= 2
    assert training.bar.value() == training.bar.maximum()
    output = tmp_path / "mine.safetensors"
    assert load_model(output, device="cpu").name == str(output)
    # The next one goes elsewhere.
    assert training.output == tmp_path / "mine_2.safetensors"
    assert training.start_button.text() == "Start"
    click(training.use_button)
    controller = segment.controller
    until(lambda: controller.models.ready and controller.models.choice.name == str(output))
    assert segment.source.model_combo.currentText() == output.name
    viewer.window.remove_dock_widget(segment)
    segment.deleteLater()


@pytest.mark.usefixtures("part")
def test_stopped_it_goes_on_and_closed_it_ends(
    viewer: Viewer, training: TrainingWidget, tmp_path: Path
) -> None:
    output = tmp_path / "mine.safetensors"
    training.minutes_box.setValue(600)
    click(training.start_button)
    until(lambda: len(steps(training)) >= 1)
    click(training.start_button)
    assert training.said.text().startswith("Stopping")
    assert not training.start_button.isEnabled()
    until(lambda: not training.run.running)
    assert training.said.text().startswith("Stopped; Continue goes on."), training.said.text()
    done = steps(training)[-1]
    assert load_model(output, device="cpu")
    assert training.start_button.text() == "Continue"
    # It may get better: what is in use is a copy.
    click(training.use_button)
    (segment,) = (w for w in viewer.window.dock_widgets.values() if isinstance(w, SegmentWidget))
    models = segment.controller.models
    in_use = Path((models.wanted or models.choice).name)
    assert in_use.name.startswith("mine_step_")
    assert in_use.read_bytes() == output.read_bytes()
    viewer.window.remove_dock_widget(segment)
    segment.deleteLater()
    click(training.start_button)
    until(lambda: steps(training)[-1] > done)
    assert steps(training)[0] == 1
    process = training.run._process
    viewer.window.remove_dock_widget(training)
    assert process is not None
    until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert run_path(output).exists()
    assert load_model(output, device="cpu")


def test_what_is_wrong_is_said_and_can_be_mended(training: TrainingWidget, tmp_path: Path) -> None:
    assert not training.start_button.isEnabled()
    where = training.images.where_combo
    where.setCurrentIndex(1)
    where.activated.emit(1)
    assert not training.start_button.isEnabled()
    QTest.keyClicks(training.images.images_edit, str(tmp_path / "no folder"))
    QTest.keyClicks(training.images.labels_edit, str(tmp_path))
    click(training.start_button)
    until(lambda: not training.run.running)
    assert training.said.text().startswith("There is no folder or file")
    assert training.start_button.isEnabled()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_chosen_twice_has_a_name(training: TrainingWidget, tmp_path: Path) -> None:
    training.output_edit.setText(str(tmp_path / "my_nano.safetensors"))
    for _ in range(2):
        training.model_combo.picked.emit(str(tmp_path / "model_a.safetensors"))
        assert training.output.name == "my_model_a.safetensors"


def test_rows_follow_the_layers(viewer: Viewer, training: TrainingWidget) -> None:
    images = training.images
    assert images.empty.isVisible()
    first = viewer.add_image(np.zeros((20, 30)), name="one")
    viewer.add_labels(np.zeros((20, 31), int), name="of another size")
    turn()
    assert images.empty.isVisible()
    labels = viewer.add_labels(np.ones((20, 30), int), name="mine")
    turn()
    assert not images.empty.isVisible()
    box = images.combo_of(first)
    assert [box.itemText(i) for i in range(box.count())] == ["not used", "mine"]
    assert box.currentData() is labels
    assert training.start_button.isEnabled()
    # What the user chooses stays, whatever comes or goes.
    box.setCurrentIndex(0)
    assert not training.start_button.isEnabled()
    second = viewer.add_image(np.zeros((20, 30)), name="two")
    objects = viewer.add_labels(np.ones((20, 30), int), name="two: objects")
    turn()
    assert images.combo_of(first).currentData() is None
    assert images.combo_of(second).currentData() is objects
    (pair,) = images.pairs()
    labels_before = pair.labels.copy()
    objects.data[:] = 7
    np.testing.assert_array_equal(pair.labels, labels_before)
    viewer.layers.remove(objects)
    turn()
    assert images.combo_of(second).currentData() is None
    assert not training.start_button.isEnabled()


def test_only_models_with_attention_learn_by_lora(training: TrainingWidget) -> None:
    assert training.part_combo.findData("lora") < 0
    training.output_edit.setText(str(training.output.with_name("my_nano.safetensors")))
    training.model_combo.picked.emit("vit_b")
    assert training.part_combo.findData("lora") >= 0
    assert training.output.name == "my_vit_b.safetensors"
    training.model_combo.picked.emit("nano")
    assert training.part_combo.findData("lora") < 0


def test_curves_are_drawn(qtbot) -> None:
    curves = Curves("Loss", (0.0, 0.0))
    qtbot.addWidget(curves)
    curves.resize(320, 130)
    empty = pixels(curves)  # a title, and that there is nothing yet
    red, green = [200, 30, 30], [20, 160, 20]
    curves.show_curves(
        [
            Curve("a", "#c81e1e", [(1, 4.0), (50, 2.0), (100, 1.0)]),
            Curve("b", "#14a014", [(0, 0.5)], marked=True),
        ]
    )
    drawn = pixels(curves)
    assert not np.array_equal(empty, drawn)
    for colour in (red, green):
        assert (np.abs(drawn.astype(int) - colour).max(-1) < 12).sum() > 8
    # It falls from the left to the right.
    at = np.argwhere((np.abs(drawn.astype(int) - red).max(-1) < 12)[20:])
    left, right = at[at[:, 1] < 60, 0], at[at[:, 1] > 250, 0]
    assert left.mean() < right.mean()


def pixels(widget: Curves) -> NDArray[np.uint8]:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    data = image.bits().asarray(image.sizeInBytes())
    return np.array(data, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)[..., 2::-1]


@pytest.mark.usefixtures("part")
def test_a_name_that_is_being_typed(training: TrainingWidget, tmp_path: Path) -> None:
    edit = training.output_edit
    assert training.start_button.isEnabled()
    edit.clear()
    assert not training.start_button.isEnabled()
    training.start()
    assert not training.run.running
    QTest.keyClicks(edit, "~nobody_is_called_like_this")
    assert not training.start_button.isEnabled()
    edit.setText("a" * 300)
    assert training.start_button.text() == "Start"
    edit.setText(str(tmp_path / "mine.safetensors"))
    assert training.start_button.isEnabled()


def test_labels_that_are_computed_are_read_by_the_run(viewer: Viewer, training: TrainingWidget) -> None:
    stack = np.zeros((4, 20, 30), dtype=np.int32)
    stack[1:3, 5:9, 5:9] = 3
    read: list[int] = []

    def plane(block_info: dict) -> NDArray[np.int32]:
        number = block_info[None]["array-location"][0][0]
        read.append(number)
        return stack[number : number + 1]

    chunks = ((1,) * 4, (20,), (30,))
    image = viewer.add_image(np.arange(4)[:, None, None] + np.zeros(stack.shape), name="stack")
    labels = viewer.add_labels(da.map_blocks(plane, chunks=chunks, dtype=np.int32), name="stack: objects")
    turn()
    assert training.images.combo_of(image).currentData() is labels
    read.clear()
    (pair,) = training.images.pairs()
    assert not read
    images, ids = _labelled_planes(pair)
    np.testing.assert_array_equal(ids, stack[1:3])
    np.testing.assert_array_equal(images[:, 0, 0], [1, 2])
    assert sorted(read) == [0, 1, 2, 3]


def test_layers_that_are_gone_are_forgotten(viewer: Viewer, training: TrainingWidget) -> None:
    viewer.add_image(np.zeros((20, 30)), name="one")
    viewer.add_labels(np.ones((20, 30), int), name="mine")
    turn()
    assert training.images._seen
    viewer.layers.clear()
    turn()
    assert not training.images._seen
