"""Whose files ``napari-sam auto`` replaces and skips, and the numbers of masks in them."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.data import coins
from skimage.io import imread, imsave
from typer.testing import CliRunner, Result

from napari_sam.cli import app
from napari_sam.cli_auto_files import Format, outputs
from napari_sam.formats import read

PART = coins()[205:, :120]
"""Two coins."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["auto", *map(str, arguments), "--points-per-side", "6", "--quiet"])


def image_in(folder: Path, pixels: np.ndarray = PART, name: str = "x.tif") -> Path:
    folder.mkdir(exist_ok=True)
    imsave(folder / name, pixels, check_contrast=False)
    return folder / name


def refused(done: Result, *said: str) -> bool:
    """Whether a command ended with one sentence, which has some words."""
    return (
        done.exit_code == 2
        and done.stderr.startswith("napari-sam: ")
        and done.stderr.count("\n") == 1
        and all(words in done.stderr for words in said)
    )


def test_a_file_that_is_there_is_no_result(tmp_path: Path) -> None:
    image, mine = image_in(tmp_path / "a"), image_in(tmp_path / "b", PART.T)
    before = mine.read_bytes()
    done = run(image, "-o", mine)
    assert refused(done, f"{mine} exists", "--force"), done.output
    assert mine.read_bytes() == before
    assert run(image, "-o", mine, "--force").exit_code == 0
    assert tifffile.imread(mine).shape == PART.shape


def test_an_image_is_never_its_own_output(tmp_path: Path) -> None:
    image = image_in(tmp_path / "a")
    before = image.read_bytes()
    (tmp_path / "link.tif").symlink_to(image)
    for target in (image, tmp_path / "link.tif"):
        for more in ([], ["--force"]):
            assert refused(run(image, "-o", target, *more), "is the image itself")
    # Its labels would have the name of another image.
    other = image_in(tmp_path / "a", PART, "x_labels.tif")
    done = run(image, other, "-o", tmp_path / "a", "--force")
    assert refused(done, f"{other} is one of the images"), done.output
    assert image.read_bytes() == other.read_bytes() == before


def test_results_of_another_image_of_the_same_name_are_kept(tmp_path: Path) -> None:
    first, second = image_in(tmp_path / "a"), image_in(tmp_path / "b", PART[:, :60])
    out = tmp_path / "out"
    assert run(tmp_path / "a", "-o", out, "--format", "labels", "--format", "csv").exit_code == 0
    before = (out / "x_labels.tif").read_bytes()
    done = run(tmp_path / "b", "-o", out)
    assert refused(done, "results of another image", str(first.resolve()), "--force"), done.output
    assert (out / "x_labels.tif").read_bytes() == before
    assert run(second, "-o", out, "--force").exit_code == 0
    assert tifffile.imread(out / "x_labels.tif").shape == (PART.shape[0], 60)
    # The table of the first one is nobody's now.
    assert refused(run(second, "-o", out, "--format", "csv"), "x.csv exists")
    assert "skipped" in run(second, "-o", out).stdout
    assert refused(run(first, "-o", out), "results of another image")


def test_an_image_that_was_moved_is_the_same_one(tmp_path: Path) -> None:
    image_in(tmp_path / "a")
    assert run(tmp_path / "a", "-o", tmp_path / "out").exit_code == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert "skipped" in run(tmp_path / "b", "-o", tmp_path / "out").stdout


def test_what_is_of_an_older_state_of_an_image_is_not_complete(tmp_path: Path) -> None:
    image, out = image_in(tmp_path / "a"), tmp_path / "out"
    assert run(image, "-o", out, "--format", "labels", "--format", "csv").exit_code == 0
    (before,) = outputs([image], out, [Format.CSV])
    assert before.is_done
    age = image.stat().st_mtime_ns
    image_in(tmp_path / "a", PART[:, :60])
    # Older than the results, as a copy of another one may be.
    os.utime(image, ns=(age - 10**9, age - 10**9))
    assert not before.is_done
    assert "skipped" not in run(image, "-o", out).stdout
    assert not before.is_done
    assert run(image, "-o", out, "--format", "csv").exit_code == 0
    assert before.is_done


def test_notes_without_an_image_are_of_any(tmp_path: Path) -> None:
    image, out = image_in(tmp_path / "a"), tmp_path / "out"
    assert run(image, "-o", out).exit_code == 0
    note = out / "x.done"
    for lines in ("labels\n", "labels\nof nonsense\n", "labels\nof [1]\n"):
        note.write_text(lines)
        assert "skipped" in run(image, "-o", out).stdout
    later = note.stat().st_mtime + 1
    os.utime(image, (later, later))
    assert "skipped" not in run(image, "-o", out).stdout
    assert str(image.resolve()) in note.read_text()


def test_files_that_are_hidden_are_no_images(tmp_path: Path) -> None:
    image = image_in(tmp_path / "a")
    (image.parent / "._x.tif").write_bytes(b"what macOS knows of it")
    done = run(image.parent, "-o", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (0, ""), done.output


def test_a_stack_goes_into_no_png(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([PART, PART]), photometric="minisblack")
    done = run(tmp_path / "stack.tif", "-o", tmp_path / "a.png", "--points-per-batch", "1")
    assert refused(done, "do not go into a.png"), done.output
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("option", ["box-nms-thresh", "pred-iou-thresh", "crop-nms-thresh"])
def test_numbers_that_are_none(tmp_path: Path, option: str) -> None:
    done = run(image_in(tmp_path / "a"), "-o", tmp_path / "out", f"--{option}", "nan")
    assert refused(done, f"--{option} is a number, not nan."), done.output


def test_negative_areas(tmp_path: Path) -> None:
    done = run(image_in(tmp_path / "a"), "-o", tmp_path / "out", "--min-mask-region-area", "-5")
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--link"], ["--link", "--on-top", "small"]])
def test_masks_of_a_stack_have_the_numbers_of_the_labels(tmp_path: Path, options: list[str]) -> None:
    stack = np.stack([PART, PART[::-1], PART[:, ::-1]])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    out = tmp_path / "out"
    # Low enough for masks that hide others.
    arguments = ["--box-nms-thresh", "1", "--pred-iou-thresh", "0.3", "--points-from", "grid", *options]
    formats = [part for kind in Format for part in ("--format", kind)]
    done = run(tmp_path / "stack.tif", "-o", out, *arguments, *formats)
    assert done.exit_code == 0, done.output
    labels = tifffile.imread(out / "stack_labels.tif")
    seen: list[int] = []
    for at, plane in enumerate(labels):
        with (out / f"stack_{at:04d}.csv").open(newline="") as file:
            numbers = [int(row["id"]) for row in csv.DictReader(file)]
        (coco,) = read(out / f"stack_{at:04d}.coco.json", "coco")
        masks = {item.id: item.masks[()].to_array() for item in coco.items}
        record = json.loads((out / f"stack_{at:04d}.json").read_text())
        assert numbers == [*masks] == [one["id"] for one in record["annotations"]]
        pngs = out / f"stack_{at:04d}_masks"
        assert {path.name for path in pngs.glob("*.png")} == {f"{number}.png" for number in numbers}
        for number in np.unique(plane[plane > 0]).tolist():
            assert masks[number][plane == number].all()
            assert imread(pngs / f"{number}.png")[plane == number].all()
        hidden = set(numbers) - set(np.unique(plane).tolist())
        assert hidden
        seen += hidden
        if options:
            assert not hidden & set(np.unique(labels).tolist())
    assert len(seen) == len(set(seen))


def test_masks_of_a_run_before_do_not_stay_beside_others(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([PART, PART]), photometric="minisblack")
    arguments = [tmp_path / "stack.tif", "-o", tmp_path / "out", "--format", "png", "--force"]
    assert run(*arguments).exit_code == 0
    masks = tmp_path / "out" / "stack_0001_masks"
    (number,) = [path.stem for path in masks.glob("*.png")][:1]
    shutil.copy(masks / f"{number}.png", masks / "1.png")
    assert run(*arguments).exit_code == 0
    assert not (masks / "1.png").exists()
    assert (masks / f"{number}.png").exists()
