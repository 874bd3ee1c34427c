"""Planes on their way into the networks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["resize"]


def resize(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale a plane (C, H, W) to ``size``, as published: bilinear with antialiasing; the dtype stays."""
    if tuple(plane.shape[-2:]) == size:
        return plane
    return F.interpolate(plane[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
