"""Low-rank corrections of attention (Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["LowRank", "add_low_rank", "merged_state"]

_ATTENTION = ("attn.qkv", "attn.proj")
"""How image encoders call the projections to queries, keys and values, and the one of the output."""
_ORIGINAL = "parametrizations.weight.original"
_CORRECTION = "parametrizations.weight.0."


class LowRank(nn.Module):
    """A weight plus the product of two thin matrices (Hu et al. 2021, section 4.1).

    To begin with the product is zero, and so the weight is what it was.

    Parameters
    ----------
    rows, columns : int
        Of the weight.
    rank : int
    generator : torch.Generator, optional
        What the other of the two begins with.
    """

    def __init__(self, rows: int, columns: int, rank: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    def forward(self, weight: Tensor) -> Tensor:
        """The corrected weight, of the shape of the weight."""
        return weight + self.up @ self.down


def add_low_rank(encoder: nn.Module, rank: int, seed: int = 0) -> int:
    """Let attention learn corrections, and nothing else of an image encoder.

    The layers stay linear layers whose ``weight`` is the corrected one, so that whatever computes with it
    needs to know nothing of it.

    Parameters
    ----------
    encoder : torch.nn.Module
    rank : int
    seed : int, default 0

    Returns
    -------
    int
        How many layers were given one.

    Examples
    --------
    >>> from napari_sam.models.sam import build_sam
    >>> from napari_sam.models.sam_image_encoder import ViTSize
    >>> encoder = build_sam(ViTSize(32, 2, 2, (1,))).image_encoder
    >>> add_low_rank(encoder, rank=4)
    4
    """
    encoder.requires_grad_(False)
    layers = [
        layer
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and name.endswith(_ATTENTION)
    ]
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        rows, columns = layer.weight.shape
        correction = LowRank(rows, columns, rank, generator).to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", correction, unsafe=True)
    return len(layers)


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model with its corrections added to the weights.

    Names and shapes are those of the model without corrections; the model stays as it is.
    """
    merged = {}
    for name, value in model.state_dict().items():
        owner, found, _ = name.partition(f".{_ORIGINAL}")
        if found:
            layer = model.get_submodule(owner)
            assert isinstance(layer, nn.Linear)
            merged[f"{owner}.weight"] = layer.weight.detach()
        elif f".{_CORRECTION}" not in name:
            merged[name] = value
    return merged
