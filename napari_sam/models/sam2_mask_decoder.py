"""The mask decoder of SAM 2 (Ravi et al. 2024, appendix D.1).

SAM's decoder with high-resolution features on the way up, a token that says whether the object is there at
all, and a rule for prompts that turn out ambiguous although one mask was asked for. Parameter names are those
of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sam.models.layers import MLP
from napari_sam.models.sam_mask_decoder import Decoded, MaskDecoder, Skips
from napari_sam.models.two_way import ImageTokens

__all__ = ["Sam2MaskDecoder"]

_STABILITY_DELTA = 0.05
_STABILITY_THRESHOLD = 0.98


class Sam2MaskDecoder(MaskDecoder):
    """Image tokens, high-resolution features and prompt tokens to masks, predicted IoUs and object scores."""

    def __init__(self) -> None:
        super().__init__(skips=True, objectness=True, sigmoid_scores=True, mlp=_TransformerMLP)

    def predict(self, image: ImageTokens, prompts: Tensor, skips: Skips, *, multimask: bool) -> Decoded:
        """Three masks for each prompt if ``multimask``, else one.

        The one is the mask of its own token if that is stable, else the best by predicted IoU of the three.

        Parameters
        ----------
        image : ImageTokens
        prompts : Tensor, shape (B, T, 256)
        skips : Skips
        """
        if multimask:
            return self(image, prompts, slice(1, None), skips)
        every: Decoded = self(image, prompts, slice(None), skips)
        stable = stability(every.logits[:, 0]) >= _STABILITY_THRESHOLD
        chosen = torch.where(stable, 0, 1 + every.scores[:, 1:].argmax(dim=1))
        rows = torch.arange(len(prompts), device=prompts.device)
        return Decoded(
            every.logits[rows, chosen][:, None],
            every.scores[rows, chosen][:, None],
            every.objectness,
            # Whichever mask it is, the object's token is that of the single mask.
            every.tokens[:, :1],
        )


def stability(logits: Tensor) -> Tensor:
    """How little masks change with the threshold: the IoU of those at thresholds a little above and below 0.

    Parameters
    ----------
    logits : Tensor, shape (B, h, w)

    Returns
    -------
    Tensor, shape (B,), float32
        1 where both are empty.
    """
    inner = (logits > _STABILITY_DELTA).sum(dim=(1, 2)).float()
    outer = (logits > -_STABILITY_DELTA).sum(dim=(1, 2)).float()
    return torch.where(outer > 0, inner / outer, 1.0)


class _TransformerMLP(MLP):
    """The MLP of a two-way block, under the parameter names of SAM 2."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__(dim, hidden_dim, dim, depth=2)
