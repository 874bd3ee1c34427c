"""A network that has become deeper goes on from the weights that it had before."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.layers import ResidualBlock
from napari_sam.models.nano_mask_iou import MaskIoUHead

__all__ = ["load_grown"]


def load_grown(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a network that may have had fewer residual blocks.

    Blocks that are new do nothing at first, so that the network is what it was (as in Chen et al. 2016,
    Net2Net, section 2.3): the last factor of their residual is 0, and learns first.

    Parameters
    ----------
    model : Module
        With random weights.
    state : mapping of str to Tensor

    Raises
    ------
    ModelError
        If anything else is missing, or too much.
    """
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    parts = (ResidualBlock, MaskIoUHead)
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, parts)}
    new = [name for name in blocks if not any(key.startswith(f"{name}.") for key in state)]
    strange = [*unexpected, *(key for key in missing if not key.startswith(tuple(f"{n}." for n in new)))]
    if strange:
        raise ModelError(
            f"The weights to start from do not fit at {strange[0]}: give weights of this model, or of one "
            "with fewer residual blocks."
        )
    for name in new:
        block = blocks[name]
        last = block.conv2.norm if isinstance(block, ResidualBlock) else block.mlp.layers[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
