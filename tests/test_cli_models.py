from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import http_server as http
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.data import coins

from napari_sam.cli import app
from napari_sam.models import store
from napari_sam.models.identify import Architecture
from napari_sam.models.zoo import ZOO

CONTENT = np.random.default_rng(0).bytes(200_000)

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; gives exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            app([str(a) for a in arguments], prog_name="napari-sam")
        captured = capsys.readouterr()
        return int(done.value.code or 0), captured.out, captured.err

    return run


pytestmark = pytest.mark.usefixtures("folder")


def publish(monkeypatch: pytest.MonkeyPatch, name: str, server: http.FileServer) -> None:
    """Let a model of the zoo be what the server has."""
    digest = f"sha256:{hashlib.sha256(server.content).hexdigest()}"
    changed = replace(ZOO[name], url=server.url, digest=digest, nbytes=len(server.content))
    monkeypatch.setitem(ZOO, name, changed)


def test_the_list(call: Call, folder: Path) -> None:
    code, printed, errors = call("models")
    assert (code, errors) == (0, "")
    header, *rows = printed.splitlines()
    assert header.split() == ["name", "on", "disk", "size", "good", "for"]
    assert [row.split()[0] for row in rows] == list(ZOO)
    assert [row.split()[1] for row in rows] == ["yes"] + ["no"] * (len(ZOO) - 1)
    said = dict(zip(ZOO, rows, strict=True))
    assert "375 MB" in said["vit_b"]
    assert "2.6 GB" in said["vit_h"]
    assert "about 41 MB" in said["vit_t_lm"]
    assert not folder.exists()


def test_listing_and_downloading_need_no_torch() -> None:
    code = """
import sys
import napari_sam.cli, napari_sam.models.download
try:
    napari_sam.cli.app(["models"])
except SystemExit:
    pass
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, torch_too = done.stdout.splitlines()
    assert len(listed) == len(ZOO) + 1
    assert torch_too == "False"


def test_the_list_as_json(call: Call) -> None:
    code, printed, errors = call("models", "--json")
    assert (code, errors) == (0, "")
    records = {record["name"]: record for record in json.loads(printed)}
    assert list(records) == list(ZOO)
    assert Path(records["nano"]["path"]).is_file()
    assert records["vit_b"]["path"] is None
    assert records["vit_b"]["nbytes"] == 375_042_383
    assert records["vit_b_lm"]["nbytes"] is None
    assert records["sam2.1_hiera_tiny"]["parameters"] == 38_962_498


@pytest.mark.parametrize("name", ZOO)
def test_info(name: str, call: Call) -> None:
    code, printed, errors = call("models", "info", name)
    assert (code, errors) == (0, "")
    said = {line.partition(":")[0]: line.partition(":")[2].strip() for line in printed.splitlines()}
    info = ZOO[name]
    assert said["name"] == name
    assert said["licence"] == info.licence
    assert said["to cite"] == info.citation
    assert said["parameters"] == f"{info.parameters / 1e6:.1f} million"
    assert "2048" in said["input"] if name == "nano" else "1024 x 1024" in said["input"]
    assert f"{info.weights_nbytes / 1e6:.0f} MB for" in said["memory"] or " GB for" in said["memory"]
    assert f"about {info.working_nbytes / 1e6:.0f} MB more" in said["memory"]
    assert said["family"] == {"sam2": f"SAM 2 {info.version}", "sam": "SAM"}.get(info.family, "nano")


def test_download_path_and_remove(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with http.serving(CONTENT) as server:
        publish(monkeypatch, "vit_b", server)
        code, printed, errors = call("models", "path", "vit_b")
        assert (code, printed) == (2, "")
        assert "napari-sam models download vit_b" in errors
        code, printed, errors = call("models", "download", "vit_b")
        file = folder / "vit_b.pth"
        assert (code, printed) == (0, f"{file}\n")
        assert file.read_bytes() == CONTENT
        assert call("models", "download", "vit_b") == (0, f"{file}\n", "")
        assert len(server.requests) == 1
    assert call("models", "path", "vit_b") == (0, f"{file}\n", "")
    assert call("models", "path") == (0, f"{folder}\n", "")
    assert "vit_b                   yes" in call("models")[1]
    assert call("models", "remove", "vit_b") == (0, f"removed {file}\n", "")
    assert not file.exists()
    assert call("models", "remove", "vit_b") == (2, "", "napari-sam: vit_b was not downloaded.\n")


def test_hand_copied_files_are_not_removed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.serving(CONTENT) as server:
        publish(monkeypatch, "vit_b", server)
    monkeypatch.setenv(store.OFFLINE_VARIABLE, str(tmp_path))
    copied = tmp_path / "vit_b.pth"
    copied.write_bytes(CONTENT)
    assert call("models", "path", "vit_b") == (0, f"{copied}\n", "")
    code, _, errors = call("models", "remove", "vit_b")
    assert code == 2
    assert f"{copied} is yours to delete" in errors
    assert copied.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "vit_z"), "no model 'vit_z'; choose one of vit_"),
        (("download", "vit_z"), "no model 'vit_z'"),
        (("path", "vit_z"), "no model 'vit_z'"),
        (("remove", "vit_z"), "no model 'vit_z'"),
        (("remove", "nano"), "part of the package"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, ...], message: str, call: Call) -> None:
    code, printed, errors = call("models", *arguments)
    assert (code, printed) == (2, "")
    assert message in errors
    assert errors.startswith("napari-sam: ")
    assert errors.endswith(".\n")
    assert errors.count("\n") == 1


def test_a_download_that_fails_is_one_sentence(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with http.serving(CONTENT, http.status(404)) as server:
        publish(monkeypatch, "vit_b", server)
        code, printed, errors = call("models", "download", "vit_b")
    assert (code, printed) == (2, "")
    assert "error 404" in errors
    assert errors.count("\n") == 1


def test_predict_downloads_what_it_needs(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights.pt"
    torch.save(Architecture("sam", "vit_t").build().state_dict(), weights)
    image, out = tmp_path / "coins.png", tmp_path / "out.tif"
    Image.fromarray(coins()[:128, :128]).save(image)
    with http.serving(weights.read_bytes()) as server:
        publish(monkeypatch, "vit_t", server)
        start = ("predict", image, "--point", "100,56", "--device", "cpu", "--model", "vit_t", "-o", out)
        code, _, errors = call(*start)
        assert code == 0, errors
        assert [len(server.requests), tifffile.imread(out).shape] == [1, (128, 128)]
        assert (folder / "vit_t.pth").exists()
