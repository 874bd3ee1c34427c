"""Classes out of files that number them otherwise, or give them no colours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from napari_sam.annotation.classes import new_class
from napari_sam.annotation.records import ObjectClass

__all__ = ["classes_of"]

_COLOURS = 64


def classes_of(described: Iterable[tuple[int, str, str]]) -> list[ObjectClass]:
    """Classes from their ids, names and colours, in this order.

    Parameters
    ----------
    described : iterable of (int, str, str)
        An id below 1 becomes the next free one, a name that was there already no class of its own; an empty
        colour one of 64 that can be told apart.

    Examples
    --------
    >>> classes_of([(0, "cell", ""), (2, "nucleus", "#ff0000"), (3, "cell", "")])
    [ObjectClass(id=3, name='cell', colour='#4477aa'), ObjectClass(id=2, name='nucleus', colour='#ff0000')]
    """
    first: dict[str, tuple[int, str]] = {}
    for number, name, colour in described:
        first.setdefault(name, (number, colour))
    free = max((number for number, _ in first.values()), default=0)
    found = []
    for place, (name, (number, colour)) in enumerate(first.items()):
        if number < 1:
            free = max(free, 0) + 1
            number = free  # noqa: PLW2901
        found.append(ObjectClass(number, name, colour or _palette()[place % _COLOURS]))
    return found


@cache
def _palette() -> tuple[str, ...]:
    found: list[ObjectClass] = []
    for number in range(_COLOURS):
        found.append(new_class(found, str(number)))
    return tuple(one.colour for one in found)
