"""The part of a document that gives objects their pixels, their ids, and their turn."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from napari_sam.annotation.classifying import Classifying
from napari_sam.annotation.correcting import mask_on
from napari_sam.annotation.overlap import fitted
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.annotation.state import Key
from napari_sam.annotation.territory import is_canonical, sections

__all__ = ["Placing"]


class Placing(Classifying):
    """Objects with what they get of what they claim; the parameters are those of a timeline.

    Attributes
    ----------
    overwrite : bool
        Whether objects take pixels from those that are there; False to begin with.
    """

    overwrite = False

    @property
    def current(self) -> SamObject:
        """The object that is being worked on; it may be empty, and is then not among `objects`."""
        item = super().current
        if item.uid in self:
            return item
        # The class may be gone: an undo took it away again.
        known = any(one.id == self.new_class for one in self.classes)
        return replace(item, class_id=self.new_class if known else 0)

    @contextmanager
    def protected(self) -> Iterator[None]:
        """Let nobody lose a pixel to what is added meanwhile, even with `overwrite`."""
        before, self.overwrite = self.overwrite, False
        try:
            yield
        finally:
            self.overwrite = before

    def _change(self, item: SamObject, planes: Collection[Plane], *, nothing_else: bool = False) -> None:
        """Put an object whose answers on some planes are new (or gone), and give it its pixels.

        If nothing else is new, the time is for these planes, however many others it has.
        """
        before = self._state.objects.get(item.uid)
        touched: set[Plane] = set()
        for plane in planes:
            if is_canonical(plane):
                touched.add(plane)
                continue
            for one in (None if before is None else mask_on(before, plane), mask_on(item, plane)):
                if one is not None:
                    touched.update(sections(plane, one, self.shape))
        different = {*planes, *touched} if nothing_else else None
        for one_item in fitted(self._state, item, touched, overwrite=self.overwrite):
            self._store(one_item, different)

    def _store(self, item: SamObject, different: Collection[Plane] | None = None) -> None:
        """Put an object, or take it away if nothing is left of it; one that was opened again stays."""
        gone = item.is_empty and item.uid != getattr(self.opened, "uid", None)
        self._put(item.uid, None if gone else item, different)

    def _start(self) -> None:
        """Go on to a new object."""
        self._put(Key.CURRENT, self._state.next_uid)
        self._state.next_uid += 1
        if self.opened is not None:
            self._put(Key.OPENED, None)

    def _raise_next_id(self, used: int) -> None:
        if used >= self._state.values[Key.NEXT_ID]:
            self._put(Key.NEXT_ID, used + 1)

    def _new_uid(self) -> int:
        self._state.next_uid += 1
        return self._state.next_uid - 1

    @property
    def _free_id(self) -> int:
        """The next id that no object has, nor the current one will."""
        busy = self.current.id if self.current.uid in self._state.objects else 0
        number: int = max(self._state.values[Key.NEXT_ID], busy + 1)
        return number
