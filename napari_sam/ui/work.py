"""The model's part: load it, embed planes, segment objects, deliver masks to the document."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_sam.annotation import Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui.plane import View
from napari_sam.ui.requests import Requests
from napari_sam.ui.segmenter import Loaded, ModelChoice, Segmenter
from napari_sam.ui.session import Session

__all__ = ["Work"]


class Work:
    """Turns prompts into masks, in the background.

    Parameters
    ----------
    choice : ModelChoice
        The model to begin with.
    """

    loaded = Signal(Loaded)
    """The model is ready."""

    segmented = Signal(Mask)
    """A mask arrived in its document."""

    failed = Signal(Exception)

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self.requests = Requests()
        self._segmenter = Segmenter()
        # What the model last saw when it segmented an object.
        self._seen: WeakKeyDictionary[SamObject, dict[Plane, Hashable]] = WeakKeyDictionary()

    @property
    def encoding(self) -> bool:
        """Whether the model is being loaded or an image embedding computed."""
        return self.requests.pending("load") or self.requests.pending("embed")

    def load(self) -> None:
        """Have the chosen model ready."""
        choice = self.choice
        self.requests.submit(
            "load",
            f"Loading PyTorch and the model {choice.name!r}",
            lambda: self._segmenter.load(choice),
            self.loaded.emit,
            self.failed.emit,
        )

    def embed(self, session: Session) -> None:
        """Have the embedding of the displayed plane ready."""
        if session.plane is None:
            self.requests.cancel("embed")
            return
        choice, view = self.choice, session.view(session.plane)
        self.requests.submit(
            "embed",
            "Computing the image embedding",
            lambda: self._segmenter.embed(choice, view),
            lambda _: None,
            self.failed.emit,
        )

    def stop_embedding(self) -> None:
        """The displayed plane is not of interest any more."""
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
        self.requests.close()

    def _look(self, view: View) -> Hashable:
        return self.choice, view.key

    def _ask(self, session: Session, plane: Plane, prompts: Prompts) -> None:
        choice, view, document = self.choice, session.view(plane), session.document
        item = document.current
        self._seen.setdefault(item, {})[plane] = self._look(view)

        def arrived(found: tuple[Mask, float]) -> None:
            if plane in item.prompts and document.set_mask(item, plane, *found):
                self.segmented.emit(found[0])

        self.requests.submit(
            (item, plane),
            f"Segmenting object {item.id}",
            lambda: self._segmenter.segment(choice, view, prompts),
            arrived,
            self.failed.emit,
        )
