"""What a document holds, read in many ways, and the line of steps that led there."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from psygnal import Signal

from napari_sam.annotation.history import HISTORY_BYTES, Change, History, Step
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import ObjectClass, SamObject
from napari_sam.annotation.state import Changes, Key, Snapshot, State
from napari_sam.annotation.territory import Box, Territory
from napari_sam.errors import AnnotationError

if TYPE_CHECKING:
    from napari_sam.inference.candidates import MaskCandidates

__all__ = ["Timeline", "named"]


class Timeline:
    """The objects of one image, which change in steps that can be undone.

    Parameters
    ----------
    shape : sequence of int
        Of the image, in pixels, without colours.
    first_id : int, default 1
        Id of the first object.
    history_bytes : int
        Memory for masks that only the history still holds.

    Raises
    ------
    AnnotationError
        If the image has no planes, or the first id is below 1.
    """

    changed = Signal(Changes)
    """After each command, undo and redo."""
    candidates_changed = Signal(Plane)
    """After what an automatic run found on a plane was kept, replaced or forgotten."""

    def __init__(
        self, shape: Sequence[int], first_id: int = 1, *, history_bytes: int = HISTORY_BYTES
    ) -> None:
        if first_id < 1:
            raise AnnotationError(f"Ids begin at 1 or later, not at {first_id}: choose another first id.")
        self._restore(Snapshot(tuple(int(n) for n in shape), current=1, next_id=first_id, next_uid=2))
        self._history = History(history_bytes)
        self._step: Step | None = None

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """A document without history in the state that was saved."""
        document = cls(snapshot.shape)
        document._restore(snapshot)
        return document

    def _restore(self, snapshot: Snapshot) -> None:
        if len(snapshot.shape) < 2:
            raise AnnotationError(f"An image of shape {snapshot.shape} has no planes: it needs two axes.")
        self._state = State(snapshot)

    # Reading

    @property
    def snapshot(self) -> Snapshot:
        """All of the document but its history and its rule for overlaps."""
        return self._state.snapshot

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image, in pixels, without colours."""
        return self._state.shape

    @property
    def current(self) -> SamObject:
        """The object that is being worked on; it may be empty, and is then not among `objects`."""
        uid = self._state.values[Key.CURRENT]
        return self._state.objects.get(uid) or SamObject(uid, self._state.values[Key.NEXT_ID])

    @property
    def opened(self) -> SamObject | None:
        """What the current object was when it was opened again; None if it is a new one."""
        opened: SamObject | None = self._state.values[Key.OPENED]
        return opened

    @property
    def objects(self) -> list[SamObject]:
        """All objects in order of their ids."""
        return sorted(self._state.objects.values(), key=lambda item: item.id)

    def __len__(self) -> int:
        return len(self._state.objects)

    @property
    def accepted(self) -> int:
        """How many objects are accepted."""
        return sum(item.accepted for item in self._state.objects.values())

    def __contains__(self, uid: object) -> bool:
        return uid in self._state.objects

    def get(self, uid: int) -> SamObject | None:
        """The object with this uid, if there is one."""
        return self._state.objects.get(uid)

    def _found(self, uid: int) -> SamObject:
        item = self._state.objects.get(uid)
        if item is None:
            raise AnnotationError("This object does not exist any more.")
        return item

    def with_id(self, number: int) -> SamObject | None:
        """The object with this value in the Labels layer, if there is one."""
        return self._state.with_id(number)

    def object_at(self, index: Sequence[int]) -> SamObject | None:
        """The object that has a pixel of the image (one index per axis), if there is one."""
        *leading, row, column = (int(i) for i in index)
        uid = self._state.territory.owner_at(Plane((*leading, None, None)), row, column)
        return None if uid is None else self._state.objects[uid]

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """The classes that objects can have."""
        classes: tuple[ObjectClass, ...] = self._state.values[Key.CLASSES]
        return classes

    @property
    def planes(self) -> list[Plane]:
        """Planes of the last two axes with at least one object."""
        return self._state.territory.planes

    def labels_in(self, plane: Plane, box: Box, *, classes: bool = False) -> NDArray[np.integer]:
        """The ids, or the class ids, of a box of pixels on a plane of the last two axes; 0 is background."""
        objects = self._state.objects
        near = self._state.territory.near(plane, box)
        values = {uid: self._value(objects[uid], classes) for uid in near}
        return self._state.territory.values_in(plane, box, values)

    def labels_before(
        self, changes: Changes, plane: Plane, box: Box, *, classes: bool = False
    ) -> NDArray[np.integer]:
        """What `labels_in` would have said before the newest changes."""
        objects, territory = self._state.objects, Territory()
        for uid, mask in self._state.territory.near(plane, box).items():
            if uid not in changes.before:
                territory.set(uid, plane, mask)
        values = {uid: self._value(objects[uid], classes) for uid in territory.near(plane, box)}
        for uid, item in changes.before.items():
            if item is not None and plane in item.masks:
                territory.set(uid, plane, item.masks[plane])
                values[uid] = self._value(item, classes)
        return territory.values_in(plane, box, values)

    @staticmethod
    def _value(item: SamObject, classes: bool) -> int:
        return item.class_id if classes else item.id

    def to_labels(self, dtype: DTypeLike = np.int32, *, classes: bool = False) -> NDArray[Any]:
        """All objects as a label image.

        Parameters
        ----------
        dtype : dtype, default int32
        classes : bool, default False
            Class ids instead of objects' ids.

        Returns
        -------
        ndarray
            Of the image's shape.

        Raises
        ------
        AnnotationError
            If `dtype` is none of whole numbers, or cannot hold all ids.
        """
        kind = _whole_numbers(dtype)
        used = [self._value(item, classes) for item in self._state.objects.values()]
        for number in (max(used, default=0), min(used, default=0)):
            if not np.iinfo(kind).min <= number <= np.iinfo(kind).max:
                raise AnnotationError(
                    f"Labels of type {kind} cannot hold the id {number}: choose a larger type."
                )
        result = np.zeros(self.shape, dtype=kind)
        for item in self._state.objects.values():
            for plane, mask in item.masks.items():
                result[plane.slices][mask.slices][mask.bits] = self._value(item, classes)
        return result

    # What automatic runs found

    @property
    def candidates(self) -> Mapping[Plane, MaskCandidates]:
        """What automatic runs found, on the planes where it is kept; cannot be changed."""
        return self._state.candidates

    def keep_candidates(self, plane: Plane, found: MaskCandidates | None) -> None:
        """Keep what an automatic run found on a plane, so that it can be filtered again without the model.

        It is saved with the document, but no part of its history: it is what a model found, nothing that a
        user decided. Objects that were made of it stay whatever becomes of it.

        Parameters
        ----------
        plane : Plane
        found : MaskCandidates or None
            All that was found, as it was before it was filtered. None: forget it.

        Raises
        ------
        AnnotationError
            If the image has no such plane, or its size is another.

        Examples
        --------
        >>> from napari_sam.inference.candidates import MaskCandidates
        >>> from napari_sam.inference.mask import Mask
        >>> square = Mask((2, 2), np.ones((4, 4), dtype=bool), (8, 9))
        >>> found = MaskCandidates.of([square], [0.9], [1], [(3, 3)], [(0, 0, 9, 8)], (8, 9))
        >>> document = Timeline((5, 8, 9))
        >>> document.keep_candidates(Plane((2, None, None)), found)
        >>> [(str(plane), len(one)) for plane, one in document.candidates.items()], document.undo_text
        ([('[2, :, :]', 1)], '')
        """
        shape = self.shape
        if plane.ndim != len(shape) or any(
            at is not None and not 0 <= at < length for at, length in zip(plane.index, shape, strict=True)
        ):
            raise AnnotationError(f"An image of shape {shape} has no plane {plane}: choose one that it has.")
        if found is not None and found.shape != plane.size_in(shape):
            size = "Masks of {} x {} pixels".format(*found.shape)
            raise AnnotationError(f"{size} are not of plane {plane}: keep those that were found on it.")
        if found is not self.candidates.get(plane):
            self._state.keep(plane, found)
            self.candidates_changed.emit(plane)

    # The history

    @property
    def undo_text(self) -> str:
        """What `undo` would take back; empty if there is nothing."""
        return self._history.undo_text

    @property
    def redo_text(self) -> str:
        """What `redo` would do again; empty if there is nothing."""
        return self._history.redo_text

    @property
    def history(self) -> History:
        """What can be undone."""
        return self._history

    def undo(self) -> str:
        """Take back the newest step; returns what it was, or an empty text."""
        text = self._history.undo_text
        self._replay(self._history.undo())
        return text

    def redo(self) -> str:
        """Do again what was undone last; returns what it was, or an empty text."""
        text = self._history.redo_text
        self._replay(self._history.redo())
        return text

    @contextmanager
    def step(self, text: str, gesture: Hashable = None) -> Iterator[None]:
        """Make everything that is done meanwhile one step of the history.

        Parameters
        ----------
        text : str
            What is done, in words for a button.
        gesture : hashable, optional
            Joined to the step before if that was of the same gesture.
        """
        if self._step is not None:
            yield
            return
        step = self._step = Step(text, gesture)
        try:
            yield
        finally:
            # What was done until something failed is done, and can be undone.
            self._step = None
            self._history.record(step)
            self._tell()

    def _put(self, key: Hashable, value: Any, planes: Collection[Plane] | None = None) -> None:
        assert self._step is not None
        self._step.add(self._state.put(key, value, planes))

    def _replay(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._state.set(change.key, change.after)
        self._tell()

    def _tell(self) -> None:
        if changes := self._state.take_changes():
            self.changed.emit(changes)


def _whole_numbers(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise AnnotationError(f"There is no type {dtype!r} of labels: choose int32, for example.") from None
    if kind.kind not in "iu":
        raise AnnotationError(f"Labels of type {kind} cannot hold ids: choose int32 or a larger type.")
    return kind


def named(what: str, items: Sequence[SamObject]) -> str:
    """What is done to how many objects, in words for a button."""
    return f"{what} object {items[0].id}" if len(items) == 1 else f"{what} {len(items)} objects"
