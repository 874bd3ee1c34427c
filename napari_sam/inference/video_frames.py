"""The frames of a video, read one by one: arrays, folders of images, video files."""

from __future__ import annotations

import os
import re
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from napari_sam.errors import ImageError, reason_of
from napari_sam.inference.arrays import as_array, to_numpy
from napari_sam.inference.files import read_image, read_plane
from napari_sam.inference.image import as_rgb, distinct_channels

__all__ = ["VideoFrames", "open_video", "squared"]

_IMAGES = (".bmp", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp")
_STACKS = (".npy", ".tif", ".tiff")


class VideoFrames(ABC):
    """Frames of one size, each read when it is asked for, and not kept.

    Parameters
    ----------
    contrast_limits : tuple of float, optional
    gamma : float
        As in :func:`~napari_sam.inference.image.as_rgb`. Without limits, each frame that is neither of bytes
        nor of booleans is stretched between its own.

    Attributes
    ----------
    size : tuple of int
        Height and width, in pixels.
    """

    size: tuple[int, int]

    def __init__(self, contrast_limits: tuple[float, float] | None = None, gamma: float = 1.0) -> None:
        self.contrast_limits = contrast_limits
        self.gamma = gamma

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def _pixels(self, index: int) -> NDArray[Any]:
        """A frame as it is stored."""

    def read(self, index: int) -> NDArray[Any]:
        """A frame as a model sees it: shape (H, W, 3), uint8 or float32.

        Raises
        ------
        ImageError
            If it cannot be read, for whatever reason, or its size is not that of the others.
        """
        try:
            pixels = self._pixels(index)
        # Behind an array may be any reader: files, networks, other people's code.
        except Exception as error:
            raise ImageError(
                f"Frame {index} cannot be read ({reason_of(error)}): "
                "what was done before it is kept; repair it, or leave it out."
            ) from error
        frame = as_rgb(pixels, contrast_limits=self.contrast_limits, gamma=self.gamma)
        if frame.shape[:2] != self.size:
            raise ImageError(
                f"Frame {index} has {frame.shape[0]} x {frame.shape[1]} pixels and the others have "
                f"{self.size[0]} x {self.size[1]}: all frames must have one size."
            )
        return frame


def open_video(
    video: Any,
    *,
    contrast_limits: tuple[float, float] | None = None,
    gamma: float = 1.0,
    rgb: bool | None = None,
) -> VideoFrames:
    """The frames of an array, of a folder of images, or of a file.

    Parameters
    ----------
    video : array_like, path or VideoFrames
        An array of shape (T, H, W) or (T, H, W, channels), T being time or depth: NumPy, dask, zarr, ... Of
        a folder, the images in the order of the numbers in their names. A stack in a TIFF or NPY file, or a
        video file that imageio can read.
    contrast_limits : tuple of float, optional
    gamma : float
        As in :func:`~napari_sam.inference.image.as_rgb`.
    rgb : bool, optional
        Whether the last axis of an array is colour; if not given, it is if there are four axes and the last
        one has a length of 1, 3 or 4.

    Raises
    ------
    ImageError
        If there are no frames, or the file or folder cannot be read.

    Examples
    --------
    >>> frames = open_video(np.zeros((5, 30, 40), dtype=np.uint16))
    >>> len(frames), frames.size, frames.read(4).shape
    (5, (30, 40), (30, 40, 3))
    """
    if isinstance(video, VideoFrames):
        return video
    if isinstance(video, str | os.PathLike):
        path = Path(video)
        if path.is_dir():
            return _Folder(path, contrast_limits, gamma)
        if not path.is_file():
            raise ImageError(f"There is no video file and no folder of frames {path}: check the path.")
        if path.suffix.lower() not in _STACKS:
            return _File(path, contrast_limits, gamma)
        video, colour = read_image(path)
        rgb = colour if rgb is None else rgb
    return _Array(video, rgb, contrast_limits, gamma)


def squared(frame: NDArray[Any], side: int) -> Tensor:
    """A frame stretched to a square, bicubic with antialiasing, as SAM 2 is published for videos.

    Parameters
    ----------
    frame : ndarray, shape (H, W, 3), uint8 or float32
        As :meth:`VideoFrames.read` returns it.
    side : int
        Of the square, in pixels.

    Returns
    -------
    Tensor, shape (3, side, side), or (1, side, side) where all channels are one; float32 between 0 and 1
    """
    channels = distinct_channels(frame)
    gray = channels.shape[2] == 1
    if frame.dtype == np.uint8:
        picture = Image.fromarray(np.ascontiguousarray(channels[..., 0] if gray else channels))
        pixels = np.array(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels /= 255
        return torch.from_numpy(pixels[None] if gray else pixels.transpose(2, 0, 1))
    planes = torch.from_numpy(np.array(channels.transpose(2, 0, 1)))
    stretched = F.interpolate(planes[None], (side, side), mode="bicubic", antialias=True, align_corners=False)
    return stretched[0].clamp_(0, 1)


class _Array(VideoFrames):
    def __init__(
        self, array: Any, rgb: bool | None, contrast_limits: tuple[float, float] | None, gamma: float
    ) -> None:
        super().__init__(contrast_limits, gamma)
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            array = as_array(array, "The video", ImageError)
        shape = tuple(int(n) for n in array.shape)
        colour = len(shape) == 4 and shape[-1] in (1, 3, 4) if rgb is None else rgb
        if len(shape) != (4 if colour else 3) or 0 in shape or (colour and shape[-1] not in (1, 3, 4)):
            raise ImageError(
                f"An array of shape {shape} is no video: "
                "give one of shape (frames, height, width) or (frames, height, width, 3)."
            )
        self.array, self.size = array, (shape[1], shape[2])

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def _pixels(self, index: int) -> NDArray[Any]:
        return to_numpy(self.array[index])


class _Folder(VideoFrames):
    def __init__(self, folder: Path, contrast_limits: tuple[float, float] | None, gamma: float) -> None:
        super().__init__(contrast_limits, gamma)
        self.paths = sorted((path for path in folder.iterdir() if _is_frame(path)), key=_in_natural_order)
        if not self.paths:
            raise ImageError(f"There are no images in the folder {folder}: give one with a file per frame.")
        self.size = read_plane(self.paths[0]).shape[:2]

    def __len__(self) -> int:
        return len(self.paths)

    def _pixels(self, index: int) -> NDArray[Any]:
        return read_plane(self.paths[index])


class _File(VideoFrames):
    def __init__(self, path: Path, contrast_limits: tuple[float, float] | None, gamma: float) -> None:
        import imageio.v3

        super().__init__(contrast_limits, gamma)
        # Given a path, imageio leaves the files open that it cannot read. This one stays open: to find a
        # frame in a video again, all since a key frame would be decoded.
        stream = path.open("rb")
        weakref.finalize(self, stream.close)
        try:
            with path.open("rb") as other, imageio.v3.imopen(other, "r", extension=path.suffix) as file:
                # Some files do not say how many frames they have.
                self.count = file.properties().n_images or sum(1 for _ in file.iter())
            self.file = imageio.v3.imopen(stream, "r", extension=path.suffix)
            self.size = self._pixels(0).shape[:2]
        # As with images, decoders raise anything; without one that fits, imageio says which it knows.
        except Exception as error:
            raise ImageError(
                f"{path} cannot be read as a video: install PyAV (pip install 'napari-sam[video]'), which "
                "reads most formats, or save the frames as images in a folder."
            ) from error

    def __len__(self) -> int:
        return self.count

    def _pixels(self, index: int) -> NDArray[Any]:
        return np.asarray(self.file.read(index=index))


def _is_frame(path: Path) -> bool:
    """Not what macOS writes beside each file on a foreign disk: the same name after a dot, and no image."""
    return path.suffix.lower() in _IMAGES and not path.name.startswith(".") and path.is_file()


def _in_natural_order(path: Path) -> list[tuple[bool, int, str]]:
    """Numbers in a name by their value: frame 10 comes after frame 9."""
    parts = re.findall(r"(\d+)|(\D+)", path.name)
    return [(not digits, int(digits or 0), text) for digits, text in parts]
