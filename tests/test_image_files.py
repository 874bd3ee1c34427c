"""Colours and axes of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam.errors import ImageError
from napari_sam.evaluation.datasets import list_folders
from napari_sam.inference.files import read_image, read_plane, write_labels
from napari_sam.inference.image_files import ImageFile, open_image
from napari_sam.inference.video_frames import open_video
from napari_sam.training.sources import pair

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
INKS = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1], GRAY // 2], axis=-1)
COLOURS = np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_inks_are_seen_as_colours(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"inks.{suffix}"
    Image.fromarray(INKS, mode="CMYK").save(path)
    with Image.open(path) as opened:
        seen = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(read_plane(path), seen)


def test_a_palette_is_seen_as_colours_and_read_as_values(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    tifffile.imwrite(path, GRAY, photometric="palette", colormap=COLOURS)
    image = open_image(path)
    assert (image.axes, image.colour) == ("yxs", True)
    np.testing.assert_array_equal(image.pixels, np.moveaxis(COLOURS >> 8, 0, -1)[GRAY])
    values, colour = read_image(path, palette=False)
    assert not colour
    np.testing.assert_array_equal(values, GRAY)


def test_a_palette_of_grays_gives_gray_levels(tmp_path: Path) -> None:
    levels = np.arange(255, -1, -1, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "gray.tif", GRAY, photometric="palette", colormap=np.stack([levels << 8] * 3))
    np.testing.assert_array_equal(read_plane(tmp_path / "gray.tif"), 255 - GRAY)


def test_how_imagej_displayed_values_does_not_change_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "fire.tif", GRAY, imagej=True, colormap=COLOURS)
    np.testing.assert_array_equal(read_plane(tmp_path / "fire.tif"), GRAY)


def test_opacity_of_gray_pixels_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([GRAY, GRAY[::-1]]), mode="LA").save(tmp_path / "alpha.tif")
    np.testing.assert_array_equal(read_plane(tmp_path / "alpha.tif"), GRAY)


def test_samples_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    samples = np.stack([GRAY + at for at in range(5)], axis=-1)
    tifffile.imwrite(tmp_path / "five.tif", samples, photometric="minisblack", planarconfig="contig")
    image = open_image(tmp_path / "five.tif")
    assert (image.axes, image.colour, image.channel_axis) == ("cyx", False, 0)
    np.testing.assert_array_equal(image.pixels, np.moveaxis(samples, -1, 0))


def test_a_gif_of_one_frame_is_no_film(tmp_path: Path) -> None:
    frames = [Image.fromarray(GRAY + at) for at in range(3)]
    frames[0].save(tmp_path / "one.gif")
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert read_plane(tmp_path / "one.gif").shape == (6, 8, 3)
    assert open_image(tmp_path / "film.gif").leading == (3,)


@pytest.mark.parametrize(
    ("axes", "along"), [("ZCYX", 0), ("TZCYX", 1), ("TCYX", 0), ("CYX", None), ("ZYX", 0), ("YX", None)]
)
def test_axes_that_a_file_names(tmp_path: Path, axes: str, along: int | None) -> None:
    shape = dict(zip("TZCYX", (2, 3, 4, 6, 8), strict=True))
    pixels = np.zeros([shape[letter] for letter in axes], dtype=np.uint8)
    tifffile.imwrite(tmp_path / "hyper.tif", pixels, imagej=True, metadata={"axes": axes})
    image = open_image(tmp_path / "hyper.tif")
    assert image.axes == axes.lower()
    assert image.channel_axis == (axes.index("C") if "C" in axes else None)
    assert image.depth_axis == along


@pytest.mark.parametrize(
    ("shape", "axis", "expected", "axes"),
    [
        ((5, 6, 7), -1, (7, 5, 6), "cyx"),
        ((5, 6, 3), 2, (3, 5, 6), "cyx"),
        ((2, 4, 5, 6), 1, (2, 4, 5, 6), "qcyx"),
        ((2, 5, 4, 6), 2, (2, 4, 5, 6), "qcyx"),
        ((4, 5, 6, 3), 0, (4, 5, 6, 3), "cyxs"),
    ],
)
def test_channels_along_any_axis(
    tmp_path: Path, shape: tuple[int, ...], axis: int, expected: tuple[int, ...], axes: str
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    found = open_image(tmp_path / "a.npy").with_channels(axis)
    assert (found.pixels.shape, found.axes) == (expected, axes)
    assert len(found.axes) == found.pixels.ndim


@pytest.mark.parametrize(("shape", "axis"), [((5, 6), 0), ((4, 5, 6), 3), ((4, 5, 3), 0)])
def test_axes_that_cannot_be_channels(shape: tuple[int, ...], axis: int) -> None:
    axes = "yxs" if shape[-1] == 3 else ("qqyx")[-len(shape) :]
    with pytest.raises(ImageError, match=f"no axis {axis} for channels"):
        ImageFile("a.npy", np.zeros(shape), axes).with_channels(axis)


def test_images_of_a_file_are_counted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(GRAY, photometric="minisblack")
        file.write(GRAY[:3], photometric="minisblack")
    image = open_image(tmp_path / "two.tif")
    assert image.count == 2
    np.testing.assert_array_equal(image.pixels, GRAY)


def test_all_who_read_images_see_the_colours_of_a_palette_and_ids_stay_values(tmp_path: Path) -> None:
    seen = np.moveaxis(COLOURS >> 8, 0, -1)[GRAY]
    ids = (np.arange(GRAY.size).reshape(GRAY.shape) % 2).astype(np.uint8)
    for folder, values in ((tmp_path / "images", GRAY), (tmp_path / "labels", ids)):
        folder.mkdir()
        tifffile.imwrite(folder / "one.tif", values, photometric="palette", colormap=COLOURS)

    (file,) = list_folders(tmp_path / "images", tmp_path / "labels")
    (sample,) = file.planes(1)
    np.testing.assert_array_equal(sample.image, seen)
    np.testing.assert_array_equal(sample.labels, ids)

    (source,) = pair(tmp_path / "images", tmp_path / "labels")
    trained_on = source.read()
    assert trained_on.pixels.shape == (*GRAY.shape, 3)
    assert np.unique(trained_on.labels[0]).tolist() == [0, 1]

    film = tmp_path / "film.tif"
    tifffile.imwrite(film, np.stack([GRAY, GRAY]), photometric="palette", colormap=COLOURS)
    np.testing.assert_array_equal(open_video(film).read(1), seen)


def test_a_name_as_long_as_a_file_system_takes_it(tmp_path: Path) -> None:
    path = tmp_path / f"{'é' * 125}{'x'}.tif"
    assert len(path.name.encode()) == 255
    write_labels(path, GRAY)
    write_labels(path, GRAY // 2, force=True)
    np.testing.assert_array_equal(read_image(path, palette=False)[0], GRAY // 2)
    assert list(tmp_path.iterdir()) == [path]
