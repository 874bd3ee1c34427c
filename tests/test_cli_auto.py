from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.data import coins
from skimage.io import imread, imsave
from typer.testing import CliRunner, Result

from napari_sam.cli import app

PART = coins()[205:, :120]
"""Two coins."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["auto", *map(str, arguments), "--points-per-side", "6", "--quiet"])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    imsave(folder / "two.png", PART)
    (folder / "notes.txt").write_text("no image")
    return folder


# pycocotools compares and decodes in ways that numpy 2 finds old-fashioned
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_formats(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    formats = ("labels", "coco", "sa1b", "csv", "png")
    arguments = [images, "-o", out, *(part for name in formats for part in ("--format", name))]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    labels = tifffile.imread(out / "two_labels.tif")
    assert labels.shape == PART.shape
    coco = COCO(out / "two.coco.json")
    masks = {record["id"]: coco.annToMask(record) for record in coco.loadAnns(coco.getAnnIds())}
    assert len(masks) >= 2
    assert set(np.unique(labels)) <= {0, *masks}
    for x, y in ((46, 55), (114, 61)):
        assert labels[y, x] > 0
        np.testing.assert_array_equal(labels == labels[y, x], masks[labels[y, x]])
    scores = COCOeval(coco, coco.loadRes(coco.dataset["annotations"]), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == 1
    record = json.loads((out / "two.json").read_text())
    assert record["image"] == {"image_id": 1, "width": 120, "height": 98, "file_name": "two.png"}
    with (out / "two.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (out / "two_masks" / "metadata.csv").read_bytes() == (out / "two.csv").read_bytes()
    for item, row in zip(record["annotations"], rows, strict=True):
        mask = masks[item["id"]]
        y, x = np.nonzero(mask)
        assert item["area"] == mask.sum() == int(row["area"])
        box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert item["bbox"] == box == [int(row[f"bbox_{name}"]) for name in ("x0", "y0", "w", "h")]
        np.testing.assert_array_equal(imread(out / "two_masks" / f"{item['id']}.png"), mask * 255)
    again = run(*arguments)
    assert again.exit_code == 0
    assert "skipped" in again.output


def test_one_bad_file_is_told_and_the_others_are_done(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = (images / "two.png").read_bytes()
    tifffile.imwrite(images / "cut.tif", PART)
    (images / "cut.tif").write_bytes((images / "cut.tif").read_bytes()[:300])
    done = run(images, "-o", out)
    assert done.exit_code == 1
    assert "cut.tif" in done.stderr
    assert "masks" in done.stdout
    assert (out / "two_labels.tif").exists()
    assert not list(out.glob("cut*"))
    assert (images / "two.png").read_bytes() == whole
    # Another format is not there yet.
    assert "skipped" not in run(images / "two.png", "-o", out, "--format", "csv").output
    assert "skipped" in run(images / "two.png", "-o", out, "--format", "csv", "--format", "labels").output


def test_a_stack_plane_by_plane(tmp_path: Path) -> None:
    stack = np.stack([PART, PART[::-1]])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    done = run(tmp_path / "stack.tif", "-o", tmp_path / "labels.npy")
    assert done.exit_code == 0, done.output
    assert "2 planes" in done.output
    labels = np.load(tmp_path / "labels.npy")
    assert labels.shape == stack.shape
    first, second = (set(np.unique(plane)) - {0} for plane in labels)
    assert first
    assert second
    assert not first & second


def segmented(tmp_path: Path, image: np.ndarray, *options: object) -> np.ndarray:
    tifffile.imwrite(tmp_path / "stack.tif", image, photometric="minisblack")
    done = run(tmp_path / "stack.tif", "-o", tmp_path / "labels.npy", "--force", *options)
    assert done.exit_code == 0, done.output
    labels: np.ndarray = np.load(tmp_path / "labels.npy")
    return labels


def test_linked_planes_of_a_stack_share_labels(tmp_path: Path) -> None:
    # Twice the same stack of two planes, in time: its last plane is no neighbour of the next first one.
    stack = np.stack([np.stack([PART, PART])] * 2)
    labels = segmented(tmp_path, stack, "--link", "--points-from", "centres")
    assert labels.shape == stack.shape
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    for planes in labels:
        np.testing.assert_array_equal(planes[0], planes[1])
    assert not set(np.unique(labels[0])) & set(np.unique(labels[1])) - {0}


def test_semantic_labels_and_points_from_centres(tmp_path: Path) -> None:
    whole = segmented(tmp_path, PART, "--semantic", "--points-from", "centres")
    parts = segmented(tmp_path, PART, "--points-from", "centres")
    assert set(np.unique(whole)) == {0, 1}
    assert whole.dtype == np.uint8
    assert whole[parts > 0].all()
    for x, y in ((46, 55), (114, 61)):
        assert whole[y, x]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--link", "--semantic"], "no objects to link"),
        (["--link-iou", "0"], "greater than 0 and at most 1, not 0"),
        (["--link-iou", "nan"], "not nan"),
    ],
)
def test_options_that_make_no_sense_are_told(
    images: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = run(images, "-o", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_nothing_to_segment(tmp_path: Path, name: str) -> None:
    done = run(tmp_path / name, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("napari-sam: ")
    assert "Traceback" not in done.output


def test_places_that_cannot_be_written_to(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    imsave(images / "other.png", PART)
    for output in (tmp_path / "file", tmp_path / "missing" / "labels.tif", tmp_path / "labels.tif"):
        done = run(images, "-o", output)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
