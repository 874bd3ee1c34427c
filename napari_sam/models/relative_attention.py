"""Attention with decomposed relative positions (Li et al. 2022, MViTv2, section 4.1).

Each score is ``q · k`` plus one number for the distance in rows and one for that in columns, both of the
query. On a CPU, a few scores are computed at a time, so that they never leave its caches; elsewhere the fused
attention of PyTorch is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

    def linear(self, name: str, x: Tensor, layer: nn.Linear) -> Tensor:
        """``layer(x)`` of tokens (N, in)."""
        out = self.get(name, (len(x), layer.out_features), x)
        return torch.addmm(layer.bias, x, layer.weight.t(), out=out)

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
        return _in_cache(q, k, v, embeddings, side, scratch)
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


def _in_cache(q: Tensor, k: Tensor, v: Tensor, embeddings: Tensor, side: int, scratch: Scratch) -> Tensor:
    """Attention of (B, N, heads, d), a few scores at a time."""
    batch, count, heads, dim = q.shape
    most = max(1, _CHUNK_BYTES // (count * q.element_size()))  # rows of scores at once
    windows = max(1, most // (count * heads))
    together = heads if windows > 1 else max(1, min(heads, 2))
    rows = min(count, max(1, most // (windows * together)))
    mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
    places = _places(side, q)
    for first in range(0, batch, windows):
        for head in range(0, heads, together):
            own = (slice(first, first + windows), slice(None), slice(head, head + together))
            queries, keys, values = (t[own].transpose(1, 2).flatten(0, 1).contiguous() for t in (q, k, v))
            by_row, by_column = _by_distance(queries @ embeddings, side)
            queries, keys = queries * dim**-0.5, keys.transpose(1, 2)
            if side <= _SMALL:
                # Short rows of biases are slow to add; a product with ones at the right places is not.
                queries = torch.cat([queries, by_row, by_column], dim=2)
                keys = torch.cat([keys, places.expand(len(keys), -1, -1)], dim=1)
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                asked = queries[:, part]
                shape = (len(asked), asked.shape[1], count)
                out = scratch.get(f"scores {shape}", shape, q)
                if side <= _SMALL:
                    scores = torch.bmm(asked, keys, out=out)
                else:
                    bias = _bias(by_row[:, part], by_column[:, part], out)
                    scores = torch.baddbmm(bias, asked, keys, out=out)
                shares = torch.softmax(scores, dim=-1, out=None if torch.is_grad_enabled() else scores)
                seen = torch.bmm(shares, values).unflatten(0, (-1, min(together, heads - head)))
                mixed[own[0], part, own[2]] = seen.transpose(1, 2)
    return mixed


def _bias(by_row: Tensor, by_column: Tensor, out: Tensor | None) -> Tensor:
    """The bias of each key, (..., side * side)."""
    if out is None:
        return (by_row[..., None] + by_column[..., None, :]).flatten(-2)
    side = by_row.shape[-1]
    # A copy and a sum are faster than a sum of two that are both repeated.
    grid = out.unflatten(-1, (side, side)).copy_(by_row[..., None])
    grid += by_column[..., None, :]
    return out


def _places(side: int, like: Tensor) -> Tensor:
    """Ones where a key is in a row and, below, where it is in a column: shape (2 * side, side * side)."""
    one = torch.eye(side, device=like.device, dtype=like.dtype)
    return torch.cat([one.repeat_interleave(side, dim=1), one.repeat(1, side)])
