"""Who came from whom: objects that divide, and what becomes of that when they are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from napari_sam.annotation.records import SamObject

__all__ = ["ancestors", "has_cycle", "parent_of_merged"]


def ancestors(objects: Mapping[int, SamObject], uid: int) -> Iterator[int]:
    """Uids of an object's parent, of the parent of that one, and so on, as far as they are there.

    Examples
    --------
    >>> family = {uid: SamObject(uid, uid, parent=uid - 1) for uid in (2, 3, 4)}
    >>> list(ancestors(family, 4))
    [3, 2]
    """
    item = objects.get(uid)
    while item is not None and (item := objects.get(item.parent)) is not None:
        yield item.uid


def has_cycle(objects: Mapping[int, SamObject]) -> bool:
    """Whether one of the objects descends from itself."""
    done: set[int] = set()
    for begin in objects:
        uid, path = begin, set[int]()
        while uid in objects and uid not in done:
            if uid in path:
                return True
            path.add(uid)
            uid = objects[uid].parent
        done |= path
    return False


def parent_of_merged(objects: Mapping[int, SamObject], items: Sequence[SamObject]) -> int:
    """Uid of the parent of what is made of several objects; 0 for none.

    That is the parent of the first of them that has one, unless it is one of them or descends from one.
    """
    merged = {item.uid for item in items}
    for item in items:
        parent = item.parent
        if parent in objects and merged.isdisjoint([parent, *ancestors(objects, parent)]):
            return parent
    return 0
