"""Regions measured by scikit-image, each by its own mask, many with one call.

``regionprops_table`` measures a label image, in which objects cannot overlap, and has a cost for each call.
So boxes of objects are laid side by side, as a strip; what is measured does not depend on the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.formats.memory import check_free
from napari_sam.inference.mask import Mask, box_around

__all__ = ["Reader", "Region", "measured"]

Reader = Callable[[tuple[slice, ...]], NDArray[Any]]
"""Gives a box of an image: with one axis for each slice and, of several channels, one more."""

# Pixels of a strip. A larger object has one of its own.
_AT_ONCE = 2**22
# Bytes for each pixel of a box: moments and convex hulls are computed in floats of 64 bits.
_PER_PIXEL = 64


@dataclass(frozen=True, slots=True)
class Region:
    """One object on one plane, or its masks on several.

    Attributes
    ----------
    masks : sequence of (int, Mask)
        The masks and where they are along the third axis, in any order; not empty.
    is_flat : bool
        Whether it is measured in the plane: it has one mask.
    """

    masks: Sequence[tuple[int, Mask]]
    is_flat: bool = True

    @property
    def slices(self) -> tuple[slice, ...]:
        """The smallest box that holds it."""
        inside = box_around(*(mask for _, mask in self.masks))
        if self.is_flat:
            return inside
        places = [place for place, _ in self.masks]
        return slice(min(places), max(places) + 1), *inside

    @property
    def bits(self) -> NDArray[np.bool_]:
        """What is in its box."""
        if self.is_flat:
            return self.masks[0][1].bits
        box = self.slices
        bits = np.zeros([one.stop - one.start for one in box], dtype=bool)
        for place, mask in self.masks:
            bits[place - box[0].start] = mask.bits_in(*box[1:])
        return bits


def measured(
    regions: Sequence[Region],
    properties: Sequence[str],
    read: Reader | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, NDArray[Any]]:
    """What ``regionprops_table`` says of regions, all flat or none.

    Parameters
    ----------
    regions : sequence of Region
        At least one.
    properties : sequence of str
        Of scikit-image; none that depend on where a region is.
    read : callable, optional
        The image, for intensities.
    spacing : sequence of float, optional
        Size of a pixel along each axis.

    Returns
    -------
    dict of str to ndarray
        A value for each region, in their order.

    Raises
    ------
    FormatError
        If the box of an object does not fit into memory.
    """
    from skimage.measure import regionprops_table

    own = (_solidity_of_solid,) if "solidity" in properties and not regions[0].is_flat else ()
    taken = [name for name in properties if not (own and name == "solidity")]
    parts, order = [], []
    for some in _batches(regions):
        labels, pixels = _strip([regions[number] for number in some], read)
        parts.append(
            regionprops_table(labels, pixels, properties=taken, extra_properties=own or None, spacing=spacing)
        )
        order += some
    back = np.argsort(order)
    together = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
    if own:
        together["solidity"] = together.pop(_solidity_of_solid.__name__)
    return together


def _batches(regions: Sequence[Region]) -> Iterator[list[int]]:
    """Numbers of regions that go into one strip, of similar height so that little of it is empty."""
    sides = np.array([[one.stop - one.start for one in region.slices] for region in regions])
    some: list[int] = []
    height, width = np.zeros(sides.shape[1] - 1, dtype=np.int64), 0
    for number in np.lexsort(sides.T[::-1]).tolist():
        higher = np.maximum(height, sides[number, :-1])
        wider = width + int(sides[number, -1])
        if some and math.prod(higher.tolist()) * wider > _AT_ONCE:
            yield some
            some, higher, wider = [], sides[number, :-1], int(sides[number, -1])
        some.append(number)
        height, width = higher, wider
    yield some


def _strip(regions: Sequence[Region], read: Reader | None) -> tuple[NDArray[np.int32], NDArray[Any] | None]:
    """Regions side by side, numbered from 1 on, and their pixels of the image, 0 elsewhere."""
    sides = np.array([[one.stop - one.start for one in region.slices] for region in regions])
    shape = (*sides[:, :-1].max(axis=0).tolist(), int(sides[:, -1].sum()))
    needed = math.prod(shape) * _PER_PIXEL
    check_free(needed, "Measuring an object of this size", "measure it plane by plane, or cut the image")
    labels = np.zeros(shape, dtype=np.int32)
    pixels: NDArray[Any] | None = None
    begin = 0
    for number, (region, size) in enumerate(zip(regions, sides.tolist(), strict=True), 1):
        place = (*map(slice, size[:-1]), slice(begin, begin + size[-1]))
        begin += size[-1]
        bits = region.bits
        labels[place][bits] = number
        if read is not None:
            values = read(region.slices)
            if pixels is None:
                pixels = np.zeros((*shape, *values.shape[len(shape) :]), dtype=np.float64)
            pixels[place][bits] = values[bits]
    return labels, pixels


def _solidity_of_solid(bits: NDArray[np.bool_]) -> float:
    """Share of the convex hull; not a number where that has no volume, of which scikit-image warns."""
    from skimage.morphology import convex_hull_image

    places = np.argwhere(bits).astype(np.float64)
    places -= places[0]
    if np.linalg.matrix_rank(places.T @ places, hermitian=True) < bits.ndim:
        return math.nan
    return float(places.shape[0] / np.count_nonzero(convex_hull_image(bits)))
