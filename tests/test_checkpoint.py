"""Checkpoints: every nesting loads, none runs code, and what does not fit is named."""

from __future__ import annotations

import builtins
import collections
import datetime
import enum
import functools
import hashlib
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.data import coins
from torch import Tensor, nn

import napari_sam
from napari_sam.errors import ModelError
from napari_sam.models import load_model, sam_model_registry
from napari_sam.models.checkpoint import load_into, read_state
from napari_sam.models.identify import Architecture, identify
from napari_sam.models.zoo import ZOO

WEIGHTS = Path(napari_sam.__file__).parent / "models" / "weights" / "nano.safetensors"


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


class _Kind(enum.Enum):
    CELL = 1


class _DataSet:
    """Part of the settings that torch-em pickles beside the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transform = functools.partial(np.clip, a_min=0)
        self.scale = np.float32(2)
        self.crop = slice(0, 3)
        self.kinds = collections.defaultdict(list, {"cell": [1]})
        self.kind = _Kind.CELL
        self.read = self.load

    def load(self) -> None:
        pass


def training_checkpoint(state: dict[str, Tensor]) -> dict[str, object]:
    """In the layout of torch-em and micro-sam."""
    weights = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weights])
    weights.sum().backward()
    optimizer.step()
    return {
        "iteration": 25_000,
        "epoch": 7,
        "best_metric": np.float64(0.25),
        "model_state": prefixed("sam.", state),
        "optimizer_state": optimizer.state_dict(),
        "init": {"model_class": "micro_sam.training.TrainableSAM", "train_dataset": _DataSet(Path("data"))},
        "decoder_state": {"decoder.weight": torch.zeros(2)},
        "timestamp": datetime.datetime(2026, 1, 1),
    }


NESTINGS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "flat": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": prefixed("module.", state), "args": {"lr": 1e-4}},
    "model_state_dict": lambda state: {"model_state_dict": prefixed("_orig_mod.module.", state)},
    "micro-sam export": lambda state: {"model_state": state, "decoder_state": {"out.weight": torch.zeros(1)}},
    "training checkpoint": training_checkpoint,
    "lightning": lambda state: {"state_dict": prefixed("model.sam.", state), "hyper_parameters": {}},
}


@pytest.fixture(scope="module")
def vit_b() -> dict[str, Tensor]:
    """The state dict of the official ViT-B with random weights."""
    official = pytest.importorskip("segment_anything", reason="compares with the official package")
    torch.manual_seed(0)
    return official.sam_model_registry["vit_b"]().state_dict()  # type: ignore[no-any-return]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_official_weights_in_every_nesting(nesting: str, vit_b: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(NESTINGS[nesting](vit_b), path)
    state = read_state(path)
    assert list(state) == list(vit_b)
    assert identify(state) == Architecture("sam", "vit_b")
    name = "mask_decoder.iou_prediction_head.layers.2.bias"
    torch.testing.assert_close(state[name], vit_b[name], rtol=0, atol=0)
    path.unlink()


@pytest.mark.parametrize("file_name", ["vit_b.pth", "vit_b.safetensors"])
def test_official_weights_load(file_name: str, vit_b: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / file_name
    if path.suffix == ".safetensors":
        save_file(vit_b, path)
    else:
        torch.save(vit_b, path)
    model = load_model(path, device="cpu", dtype="float32")
    path.unlink()
    assert model.name == str(path)
    loaded = model.state_dict()
    assert loaded.keys() == vit_b.keys()
    for name, tensor in vit_b.items():
        assert torch.equal(loaded[name], tensor), name


def test_sizes_that_differ_in_depth_only(vit_b: dict[str, Tensor]) -> None:
    shallow = {name: t for name, t in vit_b.items() if not name.startswith("image_encoder.blocks.11.")}
    with pytest.raises(ModelError, match=r"a ViT 768 wide with 11 blocks, of which 2, 5, 8 have global"):
        identify(shallow)
    hiera = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}
    hiera |= {f"image_encoder.trunk.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(13)}
    with pytest.raises(ModelError, match="a Hiera that starts 96 wide and has 13 blocks"):
        identify(hiera)
    with pytest.raises(ModelError, match=r"ours\.pt has parameters named a, b, c, \.\.\., which is none"):
        identify(dict.fromkeys("abcd", torch.zeros(1)), "ours.pt")


def test_sam_2_as_it_is_published(tmp_path: Path) -> None:
    state = Architecture("sam2", "hiera_tiny", "2.1").build().state_dict()
    torch.save({"model": state}, tmp_path / "sam2.1_hiera_tiny.pt")
    model = load_model(tmp_path / "sam2.1_hiera_tiny.pt", device="cpu", dtype="float32")
    assert torch.equal(model.state_dict()["no_obj_embed_spatial"], state["no_obj_embed_spatial"])


@pytest.fixture(scope="module")
def vit_t(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoints") / "mobile_sam.pt"
    torch.save(Architecture("sam", "vit_t").build().state_dict(), path)
    return path


def test_the_registry_of_the_official_package(vit_t: Path) -> None:
    assert set(sam_model_registry) == {"default", "vit_h", "vit_l", "vit_b", "vit_t"}
    assert napari_sam.sam_model_registry is sam_model_registry
    sam = sam_model_registry["vit_t"](checkpoint=vit_t)
    assert not sam.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in sam.parameters())
    logits = []
    for model in (sam, load_model(vit_t, device="cpu", dtype="float32")):
        predictor = napari_sam.SamPredictor(model)
        predictor.set_image(coins())
        logits.append(predictor.predict(np.array([[100, 56]]), np.array([1]))[2])
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4 * np.abs(logits[1]).max())
    with pytest.raises(ModelError, match=r"is a checkpoint of vit_t, not of vit_b"):
        sam_model_registry["vit_b"](checkpoint=vit_t)
    assert sam_model_registry["vit_t"]().state_dict().keys() == sam.state_dict().keys()


def test_half_precision_weights_load_into_float32(vit_t: Path, tmp_path: Path) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in read_state(vit_t).items()}
    torch.save(half, tmp_path / "half.pt")
    model = load_model(tmp_path / "half.pt", device="cpu", dtype="float32")
    name = "mask_decoder.iou_token.weight"
    assert torch.equal(model.state_dict()[name], half[name].float())


def test_files_from_before_pytorch_1_6(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": {"a.weight": torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(path)["a.weight"], torch.ones(2))


def test_what_does_not_fit_is_named(vit_t: Path, tmp_path: Path) -> None:
    state = read_state(vit_t)
    state["mask_decoder.extra"] = state.pop("mask_decoder.iou_token.weight")
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(5, 256)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(ModelError) as error:
        load_model(tmp_path / "odd.pt", device="cpu")
    said = str(error.value)
    assert "odd.pt does not fit the model" in said
    assert "1 missing (mask_decoder.iou_token.weight)" in said
    assert "1 unexpected (mask_decoder.extra)" in said
    assert "1 of another shape (mask_decoder.mask_tokens.weight)" in said
    assert "\n" not in said
    small = nn.Linear(2, 1)
    load_into(small, {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "ones")
    assert torch.equal(small.weight, torch.ones(1, 2))


class _Harmful:
    """Makes a file when it is unpickled by anything that trusts it."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


class _HarmfulState:
    """Makes a file when its state is restored; its class is none of the standard library's."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["trace"]).touch()


def attacks(trace: Path) -> dict[str, object]:
    return {
        "os.system": _Harmful(os.system, f"touch {trace}"),
        "os.mkdir": _Harmful(os.mkdir, str(trace)),
        "exec": _Harmful(exec, f"open({str(trace)!r}, 'w').close()"),
        "eval": _Harmful(builtins.eval, f"open({str(trace)!r}, 'w').close()"),
        "open": _Harmful(open, str(trace), "w"),
        "subprocess": _Harmful(subprocess.run, ("touch", str(trace))),
        "Path.touch": _Harmful(Path.touch, trace),
        "torch.save": _Harmful(torch.save, 1, str(trace)),
        "numpy": _Harmful(np.save, str(trace), 1),
        "setstate": _HarmfulState(str(trace)),
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the one that opens a file, when it is let
@pytest.mark.parametrize("attack", attacks(Path()))
def test_a_checkpoint_never_runs_code(attack: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    harmful = attacks(trace)[attack]
    weights = {"a.weight": torch.ones(1)}
    torch.save({"model": weights, "epoch": harmful}, tmp_path / "beside.pt")
    torch.save({"model": weights | {"b.weight": harmful}}, tmp_path / "inside.pt")
    torch.save({"model": weights, harmful: 1}, tmp_path / "key.pt")
    torch.save(harmful, tmp_path / "alone.pt")
    torch.save({"model": harmful}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        (tmp_path / f"plain{protocol}.pkl").write_bytes(pickle.dumps(harmful, protocol=protocol))
    for path in sorted(tmp_path.iterdir()):
        try:
            state = read_state(path)
        except ModelError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:  # what is not of the standard library is dropped, unmade
            assert list(state) == ["a.weight"]
            assert attack in ("torch.save", "numpy", "setstate")
        assert not list(tmp_path.glob("trace*")), path.name
    # and it would have done harm
    made = pickle.loads((tmp_path / "plain2.pkl").read_bytes())
    assert list(tmp_path.glob("trace*"))
    if attack == "open":
        made.close()


def test_a_file_that_asks_for_code_is_refused_even_with_good_weights(tmp_path: Path) -> None:
    torch.save(
        {"model": {"a.weight": torch.ones(1)}, "x": _Harmful(exec, "pass")}, tmp_path / "suspicious.pt"
    )
    with pytest.raises(ModelError, match=r"refers to code \(builtins\.exec\) and was not loaded"):
        read_state(tmp_path / "suspicious.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "not a readable checkpoint"),
        ("text.pt", b"not weights at all\n" * 10, "more than weights|not a readable checkpoint"),
        ("text.safetensors", b"not weights at all\n" * 10, "not a readable checkpoint"),
        ("page.pth", b"<html>404</html>", "more than weights|not a readable checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        load_model(tmp_path / name, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{}, {"model": {}}, [1, 2], torch.ones(2), {"epoch": 3}, {"model": [1]}])
def test_checkpoints_without_weights(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "none.pt")
    with pytest.raises(ModelError, match="holds no weights by name"):
        read_state(tmp_path / "none.pt")


def test_a_checkpoint_that_contains_itself(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "endless.pt")
    with pytest.raises(ModelError, match="holds no weights by name"):
        read_state(tmp_path / "endless.pt")


def test_half_a_checkpoint(vit_t: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pt"
    half.write_bytes(vit_t.read_bytes()[: vit_t.stat().st_size // 2])
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        load_model(half, device="cpu")


def test_paths_and_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("none.pt", "folder/none", tmp_path / "none", "~/none.pth"):
        with pytest.raises(ModelError, match="There is no checkpoint"):
            load_model(path, device="cpu")
    with pytest.raises(ModelError, match=r"no model 'sam2.1_hiera_huge'; choose one of sam2"):
        load_model("sam2.1_hiera_huge", device="cpu")
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(ModelError, match="mine is not a readable checkpoint"):
        load_model("mine", device="cpu")


def test_a_file_named_like_a_model_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which weights they are says the file, not its name."""
    monkeypatch.chdir(tmp_path)
    Path("vit_b").write_bytes(WEIGHTS.read_bytes())
    digest = f"sha256:{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}"
    for given in (Path("vit_b"), "./vit_b"):
        model = load_model(given, device="cpu")
        assert model.digest == digest
        # By this name the same file is found again.
        assert load_model(model.name, device="cpu").digest == digest
    torch.save(Architecture("sam", "vit_t").build().state_dict(), "vit_t")
    for name in ("vit_t", "vit_b"):
        Path("vit_t").replace(name)
        assert sam_model_registry["vit_t"](checkpoint=name).digest.startswith("sha256:")
        assert sam_model_registry["vit_t"](checkpoint=name).name not in ZOO
        Path(name).replace("vit_t")


@pytest.mark.parametrize("name", ["MINE.SAFETENSORS", "mine.pt", "mine"])
def test_safetensors_by_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WEIGHTS.read_bytes())
    assert identify(read_state(tmp_path / name)) == Architecture("nano", "nano")
    (tmp_path / name).write_bytes(WEIGHTS.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="is not a readable checkpoint"):
        read_state(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"not weights at all\n" * 10, b"<html>404</html>", b"GIF89a", b"\x93NUMPY"]
)
def test_what_is_no_checkpoint_is_not_said_to_hold_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_bytes(content)
    with pytest.raises(ModelError, match="is not a readable checkpoint"):
        read_state(tmp_path / "text.pt")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(3, dtype=torch.complex64), "complex weights .a.weight.; save"),
        (torch.tensor([1.0, torch.nan]), "not finite .a.weight.; take"),
        (torch.tensor([1.0, torch.inf], dtype=torch.bfloat16), "not finite .a.weight.; take"),
    ],
)
def test_weights_that_cannot_give_masks(tensor: Tensor, message: str, tmp_path: Path) -> None:
    state = {"a.bias": torch.ones(2), "a.weight": tensor}
    torch.save({"model": state}, tmp_path / "odd.pt")
    save_file(state, tmp_path / "odd.safetensors")
    for name in ("odd.pt", "odd.safetensors"):
        with pytest.raises(ModelError, match=message):
            read_state(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["image_encoder.trunk.patch_embed.proj.weight", "image_encoder.pos_embed"],
)
def test_weights_without_an_axis(name: str) -> None:
    state = {name: torch.tensor(1.0), "image_encoder.blocks.0.attn.rel_pos_h": torch.tensor(1.0)}
    with pytest.raises(ModelError, match="none of the known models"):
        identify(state)
