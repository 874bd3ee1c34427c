"""Training on a user's own images: it learns, keeps the best, goes on, stops, and says what is wrong."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.draw import disk

from napari_sam import load_model
from napari_sam.errors import DeviceError, ImageError, ModelError
from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.checkpoint import load_into, read_metadata, read_state
from napari_sam.models.hiera import HieraSize
from napari_sam.models.sam import Sam
from napari_sam.models.sam2 import Sam2, build_sam2
from napari_sam.models.sam_image_encoder import ImageEncoderViT, ViTSize
from napari_sam.models.tiny_vit import TinyViT
from napari_sam.training import FitResult, Progress, fit, running
from napari_sam.training.progress import run_path
from napari_sam.training.run_file import RunState
from napari_sam.training.sources import Shelf, Source
from napari_sam.training.trainee_sam import SamTrainee
from napari_sam.training.validation import Validation

Arrays = list[NDArray[np.uint8]]


def rings(seed: int, size: int = 128) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Bright discs with a brighter core; the objects are the rims alone, which no model would guess."""
    rng = np.random.default_rng(seed)
    image, labels = rng.normal(90, 8, (size, size)), np.zeros((size, size), np.uint8)
    for number, (row, column) in enumerate(np.argwhere(np.ones((size // 64, size // 64))) * 64 + 32, 1):
        centre = (row + rng.integers(-6, 7), column + rng.integers(-6, 7))
        radius = float(rng.integers(18, 24))
        for part, light, value in ((1.0, 60, number), (0.55, 40, 0)):
            inside = disk(centre, radius * part, shape=image.shape)
            image[inside] += light
            labels[inside] = value
    return image.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def images() -> Arrays:
    return [rings(seed)[0] for seed in range(3)]


@pytest.fixture(scope="module")
def labels() -> Arrays:
    return [rings(seed)[1] for seed in range(3)]


def train(images: Arrays, labels: Arrays, output: Path, **options: object) -> FitResult:
    """A run that takes a second or so, if nothing else is said."""
    short: dict[str, object] = {"steps": 2, "windows": 1, "objects": 1, "device": "cpu", "part": "decoder"}
    return fit("nano", images, labels, output=output, **(short | options))  # type: ignore[arg-type]


def parameters(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in read_state(path).items() if name.startswith(prefix)}


def test_nano_learns_what_it_could_not_do(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    output = tmp_path / "rings.safetensors"
    told: list[Progress] = []
    result = train(
        images, labels, output, steps=8, windows=2, objects=2, learning_rate=2e-3, progress=told.append
    )
    assert result.before.quality.box < 0.75
    assert result.measured[-1].quality.box > result.before.quality.box + 0.08
    assert result.best.quality.score > result.before.quality.score + 0.04
    losses = [loss for _, loss in result.losses]
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])
    assert (result.step, result.stopped, len(result.losses)) == (8, False, 8)
    # Told all along, in order.
    assert [one.step for one in told] == sorted(one.step for one in told)
    assert (told[0].doing, told[0].share, told[-1].share) == ("measuring", 0, 1)
    assert list(told[-1].measured) == result.measured
    # A model like any other, which does what was measured.
    model = load_model(output, device="cpu")
    predictor = SamPredictor(model)
    image, truth = rings(7)
    predictor.set_image(np.stack([image] * 3, axis=-1))
    rows, columns = np.nonzero(truth == 2)
    box = np.array([columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5])
    found = predictor.predict(box=box, multimask_output=False)[0][0]
    assert (found & (truth == 2)).sum() / (found | (truth == 2)).sum() > 0.7
    # Only what was asked for has changed, and the file says what it is.
    assert all(
        torch.equal(tensor, read_state(model_file())[name])
        for name, tensor in parameters(output, "image_encoder.").items()
    )
    metadata = read_metadata(output)
    assert (metadata["napari-sam.base"], metadata["napari-sam.family"]) == ("nano", "nano")
    assert not run_path(output).exists()


def model_file() -> Path:
    from napari_sam.models.store import find

    path = find("nano")
    assert path is not None
    return path


def test_all_of_nano_learns_together(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    stopper = Stopper(1)
    result = train(
        images, labels, tmp_path / "all.safetensors", part="all", steps=2, partial=True,
        progress=stopper, stop=stopper.event,
    )  # fmt: skip
    assert np.isfinite([loss for _, loss in result.losses]).all()
    weights = torch.load(run_path(result.output), weights_only=True)["weights"]
    base = read_state(model_file())
    moved = {name.partition(".")[0] for name, w in weights.items() if not torch.equal(w, base[name].float())}
    assert moved == {"image_encoder", "prompt_encoder", "mask_decoder"}


class Stopper:
    """Stops a run after a step, and counts."""

    def __init__(self, after: int) -> None:
        self.event, self.after = threading.Event(), after

    def __call__(self, progress: Progress) -> None:
        if progress.doing == "training" and progress.step >= self.after:
            self.event.set()


def test_an_interrupted_run_goes_on_where_it_was(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    whole = train(images, labels, tmp_path / "whole.safetensors", steps=2)
    output = tmp_path / "parts.safetensors"
    stopper = Stopper(1)
    first = train(images, labels, output, steps=2, progress=stopper, stop=stopper.event)
    assert (first.step, first.stopped) == (1, True)
    assert first.measured[-1].step == 1  # what was learnt until then counts
    assert load_model(output, device="cpu").name == str(output)
    with pytest.raises(ModelError, match="interrupted run beside"):
        train(images, labels, output, steps=2)
    with pytest.raises(ModelError, match="run with part decoder: give the same"):
        train(images, labels, output, steps=2, part="all", resume=True)
    second = train(images, labels, output, steps=2, resume=True)
    assert (second.step, second.stopped) == (2, False)
    assert second.seconds > first.seconds
    assert second.measured[: len(first.measured)] == first.measured
    # Interrupted or not, it is the same run.
    assert [step for step, _ in second.losses] == [step for step, _ in whole.losses]
    np.testing.assert_allclose(second.losses, whole.losses, rtol=1e-3)
    assert not run_path(output).exists()
    with pytest.raises(ModelError, match="exists: choose another name, or replace it"):
        train(images, labels, output)


def test_a_step_can_be_given_up_in_the_middle(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    result = train(images, labels, tmp_path / "none.safetensors", stop=stop)
    assert (result.step, result.stopped, result.best.step) == (0, True, 0)
    assert load_model(result.output, device="cpu")


def test_a_run_that_dies_leaves_a_model_and_can_go_on(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    output = tmp_path / "dies.safetensors"

    def die(progress: Progress) -> None:
        if progress.step == 1 and progress.doing == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, labels, output, steps=2, progress=die)
    assert load_model(output, device="cpu")
    assert train(images, labels, output, steps=2, resume=True).step == 2
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def tiny_sam() -> Sam:
    """A SAM of 256 pixels with windows and global attention."""
    torch.manual_seed(1)
    return Sam(ImageEncoderViT(ViTSize(32, 2, 2, (1,)), image_size=256))


@pytest.mark.parametrize("part", ["all", "decoder", "lora"])
def test_sam_learns(
    part: str, images: Arrays, labels: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_RATHER_TRAIN", 0)  # measured after each step
    sam = tiny_sam()
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    output = tmp_path / "sam.safetensors"
    options = {"part": part, "steps": 3, "objects": 2, "learning_rate": 3e-3}
    result = fit(sam, images, labels, output=output, device="cpu", **options)  # type: ignore[arg-type]
    assert result.best.step > 0  # from random weights, anything is better
    assert all(torch.equal(tensor, before[name]) for name, tensor in sam.state_dict().items())
    found = read_state(output)
    load_into(tiny_sam(), found, "the output")
    moved = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    encoder = {name for name in moved if name.startswith("image_encoder.")}
    assert any(name.startswith("mask_decoder.transformer.") for name in moved)
    if part == "lora":
        assert encoder == {
            f"image_encoder.blocks.{i}.attn.{x}.weight" for i in (0, 1) for x in ("qkv", "proj")
        }
    else:
        assert bool(encoder) == (part == "all")


def tiny_mobile_sam() -> Sam:
    """MobileSAM on images of 256 pixels."""
    encoder = TinyViT()
    encoder.img_size = 256
    return Sam(encoder)


def tiny_sam2() -> Sam2:
    """A SAM 2 of 256 pixels that has everything."""
    return build_sam2(HieraSize(16, 1, (1, 2, 3, 1), (4,)), image_size=256)


@pytest.mark.parametrize("build", [tiny_mobile_sam, tiny_sam2])
def test_mobile_sam_and_sam2_learn(
    build: Callable[[], Sam | Sam2], images: Arrays, labels: Arrays, tmp_path: Path
) -> None:
    network = build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stopper = Stopper(1)
    result = fit(
        network, images[:2], labels[:2], output=tmp_path / "other.safetensors", device="cpu", val=0.5,
        part="lora", steps=2, objects=1, progress=stopper, stop=stopper.event,
    )  # fmt: skip
    assert read_state(result.output).keys() == before.keys()
    weights = torch.load(run_path(result.output), weights_only=True)["weights"]
    corrections = [name for name in weights if name.endswith("attn.qkv.parametrizations.weight.0.up")]
    assert corrections
    assert all(weights[name].any() for name in corrections)
    decoder = [name for name in weights if ".transformer." in name and name.endswith(".weight")]
    assert any(not torch.equal(weights[name], before[name]) for name in decoder)
    # What only videos need is not touched.
    assert not [name for name in weights if "memory" in name]
    again = fit(
        network, images[:2], labels[:2], output=result.output, device="cpu", val=0.5,
        part="lora", steps=2, objects=1, resume=True,
    )  # fmt: skip
    assert (again.step, again.stopped) == (2, False)
    assert again.measured[: len(result.measured)] == result.measured


def test_the_curve_of_losses_stays_short() -> None:
    state = RunState()
    for step in range(1, 5001):
        state.step = step
        state.add_loss(float(step))
    assert 256 <= len(state.losses) <= 512
    steps = [step for step, _ in state.losses]
    assert steps == sorted(set(steps))
    # Each point is the mean since the one before.
    between = np.diff([0, *steps])
    np.testing.assert_allclose([loss for _, loss in state.losses], steps - (between - 1) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [np.zeros((128, 128), np.uint8)] * 3}, "None of the labels has an object"),
        (
            {"labels": [np.ones((100, 128), np.uint8)] * 3},
            r"image 1 has the shape \(128, 128\) and its labels",
        ),
        ({"labels": [np.ones((128, 128))] * 3}, "must be planes of integers"),
        ({"labels": []}, "3 images and 0 labels"),
        ({"labels": None}, "needs labels"),
        ({"val": 1.5}, "between 0 and 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    options: dict[str, object], message: str, images: Arrays, labels: Arrays, tmp_path: Path
) -> None:
    given: dict[str, object] = {"labels": labels} | options
    with pytest.raises(ImageError, match=message):
        train(images, output=tmp_path / "x.safetensors", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "lora"}, "nano has no attention"),
        ({"part": "head"}, "choose one of all, decoder, lora"),
        ({"steps": 0}, "at least one step"),
        ({"minutes": -1}, "minutes above 0"),
        ({"learning_rate": -1.0}, "a number above 0, not -1"),
        ({"learning_rate": 0.0}, "a number above 0, not 0"),
        ({"learning_rate": float("nan")}, "a number above 0, not nan"),
        ({"output": "x.pth"}, "does not end in .safetensors"),
        ({"output": "no/x.safetensors"}, "does not exist: make it first"),
    ],
)
def test_runs_that_make_no_sense_are_refused(
    options: dict[str, object], message: str, images: Arrays, labels: Arrays, tmp_path: Path
) -> None:
    output = tmp_path / str(options.pop("output", "x.safetensors"))
    with pytest.raises(ModelError, match=message):
        train(images, labels, output, **options)
    assert not list(tmp_path.iterdir())


def test_a_loaded_model_is_read_again_and_stays_ready(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    model = load_model("nano", device="cpu")
    result = fit(model, images, labels, output=tmp_path / "x.safetensors", part="decoder", steps=1, windows=1,
                 objects=1, device="cpu")  # fmt: skip
    assert read_metadata(result.output)["napari-sam.base"] == "nano"
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ModelError, match="made ready for inference"):
        fit(tiny_sam().prepare(torch.device("cpu"), torch.float32), images, labels,
            output=tmp_path / "y.safetensors")  # fmt: skip
    with pytest.raises(DeviceError):
        train(images, labels, tmp_path / "y.safetensors", device="cuda:99")


def test_one_image_is_cut_in_two(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    result = train(images[:1], labels[:1], tmp_path / "one.safetensors", val=0.45, steps=1)
    assert result.step == 1
    alone: Sequence[NDArray[np.uint8]] = [np.where(labels[0] == 1, 1, 0).astype(np.uint8)]
    with pytest.raises(ImageError, match="only image and has too few objects"):
        train(images[:1], list(alone), tmp_path / "two.safetensors")


def test_a_run_that_is_to_be_replaced_stays_until_another_begins(
    images: Arrays, labels: Arrays, tmp_path: Path
) -> None:
    output = tmp_path / "mine.safetensors"
    stopper = Stopper(1)
    train(images, labels, output, progress=stopper, stop=stopper.event)
    kept = run_path(output).read_bytes()
    for wrong in ({"part": "lora"}, {"device": "cuda:99"}, {"val": 2.0}):
        with pytest.raises((ModelError, DeviceError, ImageError)):
            train(images, labels, output, overwrite=True, **wrong)
        assert run_path(output).read_bytes() == kept
    assert train(images, labels, output, steps=1, overwrite=True).measured[0].step == 0
    assert not run_path(output).exists()


def test_a_run_goes_on_with_the_weights_that_it_began_with(
    images: Arrays, labels: Arrays, tmp_path: Path
) -> None:
    base, output = tmp_path / "base.safetensors", tmp_path / "mine.safetensors"
    train(images, labels, base, steps=1)
    short = {"steps": 2, "windows": 1, "objects": 1, "device": "cpu", "part": "decoder"}
    stopper = Stopper(1)
    fit(base, images, labels, output=output, progress=stopper, stop=stopper.event, **short)  # type: ignore[arg-type]
    train(images, labels, base, steps=2, overwrite=True)
    with pytest.raises(ModelError, match=r"run with weights sha256:\w+: give the same"):
        fit(base, images, labels, output=output, resume=True, **short)  # type: ignore[arg-type]
    # Low-rank corrections are added to what must not change meanwhile; all other weights are in the run.
    with pytest.raises(ModelError, match="needed to go on: give another output"):
        fit(base, images, labels, output=base, overwrite=True, **(short | {"part": "lora"}))  # type: ignore[arg-type]
    stopper = Stopper(1)
    fit(base, images, labels, output=base, overwrite=True, progress=stopper, stop=stopper.event, **short)  # type: ignore[arg-type]
    assert fit(base, images, labels, output=base, resume=True, **short).step == 2  # type: ignore[arg-type]


def test_a_full_disk_is_told(images: Arrays, labels: Arrays, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most[1]))
    try:
        with pytest.raises(ModelError, match=r"mine\.\w+ cannot be written \(.*make room there"):
            train(images, labels, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert not list(tmp_path.iterdir())


def test_what_is_measured_looks_as_it_is_displayed() -> None:
    """A dark image between wide limits stays dark."""
    grays, labels = rings(0)
    image = grays.astype(np.uint16) * 20
    source = Source("dark", image, labels, objects=4, size=(128, 128), limits=(0, 65535))
    network, seen = tiny_sam(), []
    network.image_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    Validation([source], Shelf()).measure(SamTrainee(network, "decoder", 8, 0))
    pixels = seen[0][0, :, :128, :128] * network.pixel_std + network.pixel_mean
    assert float(pixels.max()) == pytest.approx(image.max() / 65535 * 255, abs=1)
