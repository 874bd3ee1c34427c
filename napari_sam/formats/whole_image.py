"""What files say of the whole image in a member of our own, and which of its axes are z, t and channels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError
from napari_sam.formats.calibration import UNKNOWN, Calibration
from napari_sam.formats.segmentation import Segmentation

__all__ = [
    "WholeImage",
    "as_json",
    "calibration_members",
    "check_fits",
    "guessed_image",
    "image_members",
    "letters_of",
    "read_calibration",
    "read_image",
    "rgb_of",
]

_LETTERS = "tzc"
# A stack may be larger than memory, but not by this much.
_LARGEST = 2**48


@dataclass(frozen=True, slots=True)
class WholeImage:
    """An image as a file describes it.

    Attributes
    ----------
    shape : tuple of int
    calibration : Calibration
    classes : list of ObjectClass
    name : str
    """

    shape: tuple[int, ...]
    calibration: Calibration
    classes: list[ObjectClass]
    name: str = ""


def image_members(one: Segmentation) -> dict[str, Any]:
    """What :func:`read_image` makes a :class:`WholeImage` of, for JSON."""
    return {
        "shape": one.shape,
        **calibration_members(one.calibration),
        "name": one.name,
        "classes": [{"id": each.id, "name": each.name, "color": each.colour} for each in one.classes],
    }


def calibration_members(pixels: Calibration) -> dict[str, Any]:
    """What :func:`read_calibration` makes a :class:`Calibration` of, for JSON."""
    return {
        "axes": pixels.axes,
        "scale": pixels.scale,
        "translate": pixels.translate,
        "units": pixels.units,
    }


def read_calibration(item: Field) -> Calibration:
    """The axes of an image in a file of ours.

    Raises
    ------
    AnnotationError, FormatError
        If something is missing or makes no sense.
    """
    return Calibration(
        item["axes"].text(),
        tuple(one.number() for one in item["scale"]),
        tuple(one.number() for one in item["translate"]),
        tuple(one.text() for one in item["units"]),
    )


def read_image(item: Field) -> WholeImage:
    """The image that a file of ours is of.

    Raises
    ------
    AnnotationError, FormatError
        If something is missing or makes no sense.
    """
    shape = item["shape"].wholes()
    if len(shape) < 2 or _too_large(shape):
        item["shape"].fail("not the shape of an image")
    calibration = read_calibration(item)
    if len(calibration.axes) != len(shape):
        item["axes"].fail("not an axis for each side of the image")
    classes = []
    for one in item["classes"]:
        colour = one["color"].text()
        if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            one["color"].fail("not a colour such as #ff0000")
        classes.append(ObjectClass(one["id"].whole(1), one["name"].text(), colour))
    return WholeImage(shape, calibration, classes, item["name"].text())


def check_fits(image: WholeImage, shape: tuple[int, ...] | None) -> None:
    """Refuse a file of another image than the one whose shape is given.

    Raises
    ------
    FormatError
        If it is of another.
    """
    if shape is not None and shape != image.shape:
        raise FormatError(f"it is of an image of the shape {image.shape}, not {shape}.")


def guessed_image(
    places: Sequence[Mapping[str, int]], size: tuple[float, float], shape: tuple[int, ...] | None
) -> WholeImage:
    """The image that a file of another program is of, as far as its objects tell.

    Parameters
    ----------
    places : sequence of mapping of str to int
        Where the objects are along t, z and c, from 0 on.
    size : tuple of float
        How far down and to the right the objects reach, in pixels.
    shape : tuple of int or None
        Of the image, if it is known. Of its axes before the last two, those are t, z and c that objects need.

    Raises
    ------
    FormatError
        If the objects do not fit, or there are none and no shape.
    """
    most = {letter: max((place.get(letter, 0) for place in places), default=0) for letter in _LETTERS}
    axes = "".join(letter for letter in _LETTERS if most[letter])
    if shape is None:
        if not places:
            raise FormatError(
                "it holds no outlines, so that the size of the image is not known: give its shape."
            )
        sides = tuple(most[letter] + 1 for letter in axes)
        if not all(0 <= side < 2**31 for side in size):
            raise FormatError(f"an object reaches {max(size):g} pixels far, which is no image.")
        shape = (*sides, *(max(1, int(np.ceil(side))) for side in size))
    else:
        leading = shape[:-2]
        if len(leading) < len(axes):
            raise FormatError(
                f"its objects are at several {' and '.join(axes)}, and the image has the shape {shape}."
            )
        more = [letter for letter in "ztc" if letter not in axes][: len(leading) - len(axes)]
        axes = "".join(letter for letter in _LETTERS if letter in axes or letter in more)
        axes = UNKNOWN * (len(leading) - len(axes)) + axes
        if any(most.get(letter, 0) >= side for letter, side in zip(axes, leading, strict=True)):
            raise FormatError(f"an object is on a plane outside of an image of the shape {shape}.")
    if _too_large(shape):
        raise FormatError(f"an image of the shape {shape} is too large.")
    ones = (1.0,) * len(shape)
    calibration = Calibration(axes + "yx", ones, (0.0,) * len(shape), ("",) * len(shape))
    return WholeImage(shape, calibration, [])


def letters_of(axes: str) -> tuple[str, ...]:
    """What the axes before the last two are for programs that know just t, z and c.

    Parameters
    ----------
    axes : str
        As of :class:`~napari_sam.formats.Calibration`. Those of unknown meaning become z, t and c, in this
        order, where there is no such axis.

    Returns
    -------
    tuple of str
        A different letter for each; empty where none is left.

    Examples
    --------
    >>> letters_of("tqyx"), letters_of("qqqqyx")
    (('t', 'z'), ('z', 't', 'c', ''))
    """
    leading = axes[:-2]
    found = [
        letter if letter in _LETTERS and leading.index(letter) == at else ""
        for at, letter in enumerate(leading)
    ]
    free = (letter for letter in "ztc" if letter not in found)
    return tuple(letter or next(free, "") for letter in found)


def rgb_of(colour: str) -> list[int]:
    """Red, green and blue of a colour such as ``#ff0000``, from 0 to 255."""
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def as_json(value: Any) -> str:
    """A value as JSON in one line of ASCII.

    Raises
    ------
    FormatError
        If JSON cannot hold it.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"An attribute of an object cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy, for JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is neither a number nor a text, list or dict")


def _too_large(shape: tuple[int, ...]) -> bool:
    pixels = 1
    for side in shape:
        pixels *= max(side, 1)
        if pixels > _LARGEST:
            return True
    return False
