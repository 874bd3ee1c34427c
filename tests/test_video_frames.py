"""Frames of arrays, folders and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from napari_sam.errors import ImageError
from napari_sam.inference.image import as_rgb
from napari_sam.inference.video_frames import open_video, squared

MOVIE = np.random.default_rng(0).integers(0, 256, (12, 20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint32, np.float16, np.float64])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_arrays_of_any_type(dtype: type, channels: tuple[int, ...]) -> None:
    array = (np.arange(2 * 5 * 6 * int(np.prod(channels))).reshape(2, 5, 6, *channels) % 100).astype(dtype)
    frames = open_video(array, contrast_limits=(0, 50), gamma=0.5)
    assert (len(frames), frames.size) == (2, (5, 6))
    np.testing.assert_array_equal(frames.read(1), as_rgb(array[1], contrast_limits=(0, 50), gamma=0.5))


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6, 2), (1, 2, 5, 6, 3), (0, 5, 6), (3, 0, 6)])
def test_arrays_that_are_no_video(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"is no video: give one of shape \(frames, height, width\)"):
        open_video(np.zeros(shape))


def test_a_gray_stack_three_pixels_wide() -> None:
    assert open_video(np.zeros((4, 5, 3))).size == (5, 3)
    with pytest.raises(ImageError, match="is no video"):
        open_video(np.zeros((4, 5, 3)), rgb=True)


def test_a_folder_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for index in range(12):
        Image.fromarray(MOVIE[index]).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    frames = open_video(tmp_path)
    assert len(frames) == 12
    np.testing.assert_array_equal(np.stack([frames.read(index) for index in range(12)]), MOVIE)


def test_what_macos_writes_beside_files_is_no_frame(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(MOVIE[index]).save(tmp_path / f"{index}.jpg")
        (tmp_path / f"._{index}.jpg").write_bytes(b"\0\5\26\7Mac OS X")
    (tmp_path / "2.jpg").mkdir()
    frames = open_video(tmp_path)
    assert [frames.read(index).shape for index in range(len(frames))] == [(20, 30, 3)] * 2


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
def test_numbers_of_any_length_are_sorted_by_value(numbers: list[int]) -> None:
    from napari_sam.inference.video_frames import _in_natural_order

    paths = sorted((Path(f"t{number}_ch00.tif") for number in numbers), key=_in_natural_order)
    assert paths == [Path(f"t{number}_ch00.tif") for number in sorted(numbers)]


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There are no images in the folder"):
        open_video(tmp_path)
    Image.fromarray(MOVIE[0]).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    Image.fromarray(MOVIE[0, :10]).save(tmp_path / "2.png")
    frames = open_video(tmp_path)
    with pytest.raises(ImageError, match=r"^Frame 1 cannot be read \(.*\): what was done before it is kept"):
        frames.read(1)
    with pytest.raises(ImageError, match="Frame 2 has 10 x 30 pixels and the others have 20 x 30"):
        frames.read(2)


def test_stacks_in_files(tmp_path: Path) -> None:
    stack = MOVIE[..., 0]
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    np.save(tmp_path / "stack.npy", MOVIE)
    for name, expected in (("stack.tif", stack), ("stack.npy", MOVIE)):
        frames = open_video(str(tmp_path / name))
        assert len(frames) == 12
        np.testing.assert_array_equal(frames.read(7), as_rgb(expected[7]))


def test_video_files(tmp_path: Path) -> None:
    """One that imageio reads by itself, in any order."""
    imageio.v3.imwrite(tmp_path / "movie.gif", MOVIE // 128 * 255, loop=0)
    frames = open_video(tmp_path / "movie.gif")
    assert (len(frames), frames.size) == (12, (20, 30))
    for index in (3, 0, 11):
        np.testing.assert_array_equal(frames.read(index), MOVIE[index] // 128 * 255)


def test_video_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There is no video file and no folder of frames"):
        open_video(tmp_path / "none.mp4")
    (tmp_path / "movie.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(ImageError, match=r"cannot be read as a video: install PyAV"):
        open_video(tmp_path / "movie.mp4")


@pytest.mark.parametrize("shape", [(20, 30), (100, 7), (64, 64)])
def test_bytes_and_floats_are_stretched_alike(shape: tuple[int, int]) -> None:
    """In PIL as published, and in PyTorch; a gray frame has one channel."""
    # Smooth, and away from black and white, where PIL cuts off what lies beyond after rows and columns each.
    y, x = np.mgrid[: shape[0], : shape[1]]
    gray = (128 + 60 * np.sin(y / 3) * np.cos(x / 4)).astype(np.uint8)
    floats: Any = as_rgb(gray / 255.0, contrast_limits=(0, 1))
    small, exact = squared(as_rgb(gray), 64), squared(floats, 64)
    assert small.shape == exact.shape == (1, 64, 64)
    assert float((small - exact).abs().max()) <= 2 / 255
    colour = squared(np.repeat(gray[..., None], 3, axis=2), 64)
    assert all(bool((channel == small[0]).all()) for channel in colour)
    assert F.mse_loss(small, small.flip(2)) > 0.001
