"""What becomes of objects: the commands of the document, with words for the user."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_sam.errors import AnnotationError, ImageError
from napari_sam.ui.controlling import Controlling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.annotation import Document, SamObject

__all__ = ["Deciding"]


class Deciding(Controlling):
    """The part of a controller that decides about objects."""

    @property
    def document(self) -> Document:
        """The objects of the image.

        Raises
        ------
        ImageError
            If no image is chosen.
        """
        if self.session is None:
            raise ImageError("No image is chosen: call set_image with an image layer first.")
        return self.session.document

    @contextmanager
    def _command(self) -> Iterator[Document | None]:
        """Do something to the document once it knows what is drawn; what cannot be done is told."""
        self._catch_up()
        if self.session is None:
            yield None
            return
        self._notice = ""
        try:
            yield self.session.document
        except AnnotationError as error:
            self._tell(str(error))

    def accept(self) -> None:
        """Keep the current object and go on to the next; a mask that is still being computed is kept, too."""
        with self._command() as document:
            if document is not None and document.current.is_empty:
                self._tell("There is nothing to accept yet: click an object or draw a box first.")
            elif document is not None and _is_hidden(document.current):
                self._tell(
                    f"Object {document.current.id} has no pixels of its own, since another object is there: "
                    "double click to open that one, or switch Overwrite on."
                )
            elif document is not None:
                document.accept()

    def reject(self) -> None:
        """Clear the current object's mask and prompts; one that was opened again is as it was before."""
        with self._command() as document:
            if document is not None:
                self._work.forget(document, document.current.uid)
                document.reject()

    def undo(self) -> None:
        """Take back the newest step; objects that are being carried on stop where they are."""
        self.move_in_history(None, back=True)

    def redo(self) -> None:
        """Do again what was undone last."""
        self.move_in_history(None, back=False)

    def move_in_history(self, document: Document | None, *, back: bool) -> None:
        """Undo, or do again what was undone.

        Parameters
        ----------
        document : Document or None
            Of another image that was worked on here; None is that of the image which is chosen.
        back : bool
            Whether to undo.
        """
        self._stop_for_history(document)
        with self._command() as current:
            document = current if document is None else document
            if document is not None and not (document.undo() if back else document.redo()):
                self._tell(f"There is nothing to {'undo' if back else 'redo'}.")

    def choose(self, index: int) -> None:
        """Take another candidate for the current object on the displayed plane."""
        with self._command() as document:
            if document is not None and self.session is not None and self.session.plane is not None:
                document.choose(self.session.plane, index)

    def next_candidate(self) -> None:
        """Take the candidate after the one that is shown; after the last, the first."""
        session = self.session
        plane = None if session is None else session.plane
        answer = None if session is None or plane is None else session.document.current.answers.get(plane)
        if answer is None or len(answer.candidates) < 2:
            self._tell("There is one mask only to choose from: a single click gives three.")
        else:
            self.choose((answer.chosen + 1) % len(answer.candidates))

    def refine(self) -> None:
        """Let the model improve the mask that is there: the mask itself becomes the prompt."""
        with self._command() as document:
            if document is None or self.session is None or self.session.plane is None:
                return
            if not document.refine(self.session.plane):
                self._tell("There is no mask on this plane to refine yet: click an object first.")

    def open_object(self, uid: int) -> None:
        """Go on with an object: its prompts come back."""
        with self._command() as document:
            if document is not None and self.session is not None:
                document.open(uid)
                if self.session.viewer.layers.selection.active not in self.session.prompts:
                    self.session.viewer.layers.selection.active = self.session.prompts.points

    def delete_objects(self, uids: Iterable[int]) -> None:
        """Delete objects."""
        with self._command() as document:
            if document is not None:
                document.delete(uids)

    def merge_objects(self, uids: Iterable[int]) -> None:
        """Make one object of several."""
        with self._command() as document:
            if document is not None:
                document.merge(uids)

    def split_object(self, uid: int) -> None:
        """Make an object of each separate part of one."""
        with self._command() as document:
            if document is not None:
                document.split(uid)

    # Classes

    def set_new_class(self, name: str) -> None:
        """Give the current object, and those that follow, the class with this name; it is made if need be."""
        with self._command() as document:
            if document is not None:
                with document.step(f"New class {name}"):
                    number = self.add_class(name)
                    if number is not None:
                        self.set_class(number)

    def add_class(self, name: str) -> int | None:
        """Add a class with a colour of its own, or find the one with that name; returns its id."""
        with self._command() as document:
            if document is not None:
                return document.class_named(name)
        return None

    def set_class(self, class_id: int, uids: Iterable[int] = ()) -> None:
        """Give objects a class; without any, the current object and those that follow."""
        chosen = list(uids)
        with self._command() as document:
            if document is None:
                return
            if not chosen:
                document.new_class = class_id
                chosen = [document.current.uid] if document.current.uid in document else []
            document.set_class(chosen, class_id)

    def choose_class(self, position: int) -> None:
        """Give the current object, and those that follow, the class at a position in the list, from 1 on."""
        classes = () if self.session is None else self.session.document.classes
        if position > len(classes):
            self._tell(f"There is no class {position} yet: type a name in the widget to make one.")
        else:
            self.set_class(classes[position - 1].id)

    def set_overwrite(self, overwrite: bool) -> None:
        """Whether new objects take pixels from those that are there."""
        if self.session is not None:
            self.session.document.overwrite = overwrite


def _is_hidden(item: SamObject) -> bool:
    """Whether the model found something, but all of it is other objects'."""
    waiting = any(item.is_stale(plane) for plane in item.prompts)
    return not item.masks and not waiting and any(not a.mask.is_empty for a in item.answers.values())
