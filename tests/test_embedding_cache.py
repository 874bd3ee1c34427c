"""How many image embeddings stay in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from napari_sam.inference.embedding_cache import EmbeddingCache
from napari_sam.models.base import Embedding

SIZE = 100


@dataclass(frozen=True)
class Bytes(Embedding):
    """An embedding of so many bytes."""

    count: int

    @property
    def tensors(self) -> list[Tensor]:
        return [torch.zeros(self.count, dtype=torch.uint8)]


def taking(count: int) -> Embedding:
    return Bytes((4, 4), count)


def never() -> Embedding:
    raise AssertionError("It is in memory.")


@pytest.fixture
def cache() -> EmbeddingCache[str]:
    cache = EmbeddingCache[str](lambda: 3 * SIZE)
    for key in "abc":
        cache.get(key, lambda: taking(SIZE))
    return cache


def test_what_was_not_used_for_the_longest_time_goes(cache: EmbeddingCache[str]) -> None:
    assert (len(cache), cache.nbytes) == (3, 3 * SIZE)
    first = cache.get("a", never)
    assert list(cache) == ["b", "c", "a"]
    cache["d"] = taking(SIZE)
    assert list(cache) == ["c", "a", "d"]
    assert cache.get("a", never) is first


def test_the_newest_stays_however_large(cache: EmbeddingCache[str]) -> None:
    large = cache.get("large", lambda: taking(10 * SIZE))
    assert list(cache) == ["large"]
    assert cache.get("large", never) is large
    assert cache.get("small", lambda: taking(1)).nbytes == 1
    assert list(cache) == ["small"]


def test_the_limit_may_change() -> None:
    limit = 3 * SIZE
    cache = EmbeddingCache[str](lambda: limit)
    for key in "abc":
        cache[key] = taking(SIZE)
    limit = SIZE
    cache.get("b", never)
    assert list(cache) == ["b"]


class Other:
    """A key that must not be compared with those that are there."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise AssertionError("All keys were gone through, which another thread may change meanwhile.")


def test_asking_for_a_key_does_not_go_through_all(cache: EmbeddingCache[str]) -> None:
    assert "b" in cache
    assert Other() not in cache


def test_what_cannot_be_computed_leaves_no_trace(cache: EmbeddingCache[str]) -> None:
    with pytest.raises(AssertionError):
        cache.get("d", never)
    assert list(cache) == ["a", "b", "c"]


def test_all_can_be_replaced_or_forgotten(cache: EmbeddingCache[str]) -> None:
    cache.replace(lambda embedding: taking(embedding.nbytes // 2))
    assert (list(cache), cache.nbytes) == (["a", "b", "c"], 3 * SIZE // 2)
    cache.clear()
    assert not cache
    assert cache.nbytes == 0
