"""Attention on a CPU whose scores never leave its cache.

PyTorch's fused attention wants values as wide as keys. Where they are narrower, as the memories of SAM 2 are
before they are projected, two matrix products for each tile of scores are faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["attend_in_tiles"]

_KEYS, _QUERIES = 512, 1024
"""Keys and queries whose scores are computed at once: 2 MiB."""


def attend_in_tiles(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with one head, tile by tile, for inference in float32.

    The weights of a query are exponentials of its scores less one that is known before: the highest of the
    first tile. That saves what a running maximum costs (Dao et al. 2022, FlashAttention, algorithm 1).
    Only where a weight, or what is made of it, overflows, the highest of all scores is looked for. A column
    of ones beside the values sums the weights.

    Parameters
    ----------
    q : Tensor, shape (N, d), float32
    k : Tensor, shape (M, d), float32
    v : Tensor, shape (M, e), float32

    Returns
    -------
    Tensor, shape (N, e), float32

    Examples
    --------
    >>> q, k, v = torch.tensor([[0.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [6.0]])
    >>> attend_in_tiles(q, k, v)
    tensor([[5.]])
    """
    scratch = q.new_empty(min(_KEYS, len(k)) * min(_QUERIES, len(q)))
    keys = k.split(_KEYS)
    values = torch.cat([v, v.new_ones(len(v), 1)], dim=1).t().contiguous().split(_KEYS, dim=1)
    mixed = q.new_empty(v.shape[1], len(q))
    columns = (q * q.shape[1] ** -0.5).t().contiguous()
    for queries, out in zip(columns.split(_QUERIES, dim=1), mixed.split(_QUERIES, dim=1), strict=True):
        total = _mix(queries, keys, values, _highest(queries, keys[:1], scratch), scratch)
        if not total.isfinite().all():
            total = _mix(queries, keys, values, _highest(queries, keys, scratch), scratch)
        torch.div(total[:-1], total[-1:], out=out)
    return mixed.t()


def _highest(queries: Tensor, keys: Sequence[Tensor], scratch: Tensor) -> Tensor:
    """The highest score of each query, shape (queries,)."""
    highest = [torch.mm(part, queries, out=_tile(scratch, part, queries)).amax(dim=0) for part in keys]
    return torch.stack(highest).amax(dim=0)


def _mix(
    queries: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], highest: Tensor, scratch: Tensor
) -> Tensor:
    """Sums of values times weights, and of weights, shape (e + 1, queries)."""
    total = queries.new_zeros(len(values[0]), queries.shape[1])
    for some_keys, some_values in zip(keys, values, strict=True):
        scores = torch.addmm(-highest, some_keys, queries, out=_tile(scratch, some_keys, queries))
        total.addmm_(some_values, scores.exp_())
    return total


def _tile(scratch: Tensor, keys: Tensor, queries: Tensor) -> Tensor:
    """The scores of some keys and queries, always in the same memory."""
    return scratch[: len(keys) * queries.shape[1]].view(len(keys), -1)
