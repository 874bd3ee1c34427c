"""Annotations in files: saved, opened, found again after a crash, and taken up by the next widget."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import napari
import numpy as np
import pytest
from canvas import Canvas, settle, turn
from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox
from skimage.data import coins

from napari_sam.annotation import Document, Source
from napari_sam.annotation.archive import load_annotation
from napari_sam.annotation.autosave import FOLDER_VARIABLE, Autosave
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where annotations are kept while one works."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "annotations"))
    return tmp_path / "annotations"


@pytest.fixture
def two_coins(on_coins: Controller, canvas: Canvas, centres) -> Controller:
    for at in centres[3:5]:
        canvas.click(on_coins.image, at)
        settle(on_coins)
        canvas.key(Qt.Key.Key_N)
    on_coins.set_class(on_coins.add_class("coin"), [on_coins.document.objects[0].uid])
    return on_coins


def same(a: Controller, path: Path) -> bool:
    return load_annotation(path)[0].objects == a.document.snapshot.objects


def test_what_is_saved_is_opened_again(
    two_coins: Controller, tmp_path: Path, canvas: Canvas, centres
) -> None:
    path = tmp_path / "coins with spaces – ü.napari-sam.zip"
    two_coins.save(path)
    settle(two_coins)
    assert "Saved 2 objects" in two_coins.status
    assert same(two_coins, path)
    saved, before = two_coins.document, two_coins.labels.copy()
    two_coins.delete_objects([item.uid for item in saved.objects])
    two_coins.open_annotation(path)
    settle(two_coins)
    assert "Opened 2 objects" in two_coins.status
    assert two_coins.document is not saved
    np.testing.assert_array_equal(two_coins.labels, before)
    assert two_coins.document.classes[0].name == "coin"
    # The prompts are there, too.
    first = two_coins.document.objects[0]
    two_coins.open_object(first.uid)
    np.testing.assert_allclose(two_coins.session.prompts.points.data, [centres[3]], atol=1)


def test_the_buttons_ask_for_a_file(
    widget: SegmentWidget, two_coins: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine.zip"), ""))
    widget.objects.save_button.click()
    settle(two_coins)
    path = tmp_path / "mine.napari-sam.zip"
    assert same(two_coins, path)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    widget.objects.open_button.click()
    settle(two_coins)
    assert len(two_coins.document) == 2


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_file_is_not_replaced_unless_one_says_so(
    widget: SegmentWidget, two_coins: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The dialog asks about the name that was typed, not about the one with its ending."""
    path = tmp_path / "mine.napari-sam.zip"
    path.write_text("yesterday's work")
    asked = []

    def question(_, title: str, text: str):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    widget.objects.save_button.click()
    settle(two_coins)
    assert asked == ["mine.napari-sam.zip exists already. Do you want to replace it?"]
    if answer == "Yes":
        assert same(two_coins, path)
    else:
        assert path.read_text() == "yesterday's work"


def test_two_images_are_saved_one_after_the_other(
    two_coins: Controller, tmp_path: Path, viewer: Viewer
) -> None:
    """While something else is done with files, both wait."""
    first, second = tmp_path / "a.napari-sam.zip", tmp_path / "b.napari-sam.zip"
    known, busy = two_coins.document.snapshot, threading.Event()
    two_coins._work.keep("busy", "Busy", lambda _: busy.wait(60), lambda _: None)
    two_coins.save(first)
    two_coins.set_image(viewer.add_image(np.zeros((20, 30), dtype=np.uint8), name="other"))
    two_coins.save(second)
    busy.set()
    settle(two_coins)
    assert load_annotation(first)[0].objects == known.objects
    assert load_annotation(second)[0].shape == (20, 30)


def test_an_annotation_of_another_image_is_refused(
    two_coins: Controller, tmp_path: Path, viewer: Viewer
) -> None:
    path = tmp_path / "a.napari-sam.zip"
    two_coins.save(path)
    settle(two_coins)
    two_coins.set_image(viewer.add_image(np.zeros((20, 30), dtype=np.uint8), name="other"))
    settle(two_coins)
    two_coins.open_annotation(path)
    with pytest.raises(ValueError, match="is of an image of shape"):
        settle(two_coins)
    assert len(two_coins.document) == 0
    # Of the same shape, it is opened, and the doubt is said.
    two_coins.set_image(viewer.add_image(np.zeros((303, 384), dtype=np.uint8), name="black"))
    settle(two_coins)
    two_coins.open_annotation(path)
    settle(two_coins)
    assert "was made on another image" in two_coins.status
    assert len(two_coins.document) == 2


def test_a_file_that_is_none_is_refused(two_coins: Controller, tmp_path: Path) -> None:
    path = tmp_path / "a.napari-sam.zip"
    path.write_bytes(b"not a zip file")
    two_coins.open_annotation(path)
    with pytest.raises(ValueError, match=r"a\.napari-sam\.zip"):
        settle(two_coins)
    assert len(two_coins.document) == 2


def test_naparis_own_menu_saves_and_opens(two_coins: Controller, tmp_path: Path, viewer: Viewer) -> None:
    path = str(tmp_path / "layer.napari-sam.zip")
    assert two_coins.result_layer.save(path, plugin="napari-sam") == [path]
    assert same(two_coins, Path(path))
    (layer,) = viewer.open(path, plugin="napari-sam")
    turn()
    assert layer.name == "layer"
    np.testing.assert_array_equal(layer.data, two_coins.labels)
    # Once objects go to it, it has all that was saved.
    before = two_coins.document.snapshot.objects
    assert two_coins.set_result(layer)
    assert two_coins.document.snapshot.objects == before
    assert two_coins.document.classes[0].name == "coin"


def test_any_labels_can_be_saved_as_an_annotation(viewer: Viewer, true_coins, tmp_path: Path) -> None:
    path = str(tmp_path / "plain.napari-sam.zip")
    layer = viewer.add_labels(true_coins, name="plain")
    assert layer.save(path, plugin="napari-sam") == [path]
    objects = load_annotation(path)[0].objects
    assert {item.source for item in objects} == {Source.IMPORTED}
    assert sorted(item.id for item in objects) == np.unique(true_coins)[1:].tolist()


def written(layer: Labels, path: Path) -> Document:
    """What napari's own menu writes of a layer."""
    assert layer.save(str(path), plugin="napari-sam") == [str(path)]
    return Document.of(load_annotation(path)[0])


def test_a_layer_is_saved_as_it_is_seen(
    two_coins: Controller, widget: SegmentWidget, viewer: Viewer, tmp_path: Path
) -> None:
    document, layer, path = two_coins.document, two_coins.result_layer, tmp_path / "a.napari-sam.zip"
    known = document.snapshot
    # A copy, as of napari's menu of layers; the metadata are copied, too.
    data, meta, kind = layer.as_layer_data_tuple()
    copy = viewer.add_layer(Layer.create(data.copy(), {**meta, "name": "copy"}, kind))
    assert written(copy, path).snapshot.objects == known.objects
    copy.brush_size = 5
    copy.paint((10, 10), 9)
    found = written(copy, path)
    np.testing.assert_array_equal(found.to_labels(), copy.data)
    assert found.with_id(1) == document.with_id(1)
    assert found.with_id(9).source == Source.PAINTED
    # A part of it has no place for the prompts.
    part = Labels(data[:20, :30].copy(), metadata=dict(layer.metadata))
    part.data[:3, :3] = 4
    found = written(part, path)
    np.testing.assert_array_equal(found.to_labels(), part.data)
    # Nobody was asked whether the document may change.
    assert document.snapshot == known
    # The layer itself, which nobody follows once the widget is closed.
    viewer.window.remove_dock_widget(widget)
    turn()
    layer.brush_size = 5
    layer.paint((10, 10), 9)
    layer.paint((200, 200), 0)
    found = written(layer, path)
    np.testing.assert_array_equal(found.to_labels(), layer.data)
    assert {9} < set(np.unique(layer.data))
    assert found.with_id(1).prompts == document.with_id(1).prompts
    assert document.with_id(9) is None


def test_what_a_killed_program_left_is_offered(
    folder: Path, viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins
) -> None:
    environment = {**os.environ, "NAPARI_CONFIG": str(folder.parent / "settings.yaml")}
    program = Path(__file__).with_name("annotating.py")
    with subprocess.Popen(
        [sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, text=True
    ) as annotating:
        try:
            assert annotating.stdout.readline() == "accepted\n"
        finally:
            annotating.kill()
    widget = open_widget()
    controller = widget.controller
    settle(controller)
    assert "unsaved annotations of “coins”" in controller.status
    viewer.add_image(coins, name="the same coins")
    turn()
    settle(controller)
    assert widget.recovery.isVisible()
    assert "2 objects" in widget.recovery.label.text()
    widget.recovery.recover_button.click()
    settle(controller)
    assert not widget.recovery.isVisible()
    assert [(item.id, item.accepted) for item in controller.document.objects] == [(1, True), (2, True)]
    assert all(item.prompts for item in controller.document.objects)
    np.testing.assert_array_equal(controller.labels, controller.document.to_labels())
    # It is put away now that it is in another file.
    assert len(list((folder / "discarded").glob("*.sqlite"))) == 1
    assert len(list(folder.glob("*.sqlite"))) == 1


def test_an_offer_can_be_dismissed(
    folder: Path, viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins, true_coins
) -> None:
    left = Document(coins.shape)
    left.add_objects(drafts_of_labels(true_coins))
    file = Autosave().attach(left, ImageIdentity.of(coins), "coins")
    assert file.flush()
    file.close()
    viewer.add_image(coins, name="coins")
    widget = open_widget()
    settle(widget.controller)
    assert widget.recovery.isVisible()
    widget.recovery.dismiss_button.click()
    assert not widget.recovery.isVisible()
    assert len(widget.controller.document) == 0
    assert len(list((folder / "discarded").glob("*.sqlite"))) == 1


def test_a_damaged_file_is_said_and_kept(
    folder: Path, viewer: Viewer, open_widget: Callable[..., SegmentWidget], coins
) -> None:
    folder.mkdir()
    digest = ImageIdentity.of(coins).digest.rpartition(":")[2][:16]
    damaged = folder / f"{digest}-20260101T000000-00000000.sqlite"
    damaged.write_bytes(b"not a database" * 100)
    viewer.add_image(coins, name="coins")
    widget = open_widget()
    settle(widget.controller)
    assert "cannot be opened" in widget.recovery.label.text()
    assert not widget.recovery.recover_button.isEnabled()
    assert damaged.read_bytes() == b"not a database" * 100


def test_what_was_saved_is_not_kept_twice(two_coins: Controller, folder: Path, tmp_path: Path) -> None:
    assert two_coins.session.result.autosave.flush()
    assert len(list(folder.glob("*.sqlite"))) == 1
    two_coins.save(tmp_path / "a.napari-sam.zip")
    settle(two_coins)
    assert not list(folder.glob("*.sqlite"))
    two_coins.undo()
    assert two_coins.session.result.autosave.flush()
    assert len(list(folder.glob("*.sqlite"))) == 1


def test_an_image_with_a_broken_plane_is_worked_on_and_saved(
    viewer: Viewer, open_widget: Callable[..., SegmentWidget], tmp_path: Path, folder: Path
) -> None:
    def read(block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"][0] == 2:
            raise OSError("disk is gone")
        return coins()[None]

    lazy = dask.array.map_blocks(read, chunks=((1, 1, 1), *((n,) for n in coins().shape)), dtype=np.uint8)
    viewer.add_image(lazy, name="film", contrast_limits=(0, 255))
    viewer.dims.set_current_step(0, 0)
    controller = open_widget().controller
    settle(controller)
    controller.add_point((0, 196, 102))
    controller.wait()
    controller.accept()
    assert controller.session.result.autosave.flush()
    assert len(list(folder.glob("*.sqlite"))) == 1
    controller.save(tmp_path / "film.napari-sam.zip")
    settle(controller)
    assert "Saved 1 object" in controller.status
    assert same(controller, tmp_path / "film.napari-sam.zip")


def test_the_next_widget_goes_on(
    two_coins: Controller, widget: SegmentWidget, viewer: Viewer, open_widget: Callable[..., SegmentWidget]
) -> None:
    document = two_coins.document
    viewer.window.remove_dock_widget(widget)
    turn()
    layer = viewer.layers["coins: objects"]
    layer.data_setitem((np.array([0, 0]), np.array([0, 1])), 9)  # while nobody looks
    again = open_widget()
    settle(again.controller)
    assert again.controller.document is document
    assert again.controller.result_layer is layer
    assert again.controller.offer is None
    assert document.with_id(9).area == 2
    again.controller.undo()
    assert document.with_id(9) is None
    assert document.undo_text.startswith("Class of")


def test_the_layers_have_no_secrets(two_coins: Controller, tmp_path: Path) -> None:
    """Other plugins may write metadata to JSON."""
    import json

    assert isinstance(two_coins.result_layer, napari.layers.Labels)
    json.dumps(two_coins.result_layer.metadata)
