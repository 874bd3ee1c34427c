"""Between an image and the frame that SAM was trained on, as official scripts do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ResizeLongestSide"]


class ResizeLongestSide:
    """Scales images, coordinates and boxes so that the image's longest side is `target_length`.

    The class of the same name in the official ``segment_anything`` package: same methods, same results.
    Only `apply_image_torch` differs, where the official one takes the batch and the channel axis for height
    and width.

    Parameters
    ----------
    target_length : int
        In pixels; 1024 for SAM.

    Examples
    --------
    >>> transform = ResizeLongestSide(1024)
    >>> transform.get_preprocess_shape(300, 400, 1024)
    (768, 1024)
    >>> transform.apply_coords(np.array([[100.0, 75.0]]), (300, 400)).tolist()
    [[256.0, 192.0]]
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image (H, W) or (H, W, C) with C of 1, 3 or 4, uint8; gray comes back as (H, W)."""
        height, width = self._new_size(image.shape[:2])
        pixels = image[..., 0] if image.shape[2:] == (1,) else image
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        return np.array(resized)

    def apply_coords(self, coords: NDArray[Any], original_size: tuple[int, ...]) -> NDArray[np.float64]:
        """Scale (x, y) coordinates, shape (..., 2), of an image of `original_size` (height, width)."""
        return np.asarray(coords, dtype=np.float64) * np.array(self.scale(original_size), dtype=np.float64)

    def apply_boxes(self, boxes: NDArray[Any], original_size: tuple[int, ...]) -> NDArray[np.float64]:
        """Scale boxes x0, y0, x1, y1, shape (B, 4), of an image of `original_size` (height, width)."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize images of shape (B, C, H, W), float; close to but not the same as `apply_image`."""
        size = self._new_size(tuple(image.shape[-2:]))
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_coords`, for a tensor of shape (..., 2); returns float32."""
        scale = torch.tensor(self.scale(original_size), dtype=torch.float32, device=coords.device)
        return coords.to(torch.float32) * scale

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_boxes`, for a tensor of shape (B, 4); returns float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def scale(self, original_size: tuple[int, ...]) -> tuple[float, float]:
        """By how much x and y grow for an image of `original_size` (height, width)."""
        height, width = self._new_size(original_size)
        return width / original_size[1], height / original_size[0]

    def _new_size(self, original_size: tuple[int, ...]) -> tuple[int, int]:
        return self.get_preprocess_shape(original_size[0], original_size[1], self.target_length)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Height and width after scaling, rounded half up; at least 1, unlike in the official class."""
        scale = long_side_length / max(oldh, oldw)
        return max(1, int(oldh * scale + 0.5)), max(1, int(oldw * scale + 0.5))
