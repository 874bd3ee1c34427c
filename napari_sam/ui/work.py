"""The model's part: embed planes, answer prompts, deliver masks to the document."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_sam.annotation import Answer, Document, Plane, SamObject, Snapshot, Source
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui.carrying import Carried, Carrying
from napari_sam.ui.plane import View
from napari_sam.ui.requests import Requests
from napari_sam.ui.segmenter import Everything, ModelChoice, Segmenter
from napari_sam.ui.session import Session
from napari_sam.ui.switching import ModelSwitch

__all__ = ["Work"]

T = TypeVar("T")

_Asked = dict[tuple[int, Plane], tuple[Prompts, Hashable]]

_PATIENCE = 0.1
"""Seconds that the GUI's thread may wait for the mask of a click or a preview. Not to wait takes longer."""


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
    requests, files : Requests
        To the thread that computes, and to the one that reads and writes files.
    """

    answered = Signal(object, Mask)
    """A mask arrived in its document."""

    warned = Signal(str, str)
    """A device failed or is short of memory: one sentence, and the device that is used from now on."""

    failed = Signal(Exception)

    def __init__(self, choice: ModelChoice) -> None:
        self.requests = Requests("napari-sam widget")
        self.files = Requests("napari-sam files")
        self._segmenter = Segmenter(self._tell)
        self.models = ModelSwitch(choice, self.requests, self._segmenter)
        # What was asked last of each object on each plane, and what the model saw then.
        self._asked: WeakKeyDictionary[Document, _Asked] = WeakKeyDictionary()
        self._numbers = count()
        self._abandoned = threading.Event()
        self._stop = _Stop()
        self._carrying: Carrying | None = None
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

    def catch_up(self, session: Session, changed: Iterable[int]) -> None:
        """Ask for what the prompts of the current object, and of others that changed, still wait for."""
        document = session.document
        for uid in {document.current.uid, *changed}:
            item = document.get(uid)
            if item is not None:
                self._catch_up_with(session, item)

    def _catch_up_with(self, session: Session, item: SamObject) -> None:
        document = session.document
        asked = self._asked.setdefault(document, {})
        for uid, plane in [key for key in asked if key[0] == item.uid and key[1] not in item.prompts]:
            del asked[uid, plane]
            self.requests.cancel((document, uid, plane))
        for plane, prompts in item.prompts.items():
            if not item.is_stale(plane):
                continue
            # An answer that came after an undo was not taken: after a redo, it has to come again.
            pending = self.requests.pending((document, item.uid, plane))
            if not pending or asked.get((item.uid, plane), (None,))[0] != prompts:
                self._ask(session, item, plane, prompts)

    def ask_again(self, session: Session) -> None:
        """Ask again on planes of the current object where the model or the look was another one."""
        item = session.document.current
        asked = self._asked.get(session.document, {})
        for plane, prompts in item.prompts.items():
            seen = asked.get((item.uid, plane))
            # An object that was opened again is as it was until somebody changes it.
            known = seen is None and not item.is_stale(plane)
            if prompts.selects_something and not known and seen != (prompts, self._look(session.view(plane))):
                self._ask(session, item, plane, prompts)

    def forget(self, document: Document, uid: int) -> None:
        """An object was rejected."""
        asked = self._asked.get(document, {})
        for key in [key for key in asked if key[0] == uid]:
            del asked[key]
            self.requests.cancel((document, *key))

    def preview(
        self, session: Session, plane: Plane, prompts: Prompts, deliver: Callable[[Mask | None], Any]
    ) -> None:
        """What a click would give, if there is time for it; `deliver` is called in any case.

        The click itself is answered at once then.
        """
        if not self.models.ready or self.requests.busy or self.requests.on_hold:
            deliver(None)
            return
        view = session.view(plane)
        if (known := self._known(view, prompts)) is not None:
            deliver(known.mask)
            return
        self.requests.submit_quietly("preview", lambda: self._segmenter.segment(view, prompts).mask, deliver)
        # A window that is being drawn keeps the interpreter from the worker, several times as long as this.
        self._known(view, prompts, _PATIENCE)

    def segment_many(
        self,
        session: Session,
        prompts: Sequence[tuple[Plane, Sequence[Prompts]]],
        source: Source,
        deliver: Callable[[list[SamObject]], Any],
    ) -> None:
        """One object for each of many prompts; `deliver` gets those that the model found something for."""
        asked = [(session.view(plane), plane, list(many)) for plane, many in prompts]
        count = sum(len(many) for _, _, many in asked)
        self._submit(
            ("many", next(self._numbers)),
            f"Segmenting {count} objects",
            lambda: self._segmenter.segment_many(asked, source),
            deliver,
        )

    def find_everything(
        self,
        view: View,
        saying: str,
        how: dict[str, Any],
        progress: Callable[[int, int], Any],
        deliver: Callable[[Everything], Any],
        failed: Callable[[Exception], Any],
    ) -> None:
        """All masks of a view, in the background; between batches of points, other requests go first.

        `how` are arguments of :meth:`~napari_sam.ui.segmenter.Segmenter.find_everything`. `progress` gets the
        number of batches that are done, and of all. One of the callbacks is called at the end, `failed` also
        where it was stopped, unless the widget was closed.
        """
        self.stop_everything()
        stop = self._stop = _Stop()

        def told(done: int, total: int) -> None:
            self.requests.post(lambda: progress(done, total))
            with stop.away():
                self.requests.give_way(saying, stop.asked)

        self._submit(
            "everything",
            saying,
            lambda: self._segmenter.find_everything(view, told, stop, **how),
            deliver,
            failed,
        )

    def stop_everything(self) -> None:
        """Stop looking for everything."""
        self._stop.set()

    def when_answered(
        self, key: Hashable, function: Callable[[], Any], failed: Callable[[Exception], Any]
    ) -> None:
        """Do something, in the GUI's thread, once all that was asked for until now has been answered.

        One of the callbacks is called, `failed` if there is no model, unless the widget was closed.
        """
        self._submit(key, "Waiting for masks", lambda: None, lambda _: function(), failed)

    def carry_on(
        self,
        key: Hashable,
        carrying: Carrying,
        saying: str,
        deliver: Callable[[Carried | None], Any],
        failed: Callable[[Exception], Any],
    ) -> None:
        """The next plane of a propagation, after what was asked for before; `deliver` gets None at its end.

        One of the callbacks is called, `failed` also where it was stopped, unless the widget was closed.
        """
        self._carrying = carrying

        def arrived(carried: Carried | None) -> None:
            if carried is None:
                self._carrying = None
            deliver(carried)

        def ended(error: Exception) -> None:
            self._carrying = None
            failed(error)

        self._submit(key, saying, lambda: self._segmenter.carry_on(carrying), arrived, ended)

    def stop_carrying(self) -> None:
        """Stop the propagation that is going on; it fails with :class:`~napari_sam.errors.Cancelled`."""
        if self._carrying is not None:
            self._carrying.stop.set()

    def keep(
        self,
        key: Hashable,
        saying: str,
        function: Callable[[Callable[[Snapshot], Snapshot]], T],
        on_done: Callable[[T], Any],
    ) -> None:
        """Do something with files, in a thread of its own: segmentation goes on meanwhile.

        `function` is given what completes a snapshot with the checksums of the models that answered.
        """
        self.files.submit(key, saying, lambda: function(self._segmenter.completed), on_done, self.failed.emit)

    def close(self) -> None:
        """Forget all that was asked for."""
        self._abandoned.set()
        self._stop.set()
        self.stop_carrying()
        self.models.close()
        self.files.close()
        self.requests.close()

    def _known(self, view: View, prompts: Prompts, patience: float = 0.0) -> Answer | None:
        """What the model has answered already, even if it is still on its way here."""
        return None if self.models.busy else self._segmenter.newest(view, prompts, patience)

    def _look(self, view: View) -> Hashable:
        return self.models.choice, view.key

    def _ask(self, session: Session, item: SamObject, plane: Plane, prompts: Prompts) -> None:
        view, document = session.view(plane), session.document
        look = self._look(view)
        self._asked.setdefault(document, {})[item.uid, plane] = prompts, look
        key = document, item.uid, plane

        def arrived(answer: Answer) -> None:
            if document.answer(item.uid, plane, answer):
                self.answered.emit(document, answer.mask)

        known = self._known(view, prompts)
        if known is None:
            others = self.requests.on_hold or self.requests.pending_beside(key)
            self._submit(
                key,
                f"Segmenting object {item.id}",
                lambda: self._segmenter.segment(view, prompts),
                arrived,
            )
            if not others and self.models.ready:
                known = self._known(view, prompts, _PATIENCE)
        if known is not None:
            self.requests.cancel(key)
            arrived(known)

    def _submit(
        self,
        key: Hashable,
        saying: str,
        function: Callable[[], T],
        on_done: Callable[[T], Any],
        on_error: Callable[[Exception], Any] | None = None,
    ) -> None:
        on_error = on_error or self.failed.emit
        if self.models.problem is not None:
            on_error(self.models.problem)
        else:
            self.requests.submit(key, saying, function, on_done, on_error)

    def _on_loading(self) -> None:
        self._abandoned.set()
        # What waits for the first model goes on waiting.
        if self.models.ready:
            self._stop.set()
            self.stop_carrying()

    def _on_no_model(self, error: Exception) -> None:
        if not self.models.ready:
            self._asked.clear()
        self.failed.emit(error)

    def _tell(self, sentence: str, device: str) -> None:
        self.requests.post(lambda: self.warned.emit(sentence, device))


class _Stop(threading.Event):
    """Stops a long request, but not what goes first while that gives way."""

    def __init__(self) -> None:
        super().__init__()
        self._away = False

    @contextmanager
    def away(self) -> Iterator[None]:
        """For the worker's thread: something else is done meanwhile."""
        self._away = True
        try:
            yield
        finally:
            self._away = False

    def asked(self) -> bool:
        """Whether it was set."""
        return super().is_set()

    def is_set(self) -> bool:
        """Whether what is computed now shall stop."""
        return self.asked() and not self._away
