"""Annotations in files: saved, opened, and found again after a crash."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from napari_sam.annotation import Document, Snapshot
from napari_sam.annotation.archive import load_annotation, save_annotation
from napari_sam.annotation.autosave import Autosave
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.opening import doubt_about
from napari_sam.errors import AnnotationError
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.plane import finest
from napari_sam.ui.result import Result

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.annotation.recovery import Recoverable

__all__ = ["Keeping"]


class _Opened(NamedTuple):
    snapshot: Snapshot
    doubt: str


class Keeping(Controlling):
    """The part of a controller that keeps annotations."""

    left_behind: list[str]
    _results: list[Result]
    _offers: WeakKeyDictionary[Image, list[Recoverable]]
    _leave: Callable[[], None]
    _enter: Callable[[Image, Result], None]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save objects, prompts, classes and scores in one file, in the background.

        A file that is there is replaced.

        Parameters
        ----------
        path : path
            Its name ends in ``.napari-sam.zip``.
        """
        self._catch_up()
        session = self.session
        if session is None:
            return
        snapshot, pixels = session.document.snapshot, finest(session.image)
        result = session.result

        def saved(written: Path) -> None:
            if result.document.snapshot == snapshot:
                result.saved()
            self._notice = f"Saved {len(snapshot.objects)} objects to {written.name}."
            self.changed.emit()

        self._work.keep(
            # A newer one of the same file replaces one that waits, but none of another.
            ("save", os.fspath(path)),
            f"Saving {Path(path).name}",
            lambda complete: save_annotation(
                path, complete(snapshot), ImageIdentity.if_readable(pixels), overwrite=True
            ),
            saved,
        )

    def open_annotation(self, path: str | os.PathLike[str]) -> None:
        """Go on with an annotation that was saved; the one before keeps its layer and can be chosen again.

        Parameters
        ----------
        path : path
            Of the file; it must be of an image of this shape.
        """
        session = self.session
        if session is None:
            self._tell("Choose the image first that the annotation is of.")
            return
        image, shape = session.image, session.shape
        self._work.keep(
            "open",
            f"Opening {Path(path).name}",
            lambda _: _opened(path, finest(image), shape),
            partial(self._on_opened, image, os.fspath(path)),
        )

    def _on_opened(self, image: Image, path: str, opened: _Opened) -> None:
        if self.session is None or self.session.image is not image:
            self._tell(f"{Path(path).name} was not opened: another image was chosen meanwhile.")
            return
        self.go_on_with(opened.snapshot)
        self._notice = (
            opened.doubt or f"Opened {len(opened.snapshot.objects)} objects from {Path(path).name}."
        )
        self.changed.emit()

    def go_on_with(self, snapshot: Snapshot, instead_of: Recoverable | None = None) -> None:
        """Make what was saved the annotation of the image.

        Parameters
        ----------
        snapshot : Snapshot
        instead_of : Recoverable, optional
            Where it was found, if that was not a file of the user's: it is put away as soon as it is in a new
            one.
        """
        session = self.session
        if session is None:
            return
        image = session.image
        self._leave()
        result = Result(image, document=Document.of(snapshot))
        result.instead_of = instead_of
        result.unsaved = instead_of is not None
        self._enter(image, result)

    # What is not saved

    @property
    def offer(self) -> Recoverable | None:
        """An annotation of the image that a program left behind which ended without saving."""
        offers = [] if self.session is None else self._offers.get(self.session.image, [])
        return offers[0] if offers else None

    def _look_for_what_is_left(self) -> None:
        """Find out of which images there are unsaved annotations; says so in a moment."""

        def found(names: list[str]) -> None:
            self.left_behind = names
            self.changed.emit()

        self._work.keep(
            "left", "Looking for annotations", lambda _: [one.name for one in Autosave().recoverable()], found
        )

    def recover(self) -> None:
        """Go on with what is offered."""
        session, offer = self.session, self.offer
        if session is None or offer is None:
            return
        image, shape = session.image, session.shape

        def recovered(snapshot: Snapshot) -> None:
            # On another image, it is still offered when the user comes back.
            if self.session is None or self.session.image is not image or snapshot.shape != shape:
                return
            self._withdraw(image, offer)
            self.go_on_with(snapshot, instead_of=offer)
            self._notice = f"Recovered {len(snapshot.objects)} objects."
            self.changed.emit()

        self._work.keep("recover", "Recovering the annotation", lambda _: offer.load(), recovered)

    def dismiss_offer(self) -> None:
        """Put away what is offered."""
        if self.session is not None and (offer := self.offer) is not None:
            self._withdraw(self.session.image, offer)
            self._put_away(offer)
            self.changed.emit()

    def _withdraw(self, image: Image, offer: Recoverable) -> None:
        self._offers[image] = [one for one in self._offers.get(image, []) if one is not offer]

    def _put_away(self, offer: Recoverable) -> None:
        try:
            offer.discard()
        except AnnotationError as error:
            self._tell(str(error))

    def _keep(self, image: Image, result: Result) -> None:
        """Write the annotation to a file from now on, and look for what was left behind."""
        if result.identified:
            return
        result.identified = True
        pixels, name = finest(image), image.name
        autosave = Autosave(tell=lambda sentence: self._work.files.post(lambda: self._tell(sentence)))

        def look(_: object) -> tuple[ImageIdentity | None, list[Recoverable]]:
            identity = ImageIdentity.if_readable(pixels)
            return identity, [] if identity is None else autosave.recoverable(identity)

        def found(known: tuple[ImageIdentity | None, list[Recoverable]]) -> None:
            identity, offers = known
            if result not in self._results:
                return  # image and layers were removed meanwhile
            result.keep(lambda unsaved: autosave.attach(result.document, identity, name, unsaved=unsaved))
            replaced = None if result.instead_of is None else result.instead_of.path
            self._offers.setdefault(image, [offer for offer in offers if offer.path != replaced])
            if (old := result.instead_of) is not None and (new := result.autosave) is not None:
                self._work.keep(
                    ("put away", id(result)),
                    "Looking at the image",
                    lambda _: new.flush(),
                    lambda written: self._put_away(old) if written else None,
                )
            self.changed.emit()

        self._work.keep(("identify", id(result)), "Looking at the image", look, found)


def _opened(path: str | os.PathLike[str], pixels: object, shape: tuple[int, ...]) -> _Opened:
    snapshot, identity, _ = load_annotation(path)
    return _Opened(snapshot, doubt_about(Path(path).name, snapshot, identity, pixels, shape))
