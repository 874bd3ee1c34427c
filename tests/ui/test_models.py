"""Choosing models and devices: real downloads from a server on this computer, real checkpoints."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import http_server as http
import numpy as np
import pytest
import torch
from canvas import PATIENCE, settle, turn, until
from napari.settings import get_plugin_settings
from napari.utils import progress
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, PluginManifest
from qtpy.QtWidgets import QFileDialog
from unreliable import FAILED, OUT_OF_MEMORY, Unreliable

import napari_sam
from napari_sam.errors import DeviceError, DownloadCancelled, ModelError
from napari_sam.inference.embedding_store import STORE_BYTES, set_embedding_limit, usual_store
from napari_sam.models import store
from napari_sam.models.checkpoint import read_state
from napari_sam.models.zoo import ZOO
from napari_sam.ui.catalogue import size_in_words
from napari_sam.ui.controller import Controller
from napari_sam.ui.propagating import Reach
from napari_sam.ui.segmenter import ModelChoice
from napari_sam.ui.widget import SegmentWidget

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("folder")]

SOME = 92 * 65_536
"""Bytes after which the server hesitates: 6 MB, in whole chunks."""


def downloading(controller: Controller) -> bool:
    return controller.models._downloads._worker.running


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model than the one in the package: its masks are larger."""
    state = read_state(store.find("nano"))
    for number in range(4):
        state[f"mask_decoder.hypernetworks.{number}.layers.2.bias"][-1] += 3
    path = tmp_path_factory.mktemp("mine") / "mine.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def publish(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., http.FileServer]]:
    """Put that model into the zoo, as "large", behind a server."""
    content = checkpoint.read_bytes()
    with ExitStack() as stack:

        def put(*script: http.Answer) -> http.FileServer:
            server = stack.enter_context(http.serving(content, *script))
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            info = replace(ZOO["nano"], name="large", url=server.url, digest=digest, nbytes=len(content))
            monkeypatch.setitem(ZOO, "large", info)
            return server

        yield put


def pick(widget: SegmentWidget, text: str) -> None:
    """What a click on a line of the list of models does."""
    combo = widget.source.model_combo
    combo._fill()  # the zoo has changed since the widget was opened
    index = combo.findText(text)
    assert index >= 0
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def arrives(widget: SegmentWidget) -> None:
    """Wait until some of the download is there."""
    models = widget.controller.models
    until(lambda: models.download is not None and models.download.done >= SOME)
    until(lambda: widget.source.download_row._latest[0] == models.download)


def work(controller: Controller, centres: list[tuple[float, float]]) -> dict[str, object]:
    """One object accepted, another one with a point and a box; what must not change by choosing a model."""
    controller.add_point(centres[3])
    settle(controller)
    controller.accept()
    controller.add_point(centres[12])
    controller.add_box(np.subtract(centres[12], 25), np.add(centres[12], 25))
    settle(controller)
    return state(controller)


def state(controller: Controller) -> dict[str, object]:
    prompts = controller.session.prompts
    return {
        "layers": list(controller.viewer.layers),
        "current": controller.session.document.current.id,
        "points": prompts.points.data.tolist(),
        "boxes": [box.tolist() for box in prompts.shapes.data],
        "accepted": (controller.result_layer.data == 1).tobytes(),
    }


def area(controller: Controller, label: int = 2) -> int:
    return int((controller.result_layer.data == label).sum())


@pytest.fixture
def widget(viewer, coins, open_widget) -> SegmentWidget:
    viewer.add_image(coins, name="coins")
    widget = open_widget()
    settle(widget.controller)
    return widget


def test_a_download_goes_on_behind_the_work(publish, widget, centres) -> None:
    server = publish(http.hang(SOME))
    controller = widget.controller
    before = work(controller, centres)
    small = area(controller)
    bars = set(progress._all_instances)
    pick(widget, "large")
    arrives(widget)
    assert widget.source.download_row.isVisible()
    whole = size_in_words(len(server.content))
    assert (
        widget.source.download_row.label.text()
        == f"Downloading large: 6 MB of {whole}. Until then, nano segments."
    )
    assert widget.source.model_combo.currentText() == "large"
    (bar,) = set(progress._all_instances) - bars
    assert bar.desc.startswith("Downloading large")
    assert (bar.n, bar.total) == (widget.source.download_row.bar.value(), len(server.content) // 1000)

    # The model before is at work meanwhile.
    controller.accept()
    controller.add_point(centres[5])
    until(lambda: not controller.busy)
    assert area(controller, 3) > 100
    controller.reject()
    assert controller.models.choice.name == "nano"

    controller.add_point(centres[12])
    until(lambda: not controller.busy)
    third = area(controller, 3)
    before = state(controller)
    server.released.set()
    settle(controller)
    assert controller.models.choice.name == "large"
    assert not widget.source.download_row.isVisible()
    assert set(progress._all_instances) == bars
    assert state(controller) == before
    assert area(controller) == small
    assert area(controller, 3) > 0
    assert area(controller, 3) != third
    assert store.find("large") is not None
    assert "large on cpu" in widget.objects.count_label.text()


def test_a_cancelled_download_goes_on_next_time(publish, widget, centres, folder) -> None:
    server = publish(http.hang(SOME))
    controller = widget.controller
    before = work(controller, centres)
    pick(widget, "large")
    arrives(widget)
    widget.source.download_row.button.click()
    assert not widget.source.download_row.isVisible()
    assert "was cancelled" in controller.status
    assert widget.source.model_combo.currentText() == "nano"
    settle(controller)
    # The server still hangs, and never came to the end.
    until(lambda: not downloading(controller))
    assert not server.released.is_set()
    assert (folder / "large.pth.part").stat().st_size >= SOME
    assert state(controller) == before

    server.released.set()
    pick(widget, "large")
    settle(controller)
    assert controller.models.choice.name == "large"
    assert server.requests[0].get("Range") is None
    assert int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-")) >= SOME
    assert state(controller) == before


def test_a_model_that_is_not_to_be_had_leaves_the_old_one(publish, widget, centres, tmp_path) -> None:
    publish(http.status(404))
    controller = widget.controller
    before = work(controller, centres)
    known = len(notification_manager.records)
    pick(widget, "large")
    with pytest.raises(ModelError, match="404"):
        controller.wait(PATIENCE)
    assert "404" in controller.status
    assert len(notification_manager.records) == known + 1
    assert widget.source.model_combo.currentText() == "nano"

    broken = tmp_path / "broken.pth"
    broken.write_text("no weights")
    controller.set_model(ModelChoice(str(broken), "cpu"))
    with pytest.raises(ModelError, match="broken"):
        controller.wait(PATIENCE)
    assert "broken.pth" in controller.status
    assert state(controller) == before
    controller.accept()
    controller.add_point(centres[5])
    settle(controller)
    assert area(controller, 3) > 100


def test_a_checkpoint_of_ones_own(widget, centres, checkpoint, monkeypatch) -> None:
    controller = widget.controller
    before = work(controller, centres)
    small = area(controller)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    pick(widget, "Open checkpoint…")
    assert widget.source.model_combo.currentText() == "nano"
    assert not controller.models.busy
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(checkpoint), ""))
    pick(widget, "Open checkpoint…")
    settle(controller)
    assert widget.source.model_combo.currentText() == "mine.pth"
    assert str(checkpoint) in widget.source.model_combo.toolTip()
    assert state(controller) == before
    assert area(controller) > small
    pick(widget, "nano")
    settle(controller)
    assert area(controller) == small


def test_another_device_keeps_everything(widget, centres) -> None:
    controller = widget.controller
    before = work(controller, centres)
    size = area(controller)
    combo = widget.source.device_combo
    assert [combo.itemText(i) for i in range(combo.count())][:1] == ["auto"]
    first = controller._work._segmenter._model
    combo.setCurrentText("cpu")
    combo.activated.emit(combo.currentIndex())
    settle(controller)
    assert controller.models.choice == ModelChoice("nano", "cpu")
    assert controller._work._segmenter._model is not first
    assert state(controller) == before
    assert area(controller) == size
    known = len(notification_manager.records)
    controller.set_model(ModelChoice("nano", "cuda:77"))
    with pytest.raises(DeviceError, match="cuda:77"):
        controller.wait(PATIENCE)
    assert len(notification_manager.records) == known + 1
    assert combo.currentText() == "cpu"
    assert state(controller) == before


def test_a_script_may_begin_with_a_model_that_is_not_there_yet(publish, viewer, coins, centres) -> None:
    server = publish(http.hang(SOME), http.well)
    controller = napari_sam.annotate(viewer, viewer.add_image(coins, name="coins"), model="large")
    try:
        controller.add_point(centres[3])
        until(lambda: controller.models.download is not None and controller.models.download.done >= SOME)
        assert "You can click already" in controller.status
        assert controller.result_layer is None
        server.released.set()
        assert (controller.labels == 1).sum() > 100
        assert controller.models.choice.name == "large"
    finally:
        viewer.window.remove_dock_widget("all")
    turn()
    assert controller.closed


def test_clicks_before_any_model_wait_for_one(publish, viewer, coins, centres, open_widget) -> None:
    publish(http.status(404))
    image = viewer.add_image(coins, name="coins")
    widget = open_widget(image=image, model="large")
    controller = widget.controller
    controller.add_point(centres[3])
    with pytest.raises(ModelError, match="404"):
        controller.wait(PATIENCE)
    assert not controller.busy
    pick(widget, "nano")
    settle(controller)
    assert area(controller, 1) > 100


@pytest.mark.parametrize("how", ["download cancelled", "download failed", "cancelled", "image removed"])
def test_a_propagation_that_waits_for_the_first_model(publish, viewer, open_widget, how: str) -> None:
    server = publish(http.hang(SOME), *[http.status(404)] * 5)
    film = np.full((5, 64, 64), 40, dtype=np.uint8)
    film[:, 20:40, 20:40] = 150
    known = np.where(np.arange(5)[:, np.newaxis, np.newaxis] == 2, film > 100, 0)
    viewer.add_image(film, name="other")
    image = viewer.add_image(film, name="film")
    widget = open_widget(image=image, model="large")
    controller, panel = widget.controller, widget.propagation
    panel.button.click()
    assert controller.set_result(viewer.add_labels(known, name="known"))
    arrives(widget)
    controller.propagate(reach=Reach(all_objects=True))
    turn()
    assert controller.propagating
    assert panel.running.isVisible()
    if how == "download cancelled":
        widget.source.download_row.button.click()
        said = "was cancelled"
    elif how == "download failed":
        server.released.set()
        until(lambda: not controller.models.busy)
        said = "404"
    elif how == "cancelled":
        panel.cancel_button.click()
        said = "Stopped: nothing was changed"
    else:
        viewer.layers.remove("film")
        said = "The image was removed"
    assert not controller.propagating
    assert said in controller.status
    assert how == "image removed" or panel.both_button.isEnabled() == bool(controller.targets)
    if "download" in how:
        with pytest.raises((DownloadCancelled, ModelError), match=said):
            controller.wait(PATIENCE)
    else:
        widget.source.download_row.button.click()
    # With another one, it can be done.
    pick(widget, "nano")
    with suppress(DownloadCancelled):
        settle(controller)
    if how != "image removed":
        controller.propagate(reach=Reach(all_objects=True))
        settle(controller)
        assert "found on 4 of 4 planes" in controller.status


def test_closing_stops_a_download(publish, widget, viewer) -> None:
    server = publish(http.hang(SOME))
    bars = set(progress._all_instances)
    pick(widget, "large")
    arrives(widget)
    viewer.window.remove_dock_widget(widget)
    assert set(progress._all_instances) == bars
    until(lambda: not downloading(widget.controller))
    assert not server.released.is_set()


def test_preferences_are_followed(publish, viewer, open_widget, coins, folder, monkeypatch, tmp_path) -> None:
    server = publish()
    with installed():
        settings = get_plugin_settings("napari-sam").models
        assert (settings.model, settings.device, settings.folder) == ("nano", "auto", "")
        assert settings.embeddings * 2**30 == STORE_BYTES
        monkeypatch.setenv("NAPARI_SAM_EMBEDDINGS", str(tmp_path / "embeddings"))
        settings.embeddings = 0.5
        monkeypatch.delenv(store.FOLDER_VARIABLE)
        settings.folder = str(tmp_path / "elsewhere")
        settings.device = "cpu"
        settings.model = "vit_t"
        viewer.add_image(coins, name="coins")
        widget = open_widget()
        settle(widget.controller)
        # Opening the widget downloads nothing.
        assert widget.controller.models.choice == ModelChoice("nano", "cpu")
        assert "vit_t is not on this computer yet" in widget.controller.status
        assert store.model_folder() == tmp_path / "elsewhere"
        pick(widget, "large")
        settle(widget.controller)
        assert len(server.requests) == 1
        assert (tmp_path / "elsewhere" / "large.pth").exists()
        assert usual_store().limit == 2**29
        assert not folder.exists()


@contextmanager
def installed() -> Iterator[None]:
    """The plugin as napari knows it, with settings as at the first start."""
    path = Path(napari_sam.__file__).parent / "napari.yaml"
    manifest = PluginManifest.from_file(path)
    plugins = PluginManager.instance()
    known = manifest.name in plugins
    if not known:
        plugins.register(manifest)
    try:
        yield
    finally:
        settings = get_plugin_settings("napari-sam").models
        settings.model, settings.device, settings.folder = "nano", "auto", ""
        settings.embeddings = 4.0
        set_embedding_limit(None)
        store.set_model_folder(None)
        if not known:
            plugins.unregister(manifest.name)


@pytest.mark.parametrize("error", [OUT_OF_MEMORY[0], FAILED], ids=["memory", "failure"])
def test_a_device_that_fails_costs_nothing(widget, centres, error) -> None:
    controller = widget.controller
    before = work(controller, centres)
    size = area(controller)
    healthy = True
    model = Unreliable(lambda _: None if healthy else error)
    controller._work._segmenter._model = model
    known = len(notification_manager.records)
    healthy = False
    controller.accept()
    controller.add_point(centres[5])
    settle(controller)
    assert model.device == torch.device("cpu")
    assert len(notification_manager.records) == known + 1
    assert "goes on on the CPU" in notification_manager.records[-1].message
    assert controller.device == "cpu"
    assert area(controller, 3) > 100
    assert area(controller) == size
    assert state(controller)["accepted"] == before["accepted"]


def test_a_device_that_keeps_the_weights_costs_nothing(widget, centres) -> None:
    class Lost(Unreliable):
        def prepare(self, *_: object):
            raise FAILED

    controller = widget.controller
    work(controller, centres)
    segmenter = controller._work._segmenter
    segmenter._model = Lost(lambda _: FAILED)
    controller.accept()
    controller.add_point(centres[5])
    settle(controller)
    assert "was loaded again on the CPU" in notification_manager.records[-1].message
    assert area(controller, 3) > 100


def test_large_planes_are_abandoned_for_newer_ones(viewer, open_widget) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 1024, 1024), dtype=np.uint8)
    image = viewer.add_image(stack, name="stack")
    controller = open_widget(image=image).controller
    settle(controller)
    segmenter = controller._work._segmenter
    cached = len(segmenter._embeddings)
    layers = [m for m in segmenter._model.image_encoder.modules() if not list(m.children())]
    reached, released = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        reached.set()
        assert released.wait(PATIENCE)

    handle = layers[4].register_forward_hook(stop)
    viewer.dims.set_point(0, 0)
    until(reached.is_set)
    handle.remove()
    viewer.dims.set_point(0, 2)
    until(lambda: controller._work._embedded[1][0].index[0] == 2)
    released.set()
    settle(controller)
    # Of the two planes, one was finished.
    assert len(segmenter._embeddings) == cached + 1
