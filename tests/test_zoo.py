"""The table of models, the architectures behind it, and where weights are found on disk."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from napari_sam.errors import ModelError
from napari_sam.models import available_models, store
from napari_sam.models.identify import Architecture, identify
from napari_sam.models.zoo import ALIASES, ZOO, ModelInfo, lookup

CONTENT = np.random.default_rng(0).bytes(10_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An empty folder of models and an empty folder of hand-copied files."""
    models, offline = tmp_path / "models", tmp_path / "stick"
    models.mkdir()
    offline.mkdir()
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(models))
    monkeypatch.setenv(store.OFFLINE_VARIABLE, str(offline))
    return models, offline


def test_the_names() -> None:
    assert available_models()[0] == "nano"
    sizes = ("tiny", "small", "base_plus", "large")
    assert set(available_models()) == {
        *("nano", "vit_b", "vit_l", "vit_h", "vit_t"),
        *(f"{family}_hiera_{size}" for family in ("sam2", "sam2.1") for size in sizes),
        *(f"vit_{size}_{kind}" for size in "tbl" for kind in ("lm", "em_organelles")),
    }
    assert ALIASES["default"] == "vit_h"
    assert lookup("default") is ZOO["vit_h"]
    with pytest.raises(ModelError, match=r"no model 'vit-b'; choose one of vit_b or"):
        lookup("vit-b")
    with pytest.raises(ModelError, match=r"choose one of nano, vit_b, .*, or give a checkpoint's path\.$"):
        lookup("?")


@pytest.mark.parametrize("info", ZOO.values(), ids=ZOO)
def test_each_entry_is_complete(info: ModelInfo) -> None:
    assert ZOO[info.name] is info
    assert info.licence
    assert info.domain
    assert "arXiv:" in info.citation or "CITATION.cff" in info.citation
    if info.url is None:
        assert info.name == "nano"
        return
    assert urlsplit(info.url).scheme == "https"
    assert info.digest is not None
    assert re.fullmatch(r"sha256:[0-9a-f]{64}|xxh128:[0-9a-f]{32}", info.digest)
    assert info.record is not None
    if info.nbytes is not None:  # float32, and a little for names and shapes
        assert info.weights_nbytes < info.nbytes < 1.006 * info.weights_nbytes


def test_entries_are_told_apart() -> None:
    entries = [info for info in ZOO.values() if info.url]
    for what in ("url", "digest", "file_name"):
        assert len({getattr(info, what) for info in entries}) == len(entries)
    versions = {info.name: info.version for info in ZOO.values() if info.family == "sam2"}
    assert {name.partition("_")[0].removeprefix("sam") for name in versions} == {"2", "2.1"}
    assert all(name.startswith(f"sam{version}_") for name, version in versions.items())


def test_the_page_about_models_lists_all() -> None:
    page = Path(__file__).parents[1] / "docs" / "how-to" / "models.md"
    rows = [row for row in page.read_text().splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\S+)`", row)} == {*ZOO, *ALIASES}
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        for name in re.findall(r"`(\S+)`", cells[0]):
            info = lookup(name)
            assert float(cells[2].removesuffix(" million")) == pytest.approx(info.parameters / 1e6, abs=0.06)
            assert info.domain.partition(":")[0] in cells[3]


ARCHITECTURES = dict.fromkeys(Architecture(i.family, i.encoder, i.version) for i in ZOO.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.encoder}-{a.version}")
def test_each_architecture_is_recognised_from_its_own_parameters(architecture: Architecture) -> None:
    model = architecture.build(initialise=False)
    assert identify(model.state_dict()) == architecture
    (parameters,) = {
        info.parameters
        for info in ZOO.values()
        if (info.family, info.encoder, info.version)
        == (architecture.family, architecture.encoder, architecture.version)
    }
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_initialised_unless_told_otherwise() -> None:
    norms = [
        p for n, p in Architecture("nano", "nano").build().named_parameters() if n.endswith("norm.weight")
    ]
    assert norms
    assert all((p == 1).all() for p in norms)


def test_the_embedded_model_is_always_there() -> None:
    path = store.find("nano")
    assert path is not None
    assert path.stat().st_size > 1_000_000
    with pytest.raises(ModelError, match="part of the package"):
        store.remove("nano")


def put(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file_name: str,
    content: bytes = CONTENT,
    *,
    sized: bool = True,
) -> ModelInfo:
    """An entry of the zoo whose published file has this content."""
    info = ModelInfo(
        name,
        "sam",
        "vit_b",
        "",
        f"https://example.org/{name}/{file_name}",
        f"sha256:{hashlib.sha256(content).hexdigest()}",
        len(content) if sized else None,
        "CC0-1.0",
        "tests",
        "none",
    )
    monkeypatch.setitem(ZOO, name, info)
    return info


@pytest.mark.parametrize("file_name", ["published_01ab.pth", "mine.pth", "mine.pt", "mine"])
def test_hand_copied_files_are_found(
    file_name: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "mine", "published_01ab.pth")
    assert store.find("mine") is None
    copied = folders[1] / file_name
    copied.write_bytes(CONTENT[:-1])  # half a copy
    assert store.find("mine") is None
    copied.write_bytes(CONTENT)
    assert store.find("mine") == copied
    (folders[0] / "mine.pth").write_bytes(CONTENT)
    assert store.find("mine") == folders[0] / "mine.pth"
    assert store.remove("mine") == [folders[0] / "mine.pth"]
    assert store.find("mine") == copied
    assert store.remove("mine") == []
    copied.rename(folders[0] / "published_01ab.pth")
    assert store.find("mine") == folders[0] / "published_01ab.pth"
    assert store.remove("mine") == []


def test_a_folder_named_like_a_model_is_not_its_file(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "mine", "published.pth", sized=False)
    for folder in folders:
        (folder / "mine").mkdir()
        (folder / "mine" / "notes.txt").write_text("of a training")
    assert store.find("mine") is None
    (folders[1] / "published.pth").write_bytes(CONTENT)
    assert store.find("mine") == folders[1] / "published.pth"


def test_a_hand_copied_file_that_is_wrong_is_named(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.models.download import fetch

    put(monkeypatch, "mine", "published.pth")
    (folders[1] / "published.pth").write_bytes(CONTENT[::-1])
    with pytest.raises(ModelError, match=r"published\.pth is not the published file of mine"):
        fetch("mine")
    (folders[1] / "published.pth").write_bytes(CONTENT)
    assert fetch("mine") == folders[1] / "published.pth"


def test_files_of_the_same_name_are_told_apart_by_their_checksums(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As micro-sam's weights for light and electron microscopy, which are both `vit_b.pt`."""
    other = CONTENT[::-1]
    put(monkeypatch, "light", "shared.pt", CONTENT, sized=False)
    put(monkeypatch, "electron", "shared.pt", other, sized=False)
    shared = folders[1] / "shared.pt"
    shared.write_bytes(CONTENT)
    assert (store.find("light"), store.find("electron")) == (shared, None)
    shared.write_bytes(other)
    os.utime(shared, ns=(0, time.time_ns() + 10**9))
    assert (store.find("light"), store.find("electron")) == (None, shared)
    shared.unlink()
    shared.mkdir()
    assert (store.find("light"), store.find("electron")) == (None, None)


def test_checksums_are_remembered_across_processes(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = put(monkeypatch, "mine", "published.pth")
    copied = folders[1] / "published.pth"
    copied.write_bytes(CONTENT)
    assert store.is_published(info, copied)
    stamp = copied.stat().st_mtime_ns
    copied.write_bytes(CONTENT[::-1])
    os.utime(copied, ns=(stamp, stamp))
    monkeypatch.setattr(store, "_session", {})  # as in another process
    assert store.is_published(info, copied)
    (folders[0] / "verified.json").unlink()
    assert not store.is_published(info, copied)


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.model_folder() == tmp_path / "models"
    monkeypatch.delenv(store.FOLDER_VARIABLE)
    default = store.model_folder()
    assert "napari-sam" in default.parts
    try:
        store.set_model_folder(tmp_path / "chosen")
        assert store.model_folder() == tmp_path / "chosen"
        store.set_model_folder("~/weights")
        assert store.model_folder() == Path.home() / "weights"
        monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "models"))
        assert store.model_folder() == tmp_path / "models"
        monkeypatch.delenv(store.FOLDER_VARIABLE)
    finally:
        store.set_model_folder("")
    assert store.model_folder() == default
    monkeypatch.delenv(store.OFFLINE_VARIABLE)
    assert store.offline_folder() is None
