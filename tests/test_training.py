"""Training: windows, targets, simulated prompts, losses, and a short real run that is taken up again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imsave

from napari_sam import load_model
from napari_sam.errors import ModelError
from napari_sam.models.base import PromptBatch
from napari_sam.models.checkpoint import read_state, save_state
from napari_sam.models.nano import Nano
from napari_sam.models.nano_encoder import CENTRE_UNIT
from napari_sam.training import loop
from napari_sam.training.augment import augment
from napari_sam.training.data import (
    LabelledImage,
    crop_at,
    dense_target,
    load_index,
    pick_objects,
    random_crop,
)
from napari_sam.training.growing import load_grown
from napari_sam.training.loop import Settings, Windows, train
from napari_sam.training.losses import dense_loss, iou, mask_losses, prompt_loss
from napari_sam.training.prompts import (
    SimulatedPrompts,
    correct,
    drop_some,
    first_prompts,
    sample_points,
    several_points,
    tight_boxes,
)
from napari_sam.training.rounds import follow_prompts, repeated
from napari_sam.training.synthetic import synthetic_sample


@pytest.fixture
def square() -> LabelledImage:
    """A bright square, rows 100 to 139 and columns 200 to 259, on a plane of 300 x 400 pixels."""
    pixels = np.zeros((300, 400, 1), np.uint8)
    labels = np.zeros((300, 400), np.int32)
    pixels[100:140, 200:260] = 255
    labels[100:140, 200:260] = 7
    return LabelledImage(pixels, [labels], "squares/one")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_crops_keep_pixels_and_labels_together(square: LabelledImage, scale: float) -> None:
    pixels, labels = crop_at(square, square.labels[0], np.array([60.0, 150.0]), scale)
    assert pixels.shape == (3, 256, 256)
    assert labels.shape == (256, 256)
    bright = pixels[0] > 0
    agree = (bright & (labels == 7)).sum() / (bright | (labels == 7)).sum()
    assert agree > 0.97
    rows, columns = labels.nonzero(as_tuple=True)
    if scale == 1.0:
        # The window is moved onto the plane: rows 44 to 299, columns 144 to 399.
        assert (int(rows.min()), int(rows.max())) == (100 - 44, 139 - 44)
        assert (int(columns.min()), int(columns.max())) == (200 - 144, 259 - 144)
    assert int((labels == 7).sum()) == pytest.approx(40 * 60 * scale**2, rel=0.02)


def test_random_crops_hold_an_object_and_augmentation_moves_both(square: LabelledImage) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        pixels, labels = random_crop(square, rng)
        assert (labels == 7).any()
        moved, moved_labels = augment(pixels, labels, rng)
        assert moved.shape == pixels.shape
        assert moved.isfinite().all()
        assert (moved_labels == 7).sum() == (labels == 7).sum()
        inside, outside = moved[:, moved_labels == 7].mean(), moved[:, moved_labels == 0].mean()
        assert abs(inside - outside) > 0.2
    assert pick_objects(labels, 3, rng).tolist() == [7]


def test_dense_target_points_to_centres() -> None:
    labels = torch.zeros(256, 256, dtype=torch.long)
    labels[20:61, 100:181] = 5
    target = dense_target(labels, "dsb2018/fluo_small")
    assert target.shape == (6, 128, 128)
    assert target[0, 20, 60] == 1
    assert target[0, 5, 5] == 0
    assert target[1, 10, 60] == 1  # on the edge
    assert target[1, 20, 60] == 0  # well inside
    y, x = 2 * 12 + 1, 2 * 55 + 1
    at = x + target[2, 12, 55] * CENTRE_UNIT, y + target[3, 12, 55] * CENTRE_UNIT
    assert at == (pytest.approx(140.5, abs=1.1), pytest.approx(40.5, abs=1.1))
    assert target[4].all()
    assert not dense_target(labels, "colicoords_ecoli/bacteria_brightfield")[4, 5, 5]


def test_points_fall_into_their_regions() -> None:
    regions = torch.zeros(3, 256, 256, dtype=torch.bool)
    regions[0, 10:14, 21:24] = True
    regions[1, 100:200, 50:60] = True
    regions[2, 255, 255] = True
    for power in (0.0, 4.0):
        for seed in range(30):
            at = sample_points(regions, torch.full((3,), power), torch.Generator().manual_seed(seed))
            x, y = at.long().unbind(-1)
            assert regions[torch.arange(3), y, x].all()


def test_corrections_are_where_most_is_wrong() -> None:
    """A rim of one pixel around the whole object is as many pixels as the blob beside it."""
    masks = torch.zeros(400, 256, 256, dtype=torch.bool)
    masks[:, 50:90, 60:160] = True
    predicted = masks.clone()
    predicted[:, 49:91, 59:161] = True
    predicted[:, 60:76, 161:179] = True
    more = correct(first_prompts(masks, generator()), predicted, masks, generator())
    in_blob = (more.points[:, 1, 0] > 161).float().mean()
    assert 0.75 < in_blob < 0.99


@pytest.mark.parametrize("radius", [8, 30, 60])
def test_deep_points_are_near_the_middle(radius: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    disk = ((rows - 120) ** 2 + (columns - 140) ** 2 <= radius**2).expand(300, -1, -1)
    away = {}
    for power in (0.0, 30.0):
        at = sample_points(disk, torch.full((300,), power), generator())
        away[power] = float((at - torch.tensor([140.5, 120.5])).norm(dim=1).median())
    assert away[0.0] > 0.6 * radius  # 0.71 of it, if anywhere is as likely as anywhere else
    assert away[30.0] < 0.55 * radius


@pytest.mark.parametrize("twice", [False, True])
def test_a_second_look_is_at_the_mask_of_the_first(twice: bool) -> None:
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[:, 100:140, 100:160] = True
    calls = []

    def decode(prompts: SimulatedPrompts, logits: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.full((2, 4, 128, 128), float(len(calls) + 1))
        calls.append((prompts, logits, found))
        return found, torch.ones(2, 4)

    def criterion(found: torch.Tensor, *_: object) -> torch.Tensor:
        return found.mean()

    seeds = range(20)
    for seed in seeds:
        calls.clear()
        loss, quality = follow_prompts(
            decode,
            criterion,
            masks,
            2,
            generator=torch.Generator().manual_seed(seed),
            second_looks=float(twice),
        )
        if calls[0][1] is not None:
            continue  # began with masks
        assert len(calls) == (2 if twice else 1) * len(quality)
        if twice:
            for (asked, none, first), (again, given, _) in zip(calls[::2], calls[1::2], strict=True):
                assert again is asked
                assert none is None
                assert torch.equal(given, first[:, :1])
            if len(quality) == 1:
                assert float(loss) == 1.5  # both looks, as much as one


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_features_of_each_objects_window(memory_format: torch.memory_format) -> None:
    features = torch.randn(3, 4, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    owner = torch.tensor([0, 0, 2, 1, 2])
    upstream = torch.randn(5, 4, 5, 6)
    gradients = []
    for found in (features[owner], repeated(features, owner)):
        assert torch.equal(found, features[owner])
        gradients.append(torch.autograd.grad(found, features, upstream)[0])
    assert found.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(*gradients)


def test_first_prompts_and_corrections() -> None:
    masks = torch.zeros(64, 256, 256, dtype=torch.bool)
    masks[:, 50:90, 60:160] = True
    assert tight_boxes(masks)[0].tolist() == [60, 50, 160, 90]
    prompts = first_prompts(masks, generator())
    has_point, has_box = prompts.labels[:, 0] == 1, ~prompts.boxes.isnan().any(1)
    assert (has_point | has_box).all()
    assert 0 < has_box.sum() < 64
    assert (prompts.boxes[has_box] - tight_boxes(masks)[has_box]).abs().max() <= 10
    exact = first_prompts(masks, generator(), jitter=(0.0, 0.0))
    assert torch.equal(exact.boxes[has_box], tight_boxes(masks)[has_box])
    loose = first_prompts(masks, generator(), jitter=(0.1, 0.1))
    moved, much = ((found.boxes - exact.boxes)[has_box].abs().mean() for found in (prompts, loose))
    assert 0 < 2 * moved < much
    predicted = masks.clone()
    predicted[:32, 50:90, 60:100] = False  # too little
    predicted[32:, 200:240, 60:100] = True  # too much
    more = correct(prompts, predicted, masks, generator())
    assert more.points.shape == (64, 2, 2)
    assert (more.labels[:32, 1] == 1).all()
    assert (more.labels[32:, 1] == 0).all()
    x, y = more.points[:, 1].long().unbind(-1)
    assert (predicted != masks)[torch.arange(64), y, x].all()
    assert (correct(prompts, masks, masks, generator()).labels[:, 1] == -1).all()
    several = several_points(prompts, masks, 0.5, generator())
    added = (several.labels[:, 1:] == 1).sum(1)
    assert torch.equal(several.points[:, :1], prompts.points)
    assert (added[~has_point] == 0).all()
    assert 0.3 < (added[has_point] > 0).float().mean() < 0.7
    assert set(added.tolist()) == {0, 1, 2, 3, 4}
    which, column = (several.labels == 1).nonzero().T
    x, y = several.points[which, column].long().unbind(-1)
    assert masks[which, y, x].all()
    assert x.max() - x.min() > 80
    assert several_points(prompts, masks, 0.0, generator()) is prompts
    fewer = drop_some(more, 0.5, generator())
    bare = (fewer.labels == -1).all(1) & fewer.boxes.isnan().all(1)
    assert 10 < bare.sum() < 54
    assert torch.equal(fewer.labels[~bare], more.labels[~bare])


def test_losses_know_good_from_bad() -> None:
    target = torch.zeros(2, 64, 64)
    target[0, 10:30, 10:30] = 1
    target[1, 5:8, 5:8] = 1
    perfect = ((target * 2 - 1) * 20)[:, None].repeat(1, 4, 1, 1)
    empty = torch.full_like(perfect, -20.0)
    assert mask_losses(perfect, target).max() < 0.01
    assert (mask_losses(empty, target) > 1).all()
    assert iou(perfect, target).tolist() == [[1.0] * 4] * 2
    assert not iou(empty, target).any()
    honest, sure = torch.zeros(2, 4), torch.ones(2, 4)
    assert prompt_loss(perfect, sure, target) < 0.02
    assert prompt_loss(empty, sure, target) > prompt_loss(empty, honest, target) + 0.9
    one_good = torch.cat([empty[:, :3], perfect[:, :1]], dim=1)
    assert prompt_loss(one_good, honest, target) < prompt_loss(empty, honest, target)


def test_dense_loss_is_small_where_right() -> None:
    labels = torch.zeros(256, 256, dtype=torch.long)
    labels[20:61, 100:181] = 5
    target = dense_target(labels, "synthetic")[None]
    right = torch.cat([(target[:, :2] * 2 - 1) * 20, target[:, 2:4]], dim=1)
    wrong = torch.cat([right[:, :2], right[:, 2:] + 1], dim=1)
    assert dense_loss(right, target) < 1e-4
    assert dense_loss(wrong, target) > 0.5


def test_index_is_read(tmp_path: Path) -> None:
    image, labels = synthetic_sample(np.random.default_rng(1), 64)
    imsave(tmp_path / "image.png", image, check_contrast=False)
    imsave(tmp_path / "labels.png", labels.astype(np.uint16), check_contrast=False)
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "split", "modality", "n_frames", "image", "labels"])
        writer.writerow(["mine", "train", "any", 1, "image.png", "labels.png"])
        writer.writerow(["mine", "val", "any", 1, "missing.png", "missing.png"])
    (item,) = load_index(tmp_path)
    assert item.group == "mine/any/64x64"
    np.testing.assert_array_equal(item.labels[0], labels)
    np.testing.assert_array_equal(item.pixels, image)


def test_images_of_a_size_can_have_a_weight_of_their_own(square: LabelledImage) -> None:
    groups = "a/b/1x1", "a/b/2x2", "a/b/2x2", "a/c/1x1", "d/e/1x1"
    items = [replace(square, group=group) for group in groups]
    windows = Windows(items, {"a": 1.0, "a/b": 2.0, "a/b/1x1": 5.0}, Settings())
    assert windows.members == [[3], [1, 2], [0], [4]]
    assert windows.share.tolist() == pytest.approx([1 / 9, 2 / 9, 5 / 9, 1 / 9])


def test_a_deeper_network_begins_as_the_one_before() -> None:
    torch.manual_seed(0)
    before, after = Nano().eval(), Nano().eval()
    new = "image_encoder.stages.1.5", "image_encoder.stages.2.4", "mask_decoder.sharpen"
    for name in new:
        owner, _, last = name.rpartition(".")
        before.get_submodule(owner)._modules[last] = torch.nn.Identity()
    state = before.state_dict()
    for key in [key for key in state if "mask_iou_head" in key]:
        del state[key]
    # In a network without it, it adds nothing to the predicted IoUs.
    last = before.mask_decoder.mask_iou_head.mlp.layers[-1]
    for parameter in last.parameters():
        torch.nn.init.zeros_(parameter)
    load_grown(after, state)
    prompts = PromptBatch(torch.tensor([[[40.0, 50.0]]]), torch.ones(1, 1, dtype=torch.long))
    pixels = torch.rand(3, 120, 90)
    with torch.no_grad():
        old, grown = (net.decode(net.encode(pixels), prompts, multimask=True) for net in (before, after))
    torch.testing.assert_close(grown.logits, old.logits)
    torch.testing.assert_close(grown.scores, old.scores)
    for block in map(after.get_submodule, new):
        assert block.conv2.conv.weight.any()  # has something to learn with
    state = before.state_dict()
    del state["image_encoder.stages.1.4.conv2.norm.weight"]
    with pytest.raises(ModelError, match=r"1 missing \(image_encoder\.stages\.1\.4"):
        load_grown(Nano(), state)
    with pytest.raises(ModelError, match=r"1 unexpected \(other\)"):
        load_grown(Nano(), {**before.state_dict(), "other": torch.zeros(1)})


def test_a_run_learns_saves_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_NORM_BATCHES", 1)
    image, labels = synthetic_sample(np.random.default_rng(0))
    items = [LabelledImage(image, [labels], "s/s")]
    output = tmp_path / "run.safetensors"
    # So short that one step is all of it: the encoder alone.
    settings = Settings(minutes=1e-6, encoder_minutes=1e-7, windows=1, objects=2, synthetic=0.5)
    train(items, output, settings=settings)
    first, run = read_state(output), torch.load(output.with_suffix(".run"), weights_only=True)
    assert (run["step"], run["together"]) == (1, None)
    # However long that step took: one more is due, with prompts.
    train(items, output, settings=replace(settings, minutes=run["spent"] / 60 + 1e-6))
    second, run = read_state(output), torch.load(output.with_suffix(".run"), weights_only=True)
    assert (run["step"], run["together"]) == (2, 1)
    adamw = run["optimizers"][1]
    assert max(int(state["step"]) for state in adamw["state"].values()) == 2
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert any(name.startswith("image_encoder.") and name.endswith("weight") for name in changed)
    assert any(name.startswith("mask_decoder.") and name.endswith("weight") for name in changed)
    assert load_model(output, device="cpu").name == str(output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.run", "run.safetensors"]


def test_a_part_learns_and_nothing_else_changes(tmp_path: Path) -> None:
    image, labels = synthetic_sample(np.random.default_rng(0))
    torch.manual_seed(0)
    begun = Nano()
    save_state(begun, tmp_path / "begun.safetensors")
    initial = read_state(tmp_path / "begun.safetensors")
    part = "mask_decoder.mask_iou_head."
    settings = Settings(minutes=1e-6, encoder_minutes=0, windows=1, objects=2, only=part)
    output = tmp_path / "run.safetensors"
    train([LabelledImage(image, [labels], "s/s")], output, settings=settings, initial=initial)
    learnt = read_state(output)
    changed = {name for name in initial if not torch.equal(initial[name], learnt[name])}
    assert f"{part}mlp.layers.0.weight" in changed
    assert all(name.startswith(part) for name in changed)
