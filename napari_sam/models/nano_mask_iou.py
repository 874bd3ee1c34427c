"""Predicting the IoU of a mask of ``nano`` from the mask itself and from what lies beneath it.

SAM predicts IoUs from a token that sees the image in coarse cells only. Whether a mask holds one object, two,
or half of one is plainer to see in the mask: in its outline, in boundaries that run through it, in pixels of
it that point to another centre. As in Mask Scoring R-CNN (Huang et al. 2019, section 3.2) a head looks at
both. It looks at the other masks of the same prompts, too: one with which the others agree is likely right.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.layers import MLP
from napari_sam.models.nano_encoder import CENTRE_UNIT, FINE_STRIDE

__all__ = ["MaskIoUHead"]

_REACH = 2
"""Cells by which the rims inside and outside of a mask are wide."""


class MaskIoUHead(nn.Module):
    """What is to be added to the logits of the predicted IoUs.

    Parameters
    ----------
    channels : int
        Of everything that is known of the pixels, together.
    dim : int
        Of the tokens.
    masks : int
        How many there are for the same prompts.
    """

    def __init__(self, channels: int, dim: int, masks: int) -> None:
        super().__init__()
        self.mlp = MLP(3 * (channels + 1) + 4 + 2 * dim + 2 * masks, dim, 1, depth=3)

    def forward(
        self, logits: Tensor, maps: Sequence[Tensor], dense: Tensor, tokens: Tensor, scores: Tensor
    ) -> Tensor:
        """Judge the masks.

        Parameters
        ----------
        logits : Tensor, shape (B, M, H, W)
        maps : sequence of Tensor, shape (B, C, H, W)
            What is known of the pixels; together as many channels as the head has.
        dense : Tensor, shape (B, 4, H, W)
            As the image encoder returns it.
        tokens : Tensor, shape (B, 1 + M, dim)
            Of the IoU and of the masks, after the transformer.
        scores : Tensor, shape (B, M)
            Logits of the predicted IoUs, to which the result is to be added.

        Returns
        -------
        Tensor, shape (B, M)
        """
        with torch.autocast(logits.device.type, enabled=False):  # moments need the digits
            inside = logits.float().sigmoid()
            seen = _beneath(inside, maps, dense.float()).to(tokens.dtype)
            overlaps = _overlaps(inside).to(tokens.dtype)
        common, theirs = (part.expand(-1, logits.shape[1], -1) for part in (tokens[:, :1], scores[:, None]))
        out: Tensor = self.mlp(torch.cat([seen, common, tokens[:, 1:], theirs, overlaps], dim=-1))
        return out[..., 0]


def _overlaps(inside: Tensor) -> Tensor:
    """The IoU of every mask (B, M, H, W), between 0 and 1, with every other, shape (B, M, M)."""
    flat = inside.flatten(2)
    both = flat @ flat.transpose(1, 2)
    area = flat.sum(-1)
    return both / (area[:, :, None] + area[:, None] - both + 1)


def _beneath(inside: Tensor, maps: Sequence[Tensor], dense: Tensor) -> Tensor:
    """Means over each mask and over its rims, and how compact the mask is, shape (B, M, ...)."""
    count, masks, height, width = inside.shape
    grown = _largest(inside)
    shrunk = 1 - _largest(1 - inside)
    weights = torch.stack([inside, grown - inside, inside - shrunk], dim=2).flatten(3)
    area = weights.sum(-1)
    flat = weights.flatten(1, 2)
    means = torch.cat([flat @ each.float().flatten(2).transpose(1, 2) for each in maps], dim=-1)
    sure = (weights * inside.flatten(2)[:, :, None]).sum(-1, keepdim=True)
    means = torch.cat([means.unflatten(1, (masks, 3)), sure], dim=-1) / (area[..., None] + 1)
    at = [torch.linspace(-1, 1, n, device=inside.device) for n in (width, height)]
    own = torch.stack([at[0].expand(height, width), at[1][:, None].expand(height, width)])
    unit = torch.tensor([2 / width, 2 / height], device=inside.device)[:, None, None]
    own = own.expand(count, -1, -1, -1)
    towards = own + dense[:, 2:] * (CENTRE_UNIT / FINE_STRIDE) * unit
    places = torch.cat([own, towards], dim=1).flatten(2)
    moments = inside.flatten(2) @ torch.cat([places, places**2], dim=1).transpose(1, 2)
    moments = moments / (area[..., :1] + 1)
    spread = (moments[..., 4:] - moments[..., :4] ** 2).clamp(min=0).unflatten(-1, (2, 2)).sum(-1)
    size = area[..., :1] * 4 / (height * width)  # in the units of the places
    compact = (spread / (size + 1e-4)).clamp(max=4)
    sizes = (area[..., [0, 1]] + 1).log() / 4
    return torch.cat([means.flatten(2), compact, sizes], dim=-1)


def _largest(values: Tensor) -> Tensor:
    """The largest value, none being negative, within ``_REACH`` of each pixel along both axes.

    As ``max_pool2d``, in a tenth of its time on a CPU.
    """
    for axis in (-2, -1):
        count = values.shape[axis]
        padding = [0, 0, _REACH, _REACH] if axis == -2 else [_REACH, _REACH]
        padded = F.pad(values, padding)
        for shift in range(2 * _REACH + 1):
            part = padded.narrow(axis, shift, count)
            values = part if shift == 0 else torch.maximum(values, part)
    return values
