"""What training is made of: images that are paired and split, corrections of low rank, SAM's losses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from skimage.io import imsave
from torch.nn import functional as F

from napari_sam.errors import ImageError
from napari_sam.models.checkpoint import load_into
from napari_sam.models.nano import Nano
from napari_sam.models.sam import Sam
from napari_sam.models.sam_image_encoder import ImageEncoderViT, ViTSize
from napari_sam.training.augment import augment
from napari_sam.training.data import pick_objects, unit
from napari_sam.training.lora import add_low_rank, merged_state
from napari_sam.training.losses import iou, sam_losses, sam_prompt_loss
from napari_sam.training.muon import Muon, optimizers
from napari_sam.training.prompts import SimulatedPrompts
from napari_sam.training.rough import begin_with_masks, half_planes, neighbours, rough_masks
from napari_sam.training.sources import Shelf, from_index, hold_out, pair


def squares(count: int = 3, size: int = 60) -> np.ndarray:
    """Squares of 8 pixels in a row, with ids 10, 20, ..."""
    labels = np.zeros((20, size), np.uint16)
    for number in range(count):
        labels[6:14, 5 + 18 * number : 13 + 18 * number] = 10 * (number + 1)
    return labels


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name, count in (("a", 1), ("b", 2), ("empty", 0)):
        imsave(images / f"{name}.png", (squares(count) > 0).astype(np.uint8) * 200, check_contrast=False)
        tifffile.imwrite(labels / f"{name}.tif", squares(count))
    imsave(images / "without labels.png", np.zeros((20, 60), np.uint8), check_contrast=False)
    found = pair(images, labels)
    assert [(source.name, source.objects) for source in found] == [("a", 1), ("b", 2)]
    item = found[1].read()
    assert item.pixels.shape == (20, 60, 1)
    assert np.unique(item.labels[0]).tolist() == [0, 1, 2]
    with pytest.raises(ImageError, match=r"No image in .* has labels of the same name"):
        pair(images, tmp_path)
    with pytest.raises(ImageError, match="There is no folder or file"):
        pair(tmp_path / "nothing", labels)


def test_stacks_colours_and_types() -> None:
    labels = np.stack([squares(1), squares(0), squares(3)])
    stack = (labels * 30).astype(np.uint16)
    planes = pair(stack, labels)
    assert [(source.name, source.plane) for source in planes] == [
        ("image 1, plane 0", (0,)),
        ("image 1, plane 2", (2,)),
    ]
    assert float(unit(planes[1].read().pixels).max()) == 1.0
    colour = np.zeros((20, 60, 3), np.uint8)
    assert pair([colour], [squares()])[0].read().pixels.shape == (20, 60, 3)
    # Labels that only say where objects are: each connected part is one.
    assert pair(squares(), squares() > 0)[0].objects == 3
    with pytest.raises(ImageError, match="negative ids"):
        pair(squares(), -squares().astype(int))
    with pytest.raises(ImageError, match="is not labels"):
        pair(squares(), 3)  # type: ignore[arg-type]


def test_an_index_tells_data_sets_apart(tmp_path: Path) -> None:
    imsave(tmp_path / "image.png", (squares() > 0).astype(np.uint8) * 200, check_contrast=False)
    tifffile.imwrite(tmp_path / "labels.tif", squares())
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "id", "split", "modality", "image", "labels"])
        for dataset, split in (("one", "train"), ("two", "train"), ("two", "val")):
            writer.writerow([dataset, "x", split, "em", "image.png", "labels.tif"])
    assert [source.group for source in from_index(tmp_path)] == ["one/em", "two/em"]
    assert len(from_index(tmp_path, "val")) == 1
    with pytest.raises(ImageError, match="has no test items"):
        from_index(tmp_path, "test")
    with pytest.raises(ImageError, match=r"no index\.csv"):
        from_index(tmp_path / "nowhere")


def test_what_is_held_out() -> None:
    many = pair([squares()] * 1 + [squares() + 0 for _ in range(9)], [squares()] * 10)
    train, val = hold_out(many, 0.2, seed=1)
    assert (len(train), len(val)) == (8, 2)
    assert not {source.name for source in train} & {source.name for source in val}
    assert [s.name for s in hold_out(many, 0.2, seed=1)[1]] == [s.name for s in val]
    assert [s.name for s in hold_out(many, 0.2, seed=2)[1]] != [s.name for s in val]
    stack = pair(np.stack([squares()] * 5), np.stack([squares()] * 5))
    train, val = hold_out(stack, 0.2, seed=0)
    assert ([s.plane for s in train], [s.plane for s in val]) == ([(0,), (1,), (2,), (3,)], [(4,)])


def test_of_one_plane_an_end_is_held_out_without_the_objects_that_are_cut() -> None:
    (train,), (val,) = hold_out(pair(squares(), squares()), 0.45, seed=0)
    assert (train.objects, val.objects) == (2, 1)
    first, last = train.read(), val.read()
    assert first.pixels.shape[1] + last.pixels.shape[1] == 60
    assert (last.labels[0][:, :6] == 0).all()  # the second square reaches to here


def test_the_shelf_keeps_what_was_used_last() -> None:
    sources = pair([squares() + 0 for _ in range(3)], [squares()] * 3)
    nbytes = 20 * 60 * (2 * 4)  # pixels as floats, labels as int32
    shelf = Shelf(2 * nbytes, partial=True)
    first = shelf.read(sources[0])
    assert first.partial
    assert shelf.read(sources[0]) is first
    shelf.read(sources[1])
    shelf.read(sources[0])
    third = shelf.read(sources[2])
    assert shelf.read(sources[0]) is first
    assert shelf.read(sources[2]) is third
    shelf.read(sources[1])
    assert shelf.read(sources[0]) is not first


def test_corrections_change_nothing_until_they_learn_and_then_merge() -> None:
    def build() -> Sam:
        return Sam(ImageEncoderViT(ViTSize(32, 2, 2, (1,)), image_size=128))

    sam = build()
    state = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        before = sam.image_encoder(pixels)
        assert add_low_rank(sam.image_encoder, rank=3, seed=5) == 4
        torch.testing.assert_close(sam.image_encoder(pixels), before, rtol=0, atol=0)
    learning = {name for name, p in sam.image_encoder.named_parameters() if p.requires_grad}
    assert learning == {
        f"blocks.{i}.attn.{layer}.parametrizations.weight.0.{side}"
        for i in (0, 1) for layer in ("qkv", "proj") for side in ("down", "up")
    }  # fmt: skip
    sam.image_encoder(pixels).square().mean().backward()
    for name, parameter in sam.image_encoder.named_parameters():
        if name in learning:
            # To begin with one factor is zero, so that only it has a gradient.
            assert bool(parameter.grad.any()) == name.endswith("up")
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        corrected = sam.image_encoder(pixels)
        assert not torch.allclose(corrected, before, atol=1e-2)
        merged = merged_state(sam)
        for name, tensor in state.items():
            assert torch.equal(merged[name], tensor) == (".attn." not in name or not name.endswith("weight"))
        again = build()
        load_into(again, merged, "merged")
        torch.testing.assert_close(again.image_encoder(pixels), corrected, rtol=0, atol=1e-5)


def test_the_losses_of_sam_know_good_from_bad() -> None:
    target = torch.zeros(2, 64, 64)
    target[0, 10:30, 10:30] = 1
    target[1, 5:8, 5:8] = 1
    perfect = ((target * 2 - 1) * 20)[:, None].repeat(1, 4, 1, 1)
    empty = torch.full_like(perfect, -20.0)
    assert sam_losses(perfect, target).max() < 0.01
    assert (sam_losses(empty, target) > 0.9).all()
    # Focal loss by hand: one pixel of four is wrong, at even odds.
    logits, truth = torch.tensor([[[[0.0, 40.0], [-40.0, -40.0]]]]), torch.tensor([[[1.0, 1.0], [0, 0]]])
    dice = 1 - (2 * 1.5 + 1) / (1.5 + 2 + 1)
    focal = 0.25 * 0.5**2 * np.log(2) / 4
    assert sam_losses(logits, truth).item() == pytest.approx(20 * focal + dice, rel=1e-5)
    sure, alone = torch.ones(2, 4), torch.tensor([True, True])
    assert sam_prompt_loss(perfect, sure, target, alone) < 0.02
    # For a single point, one good candidate will do; the single mask says nothing.
    one_good = torch.cat([empty[:, :3], perfect[:, :1]], dim=1)
    honest = torch.tensor([[0.0, 0.0, 0.0, 1.0]] * 2)
    assert sam_prompt_loss(one_good, honest, target, alone) < 0.02
    assert sam_prompt_loss(one_good, honest, target, ~alone) > 0.9
    assert sam_prompt_loss(one_good, 1 - honest, target, alone) > 0.9


def test_augmentation_turns_images_that_are_not_square() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = torch.rand(3, 40, 60) * 2 - 1, torch.arange(40 * 60).view(40, 60)
    shapes = set()
    for _ in range(30):
        moved, ids = augment(pixels, labels, rng)
        assert moved.shape[1:] == ids.shape
        assert moved.abs().max() <= 2
        assert torch.equal(ids.flatten().sort().values, labels.flatten())
        shapes.add(tuple(ids.shape))
    assert shapes == {(40, 60), (60, 40)}


def test_muon_turns_every_direction_equally_far() -> None:
    torch.manual_seed(0)
    # A gradient whose directions differ a thousandfold in strength, of a kernel and of a tall matrix.
    weights = [torch.nn.Parameter(torch.zeros(8, 4, 3, 3)), torch.nn.Parameter(torch.zeros(40, 6))]
    for weight in weights:
        left, right = (torch.linalg.qr(torch.randn(n, 6))[0] for n in weight.flatten(1).shape)
        weight.grad = (left @ torch.diag(torch.logspace(0, -1.5, 6)) @ right.T).reshape(weight.shape)
    Muon(weights, lr=0.1, weight_decay=0.0).step()
    for weight in weights:
        strengths = torch.linalg.svdvals(weight.detach().flatten(1))[:6] / (0.1 * 0.2)
        longest = max(weight.flatten(1).shape) ** 0.5
        assert (strengths / longest > 0.6).all()
        assert (strengths / longest < 1.3).all()


def test_muon_gets_the_matrices_inside_a_network() -> None:
    model = Nano()
    muon, adamw = optimizers(
        model,
        first=model.image_encoder.stem,
        last=[model.image_encoder.dense],
        lr=1e-3,
        weight_decay=0.01,
    )
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert inner | rest == {id(p) for p in model.parameters()}
    assert not inner & rest
    assert id(model.image_encoder.smooth.conv.weight) in inner
    assert id(model.image_encoder.dense.weight) in rest
    assert id(model.prompt_encoder.kinds.weight) in rest


def test_rough_masks_are_about_right() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    # Discs of radius 12 near a corner, and of radius 6 in the middle.
    discs = [((rows - y) ** 2 + (columns - x) ** 2 <= r**2) for y, x, r in ((15, 45, 12), (32, 32, 6))]
    target = torch.stack(discs * 20).float()
    logits = rough_masks(target, torch.Generator().manual_seed(0))
    assert logits.shape == (40, 1, 64, 64)
    assert logits.abs().max() == 10
    overlap = iou(logits, target)[:, 0]
    assert 0.4 < overlap.min() < 0.7
    assert 0.7 < overlap.mean() < 0.9
    assert overlap.max() < 1
    # Neither larger nor smaller, neither here nor there, on average.
    masks = (logits[::2, 0] > 0).float()
    assert abs(masks.sum((1, 2)).mean() / target[0].sum() - 1) < 0.1
    assert abs((masks.mean((0, 1)) * torch.arange(64)).sum() / masks.mean((0, 1)).sum() - 45) < 1
    # However small it is.
    dot = torch.zeros(1, 64, 64)
    dot[0, 30:32, 30:32] = 1
    assert (rough_masks(dot, torch.Generator().manual_seed(0)) > 0).any()


def some_discs(radius: int, count: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    return ((rows - 70) ** 2 + (columns - 50) ** 2 <= radius**2).expand(count, -1, -1)


def test_half_planes_pass_near_the_centre_in_all_directions() -> None:
    disc = some_discs(30, 200)
    halves = half_planes(disc, torch.Generator().manual_seed(0))
    share = (disc & halves).flatten(1).sum(1) / disc.flatten(1).sum(1)
    # A line at half of the radius leaves 0.196 of a disc (of its segment) on one side.
    assert 0.17 < share.min() < 0.3
    assert 0.7 < share.max() < 0.83
    assert 0.4 < share.mean() < 0.6
    # Each pixel of the rim is as often in as out.
    rim = disc[0] & ~some_discs(27, 1)[0]
    often = halves.float().mean(0)[rim]
    assert 0.3 < often.min() < often.max() < 0.7


def test_a_wrong_mask_begins_with_a_click_that_mends_it() -> None:
    count = 400
    truth = some_discs(25, count)
    first = SimulatedPrompts(
        torch.full((count, 1, 2), 50.5), torch.ones(count, 1, dtype=torch.long), torch.full((count, 4), 9.0)
    )
    wanted, prompts, logits = begin_with_masks(truth, 2, first, torch.Generator().manual_seed(0))
    assert logits.shape == (count, 1, 64, 64)
    assert not (wanted & ~truth).any()
    cut = (wanted != truth).flatten(1).any(1)
    assert 0.1 < cut.float().mean() < 0.2
    clicked = prompts.boxes.isnan().all(1)
    assert torch.equal(clicked, prompts.labels[:, 1] != -1)
    # A half of the masks is wrong, and of the others four in ten are clicked, too.
    assert 0.6 < clicked.float().mean() < 0.8
    assert clicked[cut].all()
    assert (prompts.boxes[~clicked] == 9).all()
    # The first point stays unless it is in what is cut away.
    assert (prompts.points[:, 0] == 50.5).all()
    assert torch.equal(prompts.labels[:, 0] == 1, wanted[:, 50, 50] | ~clicked)
    assert not wanted[:, 50, 50].all()
    given = F.interpolate(logits, scale_factor=2.0, mode="bilinear")[:, 0] > 0
    x, y = prompts.points[:, 1].long().unbind(1)
    label = prompts.labels[:, 1]
    which = torch.arange(count)
    inside, there = wanted[which, y, x], given[which, y, x]
    assert ((inside == (label == 1)) & (inside != there))[clicked].all()
    # Most of what is too much is taken away by a negative click, and the reverse.
    missing = (wanted & ~given).flatten(1).sum(1) > 3 * (given & ~wanted).flatten(1).sum(1)
    assert (label[clicked & missing] == 1).float().mean() > 0.8
    assert (label[clicked & cut] == 0).float().mean() > 0.8


def test_neighbours_share_a_window_and_a_border() -> None:
    masks = torch.zeros(6, 64, 64, dtype=torch.bool)
    masks[0, 10:30, 10:30] = True
    masks[1, 30:40, 12:20] = True  # below the first one
    masks[2, 8:32, 33:40] = True  # beside it, along more of its border, with a gap
    masks[3, 50:60, 50:60] = True  # far from all others
    masks[4] = masks[2]  # of another window
    masks[5, 30:40, 30:40] = True
    assert neighbours(masks, torch.tensor([0, 0, 0, 0, 1, 1])).tolist() == [2, 0, 0, -1, 5, 4]


def test_a_mask_that_holds_a_neighbour_comes_with_a_click_on_it() -> None:
    disc = some_discs(25, 1)[0]
    truth = torch.stack([disc, disc.roll(50, dims=1)] * 200)
    owner = torch.arange(400) // 2
    boxes = torch.full((400, 4), 9.0)
    first = SimulatedPrompts(
        torch.tensor([[[50.5, 70.5]], [[100.5, 70.5]]] * 200), torch.ones(400, 1, dtype=torch.long), boxes
    )
    wanted, prompts, logits = begin_with_masks(truth, 2, first, torch.Generator().manual_seed(0), owner)
    given = F.interpolate(logits, scale_factor=2.0, mode="bilinear")[:, 0] > 0
    other = truth[torch.arange(400) ^ 1]
    merged = (given & other).flatten(1).sum(1) > 1000
    assert 0.1 < merged.float().mean() < 0.2
    assert torch.equal(wanted[merged], truth[merged])
    assert prompts.boxes[merged].isnan().all()
    assert (prompts.labels[merged, 0] == 1).all()
    x, y = prompts.points[:, 1].long().unbind(1)
    on_other = other[torch.arange(400), y, x]
    assert on_other[merged].float().mean() > 0.8
    assert (prompts.labels[:, 1] == 0)[merged & on_other].all()
    # Nothing is merged where nobody says what is in one window.
    _, _, alone = begin_with_masks(truth, 2, first, torch.Generator().manual_seed(0))
    assert ((alone[:, 0] > 0).flatten(1).sum(1) < 0.7 * truth[0].sum()).all()


def test_half_of_the_windows_show_neighbours() -> None:
    labels = torch.zeros(256, 256, dtype=torch.long)
    for number in range(64):
        y, x = divmod(number, 8)
        labels[y * 32 : y * 32 + 30, x * 32 : x * 32 + 30] = number + 1
    rng = np.random.default_rng(0)
    picked = [pick_objects(labels, 2, rng) for _ in range(400)]
    assert all(len(set(some)) == 2 for some in picked)
    steps = np.abs(np.diff([np.divmod(some - 1, 8) for some in picked], axis=-1)).max(axis=(1, 2))
    # Others are neighbours by chance: at most 8 of 63.
    assert 0.5 < (steps == 1).mean() < 0.68
    assert len({tuple(some) for some in picked}) > 200
    assert sorted(pick_objects(labels, 99, rng)) == list(range(1, 65))
    assert len(pick_objects(labels, 1, rng)) == 1
