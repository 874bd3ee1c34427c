"""The model and its embeddings, used from the worker's thread only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from napari_sam.annotation import Answer, Plane, SamObject, Snapshot, Source
from napari_sam.errors import Cancelled, DeviceError, ModelError
from napari_sam.inference.embedding_cache import CACHE_BYTES, EmbeddingCache
from napari_sam.inference.prompts import Prompts
from napari_sam.models.zoo import ZOO
from napari_sam.ui.plane import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.inference.candidates import MaskCandidates
    from napari_sam.inference.engine import Segment
    from napari_sam.inference.filtering import Filter, Sieve
    from napari_sam.inference.mask import Mask
    from napari_sam.models.base import Embedding, PromptableModel
    from napari_sam.ui.carrying import Carried, Carrying

__all__ = ["Everything", "Loaded", "ModelChoice", "Segmenter"]

T = TypeVar("T")


class ModelChoice(NamedTuple):
    """Which model to use and where."""

    name: str
    device: str

    @property
    def label(self) -> str:
        """The model's name, or that of its checkpoint's file."""
        return self.name if self.name in ZOO else Path(self.name).name


@dataclass(frozen=True)
class Loaded:
    """What became known with the model.

    Attributes
    ----------
    device : str
        Where the model is.
    devices : list of str
        Where it could be.
    finds_centres : bool
        Whether it sees by itself where objects are.
    """

    device: str
    devices: list[str]
    finds_centres: bool = False


class Everything(NamedTuple):
    """What an automatic run found on a plane.

    Attributes
    ----------
    sieve : Sieve
        All masks.
    wanted : Filter
        With the thresholds that suit the model.
    """

    sieve: Sieve
    wanted: Filter


class Segmenter:
    """Holds a model, embeds planes and segments objects.

    Not thread-safe, and importing torch takes seconds: call it from one worker thread.

    Parameters
    ----------
    tell : callable, optional
        Called in that thread, when a device fails or is short of memory, with one sentence and the device
        that is used from then on.
    """

    def __init__(self, tell: Callable[[str, str], Any] = lambda *_: None) -> None:
        self._tell = tell
        self._choice: ModelChoice | None = None
        self._model: PromptableModel | None = None
        self._embeddings: EmbeddingCache[Hashable] = EmbeddingCache()
        self._newest: tuple[Hashable, Answer] | None = None
        self._carrying: Carrying | None = None
        self._answering = threading.Condition()
        self._seconds = 0.0

    def load(self, choice: ModelChoice) -> Loaded:
        """Have the chosen model ready.

        The one before stays until the new one is there if twice the latter's weights fit into the memory that
        is free; it is kept, or loaded again, if the new one cannot be loaded.

        Raises
        ------
        NapariSamError
            If there is no such model or device.
        """
        from napari_sam import models

        if self._model is None or choice != self._choice:
            before = self._choice
            if not _fits_beside(choice):
                self._forget()
            try:
                model = self._loaded(choice)
            except Exception:
                if self._model is None and before is not None:
                    # What is wrong with the new one is the news, whatever comes of this.
                    with suppress(Exception):
                        self._model = _load(before.name, before.device)
                        self._choice = before
                raise
            self._forget()
            self._model, self._choice = model, choice
        return Loaded(str(self._model.device), models.available_devices(), self._model.finds_centres)

    def embed(self, view: View, abandoned: threading.Event) -> None:
        """Have the embedding of a view ready, unless nobody wants it any more."""
        from napari_sam.inference.abandon import Abandoned, abandonable

        with suppress(Abandoned), abandonable(self._ready(), abandoned):
            self._computed(lambda: self._embedding(view))

    def segment(self, view: View, prompts: Prompts) -> Answer:
        """What the model says to the prompts of one object.

        The newest answer is kept: a click asks the same as the preview that it follows.
        """
        from napari_sam.annotation.asking import to_answer
        from napari_sam.inference import engine

        if self._newest is None or self._newest[0] != view.key or self._newest[1].prompts != prompts:

            def attempt() -> tuple[Segment, float]:
                embedding = self._embedding(view)
                # Not what it takes while the GUI is busy, too.
                began = time.thread_time()
                return engine.segment(self._ready(), embedding, prompts), time.thread_time() - began

            segment, seconds = self._computed(attempt)
            answer = to_answer(segment, prompts, self._ready(), view.look)
            with self._answering:
                self._seconds = seconds
                self._newest = view.key, answer
                self._answering.notify_all()
        return self._newest[1]

    def newest(self, view: View, prompts: Prompts, patience: float = 0.0) -> Answer | None:
        """The newest answer, if it was to these prompts; the one thing here that any thread may ask.

        If the model was quick the last time and has seen the view, it is waited for, `patience` seconds at
        most. Meanwhile the interpreter is the worker's alone, so that this takes less time than not to wait.
        """
        with self._answering:
            if self._seconds <= patience and view.key in self._embeddings:
                self._answering.wait_for(lambda: self._answered(view, prompts) is not None, patience)
        return self._answered(view, prompts)

    def _answered(self, view: View, prompts: Prompts) -> Answer | None:
        newest = self._newest
        return (
            newest[1]
            if newest is not None and newest[0] == view.key and newest[1].prompts == prompts
            else None
        )

    def segment_many(
        self, asked: Sequence[tuple[View, Plane, Sequence[Prompts]]], source: Source
    ) -> list[SamObject]:
        """An object for each of many prompts that the model finds something for."""
        from napari_sam.annotation import batch

        def found(view: View, plane: Plane, prompts: Sequence[Prompts]) -> list[SamObject]:
            embedding = self._embedding(view)
            return batch.segment_many(self._ready(), embedding, prompts, plane, view.look, source=source)

        return [item for one in asked for item in self._computed(partial(found, *one))]

    def find_everything(
        self,
        view: View,
        progress: Callable[[int, int], Any],
        stop: threading.Event,
        *,
        prompts: str,
        points_per_side: int,
        region: Mask | None,
        most_bytes: int,
        keep_embedding: bool,
    ) -> Everything:
        """All masks of a view, made ready to be filtered.

        Parameters
        ----------
        view : View
        progress : callable
            Called with the number of batches that are done, and of all.
        stop : threading.Event
        prompts : {"grid", "centres", "none"}
            What is asked about; a grid if the model does not see objects by itself.
        points_per_side : int
            Of the grid.
        region : Mask or None
            Only points on it are prompted.
        most_bytes : int
            That the masks may take.
        keep_embedding : bool
            One that has to be computed is kept, for clicks on the plane.

        Raises
        ------
        Cancelled
            If `stop` was set.
        """
        from napari_sam.inference.abandon import Abandoned, abandonable
        from napari_sam.inference.automatic import SamAutomaticMaskGenerator
        from napari_sam.inference.filtering import Filter, Sieve

        def attempt() -> tuple[SamAutomaticMaskGenerator, MaskCandidates]:
            model = self._ready()
            possible = prompts if model.finds_centres else "grid"
            generator = SamAutomaticMaskGenerator(model, points_per_side, prompts=possible)
            embedding = None
            if keep_embedding or view.key in self._embeddings:
                try:
                    with abandonable(model, stop):
                        embedding = self._embedding(view)
                except Abandoned:
                    raise Cancelled("Cancelled: nothing was segmented.") from None
            found = generator.candidates(
                view.raw(),
                contrast_limits=view.contrast_limits,
                gamma=view.gamma,
                region=region,
                progress=progress,
                cancelled=stop,
                most_bytes=most_bytes,
                embedding=embedding,
            )
            return generator, found

        generator, found = self._computed(attempt)
        sieve = Sieve(found)
        wanted = Filter(
            generator.pred_iou_thresh, generator.stability_score_thresh, max(1, generator.min_mask_area)
        )
        # The user may want them filled at once.
        sieve.find_holes(sieve.select(wanted))
        return Everything(sieve, wanted)

    def carry_on(self, carrying: Carrying) -> Carried | None:
        """The next plane of a propagation; None after the last one.

        Between two planes, what the model remembers of those before is kept. A device that fails meanwhile
        makes it begin again, with what there is in its place.

        Raises
        ------
        Cancelled
            If it was stopped.
        """
        if self._carrying is not carrying:
            self._stop_carrying()
            self._carrying = carrying
        try:
            found = self._computed(lambda: carrying.go_on(self._ready(), self._embedding_of_many))
        except Exception:
            self._stop_carrying()
            raise
        if found is None:
            self._stop_carrying()
        return found

    def _stop_carrying(self) -> None:
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            carrying.close()

    def completed(self, snapshot: Snapshot) -> Snapshot:
        """The same with the checksum of the weights in the answers of this model."""
        from napari_sam.annotation.asking import with_digests

        return snapshot if self._model is None else with_digests(snapshot, self._model)

    def _embedding(self, view: View) -> Embedding:
        from napari_sam.inference import embedding_store

        return self._embeddings.get(view.key, lambda: embedding_store.encode(self._ready(), view.pixels()))

    def _embedding_of_many(self, view: View, read: Callable[[], NDArray[Any]]) -> Embedding:
        """The embedding of one of many views: kept if it drives out no other one."""
        from napari_sam.inference import embedding_store

        if view.key in self._embeddings:
            return self._embedding(view)
        embedding = embedding_store.encode(self._ready(), read())
        if self._embeddings.nbytes + embedding.nbytes <= CACHE_BYTES:
            self._embeddings[view.key] = embedding
        return embedding

    def _ready(self) -> PromptableModel:
        if self._model is None:
            raise ModelError("No model is loaded: choose one.")
        return self._model

    def _loaded(self, choice: ModelChoice) -> PromptableModel:
        try:
            return _load(choice.name, choice.device)
        except (DeviceError, MemoryError):
            if self._model is None:
                raise
        # Perhaps there is room without the old one.
        self._forget()
        return _load(choice.name, choice.device)

    def _forget(self) -> None:
        if self._carrying is not None:
            # It holds the model, too. Whoever goes on with it begins again.
            self._carrying.close()
        self._model = self._choice = self._newest = None
        self._embeddings.clear()

    def _computed(self, attempt: Callable[[], T]) -> T:
        """Compute with all that can be done about a device that fails."""
        from napari_sam.inference.fallback import on_device_of, telling

        before = str(self._ready().device)
        with telling(lambda sentence: self._tell(sentence, str(self._ready().device))):
            try:
                result = attempt()
            except DeviceError as error:
                self._make_room(error)
                result = attempt()
        model = self._ready()
        if str(model.device) != before:
            self._embeddings.replace(lambda embedding: on_device_of(model, embedding))
        return result

    def _make_room(self, error: DeviceError) -> None:
        """Give up what can be had again; raises the error if there is nothing."""
        model, choice = self._ready(), self._choice
        if str(model.device) != "cpu" and choice is not None:
            # A device that lost the weights.
            failed = str(model.device)
            del model
            self._forget()
            self._model, self._choice = _load(choice.name, "cpu"), choice
            self._tell(f"The device {failed} failed: {choice.label} was loaded again on the CPU.", "cpu")
        elif len(self._embeddings):
            self._embeddings.clear()
        else:
            raise error


def _load(name: str, device: str) -> PromptableModel:
    """Load what is on disk already; the widget shows downloads itself."""
    from napari_sam.models import load_model

    return load_model(name, device=device, progress=lambda *_: None)


def _fits_beside(choice: ModelChoice) -> bool:
    """Whether there is memory for a new model beside the old one.

    Its file is read before its network is filled: that makes twice the weights on the host, once on the
    device.
    """
    from napari_sam.models.device import free_memory, pick_device

    if choice.name in ZOO:
        nbytes = ZOO[choice.name].weights_nbytes
    else:
        path = Path(choice.name)
        nbytes = path.stat().st_size if path.is_file() else 0
    device = pick_device(choice.device)
    host, there = free_memory(pick_device("cpu")), free_memory(device)
    return (host is None or host > 2 * nbytes) and (there is None or there > nbytes)
