"""What is known of objects, for a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation import SamObject, Snapshot
from napari_sam.errors import FormatError
from napari_sam.inference.mask import Mask, box_around
from napari_sam.ui.object_columns import Measured, Row, measured_columns

if TYPE_CHECKING:
    from pandas import DataFrame

    from napari_sam.formats import Calibration, Segmentation

__all__ = ["Facts", "measured", "row_of"]


class Facts(NamedTuple):
    """What was measured of objects.

    Attributes
    ----------
    names : tuple of str
        What :func:`napari_sam.formats.measure` calls it.
    values : dict of int to sequence of (float or None)
        By uid, as many as there are names; None where there is no such number.
    """

    names: tuple[str, ...]
    values: dict[int, Measured]


def row_of(
    item: SamObject,
    class_names: Mapping[int, str],
    colour_of: Callable[[int], tuple[float, float, float, float]],
    current: int,
    pixel: float | None = None,
    parent: int = 0,
) -> Row:
    """What the table says of an object.

    Parameters
    ----------
    item : SamObject
    class_names : mapping of int to str
    colour_of : callable
        Gives the colour of an id: red, green, blue and opacity, from 0 to 1.
    current : int
        The uid of the object that is being worked on.
    pixel : float, optional
        The area of a pixel in physical units.
    parent : int, optional
        Id of the object that it came from; 0 for none.
    """
    rows, columns = box_around(*item.masks.values())
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    area = item.area
    return Row(
        uid=item.uid,
        id=item.id,
        class_name=class_names.get(item.class_id, ""),
        colour=colour_of(item.id),
        area=area,
        score=item.score,
        source=str(item.source),
        state="accepted" if item.accepted else ("current" if item.uid == current else "open"),
        size=None if pixel is None else area * pixel,
        box=box if item.masks else None,
        planes=len(item.masks),
        stability=_stability(item),
        parent=parent,
    )


def _stability(item: SamObject) -> float | None:
    """The mean over the planes where it was measured."""
    answers = {**item.base, **item.answers}.values()
    known = [answer.stability for answer in answers if answer.stability is not None]
    return sum(known) / len(known) if known else None


def measured(
    items: Sequence[SamObject],
    shape: tuple[int, ...],
    pixels: Any,
    *,
    coloured: bool = False,
    place: Mapping[str, Any] | None = None,
) -> Facts:
    """Shapes and intensities of objects, each as a whole.

    Of the image, what lies in the box around all of the objects is read: a plane at a time, or an object at a
    time if they reach through planes. Beside that it takes a quarter of a GiB, or 64 bytes for each pixel of
    the box of the largest object if that is more.

    An object at several times or channels has intensities, and no shape.

    Parameters
    ----------
    items : sequence of SamObject
    shape : tuple of int
        Of the image, without colours.
    pixels : array_like
        The image: NumPy, dask, zarr, ...
    coloured : bool
        Whether its last axis is colours.
    place : mapping, optional
        The attributes of its layer that say where it is in the world: ``scale``, ``translate``, ``rotate``,
        ``shear``, ``affine`` (a matrix), ``units``, ``axis_labels``. Only in pixels is measured what is
        turned, sheared or mirrored.

    Raises
    ------
    FormatError
        If the image has no numbers or another shape, it is not known which axis is the depth of objects, or
        one of them does not fit into memory.

    Examples
    --------
    >>> from napari_sam.annotation import Plane
    >>> mask = Mask((1, 2), np.ones((1, 2), dtype=bool), (4, 5))
    >>> item = SamObject(7, 1, masks={Plane((None, None)): mask})
    >>> facts = measured([item], (4, 5), np.arange(20).reshape(4, 5))
    >>> told = dict(zip(facts.names, facts.values[7], strict=True))
    >>> told["centroid-1"], told["intensity_mean"]
    (2.5, 7.5)
    """
    from napari_sam.formats import Segmentation, measure

    uids = {item.id: item.uid for item in items if item.masks}
    if not uids:
        return Facts((), {})
    if tuple(pixels.shape[: len(shape)]) != shape:
        raise FormatError(
            f"An image of the shape {tuple(pixels.shape)} does not fit objects of one of the shape {shape}: "
            "choose the image that they were found in."
        )
    calibration = _calibration(place or {}, len(shape))
    found = Segmentation.of_snapshot(Snapshot(shape, tuple(items)), calibration)
    window = box_around(*(mask for item in items for mask in item.masks.values()))
    channel_axis = -1 if coloured else None
    part = _Part(pixels, window, len(shape))
    table = measure(_moved(found, window), part, channel_axis=channel_axis, per="object")
    names = tuple(column.field for column in measured_columns(table.columns))
    numbers = _by_object(table, names)
    for name in names:
        base, _, unit = name.partition("_")
        if base.startswith("centroid-"):
            # Back from the window to the image.
            axis = int(base.removeprefix("centroid-")) - (3 if "volume" in table else 2)
            if axis >= -2:
                step = calibration.scale[axis] if unit else 1
                numbers[name] += window[axis].start * step
    rows = np.stack([numbers[name] for name in names], axis=1)
    known = np.where(np.isnan(rows), np.array(None), rows).tolist()
    order = table["id"].drop_duplicates().tolist()
    return Facts(names, {uids[number]: row for number, row in zip(order, known, strict=True)})


class _Part:
    """A window of all planes of an image, read when it is asked for."""

    def __init__(self, pixels: Any, window: tuple[slice, slice], ndim: int) -> None:
        self._pixels, self._window, self._rows = pixels, window, ndim - 2
        self.dtype = pixels.dtype
        sides = (window.stop - window.start for window in window)
        self.shape = (*pixels.shape[: ndim - 2], *sides, *pixels.shape[ndim:])

    def __getitem__(self, place: tuple[int | slice, ...]) -> NDArray[Any]:
        moved = list(place)
        for axis, inside in enumerate(self._window, self._rows):
            asked = place[axis]
            assert isinstance(asked, slice)
            start, stop, _ = asked.indices(self.shape[axis])
            moved[axis] = slice(inside.start + start, inside.start + stop)
        return np.asarray(self._pixels[tuple(moved)])


def _moved(found: Segmentation, window: tuple[slice, slice]) -> Segmentation:
    """Objects as they are in a window."""
    top, left = (side.start for side in window)
    height, width = (side.stop - side.start for side in window)

    def inside(mask: Mask) -> Mask:
        return Mask((mask.origin[0] - top, mask.origin[1] - left), mask.bits, (height, width))

    items = [
        replace(item, masks={at: inside(mask) for at, mask in item.masks.items()}) for item in found.items
    ]
    return replace(found, shape=(*found.shape[:-2], height, width), items=items)


def _by_object(table: DataFrame, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The columns of numbers with one number for each object, in the order in which they are first met."""
    ids, first, group = np.unique(table["id"].to_numpy(), return_index=True, return_inverse=True)
    numbers = {name: table[name].to_numpy(dtype=np.float64) for name in names}
    if len(ids) == len(table):
        return {name: column.copy() for name, column in numbers.items()}
    order = np.argsort(first)
    several = np.bincount(group) > 1
    sizes = table["volume" if "volume" in table else "area"].to_numpy(dtype=np.float64)
    joined = {}
    for name, column in numbers.items():
        values = column[first]
        if name.startswith("intensity_min"):
            np.minimum.at(values, group, column)
        elif name.startswith("intensity_max"):
            np.maximum.at(values, group, column)
        elif name.startswith("intensity_sum"):
            values = np.bincount(group, column)
        elif name.startswith("intensity_mean"):
            values = np.bincount(group, column * sizes) / np.bincount(group, sizes)
        else:
            values[several] = np.nan
        joined[name] = values[order]
    return joined


def _calibration(place: Mapping[str, Any], ndim: int) -> Calibration:
    """Where an image is, without what formats do not know: nothing is said of that here."""
    from napari_sam.ui.writing_layers import calibration_of, is_turned

    return calibration_of(
        {"axis_labels": place.get("axis_labels", ())} if is_turned(place, ndim) else place, ndim
    )
