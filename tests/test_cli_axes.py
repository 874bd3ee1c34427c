"""What files say of axes and pixel sizes goes through all commands, and says which planes are neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.data import coins
from typer.testing import CliRunner, Result

import napari_sam
from napari_sam.cli import app
from napari_sam.formats import Calibration, Segmentation, read, write

PART = coins()[205:, :120]
"""Two coins."""

Z, Y, X = np.mgrid[-2:3, :48, :64]
STACK = (30 + 170 * (300 - 20 * Z**2 - (Y - 20) ** 2 - (X - 30) ** 2 > 0)).astype(np.uint8)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def imagej(path: Path, pixels: np.ndarray, axes: str) -> Path:
    """A file as ImageJ writes it, of pixels of 0.25 and 0.5 µm in planes 2 µm apart, every 3 s."""
    metadata = {"axes": axes, "unit": "um", "spacing": 2.0, "finterval": 3.0}
    tifffile.imwrite(path, pixels, imagej=True, resolution=(2, 4), metadata=metadata)
    return path


def calibration(path: Path) -> Calibration:
    (found,) = read(path)
    return found.calibration


def auto(path: Path, output: Path, *options: object) -> Result:
    done = run("auto", path, "-o", output, "--points-per-side", 6, "--quiet", *options)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("axes", ["ZCYX", "TCYX", "TZCYX", "CYX"])
def test_objects_are_linked_through_depth_or_time_and_not_between_channels(tmp_path: Path, axes: str) -> None:
    lengths = {"T": 2, "Z": 2, "C": 2}
    leading = [lengths[letter] for letter in axes[:-2]]
    stack = np.broadcast_to(PART, (*leading, *PART.shape)).copy()
    auto(imagej(tmp_path / "a.tif", stack, axes), tmp_path / "labels.tif", "--link")
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == stack.shape
    at = axes.find("Z") if "Z" in axes else axes.find("T")
    if at >= 0:
        np.testing.assert_array_equal(labels.take(0, at), labels.take(1, at))
        labels = labels.take(0, at)
    # All that is left are other objects.
    runs = [set(np.unique(plane).tolist()) - {0} for plane in labels.reshape(-1, *PART.shape)]
    assert all(runs)
    assert sum(map(len, runs)) == len(set.union(*runs))


def test_which_axis_is_channels_can_be_said(tmp_path: Path) -> None:
    stack = np.broadcast_to(PART, (2, 3, *PART.shape)).copy()
    np.save(tmp_path / "a.npy", stack)
    auto(tmp_path / "a.npy", tmp_path / "labels.npy", "--link", "--channel-axis", 1)
    labels = np.load(tmp_path / "labels.npy")
    np.testing.assert_array_equal(labels[0], labels[1])
    assert not set(np.unique(labels[0, 0])) & set(np.unique(labels[0, 1])) - {0}
    np.save(tmp_path / "last.npy", np.stack([PART, PART, PART], axis=-1))
    auto(tmp_path / "last.npy", tmp_path / "channels.npy", "--channel-axis", -1)
    assert np.load(tmp_path / "channels.npy").shape == (3, *PART.shape)
    done = run("auto", tmp_path / "last.npy", "-o", tmp_path / "out.npy", "--channel-axis", 3)
    assert done.exit_code == 2
    assert "no axis 3 for channels" in done.stderr
    np.save(tmp_path / "five.npy", np.stack([PART] * 5, axis=-1))
    start = ("predict", tmp_path / "five.npy", "--point", "46,55", "-o", tmp_path / "one.npy")
    assert run(*start, "--channel-axis", -1, "--plane", 2).exit_code == 0
    assert np.load(tmp_path / "one.npy").shape == PART.shape


def test_sizes_of_pixels_stay_with_labels(tmp_path: Path) -> None:
    stack = np.stack([np.stack([PART, PART])] * 2)
    image = imagej(tmp_path / "a.tif", stack, "ZCYX")
    auto(image, tmp_path / "auto.tif")
    expected = Calibration(
        "zcyx", (2.0, 1.0, 0.25, 0.5), (0.0,) * 4, ("micrometer", "", "micrometer", "micrometer")
    )
    assert calibration(tmp_path / "auto.tif") == expected
    done = run("predict", image, "--plane", "1,0", "--point", "46,55", "-o", tmp_path / "predict.tif")
    assert done.exit_code == 0, done.output
    assert calibration(tmp_path / "predict.tif") == expected.plane
    auto(image, tmp_path / "out", "--format", "coco", "--format", "sa1b")
    assert calibration(tmp_path / "out" / "a_0000_0001.coco.json") == expected.plane


def test_sizes_of_pixels_of_colour_images(tmp_path: Path) -> None:
    pixels = np.stack([PART] * 3, axis=-1)
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        pixels,
        photometric="rgb",
        metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25},
    )
    auto(tmp_path / "a.ome.tif", tmp_path / "auto.tif")
    assert calibration(tmp_path / "auto.tif") == Calibration(
        "yx", (0.25, 0.5), (0.0, 0.0), ("micrometer",) * 2
    )


def test_what_is_wrong_beside_the_pixels_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise KeyError("SizeX")

    monkeypatch.setattr("napari_sam.formats.tiff_metadata.calibration_of", damaged)
    image = imagej(tmp_path / "a.tif", PART, "YX")
    done = run("predict", image, "--point", "46,55", "-o", tmp_path / "out.tif")
    assert done.exit_code == 0, done.output
    assert done.stderr == f"napari-sam: warning: the size of the pixels of {image} cannot be read.\n"


def test_sizes_of_pixels_stay_with_what_is_propagated_and_replayed(tmp_path: Path) -> None:
    image = imagej(tmp_path / "stack.tif", STACK, "ZYX")
    annotation = napari_sam.Annotation(STACK, "nano", device="cpu")
    annotation.add_point(30, 20, plane=2)
    annotation.accept()
    prompts = annotation.save(tmp_path / "known.napari-sam.zip")
    expected = Calibration("zyx", (2.0, 0.25, 0.5), (0.0,) * 3, ("micrometer",) * 3)
    start = ("propagate", image, "--prompts", prompts, "--stop", 3, "--direction", "forward", "--quiet")
    for name in ("labels.tif", "labels.ome.tif", "objects.geojson"):
        done = run(*start, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
        assert calibration(tmp_path / name) == expected
    # Tracks are of whatever axis comes first.
    assert run(*start, "-o", tmp_path / "01_RES", "--format", "ctc").exit_code == 0
    done = run("replay", prompts, image, "-o", tmp_path / "again.tif")
    assert done.exit_code == 0, done.output
    assert calibration(tmp_path / "again.tif") == expected


def test_an_image_gives_objects_the_size_of_its_pixels(tmp_path: Path) -> None:
    image = imagej(tmp_path / "stack.tif", STACK, "ZYX")
    np.save(tmp_path / "labels.npy", (STACK > 100).astype(np.uint8))
    for name in ("labels.tif", "objects.geojson"):
        done = run("convert", tmp_path / "labels.npy", tmp_path / name, "--image", image)
        assert done.exit_code == 0, done.output
        assert calibration(tmp_path / name).scale == (2.0, 0.25, 0.5)
        assert calibration(tmp_path / name).axes == "zyx"
    table = ("convert", tmp_path / "labels.npy", tmp_path / "a.csv", "--image", image, "--per", "object")
    assert run(*table).exit_code == 0
    (row,) = pd.read_csv(tmp_path / "a.csv").to_dict("records")
    assert row["volume_um3"] == pytest.approx(0.25 * (STACK > 100).sum())
    # Those that the objects have stay.
    other = Calibration("qyx", (7.0, 7.0, 7.0), (0.0,) * 3, ("meter",) * 3)
    write(tmp_path / "other.tif", Segmentation.of_labels((STACK > 100).astype(int), other))
    assert run("convert", tmp_path / "other.tif", tmp_path / "back.tif", "--image", image).exit_code == 0
    assert calibration(tmp_path / "back.tif") == other


def test_channels_of_an_image_that_objects_do_not_have(tmp_path: Path) -> None:
    pixels = np.stack([STACK, STACK // 2], axis=1)
    image = imagej(tmp_path / "hyper.tif", pixels, "ZCYX")
    np.save(tmp_path / "labels.npy", (STACK > 100).astype(np.uint8))
    done = run("convert", tmp_path / "labels.npy", tmp_path / "a.csv", "--image", image)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["intensity_mean-1"].tolist() == [100.0] * len(table)
    assert run("convert", tmp_path / "labels.npy", tmp_path / "a.tif", "--image", image).exit_code == 0
    assert calibration(tmp_path / "a.tif") == Calibration(
        "zyx", (2.0, 0.25, 0.5), (0.0,) * 3, ("micrometer",) * 3
    )
    # Labels that have them, too.
    np.save(tmp_path / "each.npy", (pixels > 90).astype(np.uint8))
    done = run("convert", tmp_path / "each.npy", tmp_path / "each.tif", "--image", image)
    assert done.exit_code == 0, done.output
    assert calibration(tmp_path / "each.tif").axes == "zcyx"


def test_convert_does_not_replace_the_image(tmp_path: Path) -> None:
    image = imagej(tmp_path / "stack.tif", STACK, "ZYX")
    np.save(tmp_path / "labels.npy", (STACK > 100).astype(np.uint8))
    before = image.read_bytes()
    done = run("convert", tmp_path / "labels.npy", image, "--image", image, "--force")
    assert done.exit_code == 2
    assert "is the image itself" in done.stderr
    assert image.read_bytes() == before


def test_a_file_of_several_images(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(PART, photometric="minisblack")
        file.write(PART[:50], photometric="minisblack")
    said = f"napari-sam: warning: {path} holds 2 images: the first is used.\n"
    done = run("predict", path, "--point", "46,55", "-o", tmp_path / "one.tif")
    assert (done.exit_code, done.stderr) == (0, said)
    assert auto(path, tmp_path / "all.tif").stderr == said
