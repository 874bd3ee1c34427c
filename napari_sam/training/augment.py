"""Augmentation for microscopy: orientation, contrast, inversion, illumination, channels, noise, focus."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

__all__ = ["augment", "turned", "varied"]


def augment(pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn one normalised window and vary its intensities; how large its objects are is for the crop to vary.

    Parameters
    ----------
    pixels : Tensor, shape (3, H, W), float32, from about -1 to 1
    labels : Tensor, shape (H, W)
    rng : numpy.random.Generator

    Returns
    -------
    pixels, labels : Tensor
        Turned by the same multiple of 90 degrees, which may exchange H and W; pixels between -2 and 2.
    """
    pixels, labels = turned(pixels, labels, rng)
    return varied(pixels, rng), labels


def turned(pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn a window (3, H, W) and its labels (H, W) by the same multiple of 90 degrees, perhaps mirrored."""
    turns = int(rng.integers(4))
    pixels, labels = pixels.rot90(turns, (1, 2)), labels.rot90(turns, (0, 1))
    if rng.random() < 0.5:
        pixels, labels = pixels.flip(2), labels.flip(1)
    return pixels.contiguous(), labels.contiguous()


def varied(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary the intensities of a normalised window (3, H, W), which then are between -2 and 2."""
    x = pixels
    if rng.random() < 0.3:
        x = ((x.clamp(-1, 1) + 1) / 2) ** float(2 ** rng.uniform(-1, 1)) * 2 - 1
    if rng.random() < 0.5:
        x = x * float(rng.uniform(0.6, 1.3)) + float(rng.uniform(-0.25, 0.25))
    if rng.random() < 0.25:
        gain = torch.from_numpy(rng.uniform(0.7, 1.3, (3, 1, 1))).float()
        x = x * gain + torch.from_numpy(rng.uniform(-0.2, 0.2, (3, 1, 1))).float()
    if rng.random() < 0.15:
        x = x.mean(0, keepdim=True).expand(3, -1, -1)
    elif rng.random() < 0.08:
        x = x[torch.from_numpy(rng.permutation(3))]  # which stain is in which channel is a convention
    if rng.random() < 0.1:
        x = x + _slope(x.shape[1], x.shape[2], rng)
    if rng.random() < 0.12:
        x = -x
    if rng.random() < 0.2:
        x = gaussian_blur(x, [7, 7], [float(rng.uniform(0.4, 1.6))])
    if rng.random() < 0.35:
        channels = 1 if rng.random() < 0.7 else 3
        noise = torch.from_numpy(rng.standard_normal((channels, *x.shape[1:]), dtype="float32"))
        x = x + noise * float(rng.uniform(0.02, 0.2))
    return x.clamp(-2, 2).contiguous()


def _slope(height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Light that falls in from one side, shape (H, W)."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return (y * float(np.sin(angle)) + x * float(np.cos(angle))) * float(strength)
