"""The part of a document for classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from napari_sam.annotation.classes import new_class
from napari_sam.annotation.records import ObjectClass
from napari_sam.annotation.state import Key
from napari_sam.annotation.timeline import Timeline, named
from napari_sam.errors import AnnotationError

__all__ = ["Classifying"]


class Classifying(Timeline):
    """Classes, and objects that have them; the parameters are those of a timeline.

    Attributes
    ----------
    new_class : int
        The class of objects that are begun from now on; 0 (none) to begin with.
    """

    new_class = 0

    def set_classes(self, classes: Iterable[ObjectClass]) -> None:
        """Replace the list of classes.

        Raises
        ------
        AnnotationError
            If two have the same id or name, an id is below 1, or a class that is in use would go.
        """
        new = tuple(classes)
        ids, names = [c.id for c in new], [c.name for c in new]
        if len(set(ids)) < len(ids) or len(set(names)) < len(names):
            raise AnnotationError("Two classes have the same id or name: choose different ones.")
        if min(ids, default=1) < 1:
            raise AnnotationError("The id of a class is 1 or greater.")
        used = {item.class_id for item in self._state.objects.values()} - {0} - set(ids)
        if used:
            raise AnnotationError(f"Objects have the class {min(used)}: give them another one first.")
        opened = self.opened
        if opened is not None and opened.class_id not in (0, *ids):
            raise AnnotationError(
                f"Object {opened.id} has the class {opened.class_id} again if its changes are rejected: "
                "accept it first."
            )
        if new != self.classes:
            with self.step("Change classes"):
                self._put(Key.CLASSES, new)

    def class_named(self, name: str) -> int:
        """The id of the class with this name, which is made, with a colour of its own, if there is none.

        Raises
        ------
        AnnotationError
            If the name is empty.

        Examples
        --------
        >>> classes = Classifying((4, 4))
        >>> classes.class_named("nucleus"), classes.class_named("cell"), classes.class_named("nucleus")
        (1, 2, 1)
        >>> classes.undo_text
        'Change classes'
        """
        known = next((one.id for one in self.classes if one.name == name), None)
        if known is not None:
            return known
        added = new_class(self.classes, name)
        self.set_classes([*self.classes, added])
        return added.id

    def set_class(self, uids: Iterable[int], class_id: int) -> None:
        """Give objects a class, 0 for none.

        Raises
        ------
        AnnotationError
            If the class or one of the objects does not exist.
        """
        name = next((c.name for c in self.classes if c.id == class_id), "none" if class_id == 0 else None)
        if name is None:
            raise AnnotationError(f"There is no class {class_id}: add it first.")
        items = [item for uid in dict.fromkeys(uids) if (item := self._found(uid)).class_id != class_id]
        if not items:
            return
        with self.step(f"{named('Class of', items)}: {name}"):
            for item in items:
                self._put(item.uid, replace(item, class_id=class_id))
