"""A network that has become deeper goes on from the weights that it had before."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from napari_sam.models.checkpoint import load_into
from napari_sam.models.layers import ResidualBlock
from napari_sam.models.nano_mask_iou import MaskIoUHead

__all__ = ["load_grown"]


def load_grown(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a network that may have had fewer residual blocks, or no head that judges masks.

    What is new does nothing at first, so that the network is what it was (as in Chen et al. 2016, Net2Net,
    section 2.3): the last factor of what it adds is 0, and learns first.

    Parameters
    ----------
    model : Module
        With random weights.
    state : mapping of str to Tensor

    Raises
    ------
    ModelError
        If anything else is missing, or too much, or of another shape.
    """
    parts = (ResidualBlock, MaskIoUHead)
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, parts)}
    new = [name for name in blocks if not any(key.startswith(f"{name}.") for key in state)]
    for name in new:
        block = blocks[name]
        last = block.conv2.norm if isinstance(block, ResidualBlock) else block.mlp.layers[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    prefixes = tuple(f"{name}." for name in new)
    own = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
    load_into(model, own | dict(state), "The checkpoint to start from")
