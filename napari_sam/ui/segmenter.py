"""The model and its embeddings, used from the worker's thread only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui.plane import View

if TYPE_CHECKING:
    from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["EmbeddingCache", "Loaded", "ModelChoice", "Segmenter"]

CACHE_BYTES = 512 * 2**20
"""Memory for image embeddings per widget: 512 MiB."""


class ModelChoice(NamedTuple):
    """Which model to use and where."""

    name: str
    device: str


class EmbeddingCache:
    """Embeddings in memory; those not used for the longest time make room for new ones.

    Parameters
    ----------
    limit : int
        Bytes. An embedding that is larger than this by itself is kept until the next one comes.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[Hashable, Embedding] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(e.nbytes for e in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable, compute: Callable[[], Embedding]) -> Embedding:
        """The embedding with this key, computed if it is not there."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        embedding = self._held[key] = compute()
        while len(self._held) > 1 and self.nbytes > self._limit:
            self._held.popitem(last=False)
        return embedding

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()


@dataclass(frozen=True)
class Loaded:
    """What became known with the model."""

    device: str
    models: list[str]
    devices: list[str]


class Segmenter:
    """Loads the model when it is first needed, embeds planes and segments objects.

    Not thread-safe, and importing torch takes seconds: call it from one worker thread.
    """

    def __init__(self) -> None:
        self._choice: ModelChoice | None = None
        self._model: PromptableModel | None = None
        self._embeddings = EmbeddingCache()

    def load(self, choice: ModelChoice) -> Loaded:
        """Have the chosen model ready.

        Raises
        ------
        NapariSamError
            If there is no such model or device.
        """
        from napari_sam import models

        model = self._ready(choice)
        return Loaded(str(model.device), models.available_models(), models.available_devices())

    def embed(self, choice: ModelChoice, view: View) -> None:
        """Have the embedding of a view ready."""
        self._embedding(choice, view)

    def segment(self, choice: ModelChoice, view: View, prompts: Prompts) -> tuple[Mask, float]:
        """The mask of one object and its predicted IoU."""
        from napari_sam.inference import engine

        result = engine.segment(self._ready(choice), self._embedding(choice, view), prompts)
        return result.mask, result.score

    def _ready(self, choice: ModelChoice) -> PromptableModel:
        from napari_sam.models import load_model

        if self._model is None or choice != self._choice:
            # The old one goes first, so that there is never memory for two.
            self._model = self._choice = None
            self._embeddings.clear()
            self._model = load_model(choice.name, device=choice.device)
            self._choice = choice
        return self._model

    def _embedding(self, choice: ModelChoice, view: View) -> Embedding:
        from napari_sam.inference import engine

        model = self._ready(choice)
        return self._embeddings.get(view.key, lambda: engine.encode(model, view.pixels()))
