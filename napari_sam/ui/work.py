"""The model's part: embed planes, segment objects, deliver masks to the document."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_sam.annotation import Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui.plane import View
from napari_sam.ui.requests import Requests
from napari_sam.ui.segmenter import ModelChoice, Segmenter
from napari_sam.ui.session import Session
from napari_sam.ui.switching import ModelSwitch

__all__ = ["Work"]

T = TypeVar("T")


class Work:
    """Turns prompts into masks, in the background.

    Parameters
    ----------
    choice : ModelChoice
        The model to begin with.

    Attributes
    ----------
    models : ModelSwitch
        Which model segments.
    """

    segmented = Signal(Mask)
    """A mask arrived in its document."""

    warned = Signal(str, str)
    """A device failed or is short of memory: one sentence, and the device that is used from now on."""

    failed = Signal(Exception)

    def __init__(self, choice: ModelChoice) -> None:
        self.requests = Requests("napari-sam widget")
        self._segmenter = Segmenter(self._tell)
        self.models = ModelSwitch(choice, self.requests, self._segmenter)
        # What the model last saw when it segmented an object.
        self._seen: WeakKeyDictionary[SamObject, dict[Plane, Hashable]] = WeakKeyDictionary()
        self._abandoned = threading.Event()
        self._embedded: Hashable = None
        # What the model before computes for the eye is of no use any more.
        self.models.loading.connect(self._on_loading)
        self.models.failed.connect(self._on_no_model)

    @property
    def encoding(self) -> bool:
        """Whether the first model is on its way, one is being loaded, or an image embedding computed."""
        waiting = self.models.busy and not self.models.ready
        return waiting or self.requests.pending("load", "embed")

    def embed(self, session: Session) -> None:
        """Have the embedding of the displayed plane ready, and abandon that of another one."""
        if session.plane is None:
            self.stop_embedding()
            return
        view = session.view(session.plane)
        if self.requests.pending("embed"):
            if self._look(view) == self._embedded and not self._abandoned.is_set():
                return
            self.stop_embedding()
        abandoned = self._abandoned = threading.Event()
        self._embedded = self._look(view)
        self._submit(
            "embed",
            "Computing the image embedding",
            lambda: self._segmenter.embed(view, abandoned),
            lambda _: None,
        )

    def stop_embedding(self) -> None:
        """The displayed plane is not of interest any more."""
        # A mask that is asked for may be of the same plane.
        if not self.requests.pending_beside("embed"):
            self._abandoned.set()
        self.requests.cancel("embed")

    def segment(self, session: Session, planes: Iterable[Plane]) -> None:
        """Bring the current object's masks on some planes up to date with its prompts."""
        for plane in planes:
            prompts = session.document.current.prompts.get(plane)
            if prompts is None or not (prompts.labels.any() or prompts.box is not None):
                self.requests.cancel((session.document.current, plane))
                session.document.set_mask(session.document.current, plane, None)
            else:
                self._ask(session, plane, prompts)

    def segment_stale(self, session: Session) -> None:
        """Segment the current object again on planes that looked different when it was segmented."""
        current = session.document.current
        seen = self._seen.get(current, {})
        self.segment(session, [p for p in current.prompts if seen.get(p) != self._look(session.view(p))])

    def forget(self, item: SamObject) -> None:
        """An object was rejected."""
        for plane in item.prompts:
            self.requests.cancel((item, plane))

    def close(self) -> None:
        """Forget all that was asked for."""
        self._abandoned.set()
        self.models.close()
        self.requests.close()

    def _look(self, view: View) -> Hashable:
        return self.models.choice, view.key

    def _ask(self, session: Session, plane: Plane, prompts: Prompts) -> None:
        view, document = session.view(plane), session.document
        item = document.current
        self._seen.setdefault(item, {})[plane] = self._look(view)

        def arrived(found: tuple[Mask, float]) -> None:
            if plane in item.prompts and document.set_mask(item, plane, *found):
                self.segmented.emit(found[0])

        self._submit(
            (item, plane),
            f"Segmenting object {item.id}",
            lambda: self._segmenter.segment(view, prompts),
            arrived,
        )

    def _submit(
        self, key: Hashable, saying: str, function: Callable[[], T], on_done: Callable[[T], Any]
    ) -> None:
        if self.models.problem is not None:
            self.failed.emit(self.models.problem)
        else:
            self.requests.submit(key, saying, function, on_done, self.failed.emit)

    def _on_loading(self) -> None:
        self._abandoned.set()

    def _on_no_model(self, error: Exception) -> None:
        if not self.models.ready:
            self._seen.clear()
        self.failed.emit(error)

    def _tell(self, sentence: str, device: str) -> None:
        self.requests.post(lambda: self.warned.emit(sentence, device))
