"""What a document is at one moment, and what changes when one of its values does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_sam.annotation.history import Change
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import ObjectClass, SamObject
from napari_sam.annotation.territory import Box, Territory
from napari_sam.inference.mask import box_around

if TYPE_CHECKING:
    from napari_sam.inference.candidates import MaskCandidates

__all__ = ["Changes", "Key", "Snapshot", "State"]


class Key(Enum):
    """The values of a document beside its objects, whose keys are their uids."""

    CURRENT = "current"
    NEXT_ID = "next_id"
    OPENED = "opened"
    CLASSES = "classes"


@dataclass(slots=True)
class Changes:
    """What became different, for those who show a document.

    Attributes
    ----------
    before : dict of int to (SamObject or None)
        What objects were that were added (None), removed or changed, by uid.
    regions : dict of Plane to list of Box
        Pixels that may belong to another object now, on planes of the last two axes.
    keys : set of Key
        Which other values changed.
    """

    before: dict[int, SamObject | None] = field(default_factory=dict)
    regions: dict[Plane, list[Box]] = field(default_factory=lambda: defaultdict(list))
    keys: set[Key] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.before or self.keys)


@dataclass(frozen=True)
class Snapshot:
    """All of a document but its history: what is saved.

    Attributes
    ----------
    shape : tuple of int
        Of the image, in pixels, without colours.
    objects : tuple of SamObject
        In order of their uids.
    current : int
        Uid of the object that is being worked on; there may be none with it yet.
    opened : SamObject or None
        What the current object was when it was opened again.
    next_id, next_uid : int
        What the next new object gets.
    classes : tuple of ObjectClass
    candidates : mapping of Plane to MaskCandidates
        What automatic runs found, on the planes where it is kept.
    """

    shape: tuple[int, ...]
    objects: tuple[SamObject, ...] = ()
    current: int = 0
    opened: SamObject | None = None
    next_id: int = 1
    next_uid: int = 1
    classes: tuple[ObjectClass, ...] = ()
    candidates: Mapping[Plane, MaskCandidates] = field(default_factory=dict)


class State:
    """The values of a document, and who has which pixels.

    Parameters
    ----------
    snapshot : Snapshot
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.shape = snapshot.shape
        self.objects: dict[int, SamObject] = {}
        self.territory = Territory()
        self.values: dict[Key, Any] = {
            Key.CURRENT: snapshot.current,
            Key.NEXT_ID: snapshot.next_id,
            Key.OPENED: snapshot.opened,
            Key.CLASSES: snapshot.classes,
        }
        self.next_uid = snapshot.next_uid
        # Replaced as a whole, so that snapshots can have it, too.
        self.candidates: Mapping[Plane, MaskCandidates] = MappingProxyType(dict(snapshot.candidates))
        self._by_id: dict[int, int] = {}
        self.changes = Changes()
        for item in snapshot.objects:
            self.set(item.uid, item)
        self.changes = Changes()

    @property
    def snapshot(self) -> Snapshot:
        """All values."""
        return Snapshot(
            shape=self.shape,
            objects=tuple(self.objects[uid] for uid in sorted(self.objects)),
            current=self.values[Key.CURRENT],
            opened=self.values[Key.OPENED],
            next_id=self.values[Key.NEXT_ID],
            next_uid=self.next_uid,
            classes=self.values[Key.CLASSES],
            candidates=self.candidates,
        )

    def keep(self, plane: Plane, found: MaskCandidates | None) -> None:
        """Keep what an automatic run found on a plane, or forget it."""
        others = {on: one for on, one in self.candidates.items() if on != plane}
        self.candidates = MappingProxyType(others if found is None else {**others, plane: found})

    def with_id(self, number: int) -> SamObject | None:
        """The object with this value in the Labels layer."""
        uid = self._by_id.get(number)
        return None if uid is None else self.objects[uid]

    def put(self, key: Hashable, value: Any, planes: Collection[Plane] | None = None) -> Change:
        """Set a value, None to take it away; returns what that changed.

        Parameters
        ----------
        key : hashable
        value : object
        planes : collection of Plane, optional
            Of an object that is there and stays: it is different on these at most, and nowhere else.
        """
        before = self.set(key, value, planes)
        return Change(key, before, value, None if before is None or value is None else planes)

    def set(self, key: Hashable, value: Any, planes: Collection[Plane] | None = None) -> Any:
        """Set a value, None to take it away; returns what it was. The parameters are those of `put`."""
        if isinstance(key, Key):
            before, self.values[key] = self.values[key], value
            self.changes.keys.add(key)
            return before
        assert isinstance(key, int)
        before = self.objects.pop(key, None)
        if before is not None and self._by_id.get(before.id) == key:
            del self._by_id[before.id]
        if value is not None:
            self.objects[key] = value
            self._by_id[value.id] = key
        self._move(key, before, value, planes)
        self.changes.before.setdefault(key, before)
        return before

    def _move(
        self,
        uid: int,
        before: SamObject | None,
        after: SamObject | None,
        planes: Collection[Plane] | None,
    ) -> None:
        old: Mapping[Plane, Any] = before.masks if before is not None else {}
        new: Mapping[Plane, Any] = after.masks if after is not None else {}
        same_class = before is None or after is None or before.class_id == after.class_id
        if old is new and same_class:
            return
        if planes is None or before is None or after is None:
            planes = old.keys() | new.keys()
        for plane in planes:
            a, b = old.get(plane), new.get(plane)
            if a is not b:
                self.territory.set(uid, plane, b)
            elif same_class or a is None:
                continue
            held = [mask for mask in (a, b) if mask is not None]
            self.changes.regions[plane].append(held[0].slices if len(held) == 1 else box_around(*held))

    def take_changes(self) -> Changes:
        """What changed since this was last asked."""
        changes, self.changes = self.changes, Changes()
        return changes
