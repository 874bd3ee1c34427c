"""A document whose objects are called by their ids, as users see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.annotation.document import Document
from napari_sam.annotation.records import ObjectClass, SamObject
from napari_sam.errors import AnnotationError

__all__ = ["ByIds"]


class ByIds:
    """Reads and decides about the objects of a document.

    Parameters
    ----------
    document : Document

    Attributes
    ----------
    document : Document
    """

    def __init__(self, document: Document) -> None:
        self.document = document

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image, in pixels, without colours."""
        return self.document.shape

    @property
    def objects(self) -> list[SamObject]:
        """All objects in order of their ids, the current one among them once it has a prompt."""
        return self.document.objects

    @property
    def current(self) -> SamObject:
        """The object that prompts go to."""
        return self.document.current

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """The classes that objects can have."""
        return self.document.classes

    @property
    def undo_text(self) -> str:
        """What `undo` would take back; empty if there is nothing."""
        return self.document.undo_text

    @property
    def redo_text(self) -> str:
        """What `redo` would do again; empty if there is nothing."""
        return self.document.redo_text

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self.document)

    def __iter__(self) -> Iterator[SamObject]:
        """All objects in order of their ids."""
        return iter(self.objects)

    def __contains__(self, number: object) -> bool:
        """Whether there is an object with this id."""
        return isinstance(number, int | np.integer) and self.document.with_id(int(number)) is not None

    def __getitem__(self, number: int) -> SamObject:
        """The object with this id.

        Raises
        ------
        AnnotationError
            If there is none.
        """
        item = self.document.with_id(number)
        if item is None:
            raise AnnotationError(f"There is no object {number}.")
        return item

    def to_labels(self, dtype: DTypeLike = np.int32, *, classes: bool = False) -> NDArray[Any]:
        """All objects as a label image, the current one among them.

        Parameters
        ----------
        dtype : dtype, default int32
        classes : bool, default False
            Class ids instead of objects' ids.

        Returns
        -------
        ndarray
            Of the image's shape without colours.

        Raises
        ------
        AnnotationError
            If `dtype` is none of whole numbers, or cannot hold the ids.
        """
        return self.document.to_labels(dtype, classes=classes)

    def accept(self) -> SamObject:
        """Keep the current object and go on to the next; returns the one that was kept.

        Raises
        ------
        AnnotationError
            If there is nothing to accept.
        """
        return self.document.accept()

    def reject(self) -> None:
        """Forget the current object, or what was done to it since it was opened again."""
        self.document.reject()

    def open(self, number: int) -> SamObject:
        """Go back to an object: its prompts are there, and more can be added.

        Raises
        ------
        AnnotationError
            If there is no such object.
        """
        return self.document.open(self[number].uid)

    def delete(self, ids: int | Iterable[int]) -> None:
        """Delete objects.

        Raises
        ------
        AnnotationError
            If one of them does not exist.
        """
        self.document.delete(self._uids(ids))

    def merge(self, ids: Iterable[int]) -> SamObject:
        """Make one object of several; it has the id of the first.

        Raises
        ------
        AnnotationError
            If there are fewer than two, or one of them does not exist.
        """
        return self.document.merge(self._uids(ids))

    def split(self, number: int) -> list[SamObject]:
        """Make an object of each separate part of one; the largest keeps the id.

        Raises
        ------
        AnnotationError
            If there is no such object, or it has one part only.
        """
        return self.document.split(self[number].uid)

    def set_class(self, ids: int | Iterable[int], name: str | None) -> None:
        """Give objects a class, which is made if it is new; None takes their class away.

        Raises
        ------
        AnnotationError
            If one of the objects does not exist, or a class cannot have this name; nothing is changed then.
        """
        uids = self._uids(ids)
        if not uids:
            return
        if name is None or any(one.name == name for one in self.classes):
            self.document.set_class(uids, self._class_id(name))
            return
        with self.document.step(f"New class: {name}"):
            self.document.set_class(uids, self._class_id(name))

    def undo(self) -> str:
        """Take back the newest step; returns what it was, or an empty text."""
        return self.document.undo()

    def redo(self) -> str:
        """Do again what was undone last; returns what it was, or an empty text."""
        return self.document.redo()

    def _uids(self, ids: int | Iterable[int]) -> list[int]:
        return [self[number].uid for number in ([ids] if isinstance(ids, int | np.integer) else ids)]

    def _class_id(self, name: str | None) -> int:
        """The class of this name, made if it is new."""
        return 0 if name is None else self.document.class_named(name)
