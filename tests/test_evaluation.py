"""The interactive protocol on cases whose answers are known."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.io import imsave
from torch import Tensor

import napari_sam
from napari_sam.errors import ImageError
from napari_sam.evaluation.clicks import Click, centre, iou, largest_component, next_click
from napari_sam.evaluation.datasets import read_folders, read_index
from napari_sam.evaluation.interactive import (
    ImageResult,
    ObjectResult,
    evaluate_image,
    targets,
)
from napari_sam.evaluation.report import MEAN, format_table, summarise, write_objects
from napari_sam.inference import engine
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch

# ------------------------------------------------------------------------------------------------- clicks

regions = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(deadline=None, max_examples=60)
@given(regions.filter(np.any))
def test_centre_is_farthest_from_the_outside(region: np.ndarray) -> None:
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    inside = np.argwhere(padded)
    depth = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1)).min(1)
    expected = inside[depth.argmax()] - 1
    assert centre(region) == tuple(expected)


@settings(deadline=None, max_examples=60)
@given(regions.flatmap(lambda a: st.tuples(st.just(a), arrays(bool, a.shape))))
def test_next_click_lies_in_the_error(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    click = next_click(truth, predicted, origin=(100, 200))
    if click is None:
        assert np.array_equal(truth, predicted)
        assert iou(truth, predicted) == 1
    else:
        at = click.y - 100, click.x - 200
        assert truth[at] != predicted[at]
        assert truth[at] == click.positive
        sizes = [
            np.bincount(ndimage.label(e)[0].ravel())[1:] for e in (truth & ~predicted, predicted & ~truth)
        ]
        assert largest_component(truth != predicted)[1] >= max(s.max(initial=0) for s in sizes)
        hit = ndimage.label(truth & ~predicted if click.positive else predicted & ~truth)[0]
        assert (hit == hit[at]).sum() == max(s.max(initial=0) for s in sizes)


def test_the_click_goes_to_the_largest_piece_not_the_largest_sum() -> None:
    truth = np.zeros((20, 40), dtype=bool)
    truth[0:3, 0:3] = truth[6:9, 0:3] = truth[12:15, 0:3] = True
    predicted = np.zeros_like(truth)
    predicted[5:9, 20:25] = True
    assert next_click(truth, predicted) == Click(21, 6, positive=False)


def test_iou() -> None:
    a, b = np.zeros((2, 4, 10), dtype=bool)
    assert iou(a, b) == 1
    a[:, :6], b[:, 3:9] = True, True
    assert iou(a, b) == pytest.approx(3 / 9)


# ------------------------------------------------------------------------- models with a known behaviour


@dataclass(frozen=True, slots=True)
class Regions(Embedding):
    """Remembers the regions of equal gray value of the image."""

    ids: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.ids]


class Oracle(PromptableModel):
    """Returns the union of the regions pointed at; regions pointed at negatively are taken away.

    For a box it is the region in the middle. ``shift`` moves every mask to the right, ``leak`` adds a region
    until it is pointed at negatively. Of three candidates the second is right and says so.
    """

    def __init__(self, shift: int = 0, leak: int = 0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shift, self.leak = shift, leak
        self.seen: list[tuple[int, bool, bool]] = []

    def encode(self, pixels: Tensor) -> Regions:
        assert pixels.dtype == torch.uint8
        ids = pixels[0].long()
        return Regions((ids.shape[0], ids.shape[1]), ids)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        assert isinstance(embedding, Regions)
        ids = embedding.ids
        self.seen.append((prompts.points.shape[1], prompts.logits is not None, multimask))
        masks = []
        for b in range(len(prompts)):
            mask = ids == self.leak if self.leak else torch.zeros_like(ids, dtype=torch.bool)
            if prompts.boxes is not None:
                x, y = ((prompts.boxes[b, :2] + prompts.boxes[b, 2:]) / 2).long().tolist()
                mask = mask | (ids == ids[y, x])
            for (x, y), label in zip(
                prompts.points[b].long().tolist(), prompts.labels[b].tolist(), strict=True
            ):
                region = ids == ids[y, x]
                mask = mask | region if label == 1 else mask & ~region
            masks.append(torch.roll(mask, self.shift, dims=1))
        logits = torch.where(torch.stack(masks), 5.0, -5.0)[:, None]
        scores = torch.ones(len(masks), 1)
        if multimask:
            logits = torch.cat([-logits, logits, -logits], dim=1)
            scores = torch.tensor([[0.2, 0.9, 0.5]]).expand(len(masks), 3)
        height, width = embedding.original_size
        frame = torch.tensor([[0.0, 0.0, width, height]]).expand(len(masks), 4)
        return MaskLogits(logits, frame, scores)


class Empty(Oracle):
    """Finds nothing."""

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        found = super().decode(embedding, prompts, multimask=multimask)
        return MaskLogits(torch.full_like(found.logits, -1), found.frames, found.scores)


@pytest.fixture
def scene() -> np.ndarray:
    """Three rectangles; the values are the gray values of the image and the labels as well."""
    labels = np.zeros((60, 100), dtype=np.uint8)
    labels[5:15, 10:30] = 40
    labels[20:40, 50:70] = 90
    labels[45:55, 5:25] = 200
    return labels


def test_a_perfect_model(scene: np.ndarray) -> None:
    model = Oracle()
    result = evaluate_image(model, scene, scene.astype(np.int32), clicks=4)
    assert [(o.label, o.area) for o in result.objects] == [(40, 200), (90, 400), (200, 200)]
    assert all(o.box == 1 and o.clicks == (1.0,) * 4 for o in result.objects)
    assert all(o.clicks_to(0.9) == 1 for o in result.objects)
    # A box; a point, ambiguous; nothing is left to correct; then the single click that is timed.
    assert model.seen == [(0, False, False), (1, False, True), (1, False, True)]


def test_a_model_that_finds_nothing(scene: np.ndarray) -> None:
    model = Empty()
    result = evaluate_image(model, scene, scene.astype(np.int32), clicks=3)
    assert all(o.box == 0 and o.clicks == (0.0,) * 3 for o in result.objects)
    assert all(o.clicks_to(0.85) == 3 for o in result.objects)
    assert [seen[0] for seen in model.seen] == [0, 1, 2, 3, 1]


def test_a_model_that_is_off_by_five_pixels(scene: np.ndarray) -> None:
    result = evaluate_image(Oracle(shift=5), scene, scene.astype(np.int32), clicks=1)
    for o in result.objects:
        assert o.box == pytest.approx(15 / 25)
        assert o.clicks == (pytest.approx(15 / 25),)


def test_clicks_find_what_is_missing_and_remove_what_is_too_much(scene: np.ndarray) -> None:
    labels = scene.astype(np.int32)
    labels[labels == 200] = 40  # an object of two pieces of 200 pixels each
    result = evaluate_image(Oracle(leak=90), scene, labels, clicks=4)
    two_pieces, leaking = result.objects
    assert leaking.clicks == (1.0,) * 4
    # One piece and the leak of 400; the leak removed; the other piece added.
    assert two_pieces.clicks == pytest.approx((200 / 800, 200 / 400, 1, 1))
    assert two_pieces.clicks_to(0.85) == 3


def test_logits_are_fed_back_only_if_asked_for(scene: np.ndarray) -> None:
    for feed_back in (False, True):
        model = Empty()
        evaluate_image(model, scene, scene.astype(np.int32), clicks=2, feed_back=feed_back)
        assert [seen[:2] for seen in model.seen] == [(0, False), (1, False), (2, feed_back), (1, False)]


def test_objects_at_the_edge_one_pixel_wide_and_none_at_all() -> None:
    labels = np.zeros((8, 9), dtype=np.uint16)
    labels[0, 0] = 7
    labels[2:8, 8] = 3
    first, second = targets(labels)
    assert (first.label, first.box) == (3, (7.5, 1.5, 8.5, 7.5))
    assert (second.label, second.box) == (7, (-0.5, -0.5, 0.5, 0.5))
    image = labels.astype(np.uint8) * 20
    assert all(o.clicks == (1.0,) for o in evaluate_image(Oracle(), image, labels, clicks=1).objects)
    empty = evaluate_image(Oracle(), image, np.zeros_like(labels))
    assert empty.objects == ()
    assert np.isnan(empty.click_seconds)


def test_at_most_so_many_objects_and_the_same_each_time() -> None:
    labels = np.repeat(np.arange(50), 4).reshape(10, 20)
    chosen = [t.label for t in targets(labels, 5)]
    assert chosen == [t.label for t in targets(labels, 5)]
    assert len(set(chosen)) == 5
    assert (chosen[0], chosen[-1]) == (1, 49)
    assert len(targets(labels, 100)) == 49


def test_what_cannot_be_evaluated(scene: np.ndarray) -> None:
    with pytest.raises(ImageError, match="labels have the shape"):
        evaluate_image(Oracle(), scene, np.zeros((3, 3), dtype=int))
    with pytest.raises(ImageError, match="array of integers"):
        targets(scene.astype(float))
    with pytest.raises(ValueError, match="1 to 8 clicks"):
        evaluate_image(Oracle(), scene, scene.astype(int), clicks=9)


def test_nano_in_batches_gives_the_masks_of_single_clicks() -> None:
    rng = np.random.default_rng(0)
    model = napari_sam.load_model("nano", device="cpu", dtype="float32")
    image = (ndimage.gaussian_filter(rng.normal(size=(120, 150)), 6) > 0).astype(np.uint8) * 200
    embedding = engine.encode(model, np.repeat(image[..., None], 3, axis=2))
    prompts = [
        Prompts.create((120, 150), points=[[30, 40]]),
        Prompts.create((120, 150), box=[10, 10, 80, 90]),
        Prompts.create((120, 150), points=[[100, 40]]),
        Prompts.create((120, 150), points=[[100, 40], [20, 20]], labels=[1, 0]),
    ]
    for prompt, together in zip(prompts, engine.segment_all(model, embedding, prompts), strict=True):
        alone = engine.segment(model, embedding, prompt)
        assert together.index == alone.index
        assert together.score == pytest.approx(alone.score, abs=1e-4)
        different = together.mask.to_array() != alone.mask.to_array()
        assert different.mean() < 1e-3


# ------------------------------------------------------------------------------------------------ reports


def _image(*objects: ObjectResult, encode: float = 1.0) -> ImageResult:
    return ImageResult(objects, encode, 0.01, 2.0)


def test_means_are_over_objects_then_over_data_sets(tmp_path: Path) -> None:
    a = [_image(ObjectResult(1, 9, 0.5, (0.2, 0.9))), _image(ObjectResult(1, 9, 0.7, (0.4, 0.8)), encode=3.0)]
    b = [_image(*[ObjectResult(n, 9, 1.0, (0.9, 1.0)) for n in range(1, 5)])]
    first, second, mean = summarise({"a": a, "b": b, "nothing": [_image()]})
    assert (first.images, first.objects, first.box, first.noc85) == (2, 2, pytest.approx(0.6), 2.0)
    assert first.clicks == pytest.approx((0.3, 0.85))
    assert (first.encode_seconds, first.seconds) == (2.0, 4.0)
    assert (second.noc85, second.noc90) == (1.0, 1.0)
    assert (mean.dataset, mean.objects, mean.box) == (MEAN, 6, pytest.approx(0.8))
    assert mean.clicks == pytest.approx((0.6, 0.925))
    assert [s.dataset for s in summarise({"a": a})] == ["a"]

    header, rule, *lines = format_table([first, second, mean]).splitlines()
    assert header.split("|")[4].strip() == "1 point"
    assert len({len(line) for line in (header, rule, *lines)}) == 1
    assert [cell.strip() for cell in lines[0].split("|")[1:6]] == ["a", "2", "2", "0.300", "0.600"]

    write_objects(tmp_path / "objects.csv", {"a": list(zip("pq", a, strict=True))})
    with (tmp_path / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["box"], row["click_2"]) for row in rows] == [
        ("p", "0.5000", "0.9000"),
        ("q", "0.7000", "0.8000"),
    ]


# ----------------------------------------------------------------------------------------------- data sets


@pytest.fixture
def folder(tmp_path: Path, scene: np.ndarray) -> Path:
    """Two planes and a volume of two data sets, with an index."""
    volume = np.stack([scene * (z % 2) for z in range(7)])
    imsave(tmp_path / "plane.png", scene, check_contrast=False)
    imsave(tmp_path / "labels.png", scene.astype(np.uint16), check_contrast=False)
    imsave(tmp_path / "volume.tif", volume, check_contrast=False)
    imsave(tmp_path / "volume_labels.tif", volume.astype(np.uint16), check_contrast=False)
    (tmp_path / "index.csv").write_text(
        "dataset,id,split,image,labels\n"
        "flat,one,val,plane.png,labels.png\n"
        "flat,two,train,plane.png,labels.png\n"
        "deep,three,val,volume.tif,volume_labels.tif\n"
    )
    return tmp_path


def test_index(folder: Path, scene: np.ndarray) -> None:
    samples = list(read_index(folder, "val", plane_step=3))
    assert [(s.dataset, s.name) for s in samples] == [
        ("flat", "one"),
        ("deep", "three/1"),
        ("deep", "three/4"),
    ]
    assert np.array_equal(samples[0].image, scene)
    assert np.array_equal(samples[1].labels, scene)
    assert not samples[2].labels.any()
    assert [s.name for s in read_index(folder, "train")] == ["two"]
    assert [s.name for s in read_index(folder, "val", ["flat"])] == ["one"]


def test_what_an_index_must_have(folder: Path) -> None:
    with pytest.raises(ImageError, match="no items of the split 'test'"):
        list(read_index(folder, "test"))
    with pytest.raises(ImageError, match="no val items of moon"):
        list(read_index(folder, "val", ["moon"]))
    with pytest.raises(ImageError, match=r"no index\.csv"):
        list(read_index(folder / "nowhere", "val"))
    (folder / "volume.tif").write_text("no image")
    with pytest.raises(ImageError, match=r"volume\.tif cannot be read"):
        list(read_index(folder, "val"))
    (folder / "plane.png").unlink()
    with pytest.raises(ImageError, match=r"plane\.png cannot be read"):
        list(read_index(folder, "val"))
    (folder / "index.csv").write_text("dataset,id,image\n")
    with pytest.raises(ImageError, match="no column labels, split"):
        list(read_index(folder, "val"))


def test_folders(tmp_path: Path, scene: np.ndarray) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for stem in ("b", "a", "unlabelled"):
        imsave(images / f"{stem}.png", np.stack([scene] * 3, axis=-1), check_contrast=False)
    np.save(labels / "a.npy", scene.astype(np.int32))
    imsave(labels / "b.tif", scene, check_contrast=False)
    samples = list(read_folders(images, labels))
    assert [(s.dataset, s.name, s.image.shape) for s in samples] == [
        ("images", "a", (60, 100, 3)),
        ("images", "b", (60, 100, 3)),
    ]
    np.save(labels / "a.npy", scene.astype(np.int32)[:5])
    with pytest.raises(ImageError, match="must be the same"):
        list(read_folders(images, labels))
    with pytest.raises(ImageError, match="No image in"):
        list(read_folders(images, tmp_path))
    with pytest.raises(ImageError, match="There is no folder"):
        list(read_folders(images, tmp_path / "nowhere"))


# -------------------------------------------------------------------------------------------- command line


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_sam.evaluation", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line(folder: Path) -> None:
    table, objects = folder / "table.json", folder / "objects.csv"
    done = _run(
        "--index", folder, "--datasets", "flat", "--clicks", 3, "--threads", 1, "--device", "cpu",
        "--json", table, "--csv", objects,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 clicks" in done.stdout
    assert "| flat" in done.stdout
    (summary,) = json.loads(table.read_text())
    assert (summary["dataset"], summary["images"], summary["objects"]) == ("flat", 1, 3)
    assert len(summary["clicks"]) == 3
    assert 0 <= summary["box"] <= 1
    assert len(objects.read_text().splitlines()) == 4


def test_command_line_says_what_is_wrong(folder: Path) -> None:
    neither = _run("--device", "cpu")
    assert neither.returncode == 2
    assert "--index" in neither.stderr
    missing = _run("--index", folder, "--split", "moon", "--device", "cpu")
    assert missing.returncode == 2
    assert missing.stderr.startswith("Error: ")
    assert "Traceback" not in missing.stderr
