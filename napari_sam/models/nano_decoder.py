"""The mask decoder of ``nano``: SAM's two-way decoder on one window, with high-resolution skips.

As in SAM (Kirillov et al. 2023, appendix A) an IoU token and four mask tokens attend to the image and back,
and each mask token becomes the weights of a dot product with the upscaled image. As in SAM 2 (Ravi et al.
2024, appendix D) skip features of the encoder join on the way up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.models.layers import MLP, ResidualBlock, UpBlock
from napari_sam.models.nano_encoder import EMBED_DIM, SKIP_DIMS
from napari_sam.models.nano_mask_iou import MaskIoUHead
from napari_sam.models.nano_prompts import MAP_CHANNELS
from napari_sam.models.two_way import TwoWayTransformer

__all__ = ["NUM_MASKS", "NanoDecoder"]

NUM_MASKS = 4
"""One mask for unambiguous prompts, then the three of an ambiguous one."""


class NanoDecoder(nn.Module):
    """Window features and encoded prompts to mask logits at stride 2 and predicted IoUs."""

    def __init__(self) -> None:
        super().__init__()
        self.output_tokens = nn.Embedding(1 + NUM_MASKS, EMBED_DIM)
        self.mix = ResidualBlock(EMBED_DIM)
        self.transformer = TwoWayTransformer(depth=2, dim=EMBED_DIM, num_heads=4, mlp_dim=2 * EMBED_DIM)
        self.up4 = UpBlock(EMBED_DIM, SKIP_DIMS[1])
        self.up2 = UpBlock(SKIP_DIMS[1], SKIP_DIMS[0])
        self.sharpen = ResidualBlock(SKIP_DIMS[0])
        self.hypernetworks = nn.ModuleList(
            MLP(EMBED_DIM, EMBED_DIM, SKIP_DIMS[0] + 1, depth=3) for _ in range(NUM_MASKS)
        )
        self.iou_head = MLP(EMBED_DIM, EMBED_DIM, NUM_MASKS, depth=3)
        self.mask_iou_head = MaskIoUHead(SKIP_DIMS[0] + MAP_CHANNELS, EMBED_DIM, NUM_MASKS)

    def forward(
        self,
        embedding: Tensor,
        skip4: Tensor,
        skip2: Tensor,
        tokens: Tensor,
        present: Tensor,
        positions: Tensor,
        maps: Tensor,
        dense: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode.

        Parameters
        ----------
        embedding : Tensor, shape (B, 96, 32, 32)
            Image embedding with the dense prompt embedding added.
        skip4 : Tensor, shape (B, 48, 64, 64)
        skip2 : Tensor, shape (B, 24, 128, 128)
        tokens : Tensor, shape (B, T, 96)
        present : Tensor, shape (B, T), bool
        positions : Tensor, shape (1, 32 * 32, 96)
        maps : Tensor, shape (B, 13, 128, 128)
            Prompts as they are drawn.
        dense : Tensor, shape (B, 4, 128, 128)
            As the image encoder returns it.

        Returns
        -------
        logits : Tensor, shape (B, 4, 128, 128)
        scores : Tensor, shape (B, 4)
            Predicted IoU.
        """
        image = self.mix(embedding)
        height, width = image.shape[-2:]
        outputs = self.output_tokens.weight.expand(tokens.shape[0], -1, -1)
        tokens, flat = self.transformer(
            self.transformer.prepare(image.flatten(2).transpose(1, 2), positions.to(image.dtype)),
            torch.cat([outputs, tokens], dim=1),
            torch.cat([present.new_ones(len(present), outputs.shape[1]), present], dim=1),
        )
        image = image + flat.transpose(1, 2).unflatten(2, (height, width))
        fine = self.sharpen(self.up2(self.up4(image, skip4), skip2))
        weights = torch.stack([net(tokens[:, 1 + i]) for i, net in enumerate(self.hypernetworks)], dim=1)
        logits = (weights[..., :-1] @ fine.flatten(2) + weights[..., -1:]).unflatten(2, fine.shape[-2:])
        scores = self.iou_head(tokens[:, 0])
        # Judging masks is not to change them.
        judged = self.mask_iou_head(
            logits.detach(),
            [fine.detach(), maps],
            dense.detach(),
            tokens[:, : 1 + NUM_MASKS].detach(),
            scores.detach(),
        )
        return logits.float(), (scores + judged).float().sigmoid()
