from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_sam

PATH = Path(napari_sam.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(PATH)


def test_the_manifest_is_valid_and_complete(manifest: PluginManifest) -> None:
    assert manifest.name == "napari-sam"
    assert [widget.display_name for widget in manifest.contributions.widgets] == [
        "Segment",
        "Train a model",
    ]
    assert [item.command for item in manifest.contributions.menus["napari/layers/segment"]] == [
        "napari-sam.segment"
    ]


def test_what_it_names_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()


def test_it_is_linked_at_the_top_of_the_source_tree() -> None:
    link = PATH.parent.parent / "napari.yaml"
    if not (PATH.parent.parent / "pyproject.toml").exists():
        pytest.skip("not a source tree")
    assert link.is_symlink()
    assert link.resolve() == PATH.resolve()


def test_the_widgets_get_the_viewer(manifest: PluginManifest) -> None:
    from napari_sam.ui.training_widget import TrainingWidget
    from napari_sam.ui.widget import SegmentWidget

    for widget in (SegmentWidget, TrainingWidget):
        assert "napari_viewer" in inspect.signature(widget).parameters


def test_every_format_is_offered(manifest: PluginManifest) -> None:
    """But for those of napari itself, and folders whose names say nothing."""
    from napari_sam.formats import FORMATS

    functions = {f"write_{name}".replace("-", "_").replace(".", ""): one for name, one in FORMATS.items()}
    names = {one.id: one.python_name.rpartition(":")[2] for one in manifest.contributions.commands}
    _, *writers = manifest.contributions.writers
    offered = {functions[names[writer.command]]: writer for writer in writers}
    assert set(FORMATS) - {one.name for one in offered} == {"annotation", "tiff", "npy", "ctc"}
    for one, writer in offered.items():
        assert writer.layer_types == ["labels"]
        assert set(writer.filename_extensions) <= set(one.suffixes)
    assert len({writer.display_name for writer in writers}) == len(writers)
    # Where several formats have the suffix, the first one is taken.
    first = next(one.name for one, writer in offered.items() if ".json" in writer.filename_extensions)
    assert first == "coco"


def test_samples_need_no_network(manifest: PluginManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shapes = {}
    for sample in manifest.contributions.sample_data:
        command = next(c for c in manifest.contributions.commands if c.id == sample.command)
        module, _, name = command.python_name.partition(":")
        ((data, options, kind),) = getattr(__import__(module, fromlist=[name]), name)()
        assert kind == "image"
        assert np.asarray(data).std() > 0
        shapes[options["name"]] = data.shape
    assert shapes == {"coins": (303, 384), "cell": (660, 550), "immunohistochemistry": (512, 512, 3)}


def test_preferences_offer_every_model(manifest: PluginManifest) -> None:
    from napari_sam.inference.embedding_store import STORE_BYTES
    from napari_sam.models.zoo import ZOO

    settings = manifest.contributions.configurations["models"].properties
    assert settings["model"].enum == list(ZOO)
    assert (settings["model"].default, settings["device"].default, settings["folder"].default) == (
        "nano", "auto", "",
    )  # fmt: skip
    assert settings["embeddings"].default * 2**30 == STORE_BYTES
