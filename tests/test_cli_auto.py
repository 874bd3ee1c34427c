from __future__ import annotations

import csv
import json
import os
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
from napari_sam.cli_auto_files import Format, outputs

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


@pytest.mark.parametrize("points_from", ["centres", "none"])
def test_semantic_labels_and_where_points_are_from(tmp_path: Path, points_from: str) -> None:
    whole = segmented(tmp_path, PART, "--semantic", "--points-from", points_from)
    parts = segmented(tmp_path, PART, "--points-from", points_from)
    assert set(np.unique(whole)) == {0, 1}
    assert whole.dtype == np.uint8
    assert whole[parts > 0].all()
    for x, y in ((46, 55), (114, 61)):
        assert whole[y, x]


def test_small_masks_are_left_out(tmp_path: Path) -> None:
    every = np.bincount(segmented(tmp_path, PART).ravel())[1:]
    large = np.bincount(segmented(tmp_path, PART, "--min-mask-area", 1700).ravel())[1:]
    assert sorted(large) == sorted(every[every >= 1700])
    assert 0 < len(large) < len(every)


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


def test_files_of_others_are_not_replaced(images: Path) -> None:
    theirs = {name: f"{name} of somebody else" for name in ("two.csv", "two.json", "two_labels.tif")}
    for name, text in theirs.items():
        (images / name).write_text(text)
    done = run(images / "two.png", "-o", images, "--format", "labels", "--format", "csv")
    assert done.exit_code == 2
    assert "two_labels.tif exists" in done.stderr
    assert "--force" in done.stderr
    assert {name: (images / name).read_text() for name in theirs} == theirs
    # The other formats are not stopped by them.
    assert run(images / "two.png", "-o", images, "--format", "coco").exit_code == 0
    assert run(images / "two.png", "-o", images, "--format", "labels").exit_code == 2
    assert run(images / "two.png", "-o", images, "--force").exit_code == 0
    assert tifffile.imread(images / "two_labels.tif").shape == PART.shape
    assert (images / "two.csv").read_text() == theirs["two.csv"]


def test_an_interrupted_run_replaces_what_it_began(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (output,) = outputs([images / "two.png"], out, [Format.LABELS, Format.CSV])
    output.begin([""])
    (out / "two.csv").write_text("half a table")
    assert not output.is_done
    arguments = [images / "two.png", "-o", out, "--format", "labels", "--format", "csv"]
    assert run(*arguments).exit_code == 0
    assert (out / "two.csv").read_text().startswith("id,")
    assert output.is_done


def test_what_is_gone_or_older_than_its_image_is_made_again(images: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "out", images / "two.png"
    run(image, "-o", out, "--format", "labels", "--format", "png")
    (out / "two_labels.tif").unlink()
    done = run(image, "-o", out, "--format", "labels")
    assert "skipped" not in done.output
    assert (out / "two_labels.tif").exists()
    imsave(image, PART[:, :60])
    later = (out / "two.done").stat().st_mtime + 1
    os.utime(image, (later, later))
    assert "skipped" not in run(image, "-o", out, "--format", "labels").output
    assert tifffile.imread(out / "two_labels.tif").shape == (PART.shape[0], 60)


def test_masks_of_the_run_before_do_not_stay(images: Path, tmp_path: Path) -> None:
    arguments = [images / "two.png", "-o", tmp_path / "out", "--format", "png", "--force"]
    run(*arguments)
    masks = tmp_path / "out" / "two_masks"
    assert (masks / "1.png").exists()
    (masks / "mine.png").write_bytes(b"a user's")
    run(*arguments, "--pred-iou-thresh", "1")
    assert sorted(path.name for path in masks.iterdir()) == ["metadata.csv", "mine.png"]


def test_label_images_beside_their_images_are_not_segmented(images: Path) -> None:
    imsave(images / "lone_labels.png", PART)
    assert run(images, "-o", images).exit_code == 0
    done = run(images, "-o", images, "--force")
    assert done.exit_code == 0
    assert sorted(path.name for path in images.glob("*_labels.tif")) == [
        "lone_labels_labels.tif",
        "two_labels.tif",
    ]


@pytest.mark.parametrize(
    ("name", "formats", "said"),
    [
        ("x.tif", ["csv"], "x.tif does not hold csv"),
        ("x.png", ["png"], "x.png does not hold png"),
        ("x.tif", ["labels", "csv"], "x.tif does not hold labels and csv"),
        ("x.csv", ["labels"], "x.csv does not hold labels"),
    ],
)
def test_one_file_holds_one_format(
    images: Path, tmp_path: Path, name: str, formats: list[str], said: str
) -> None:
    options = [part for kind in formats for part in ("--format", kind)]
    done = run(images / "two.png", "-o", tmp_path / name, *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / name).exists()


def test_one_table_does_not_hold_a_stack(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.stack([PART, PART]))
    for name in ("out.csv", "out.json"):
        done = run(tmp_path / "stack.npy", "-o", tmp_path / name)
        assert done.exit_code == 2
        assert "give a folder with -o" in done.stderr
        assert not (tmp_path / name).exists()
    assert run(tmp_path / "stack.npy", "-o", tmp_path / "out", "--format", "csv").exit_code == 0
    assert len(list((tmp_path / "out").glob("stack_000*.csv"))) == 2
    assert "skipped" in run(tmp_path / "stack.npy", "-o", tmp_path / "out", "--format", "csv").output


def test_one_channel_is_no_axis_of_planes(tmp_path: Path) -> None:
    opaque = np.full_like(PART, 255)
    imsave(tmp_path / "alpha.png", np.stack([PART, opaque], axis=-1), check_contrast=False)
    np.save(tmp_path / "one.npy", PART[..., None])
    for name in ("alpha.png", "one.npy"):
        assert run(tmp_path / name, "-o", tmp_path / "out.tif", "--force").exit_code == 0
        assert tifffile.imread(tmp_path / "out.tif").shape == PART.shape
