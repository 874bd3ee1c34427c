"""Which device and which precision."""

from __future__ import annotations

import pytest
import torch

import napari_sam
from napari_sam.errors import DeviceError
from napari_sam.models.device import available_devices, pick_device, pick_dtype

CPU = torch.device("cpu")


def test_auto_is_the_first_of_the_devices() -> None:
    assert str(pick_device("auto")) == available_devices()[0]
    assert pick_device("cpu") == CPU
    assert pick_device(CPU) == CPU


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "xpu"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(DeviceError, match=r"^[^.]*use 'auto' or one of [^.]*\.$"):
        pick_device(name)


def test_a_precision_that_is_given_is_taken() -> None:
    for name in ("float32", "bfloat16", "float16"):
        assert pick_dtype(name, CPU) == getattr(torch, name)
        assert pick_dtype(getattr(torch, name), torch.device("mps")) == getattr(torch, name)
    with pytest.raises(DeviceError, match="'float8'"):
        pick_dtype("float8", CPU)


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16"])
def test_cpus_with_and_without_bfloat16(feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {"avx2": True, "avx512_f": True, feature: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    if torch.backends.mkldnn.is_available():
        assert pick_dtype("auto", CPU) == torch.bfloat16
    assert pick_dtype("auto", CPU, prefers_float32_on_cpu=True) == torch.float32
    features[feature] = False
    assert pick_dtype("auto", CPU) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert pick_dtype("auto", CPU) == torch.float32


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch does not tell")
def test_what_torch_tells_of_this_cpu_has_the_names_that_are_asked_for() -> None:
    found = torch.cpu.get_capabilities()
    if found["architecture"] == "x86_64":
        assert {"amx_bf16", "avx512_bf16"} <= set(found)


def test_mps_stays_with_float32() -> None:
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


def test_nano_stays_with_float32_on_a_cpu() -> None:
    weights = napari_sam.load_model("nano", device="cpu").parameters()
    assert {p.dtype for p in weights} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpus_compute_in_half_precision() -> None:
    device = pick_device("auto")
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    assert pick_dtype("auto", device) == (torch.bfloat16 if modern else torch.float16)
