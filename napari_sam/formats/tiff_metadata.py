"""Axes, sizes and offsets of pixels in TIFF: of OME, of ImageJ, of resolution tags, and as our own JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import FormatError
from napari_sam.formats.calibration import UNKNOWN, Calibration
from napari_sam.formats.label_tables import read_calibration
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.whole_image import calibration_members

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile

__all__ = ["KEY", "calibration_of", "ome_metadata", "resolution", "standard_axes"]

KEY = "napari_sam"
_NAMESPACE = "napari-sam"

_LENGTHS = {
    "picometer": ("pm", 1e-12),
    "angstrom": ("Å", 1e-10),
    "nanometer": ("nm", 1e-9),
    "micrometer": ("µm", 1e-6),
    "millimeter": ("mm", 1e-3),
    "centimeter": ("cm", 1e-2),
    "meter": ("m", 1.0),
    "kilometer": ("km", 1e3),
    "inch": ("in", 0.0254),
}
_TIMES = {
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
_NAMES = {symbol: name for name, (symbol, _) in _LENGTHS.items()} | {
    symbol: name for name, symbol in _TIMES.items()
}
# ImageJ's words, and the Greek letter that is no micro sign.
_NAMES |= dict.fromkeys(("um", "μm", "micron", "microns", "\\u00B5m"), "micrometer")
_NAMES |= {"sec": "second", "seconds": "second", "msec": "millisecond", "pixel": "", "pixels": ""}
# The greatest numerator and denominator of a resolution, with room for rounding.
_GREATEST = 2.0**31


def standard_axes(axes: str, name: str) -> str:
    """Axes under names that are there once each and that others know: unknown ones become z, t and c.

    Parameters
    ----------
    axes : str
        As in :class:`~napari_sam.formats.calibration.Calibration`.
    name : str
        Of the format, for the message.

    Raises
    ------
    FormatError
        If there are more than five.

    Examples
    --------
    >>> standard_axes("qyx", "OME-TIFF"), standard_axes("qqcyx", "OME-TIFF")
    ('zyx', 'tzcyx')
    """
    if len(axes) > 5:
        raise FormatError(
            f"{name} holds at most 5 axes, not the {len(axes)} of {axes!r}: use another format."
        )
    known = axes[:-2]
    free = [letter for letter in "ztc" if letter not in known]
    given: list[str] = []
    for letter in reversed(known):  # from the inside out
        given.append(letter if letter in "tcz" and letter not in given else free.pop(0))
    return "".join(reversed(given)) + "yx"


def ome_metadata(one: Segmentation) -> dict[str, Any]:
    """What tifffile writes as OME-XML of a label image."""
    calibration = one.calibration
    axes = standard_axes(calibration.axes, "OME-TIFF")
    found: dict[str, Any] = {
        "axes": axes.upper(),
        "MapAnnotation": {"Namespace": _NAMESPACE, KEY: json.dumps(calibration_members(calibration))},
    }
    if one.name:
        found["Name"] = one.name
    if calibration.is_plain:
        return found
    planes: dict[str, Any] = {}
    count = math.prod(one.shape[:-2])
    for axis, letter in enumerate(axes):
        scale, translate, unit = (
            calibration.scale[axis],
            calibration.translate[axis],
            calibration.units[axis],
        )
        if letter == "t":
            if unit in _TIMES:
                found |= {"TimeIncrement": scale, "TimeIncrementUnit": _TIMES[unit]}
        elif letter != "c":
            # OME's word for sizes in whatever unit, and its word for none.
            symbol = _LENGTHS[unit][0] if unit in _LENGTHS else "reference frame" if unit else "pixel"
            upper = letter.upper()
            found |= {f"PhysicalSize{upper}": scale, f"PhysicalSize{upper}Unit": symbol}
            if translate:
                inner = math.prod(one.shape[axis + 1 : -2])
                steps = (
                    [at // inner % one.shape[axis] for at in range(count)] if letter == "z" else [0] * count
                )
                planes[f"Position{upper}"] = [translate + step * scale for step in steps]
                planes[f"Position{upper}Unit"] = [symbol] * count
    return found | ({"Plane": planes} if planes else {})


def resolution(calibration: Calibration) -> dict[str, Any]:
    """The sizes of pixels along y and x as arguments of tifffile: per centimetre where they are lengths."""
    plane = calibration.plane
    if plane.units[0] != plane.units[1] or set(plane.scale) == {1.0}:
        return {}
    metres = _LENGTHS.get(plane.units[1], ("", 0.0))[1]
    per = [(0.01 / metres if metres else 1) / scale for scale in reversed(plane.scale)]
    if not all(1 / _GREATEST < value < _GREATEST for value in per):
        return {}
    return {"resolution": tuple(per), "resolutionunit": "CENTIMETER" if metres else "NONE"}


def calibration_of(path: Path, file: TiffFile, number: int) -> tuple[tuple[int, ...], Calibration]:
    """Shape and axes of one of the images of a file: as we wrote them, or as others do.

    Raises
    ------
    FormatError
        If they do not fit each other.
    """
    series = file.series[number]
    shape, letters = tuple(series.shape), series.axes.lower()
    if len(shape) < 2:
        shape, letters = (1,) * (2 - len(shape)) + shape, "yx"
    ours: Any = None
    pixels: Mapping[str, str] = {}
    if file.is_ome and file.ome_metadata:
        image = _image(file.ome_metadata, number)
        if image is not None:
            found, ours = image
            pixels = found
    elif file.is_shaped and file.shaped_metadata and number < len(file.shaped_metadata):
        ours = file.shaped_metadata[number].get(KEY)
    if ours is not None:
        axes = ours.get("axes") if isinstance(ours, dict) else None
        if isinstance(axes, str) and len(axes) != len(shape):
            # tifffile leaves out axes of length 1 of OME-TIFF.
            every = dict(
                zip(series.get_axes(squeeze=False).lower(), series.get_shape(squeeze=False), strict=True)
            )
            shape = tuple(every.get(letter, 1) for letter in standard_axes(axes, "OME-TIFF"))
            if math.prod(shape) != math.prod(series.shape):
                raise FormatError(f"{path} has not the axes {axes!r} that it says.")
        return shape, read_calibration(path, ours, len(shape))
    axes = "".join(letter if letter in "tczyx" else UNKNOWN for letter in letters)
    sizes: dict[str, tuple[float, float, str]] = {}
    if pixels:
        sizes = _of_ome(pixels)
    elif file.is_imagej and file.imagej_metadata:
        sizes = _of_imagej(file.imagej_metadata, file)
    else:
        sizes = _of_tags(file)
    chosen = [sizes.get(letter, (1.0, 0.0, "")) for letter in axes]
    scale, translate, units = zip(*chosen, strict=True)
    return shape, Calibration(axes, scale, translate, units)


def _image(text: str, number: int) -> tuple[dict[str, str], Any] | None:
    """The attributes of an image's pixels and first plane in OME-XML, and our own annotation of it."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(text)
    images = [one for one in root if _tag(one) == "Image"]
    if number >= len(images):
        return None
    pixels = next((one for one in images[number] if _tag(one) == "Pixels"), None)
    attributes = {} if pixels is None else dict(pixels.attrib)
    if pixels is not None:
        first = next((one for one in pixels if _tag(one) == "Plane"), None)
        attributes |= {} if first is None else first.attrib
    for one in root.iter():
        if _tag(one) == "MapAnnotation" and one.get("Namespace") == _NAMESPACE:
            for entry in one.iter():
                if _tag(entry) == "M" and entry.get("K") == KEY:
                    return attributes, json.loads(entry.text or "")
    return attributes, None


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _of_ome(pixels: Mapping[str, str]) -> dict[str, tuple[float, float, str]]:
    """Scale, offset and unit by axis."""
    found = {}
    for letter in "zyx":
        upper = letter.upper()
        scale = _number(pixels.get(f"PhysicalSize{upper}"), least=0)
        if scale is not None:
            symbol = pixels.get(f"PhysicalSize{upper}Unit", "µm")  # as the schema has it
            at = _number(pixels.get(f"Position{upper}"))
            same = pixels.get(f"Position{upper}Unit", "reference frame") == symbol
            found[letter] = (scale, at if same and at is not None else 0.0, _NAMES.get(symbol, ""))
    step = _number(pixels.get("TimeIncrement"), least=0)
    if step is not None:
        found["t"] = (step, 0.0, _NAMES.get(pixels.get("TimeIncrementUnit", "s"), ""))
    return found


def _of_imagej(about: Mapping[str, Any], file: TiffFile) -> dict[str, tuple[float, float, str]]:
    unit = _NAMES.get(str(about.get("unit", "")), "")
    found = {
        letter: (1 / per, 0.0, unit) for letter, per in _per_unit(file).items() if 1 / per != 1.0 or unit
    }
    spacing, interval = _number(about.get("spacing"), least=0), _number(about.get("finterval"), least=0)
    if spacing is not None:
        found["z"] = (spacing, 0.0, unit)
    if interval is not None:
        found["t"] = (interval, 0.0, _NAMES.get(str(about.get("tunit", "sec")), ""))
    return found


def _of_tags(file: TiffFile) -> dict[str, tuple[float, float, str]]:
    """Resolutions per centimetre and without a unit; those per inch are about paper."""
    unit = file.pages.first.tags.valueof("ResolutionUnit", 2)
    per_unit = _per_unit(file)
    if unit == 3:
        return {letter: (1e4 / per, 0.0, "micrometer") for letter, per in per_unit.items()}
    return {letter: (1 / per, 0.0, "") for letter, per in per_unit.items()} if unit == 1 else {}


def _per_unit(file: TiffFile) -> dict[str, float]:
    """Pixels per unit along y and x."""
    found = {}
    for letter in "yx":
        value = file.pages.first.tags.valueof(f"{letter.upper()}Resolution")
        if isinstance(value, tuple) and len(value) == 2 and all(value):
            found[letter] = float(value[0] / value[1])
    return found


def _number(text: Any, least: float = -math.inf) -> float | None:
    """A finite number greater than `least`, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > least else None
