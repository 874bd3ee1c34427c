"""A SAM 2 that is untrained and very small, and whose memories matter."""

from __future__ import annotations

import torch

from napari_sam.models.hiera import HieraSize
from napari_sam.models.sam2 import Sam2, build_sam2

NARROW = HieraSize(16, 1, (1, 2, 3, 1), (4,))
PRESENT = 5.0


def narrow_sam2(version: str = "2.1", presence: float = PRESENT) -> Sam2:
    """On 8 x 8 tokens; objects are there if `presence` is positive."""
    torch.manual_seed(0)
    model = build_sam2(NARROW, version=version, image_size=128)
    for name, parameter in model.named_parameters():
        if name.startswith(("memory_", "maskmem_", "obj_ptr_", "no_obj_")) and parameter.ndim > 1:
            # What is remembered has to matter.
            torch.nn.init.normal_(
                parameter, std=(4 if "_proj.weight" in name else 1) * parameter[0].numel() ** -0.5
            )
        elif not parameter.any() or name.endswith("gamma"):
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(presence)
    return model.prepare(torch.device("cpu"), torch.float32)
