"""Attention on a CPU whose scores never leave its cache.

PyTorch's fused attention wants values as wide as keys. Where they are narrower, as the memories of SAM 2 are
before they are projected, two matrix products for each tile of scores are faster. In half precision they are
in any case, and in float32 on CPUs of AMD, for the reason given in :mod:`napari_sam.models.linear`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_sam.models.linear import product

__all__ = ["attend_in_tiles"]

_KEYS, _QUERIES = 512, 1024
"""Keys and queries whose scores are computed at once: 2 MiB in float32."""


def attend_in_tiles(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention, tile by tile, for inference; of several heads or objects one after the other.

    The weights of a query are powers of two of its scores less one that is known before: the highest of the
    first tile. That saves what a running maximum costs (Dao et al. 2022, FlashAttention, algorithm 1).
    Only where a weight, or what is made of it, overflows, the highest of all scores is looked for. A column
    of ones beside the values sums the weights. Sums over tiles are float32 in any case.

    Parameters
    ----------
    q : Tensor, shape (..., N, d), float32 or bfloat16
    k : Tensor, shape (..., M, d)
    v : Tensor, shape (..., M, e)

    Returns
    -------
    Tensor, shape (..., N, e)
        Of the dtype of ``q``.

    Examples
    --------
    >>> q, k, v = torch.tensor([[0.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [6.0]])
    >>> attend_in_tiles(q, k, v)
    tensor([[5.]])
    """
    if q.ndim > 2:
        return torch.stack([attend_in_tiles(*one) for one in zip(q, k, v, strict=True)])
    keys = k.split(_KEYS)
    with_ones = torch.cat([v, v.new_ones(len(v), 1)], dim=1).t()
    values = [part.contiguous() for part in with_ones.split(_KEYS, dim=1)]
    mixed = q.new_empty(v.shape[1], len(q))
    # Powers of two, since exp takes several times as long as exp2.
    scaled = q * (q.shape[1] ** -0.5 * math.log2(math.e))
    for queries, out in zip(scaled.split(_QUERIES), mixed.split(_QUERIES, dim=1), strict=True):
        total = _mix(queries, keys, values, _highest(queries, keys[:1]))
        if not total.isfinite().all():
            total = _mix(queries, keys, values, _highest(queries, keys))
        out.copy_(total[:-1] / total[-1:])
    return mixed.t()


def _highest(queries: Tensor, keys: Sequence[Tensor]) -> Tensor:
    """The highest score of each query, shape (queries,)."""
    return torch.stack([product(part, queries).amax(dim=0) for part in keys]).amax(dim=0)


def _mix(queries: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], highest: Tensor) -> Tensor:
    """Sums of values times weights, and of weights, shape (e + 1, queries), float32."""
    total = torch.zeros(len(values[0]), len(queries))
    for some_keys, some_values in zip(keys, values, strict=True):
        weights = product(some_keys, queries, -highest).exp2_()
        total += product(some_values, weights.t())
    return total
