"""Masks of a video's objects on one frame: as logits of every pixel, or as boxes and bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.inference.mask import Mask
from napari_sam.inference.video_memory import FrameOutput
from napari_sam.models.memory_steps import ABSENT_LOGIT

__all__ = ["TrackedFrame", "in_full_size", "squared_mask"]

_OVERLAPPED_LOGIT = -10.0
"""Where another object has a higher logit, there is at most this one."""


@dataclass(frozen=True)
class TrackedFrame:
    """The objects of a video on one frame.

    Attributes
    ----------
    frame_idx : int
    obj_ids : list of int
    logits : ndarray, shape (B, 256, 256), float32
        Of the masks, on a grid that covers the whole frame.
    scores : ndarray, shape (B,), float32
        Predicted IoUs; 1 for masks that were given.
    presence : ndarray, shape (B,), float32
        Logits of whether the object is on the frame at all.
    shape : tuple of int
        Height and width of the frame, in pixels.
    """

    frame_idx: int
    obj_ids: list[int]
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: NDArray[np.float32]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, frame_idx: int, obj_ids: list[int], outputs: Sequence[FrameOutput], shape: tuple[int, int]
    ) -> Self:
        """What is kept of the objects of a frame, in the order of `obj_ids`."""
        cpu = torch.device("cpu")
        logits, scores, presence = (
            torch.stack(values).cpu().numpy()
            for values in (
                [out.logits.on(cpu) for out in outputs],
                [out.score for out in outputs],
                [out.presence for out in outputs],
            )
        )
        return cls(frame_idx, obj_ids, logits, scores, presence, shape)

    def mask(self, index: int) -> Mask:
        """The mask of the object at this place of `obj_ids`, in full size."""
        height, width = self.shape
        return Mask.from_logits(self.logits[index], np.array([0.0, 0.0, width, height]), self.shape)


def squared_mask(plane: NDArray[np.bool_], side: int) -> Tensor:
    """A mask of a frame stretched to a square, as SAM 2 is published for videos.

    Parameters
    ----------
    plane : ndarray, shape (H, W), bool
    side : int
        Of the square, in pixels.

    Returns
    -------
    Tensor, shape (side, side), float32
        0 and 1.
    """
    bits = torch.from_numpy(plane.astype(np.float32))
    if plane.shape != (side, side):
        bits = F.interpolate(
            bits[None, None], (side, side), mode="bilinear", align_corners=False, antialias=True
        )[0, 0]
    return (bits >= 0.5).float()


def in_full_size(
    outputs: Sequence[FrameOutput | None], size: tuple[int, int], device: torch.device, *, overlap: bool
) -> Tensor:
    """Logits of the masks of objects on a frame: shape (B, 1, H, W), float32.

    Parameters
    ----------
    outputs : sequence of (FrameOutput or None)
        None for objects of which nothing is known there.
    size : tuple of int
        Height and width of the frame, in pixels.
    device : torch.device
    overlap : bool
        If not, each pixel is left to the object with the highest logit.
    """
    full = torch.full((len(outputs), 1, *size), ABSENT_LOGIT, device=device)
    for place, output in enumerate(outputs):
        if output is not None:
            logits = output.logits.on(device)[None, None]
            full[place] = F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
    if overlap or len(full) < 2:
        return full
    best = full.argmax(dim=0, keepdim=True)
    own = torch.arange(len(full), device=device)[:, None, None, None] == best
    return torch.where(own, full, full.clamp(max=_OVERLAPPED_LOGIT))
