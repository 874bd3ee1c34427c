"""New classes, with colours that can be told apart."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from itertools import count

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import AnnotationError

__all__ = ["new_class"]

# Paul Tol's "bright" scheme: told apart with any kind of colour blindness.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")

_GOLDEN = 0.6180339887498949


def new_class(classes: Sequence[ObjectClass], name: str) -> ObjectClass:
    """A class with a new id and a colour that none of the others has.

    Parameters
    ----------
    classes : sequence of ObjectClass
        Those that there are.
    name : str

    Raises
    ------
    AnnotationError
        If the name is no text, empty or taken.

    Examples
    --------
    >>> new_class([ObjectClass(3, "nucleus", "#4477aa")], "cell")
    ObjectClass(id=4, name='cell', colour='#ee6677')
    """
    if not isinstance(name, str):
        raise AnnotationError(f"A class has a text for a name, not {name!r}.")
    if not name.strip():
        raise AnnotationError("A class needs a name.")
    if any(one.name == name for one in classes):
        raise AnnotationError(f"There is a class {name!r} already: choose another name.")
    used = {one.colour.lower() for one in classes}
    colour = next((c for c in _COLOURS if c not in used), None)
    if colour is None:
        # Hues at golden angles stay apart, however many there are.
        colour = next(c for c in map(_hue, count(len(classes))) if c not in used)
    return ObjectClass(max((one.id for one in classes), default=0) + 1, name, colour)


def _hue(number: int) -> str:
    rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.7, 0.6 + 0.3 * (number % 2))
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
