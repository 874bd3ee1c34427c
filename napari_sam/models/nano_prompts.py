"""The prompt encoder of ``nano``: tokens for points and boxes, maps for points, boxes and masks.

Tokens are as in SAM (Kirillov et al. 2023, section 3 and appendix A): random Fourier features of the
position plus a learned vector for the kind. Beside them every prompt is drawn into maps that are added to
the image embedding, as SAM does with masks; on a small model, seeing where a click lies in the same
frame as the pixels learns much faster than tokens alone. Where the encoder says which centre each pixel
belongs to, pixels that point to the same centre as a positive click are drawn as well (the idea of Neven
et al. 2019, Instance Segmentation by Jointly Optimizing Spatial Embeddings, section 3.1).

All coordinates are pixels of the window, between 0 and ``WINDOW``, measured between pixel edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from napari_sam.models.layers import ConvNorm
from napari_sam.models.nano_encoder import CENTRE_UNIT, EMBED_DIM, FINE_STRIDE, SKIP_DIMS, STRIDE

__all__ = ["MAP_CHANNELS", "WINDOW", "NanoPromptEncoder"]

WINDOW = 256
"""Side of the square of pixels in which one object is decoded."""

MAP_CHANNELS = 13
"""Of prompts as they are drawn."""
_SPREADS = (3.0, 9.0, 27.0)
_NEAR, _FAR = 3.0, 24.0
_LOGIT_RANGE = 8.0


class NanoPromptEncoder(nn.Module):
    """Prompts of one window to tokens and dense embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, EMBED_DIM // 2))
        self.frequencies: Tensor
        self.kinds = nn.Embedding(4, EMBED_DIM)  # negative point, positive point, two corners of a box
        self.reduce4 = ConvNorm(MAP_CHANNELS, SKIP_DIMS[1], stride=2)
        self.reduce8 = ConvNorm(SKIP_DIMS[1], EMBED_DIM, stride=2)
        self.skip4 = nn.Conv2d(SKIP_DIMS[1], SKIP_DIMS[1], 1)

    def positions(self, coords: Tensor) -> Tensor:
        """Fourier features, shape (..., 96), of window coordinates, shape (..., 2)."""
        with torch.autocast(coords.device.type, enabled=False):  # in training, too
            angles = 2 * math.pi * ((2 * coords / WINDOW - 1) @ self.frequencies.float())
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid_positions(self) -> Tensor:
        """Fourier features of the embedding's cells, shape (1, cells, 96)."""
        at = (torch.arange(WINDOW // STRIDE, device=self.frequencies.device) + 0.5) * STRIDE
        yy, xx = torch.meshgrid(at, at, indexing="ij")
        return self.positions(torch.stack([xx, yy], dim=-1)).flatten(0, 1)[None]

    def tokens(self, points: Tensor, labels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Sparse embeddings, shape (B, N + 2, 96), and which of them are not padding."""
        corners = boxes.view(-1, 2, 2)
        given = ~corners.isnan().any(-1)
        kind = torch.cat(
            [labels.clamp(min=0), given.long() * torch.tensor([2, 3], device=boxes.device)], dim=1
        )
        where = self.positions(torch.cat([points, corners.nan_to_num()], dim=1).float())
        return self.kinds(kind) + where.to(self.kinds.weight.dtype), torch.cat([labels >= 0, given], dim=1)

    def maps(
        self, points: Tensor, labels: Tensor, boxes: Tensor, logits: Tensor | None, dense: Tensor
    ) -> Tensor:
        """Prompts drawn at stride 2, shape (B, 13, 128, 128).

        Clicks near and far, box, mask and its presence; what the encoder says of foreground and boundary;
        agreement with the centre of the positive clicks and of the box.
        """
        dense = dense.float()
        at = (torch.arange(WINDOW // FINE_STRIDE, device=points.device) + 0.5) * FINE_STRIDE
        dist2 = (points[..., 0, None, None] - at) ** 2 + (points[..., 1, None, None] - at[:, None]) ** 2
        drawn = []
        for label in (1, 0):
            nearest = _least(dist2, labels == label)
            drawn += [torch.exp(-nearest / (2 * _NEAR**2)), torch.exp(-nearest / (2 * _FAR**2))]
        x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(-1))
        in_x = ((at > x0) & (at < x1)).to(at.dtype)  # comparisons with NaN are false: no box, no drawing
        in_y = ((at > y0) & (at < y1)).to(at.dtype)
        drawn.append(in_y[:, :, None] * in_x[:, None, :])
        if logits is None:
            drawn += [torch.zeros_like(drawn[0])] * 2
        else:
            drawn += [(logits[:, 0] / _LOGIT_RANGE).clamp(-1, 1), torch.ones_like(drawn[0])]
        drawn += [dense[:, 0].sigmoid(), dense[:, 1].sigmoid()]
        apart = self._centre_distance(points, labels, boxes, dense, at)
        drawn += [torch.exp(-apart / (2 * spread**2)) for spread in _SPREADS]
        drawn.append(apart.clamp(max=WINDOW**2).sqrt() / WINDOW)
        return torch.stack(drawn, dim=1)

    def _centre_distance(
        self, points: Tensor, labels: Tensor, boxes: Tensor, dense: Tensor, at: Tensor
    ) -> Tensor:
        """Squared distance from each pixel's centre to the nearest prompted centre, shape (B, 128, 128)."""
        own_x = at + dense[:, 2] * CENTRE_UNIT
        own_y = at[:, None] + dense[:, 3] * CENTRE_UNIT
        cell = (points / FINE_STRIDE).long().clamp(0, len(at) - 1)
        flat = cell[..., 1] * len(at) + cell[..., 0]
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        x = torch.cat([own_x.flatten(1).gather(1, flat), middle[..., 0]], dim=1)
        y = torch.cat([own_y.flatten(1).gather(1, flat), middle[..., 1]], dim=1)
        apart = (x[..., None, None] - own_x[:, None]) ** 2 + (y[..., None, None] - own_y[:, None]) ** 2
        return _least(apart, torch.cat([labels == 1, ~middle.isnan().any(-1)], dim=1)).clamp(
            max=4.0 * WINDOW**2
        )

    def forward(
        self, points: Tensor, labels: Tensor, boxes: Tensor, logits: Tensor | None, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Encode prompts.

        Parameters
        ----------
        points : Tensor, shape (B, N, 2)
        labels : Tensor, shape (B, N)
            1 positive, 0 negative, -1 padding.
        boxes : Tensor, shape (B, 4)
            NaN where there is none.
        logits : Tensor, shape (B, 1, 128, 128), or None
        dense : Tensor, shape (B, 4, 128, 128)
            As the encoder returns it.

        Returns
        -------
        tokens : Tensor, shape (B, N + 2, 96)
        present : Tensor, shape (B, N + 2), bool
            False for padding.
        dense : Tensor, shape (B, 96, 32, 32)
        dense4 : Tensor, shape (B, 48, 64, 64)
        maps : Tensor, shape (B, 13, 128, 128)
        """
        maps = self.maps(points, labels, boxes, logits, dense)
        fine = self.reduce4(maps.to(self.kinds.weight.dtype).contiguous(memory_format=torch.channels_last))
        return *self.tokens(points, labels, boxes), self.reduce8(fine), self.skip4(fine), maps


def _least(values: Tensor, wanted: Tensor) -> Tensor:
    """The smallest of ``values`` (B, N, h, w) over the ``wanted`` (B, N); infinite where none is."""
    none = values.new_full((len(values), 1, *values.shape[2:]), torch.inf)
    return torch.cat([values.masked_fill(~wanted[..., None, None], torch.inf), none], dim=1).amin(1)
