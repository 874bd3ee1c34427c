"""Attention with decomposed relative positions (Li et al. 2022, MViTv2, section 4.1).

Each score is ``q · k`` plus one number for the distance in rows and one for that in columns, both of the
query. On a CPU, a few scores are computed at a time, so that they never leave its caches; elsewhere the fused
attention of PyTorch is used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.linear import product

__all__ = ["Scratch", "attention_with_relative_positions"]

_CHUNK_BYTES = 4 * 2**20
"""Memory of the scores that are computed at once on a CPU: what its caches hold."""
_SMALL = 16
"""Side of windows up to which biases are added by the product of queries and keys."""


class Scratch:
    """Memory that is used again by every block, since fresh memory costs a CPU as much as computing in it.

    Where gradients are wanted everything is allocated anew.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def select(self, name: str, x: Tensor, order: Tensor) -> Tensor:
        """``x[order]`` of tokens (N, dim)."""
        return torch.index_select(x, 0, order, out=self.get(name, (len(order), x.shape[1]), x))

    def get(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
        """Memory of a shape, or None where gradients are wanted."""
        if torch.is_grad_enabled():
            return None
        held = self._held.get(name)
        if held is None or held.shape != shape:
            held = self._held[name] = like.new_empty(shape)
        return held


def attention_with_relative_positions(
    q: Tensor, k: Tensor, v: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, side: int, scratch: Scratch
) -> Tensor:
    """Attend within each of B square windows.

    Parameters
    ----------
    q, k, v : Tensor, shape (B, side * side, heads, d)
    rel_pos_h, rel_pos_w : Tensor, shape (2 * side - 1, d)
        Embeddings of the distances from ``1 - side`` to ``side - 1`` between query and key.
    side : int

    Returns
    -------
    Tensor, shape (B, side * side, heads, d)
    """
    embeddings = torch.cat([rel_pos_h.flip(0), rel_pos_w.flip(0)]).t()
    if q.device.type == "cpu":
        if side <= _SMALL:
            return _in_windows(q, k, v, embeddings, side, scratch)
        return _in_rows(q, k, v, embeddings, side)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    by_row, by_column = _by_distance(q @ embeddings, side)
    bias = (by_row[..., None] + by_column[..., None, :]).flatten(3)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


def _by_distance(products: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """From products with the embeddings of all distances to those of each key's row and each key's column.

    The embeddings that a query needs lie beside each other and move on by one from query to query, so that
    views suffice.

    Parameters
    ----------
    products : Tensor, shape (..., side * side, 2 * (2 * side - 1))

    Returns
    -------
    by_row, by_column : Tensor, shape (..., side * side, side)
    """
    outer, last = products.shape[:-2], products.shape[-1]
    products = products.contiguous()
    strides = products.stride()[:-2]
    shape = (*outer, side, side, side)
    start = products.storage_offset() + side - 1
    by_row = products.as_strided(shape, (*strides, side * last - 1, last, 1), start)
    by_column = products.as_strided(shape, (*strides, side * last, last - 1, 1), start + 2 * side - 1)
    return by_row.flatten(-3, -2), by_column.flatten(-3, -2)


def _in_windows(q: Tensor, k: Tensor, v: Tensor, embeddings: Tensor, side: int, scratch: Scratch) -> Tensor:
    """Attention of (B, N, heads, d) in small windows, a few of them at a time."""
    batch, count, heads, dim = q.shape
    windows = max(1, _CHUNK_BYTES // (q.element_size() * count**2 * heads))
    mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
    places = _places(side, q)
    for first in range(0, batch, windows):
        some = slice(first, first + windows)
        queries, keys, values = (t[some].transpose(1, 2).flatten(0, 1).contiguous() for t in (q, k, v))
        by_row, by_column = _by_distance(queries @ embeddings, side)
        # Short rows of biases are slow to add; a product with ones at the right places is not.
        queries = torch.cat([queries * dim**-0.5, by_row, by_column], dim=2)
        keys = torch.cat([keys.transpose(1, 2), places.expand(len(keys), -1, -1)], dim=1)
        out = scratch.get(f"scores {len(queries)}", (len(queries), count, count), q)
        scores = torch.bmm(queries, keys, out=out)
        mixed[some] = torch.bmm(_shares(scores), values).unflatten(0, (-1, heads)).transpose(1, 2)
    return mixed


def _in_rows(q: Tensor, k: Tensor, v: Tensor, embeddings: Tensor, side: int) -> Tensor:
    """Attention of (B, N, heads, d) in large windows, a few rows of one head at a time."""
    batch, count, heads, dim = q.shape
    rows = max(1, _CHUNK_BYTES // (q.element_size() * count))
    mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
    for window, head in np.ndindex(batch, heads):
        queries, keys, values = (t[window, :, head].contiguous() for t in (q, k, v))
        values = values.t().contiguous()
        by_row, by_column = _by_distance(queries @ embeddings, side)
        queries = queries * dim**-0.5
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            scores = product(queries[part], keys)
            grid = scores.unflatten(1, (side, side))
            grid += by_row[part, :, None]
            grid += by_column[part, None]
            mixed[window, part, head] = product(_shares(scores), values)
    return mixed


def _shares(scores: Tensor) -> Tensor:
    """Softmax of the scores, in their place where no gradient is wanted."""
    return torch.softmax(scores, dim=-1, out=None if torch.is_grad_enabled() else scores)


def _places(side: int, like: Tensor) -> Tensor:
    """Ones where a key is in a row and, below, where it is in a column: shape (2 * side, side * side)."""
    one = torch.eye(side, device=like.device, dtype=like.dtype)
    return torch.cat([one.repeat_interleave(side, dim=1), one.repeat(1, side)])
