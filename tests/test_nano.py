"""The embedded model: windows, levels, prompts, checkpoints."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch

from napari_sam import load_model
from napari_sam.errors import DeviceError, ModelError
from napari_sam.models import available_devices, available_models
from napari_sam.models.base import PromptableModel, PromptBatch
from napari_sam.models.checkpoint import read_state, save_state
from napari_sam.models.device import pick_device, pick_dtype
from napari_sam.models.nano import Nano, NanoEmbedding, working_scale
from napari_sam.models.nano_prompts import WINDOW
from napari_sam.models.nano_windows import finest_level, runs_out


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return load_model("nano", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def disks() -> torch.Tensor:
    """Bright disks of 10 to 200 pixels on a dark plane of 700 x 900 pixels."""
    y, x = torch.meshgrid(torch.arange(700.0), torch.arange(900.0), indexing="ij")
    plane = torch.full((700, 900), 0.2)
    for row, column, radius in ((100, 100, 5), (100, 300, 20), (350, 600, 100), (600, 150, 40)):
        plane[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 0.8
    noise = torch.randn(700, 900, generator=torch.Generator().manual_seed(0)) * 0.02
    return (plane + noise).clamp(0, 1).expand(3, -1, -1)


def clicks(*points: tuple[float, float]) -> PromptBatch:
    return PromptBatch(torch.tensor(points)[:, None], torch.ones(len(points), 1, dtype=torch.long))


def boxes(*corners: tuple[float, float, float, float]) -> PromptBatch:
    none = torch.zeros(len(corners), 0)
    return PromptBatch(none[..., None].expand(-1, -1, 2), none.long(), torch.tensor(corners))


def test_weights_are_small_and_in_the_package() -> None:
    file = resources.files("napari_sam.models") / "weights" / "nano.safetensors"
    with resources.as_file(file) as path:
        assert path.stat().st_size <= 12e6


@pytest.mark.parametrize(
    ("size", "scale", "levels"),
    [
        ((1, 1), 2.0, 1),
        ((256, 200), 2.0, 2),
        ((400, 300), 2.0, 3),
        ((800, 600), 1.28, 3),
        ((1024, 700), 1.0, 3),
        ((20, 4096), 0.5, 4),
    ],
)
def test_levels_of_any_size(nano: PromptableModel, size: tuple[int, int], scale: float, levels: int) -> None:
    assert working_scale(*size) == pytest.approx(scale)
    with torch.inference_mode():
        embedding = nano.encode(torch.rand(3, *size))
        assert isinstance(embedding, NanoEmbedding)
        assert embedding.original_size == size
        assert len(embedding.levels) == levels
        assert embedding.nbytes == sum(t.nbytes for t in embedding.tensors)
        output = nano.decode(embedding, clicks((size[1] - 1, size[0] - 1)), multimask=True)
    assert output.logits.shape == (1, 3, WINDOW // 2, WINDOW // 2)
    assert output.logits.isfinite().all()
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    x0, y0, x1, y1 = output.frames[0].tolist()
    assert x0 <= size[1] - 1 <= x1
    assert y0 <= size[0] - 1 <= y1


def test_prompts_choose_the_level_that_holds_them() -> None:
    span = torch.tensor([10.0, 192.0, 193.0, 384.0, 385.0, 5000.0])
    extents = torch.stack([span * 0, span * 0, span, span / 2], dim=1)
    assert finest_level(extents, 4).tolist() == [0, 0, 1, 1, 2, 3]


def test_a_mask_runs_out_of_its_window_but_not_of_the_plane() -> None:
    logits = torch.full((2, 2, 128, 128), -1.0)
    logits[:, 0, 20:30, -5:] = 1.0
    logits[:, 1, 20:23, -5:] = 1.0  # three cells: the edge of an object that ends there
    frames = torch.tensor([[50.0, 0.0, 306.0, 256.0], [50.0, 44.0, 306.0, 300.0]])
    assert runs_out(logits, frames, (300, 400)).tolist() == [[True, False], [True, False]]
    assert not runs_out(logits, frames, (300, 306)).any()


def test_a_disk_of_any_size_by_its_box(nano: PromptableModel, disks: torch.Tensor) -> None:
    truth = ((300, 100, 20), (600, 350, 100), (150, 600, 40))
    with torch.inference_mode():
        embedding = nano.encode(disks)
        asked = boxes(*((x - r - 0.5, y - r - 0.5, x + r + 0.5, y + r + 0.5) for x, y, r in truth))
        output = nano.decode(embedding, asked, multimask=False)
    for (x, y, r), logits, frame in zip(truth, output.logits[:, 0], output.frames, strict=True):
        cell = float(frame[2] - frame[0]) / logits.shape[-1]
        area = float((logits > 0).sum()) * cell**2
        assert area == pytest.approx(3.1416 * r**2, rel=0.2)
        rows, columns = (logits > 0).nonzero(as_tuple=True)
        assert float(frame[0]) + (float(columns.double().mean()) + 0.5) * cell == pytest.approx(x, abs=r / 4)
        assert float(frame[1]) + (float(rows.double().mean()) + 0.5) * cell == pytest.approx(y, abs=r / 4)


def test_an_object_does_not_depend_on_its_batch(nano: PromptableModel, disks: torch.Tensor) -> None:
    points = [(100.0, 100.0), (300.0, 100.0), (600.0, 350.0), (150.0, 600.0), (880.0, 690.0)]
    with torch.inference_mode():
        embedding = nano.encode(disks)
        together = nano.decode(embedding, clicks(*points), multimask=True)
        for index, point in enumerate(points):
            alone = nano.decode(embedding, clicks(point), multimask=True)
            torch.testing.assert_close(alone.frames[0], together.frames[index])
            torch.testing.assert_close(alone.logits[0], together.logits[index], rtol=1e-3, atol=1e-3)


def test_several_prompts_are_looked_at_twice(
    nano: Nano, disks: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def watched(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = Nano.decode_windows(nano, *given)
        calls.append((given, *(part.clone() for part in found)))
        return found

    monkeypatch.setattr(nano, "decode_windows", watched)
    box = [130.0, 580.0, 170.0, 620.0]
    points = torch.tensor(
        [[[300.0, 100.0], [5.0, 5.0]], [[300.0, 100.0], [310.0, 90.0]], [[150.0, 600.0]] * 2]
    )
    mixed = PromptBatch(
        points,
        torch.tensor([[1, -1], [1, 0], [-1, -1]]),
        torch.tensor([[torch.nan] * 4] * 2 + [box]),
        closely=False,
    )
    with torch.inference_mode():
        embedding = nano.encode(disks)
        found = nano.decode(embedding, mixed, multimask=True)
        (_, masks, scores), (again, later, better) = calls
        three = [1, 2, 0]
        # A single point keeps its three masks.
        assert torch.equal(again[4], masks[1:, :1])
        assert torch.equal(again[1], calls[0][0][1][1:])
        torch.testing.assert_close(found.logits, torch.cat([masks[:1, three], later[:, three]]))
        torch.testing.assert_close(found.scores, torch.cat([scores[:1, three], better[:, three]]))
        calls.clear()
        nano.decode(embedding, replace(clicks((300.0, 100.0)), closely=False), multimask=True)
        assert len(calls) == 1
        # Whoever gives a mask has looked already.
        calls.clear()
        prompts = boxes((280.0, 80.0, 320.0, 120.0))
        nano.decode(embedding, replace(prompts, logits=torch.zeros(1, 1, 256, 256)), multimask=False)
        assert len(calls) == 1


def test_padding_changes_nothing(nano: PromptableModel, disks: torch.Tensor) -> None:
    plain = clicks((300.0, 100.0))
    padded = PromptBatch(
        torch.tensor([[[300.0, 100.0], [5.0, 5.0]]]),
        torch.tensor([[1, -1]]),
        torch.full((1, 4), torch.nan),
    )
    with torch.inference_mode():
        embedding = nano.encode(disks)
        first, second = (nano.decode(embedding, p, multimask=True) for p in (plain, padded))
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-3, atol=1e-3)


def test_bfloat16_agrees(nano: PromptableModel, disks: torch.Tensor) -> None:
    small = load_model("nano", device="cpu", dtype="bfloat16")
    asked = boxes((279.5, 79.5, 320.5, 120.5))
    with torch.inference_mode():
        first, second = (m.decode(m.encode(disks), asked, multimask=False).logits > 0 for m in (nano, small))
    assert (first & second).sum() / (first | second).sum() > 0.9


def test_a_mask_prompt_alone_is_followed(nano: PromptableModel, disks: torch.Tensor) -> None:
    """Logits on the low-resolution frame, whose side is the longest of the image, say where to look."""
    at = (torch.arange(256) + 0.5) * 900 / 256
    logits = torch.where((at - 100)[:, None] ** 2 + (at - 300) ** 2 < 18**2, 8.0, -8.0)[None, None]
    asked = PromptBatch(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), None, logits)
    with torch.inference_mode():
        output = nano.decode(nano.encode(disks), asked, multimask=False)
    x0, y0, x1, y1 = output.frames[0].tolist()
    assert x0 < 280
    assert x1 > 320
    assert y0 < 80
    assert y1 > 120
    assert (output.logits > 0).any()


def test_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Nano()
    path = tmp_path / "mine.safetensors"
    save_state(model, path)
    loaded = load_model(path, device="cpu")
    assert loaded.name == str(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    torch.save(read_state(path), tmp_path / "mine.pt")
    again = load_model(tmp_path / "mine.pt", device="cpu")
    pixels = torch.rand(3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.encode(pixels).tensors, again.encode(pixels).tensors)


class _Harmful:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    torch.save({"weight": _Harmful(trace)}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Harmful(trace)))
    for name in ("evil.pt", "evil.pkl"):
        with pytest.raises(ModelError):
            load_model(tmp_path / name, device="cpu")
    assert not trace.exists()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="choose one of"):
        load_model("vit_z", device="cpu")
    with pytest.raises(ModelError, match="There is no checkpoint"):
        load_model(tmp_path / "none.safetensors", device="cpu")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        load_model(broken, device="cpu")
    state = Nano().state_dict()
    state["other.weight"] = state.pop("image_encoder.dense.weight")
    torch.save(state, tmp_path / "renamed.pt")
    with pytest.raises(ModelError, match=r"1 missing \(image_encoder.dense.weight\).*1 unexpected \(other"):
        load_model(tmp_path / "renamed.pt", device="cpu")
    with pytest.raises(DeviceError, match="use 'auto' or one of"):
        pick_device("abacus")
    with pytest.raises(DeviceError, match="not available here"):
        pick_device("cuda:99")
    with pytest.raises(DeviceError, match="not a precision"):
        pick_dtype("float7", torch.device("cpu"))


def test_auto_is_there() -> None:
    assert str(pick_device("auto")) == available_devices()[0]
    assert load_model(device="cpu").device == torch.device("cpu")
    assert "nano" in available_models()


def test_the_centres_of_disks_of_any_size_are_found(nano: PromptableModel, disks: torch.Tensor) -> None:
    centres = nano.centres(nano.encode(disks))
    assert centres.shape[1] == 2
    assert centres.dtype == torch.float32
    for row, column, radius in ((100, 100, 5), (100, 300, 20), (350, 600, 100), (600, 150, 40)):
        apart = (centres - torch.tensor([column, row])).norm(dim=1)
        assert apart.min() < 2 + radius / 8
    assert len(centres) < 40


def test_centres_are_on_the_plane(nano: PromptableModel) -> None:
    noise = torch.rand(3, 37, 70, generator=torch.Generator().manual_seed(0))
    centres = nano.centres(nano.encode(noise))
    assert ((centres >= 0) & (centres <= torch.tensor([69.0, 36.0]))).all()
    with pytest.raises(NotImplementedError):
        PromptableModel.centres(nano, nano.encode(noise))
