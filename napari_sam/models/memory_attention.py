"""Memory attention of SAM 2: the current frame looks at what is remembered of earlier ones.

Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos, section 4 and appendix D.1. The defaults are
the published configuration of all sizes, the parameter names those of the checkpoints.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.linear import linear, linear_relu
from napari_sam.models.positions import axial_rotations, rotate_
from napari_sam.models.tiled_attention import attend_in_tiles

__all__ = ["MemoryAttention"]


class MemoryAttention(nn.Module):
    """A stack of blocks: self-attention, cross-attention to the memories, MLP.

    Trained weights are what it is for: the dropout of the published training is left out.

    Parameters
    ----------
    dim : int
        Width of the current frame's tokens.
    memory_dim : int
        Width of the memory tokens.
    depth : int
        Number of blocks.
    mlp_dim : int
        Inner width of the MLPs.
    """

    def __init__(self, dim: int = 256, memory_dim: int = 64, depth: int = 4, mlp_dim: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_MemoryBlock(dim, memory_dim, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        current: Tensor,
        memory: Tensor,
        current_pos: Tensor,
        memory_pos: Tensor,
        pointer_tokens: int = 0,
    ) -> Tensor:
        """Condition the tokens of a frame on memories.

        Parameters
        ----------
        current : Tensor, shape (B, N, dim)
            Tokens of a square grid, in row-major order.
        memory : Tensor, shape (B, M, memory_dim)
            Tokens of remembered frames, N for each, and after them those of object pointers.
        current_pos : Tensor, shape (B, N, dim) or (1, N, dim)
        memory_pos : Tensor, shape (B, M, memory_dim) or (1, M, memory_dim)
        pointer_tokens : int
            How many tokens at the end of ``memory`` are object pointers, which have no place in the image
            and so are not rotated.

        Returns
        -------
        Tensor, shape (B, N, dim)

        Raises
        ------
        ValueError
            If the grid is not square or the memory is not made of whole frames.
        """
        _side_of(current, memory, pointer_tokens)
        return self.recall(self.begin(current, current_pos), memory, memory_pos, pointer_tokens)

    def begin(self, current: Tensor, current_pos: Tensor) -> Tensor:
        """What comes before the first look at a memory, and so is the same for all objects of a frame.

        Parameters
        ----------
        current : Tensor, shape (B, N, dim)
            Tokens of a square grid, in row-major order.
        current_pos : Tensor, shape (B, N, dim) or (1, N, dim)

        Returns
        -------
        Tensor, shape (B, N, dim)
            For :meth:`recall`.
        """
        rotations = axial_rotations(math.isqrt(current.shape[1]), current.shape[2], device=current.device)
        return self._blocks()[0].look(current + 0.1 * current_pos, rotations)

    def recall(self, begun: Tensor, memory: Tensor, memory_pos: Tensor, pointer_tokens: int = 0) -> Tensor:
        """What :meth:`begin` returned, conditioned on memories.

        Parameters
        ----------
        begun : Tensor, shape (B, N, dim), or (1, N, dim) for one frame and the memories of B objects
        memory, memory_pos, pointer_tokens
            As in :meth:`forward`.

        Returns
        -------
        Tensor, shape (B, N, dim)

        Raises
        ------
        ValueError
            If the grid is not square or the memory is not made of whole frames.
        """
        side = _side_of(begun, memory, pointer_tokens)
        rotations = axial_rotations(side, begun.shape[2], device=begun.device)
        remembered = memory.shape[1] - pointer_tokens
        keys = memory + memory_pos
        x = begun
        for index, block in enumerate(self._blocks()):
            x = block.recall(block.look(x, rotations) if index else x, keys, memory, rotations, remembered)
        return self.norm(x)

    def _blocks(self) -> list[_MemoryBlock]:
        return [cast("_MemoryBlock", block) for block in self.layers]


class _MemoryBlock(nn.Module):
    """Self-attention, cross-attention and MLP, each normalised first and added to its input."""

    def __init__(self, dim: int, memory_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.self_attn = _RotaryAttention(dim, dim)
        self.cross_attn_image = _RotaryAttention(dim, memory_dim)
        self.linear1 = nn.Linear(dim, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def look(self, x: Tensor, rotations: Tensor) -> Tensor:
        """Self-attention of the frame."""
        y = self.norm1(x)
        return x + self.self_attn(y, y, y, rotations, y.shape[1])

    def recall(self, x: Tensor, keys: Tensor, values: Tensor, rotations: Tensor, remembered: int) -> Tensor:
        """Cross-attention to memories, and the MLP; ``x`` may be one frame for all memories."""
        x = x + self.cross_attn_image(self.norm2(x), keys, values, rotations, remembered)
        return x + linear(linear_relu(self.norm3(x), self.linear1), self.linear2)


class _RotaryAttention(nn.Module):
    """Attention with one head, whose queries and keys are turned by their place in the image."""

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, rotations: Tensor, rotated: int) -> Tensor:
        """Attend from ``q`` to ``k`` and ``v``; the first ``rotated`` keys, frame by frame, are turned.

        With a batch of one, ``q`` is the same for all keys.
        """
        q, k = linear(q, self.q_proj), linear(k, self.k_proj)
        rotate_(q, rotations)
        rotate_(k[:, :rotated].unflatten(1, (-1, q.shape[1])), rotations)
        q = q.expand(len(k), -1, -1)
        if q.device.type == "cpu" and not torch.is_grad_enabled():
            # The shares of a query sum to one, so values may be projected after they are mixed; memories
            # are a quarter as wide as what they are projected to.
            mixed = linear(attend_in_tiles(q, k, v), self.v_proj)
        else:
            v = linear(v, self.v_proj)
            mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]  # by heads
        return linear(mixed, self.out_proj)


def _side_of(current: Tensor, memory: Tensor, pointer_tokens: int) -> int:
    """Side of the grid of a frame, if the memory fits it."""
    count = current.shape[1]
    side = math.isqrt(count)
    remembered = memory.shape[1] - pointer_tokens
    if side * side != count or remembered < 0 or remembered % count:
        raise ValueError(
            f"{memory.shape[1]} memory tokens, {pointer_tokens} of them object pointers, do not fit "
            f"a frame of {count} tokens; frames must be square and memories whole."
        )
    return side
