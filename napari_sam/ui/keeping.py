"""Annotations in files: saved, opened, and found again after a crash."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from napari_sam.annotation import Document, Snapshot
from napari_sam.annotation.archive import load_annotation, save_annotation
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.errors import AnnotationError
from napari_sam.ui.plane import finest
from napari_sam.ui.result import Result

if TYPE_CHECKING:
    from napari.layers import Image
    from psygnal import SignalInstance

    from napari_sam.ui.session import Session
    from napari_sam.ui.work import Work

__all__ = ["Keeping"]


class _Opened(NamedTuple):
    snapshot: Snapshot
    doubt: str


class Keeping:
    """The part of a controller that keeps annotations."""

    session: Session | None
    changed: SignalInstance
    _work: Work
    _notice: str
    _catch_up: Callable[[], None]
    _tell: Callable[[str], None]
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

        def saved(written: Path) -> None:
            self._notice = f"Saved {len(snapshot.objects)} objects to {written.name}."
            self.changed.emit()

        self._work.run(
            "save",
            f"Saving {Path(path).name}",
            lambda complete: save_annotation(
                path, complete(snapshot), ImageIdentity.of(pixels), overwrite=True
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
        self._work.run(
            "open",
            f"Opening {Path(path).name}",
            lambda _: _opened(path, finest(image), shape),
            partial(self._on_opened, image, os.fspath(path)),
        )

    def _on_opened(self, image: Image, path: str, opened: _Opened) -> None:
        if self.session is None or self.session.image is not image:
            return
        self.go_on_with(opened.snapshot)
        self._notice = (
            opened.doubt or f"Opened {len(opened.snapshot.objects)} objects from {Path(path).name}."
        )
        self.changed.emit()

    def go_on_with(self, snapshot: Snapshot) -> None:
        """Make what was saved the annotation of the image."""
        session = self.session
        if session is None:
            return
        image = session.image
        self._leave()
        self._enter(image, Result(image, document=Document.of(snapshot)))
        if snapshot.objects and self.session is not None:
            self.session.ensure_labels()


def _opened(path: str | os.PathLike[str], pixels: object, shape: tuple[int, ...]) -> _Opened:
    snapshot, identity, _ = load_annotation(path)
    name = Path(path).name
    if snapshot.shape != shape:
        raise AnnotationError(
            f"{name} is of an image of shape {snapshot.shape}, this one has the shape {shape}: "
            "choose the image that it was made on."
        )
    other = identity is not None and ImageIdentity.of(pixels) != identity
    doubt = f"{name} was made on another image: the pixels of this one are not the same." if other else ""
    return _Opened(snapshot, doubt)
