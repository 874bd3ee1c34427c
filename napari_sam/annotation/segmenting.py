"""An image and a model: the answers to prompts on any plane, without a viewer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.annotation.asking import to_answer
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.records import Answer, Look
from napari_sam.errors import ModelError
from napari_sam.inference.embedding_cache import CACHE_BYTES, EmbeddingCache
from napari_sam.inference.prompts import Prompts

if TYPE_CHECKING:
    from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["CACHE_BYTES", "Segmenter"]


class Segmenter:
    """Answers of a model to prompts on planes of an image.

    Parameters
    ----------
    planes : Planes
    model : str, path or PromptableModel
        A name or a checkpoint is loaded when it is first needed.
    device : str
        For a model that is loaded.
    """

    def __init__(
        self, planes: Planes, model: str | os.PathLike[str] | PromptableModel, device: str = "auto"
    ) -> None:
        self.planes = planes
        self.device = device
        self._take(model)

    def use(self, model: str | os.PathLike[str] | PromptableModel) -> None:
        """Take another model.

        Raises
        ------
        ModelError
            If there is no such one; that of a name is loaded later.
        """
        _check(model)
        self._take(model)

    def _take(self, model: str | os.PathLike[str] | PromptableModel) -> None:
        self._given = model
        self._model: PromptableModel | None = None
        self._embeddings = EmbeddingCache[tuple[Plane, Look]](lambda: CACHE_BYTES)

    @property
    def name(self) -> str:
        """The model's name."""
        if isinstance(self._given, str | os.PathLike):
            return os.fspath(self._given)
        return self._given.name

    @property
    def loaded(self) -> PromptableModel | None:
        """The model if it was needed already."""
        return self._model

    @property
    def model(self) -> PromptableModel:
        """The model.

        Raises
        ------
        ModelError
            If it cannot be loaded.
        DeviceError
            If the device is not there.
        """
        if self._model is None:
            if isinstance(self._given, str | os.PathLike):
                from napari_sam.models import load_model

                self._model = load_model(self._given, device=self.device)
            else:
                self._model = self._given
        return self._model

    def embedding(self, plane: Plane, look: Look) -> Embedding:
        """The embedding of a plane, computed if it is neither in memory nor on disk."""
        from napari_sam.inference.embedding_store import encode
        from napari_sam.inference.fallback import on_device_of

        key = plane, look
        held = self._embeddings.get(key, lambda: encode(self.model, self.planes.pixels(plane, look)))
        # The model may have left a device that failed.
        embedding = on_device_of(self.model, held)
        if embedding is not held:
            self._embeddings[key] = embedding
        return embedding

    def answers(self, prompts: Sequence[Prompts], plane: Plane, look: Look) -> list[Answer]:
        """What the model says to the prompts of any number of objects on a plane.

        Raises
        ------
        NapariSamError
            If the model cannot be loaded, the plane not be segmented, or the device fails.
        """
        from napari_sam.inference.engine import segment_all

        segments = segment_all(self.model, self.embedding(plane, look), prompts)
        return [
            to_answer(segment, asked, self.model, look)
            for segment, asked in zip(segments, prompts, strict=True)
        ]


def _check(model: object) -> None:
    """Make sure that there is a model, as far as that is known without loading it."""
    from napari_sam.models import available_models, sam_model_registry

    if not isinstance(model, str | os.PathLike):
        if not hasattr(model, "encode"):
            raise ModelError(
                f"A model is given by its name, by the path of a checkpoint or as it is, not by {model!r}."
            )
        return
    given = os.fspath(model)
    # The registry knows one name more.
    names = list(dict.fromkeys([*available_models(), *sam_model_registry]))
    if (isinstance(model, str) and given in names) or Path(given).expanduser().is_file():
        return
    choice = " or ".join(get_close_matches(given, names) or names)
    raise ModelError(
        f"There is no model or checkpoint {given!r}: choose {choice}, or give the path of a file."
    )
