"""Image embeddings in memory, as many as fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from napari_sam.models.base import Embedding

__all__ = ["CACHE_BYTES", "EmbeddingCache"]

CACHE_BYTES = 512 * 2**20
"""Memory for image embeddings: 512 MiB. The newest is kept whatever it needs."""

K = TypeVar("K", bound=Hashable)


class EmbeddingCache(Generic[K]):
    """Embeddings in memory; those not used for the longest time make room for new ones.

    Its keys are iterated over from the one not used for the longest time to the newest. For one thread at a
    time.

    Parameters
    ----------
    limit : callable, optional
        Says how many bytes they may take; asked whenever an embedding is used. One that is larger than this
        by itself is kept until the next one comes.

    Examples
    --------
    >>> from napari_sam.inference.engine import encode
    >>> from napari_sam.models import load_model
    >>> import numpy as np
    >>> model, cache = load_model("nano", device="cpu"), EmbeddingCache(lambda: 1)
    >>> for name in ("first", "second", "second"):
    ...     _ = cache.get(name, lambda: encode(model, np.zeros((64, 64, 3), dtype=np.uint8)))
    >>> list(cache), cache.nbytes > 0
    (['second'], True)
    """

    def __init__(self, limit: Callable[[], int] = lambda: CACHE_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[K, Embedding] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(embedding.nbytes for embedding in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        """Whether there is one with this key: what other threads may ask, too."""
        return key in self._held

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def __setitem__(self, key: K, embedding: Embedding) -> None:
        self._held[key] = embedding
        self._used(key)

    def get(self, key: K, compute: Callable[[], Embedding]) -> Embedding:
        """The embedding with this key, computed if it is not there."""
        if key not in self._held:
            self._held[key] = compute()
        self._used(key)
        return self._held[key]

    def replace(self, function: Callable[[Embedding], Embedding]) -> None:
        """Keep what the function makes of each instead."""
        for key, embedding in self._held.items():
            self._held[key] = function(embedding)

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()

    def _used(self, key: K) -> None:
        """Make it the newest, and room for it."""
        self._held.move_to_end(key)
        while len(self._held) > 1 and self.nbytes > self._limit():
            self._held.popitem(last=False)
