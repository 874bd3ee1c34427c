"""Attention in tiles, against PyTorch's own in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models import tiled_attention
from napari_sam.models.tiled_attention import attend_in_tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_attention, "_KEYS", 16)
    monkeypatch.setattr(tiled_attention, "_QUERIES", 32)


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.double()[None, None] for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v)[0, 0]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (32, 16), (33, 17), (31, 15), (100, 200), (5, 100)])
def test_it_is_attention(queries: int, keys: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(queries, 24), torch.randn(keys, 24), torch.randn(keys, 7)
    torch.testing.assert_close(attend_in_tiles(q, k, v).double(), exact(q, k, v), rtol=1e-5, atol=1e-6)


def test_half_precision_sums_in_full() -> None:
    """Sums over thousands of keys are as precise as their parts; in half precision they would stand still."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, 24).bfloat16() for n in (40, 3000, 3000))
    v = v.abs()
    found = attend_in_tiles(q, k, v)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact(q, k, v), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("size", [30.0, 100.0, 3000.0])
def test_one_key_may_outweigh_all_others(where: str, size: float) -> None:
    """A score may be so much higher than those of the first tile that weights relative to them overflow."""
    torch.manual_seed(0)
    q, k, v = torch.randn(40, 16), torch.randn(50, 16), torch.randn(50, 3)
    q[:, 0] = 4
    k[0 if where == "first" else -1, 0] = size  # a score of this size, as 4 is the root of 16
    found = attend_in_tiles(q, k, v)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), exact(q, k, v), rtol=1e-4, atol=1e-4)


def test_values_may_be_large() -> None:
    q, k = torch.full((3, 1), 80.0), torch.zeros(40, 1)
    k[-1] = 1
    v = torch.full((40, 2), 1e10)
    torch.testing.assert_close(attend_in_tiles(q, k, v), torch.full((3, 2), 1e10))


def test_what_is_not_a_number_stays_one() -> None:
    q, k, v = torch.ones(2, 4), torch.ones(20, 4), torch.ones(20, 2)
    k[18] = torch.nan
    assert attend_in_tiles(q, k, v).isnan().all()


def test_inputs_are_left_alone() -> None:
    q, k, v = (torch.rand(40, 4) for _ in range(3))
    kept = [t.clone() for t in (q, k, v)]
    attend_in_tiles(q, k, v)
    assert all(torch.equal(a, b) for a, b in zip((q, k, v), kept, strict=True))
