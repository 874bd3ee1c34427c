"""Where the simulated user of interactive segmentation clicks next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Click", "centre", "iou", "largest_component", "next_click"]

Bits = NDArray[np.bool_]


class Click(NamedTuple):
    """A point prompt: pixel coordinates of the plane, and whether it is on the object."""

    x: int
    y: int
    positive: bool


def centre(region: Bits) -> tuple[int, int]:
    """The pixel of a region that is farthest from everything outside it.

    The array's edge counts as outside. Of several such pixels it is the first in reading order.

    Parameters
    ----------
    region : ndarray, shape (h, w), bool
        Not empty.

    Returns
    -------
    row, column : int

    Examples
    --------
    >>> centre(np.ones((5, 9), dtype=bool))
    (2, 2)
    """
    distance = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), region.shape)
    return int(row), int(column)


def largest_component(region: Bits) -> tuple[Bits, int]:
    """The largest 4-connected component, and its area in pixels; the first in reading order if several are.

    Parameters
    ----------
    region : ndarray, shape (h, w), bool
    """
    components, count = ndimage.label(region)
    if count == 0:
        return np.zeros_like(region), 0
    areas = np.bincount(components.ravel())
    areas[0] = 0
    largest = int(areas.argmax())
    return components == largest, int(areas[largest])


def next_click(truth: Bits, predicted: Bits, origin: tuple[int, int] = (0, 0)) -> Click | None:
    """The corrective click for a mask: the centre of the largest connected region of its error.

    Where the object was missed the click is positive, where ground was taken for the object it is negative;
    on a tie it is positive. Protocol of Sofiiuk et al. (2022), Reviving Iterative Training with Mask Guidance
    for Interactive Segmentation, section on evaluation, as used by Kirillov et al. (2023), Segment Anything,
    section 7.1.

    Parameters
    ----------
    truth, predicted : ndarray, shape (h, w), bool
        A box of the plane that holds every pixel of both.
    origin : tuple of int
        Row and column of the box's first pixel in the plane.

    Returns
    -------
    Click or None
        None if there is no error.

    Examples
    --------
    >>> truth = np.zeros((7, 7), dtype=bool)
    >>> truth[1:6, 1:6] = True
    >>> next_click(truth, np.zeros_like(truth))
    Click(x=3, y=3, positive=True)
    >>> next_click(truth, truth) is None
    True
    """
    missed, missed_area = largest_component(truth & ~predicted)
    extra, extra_area = largest_component(predicted & ~truth)
    if missed_area == extra_area == 0:
        return None
    positive = missed_area >= extra_area
    row, column = centre(missed if positive else extra)
    return Click(column + origin[1], row + origin[0], positive)


def iou(truth: Bits, predicted: Bits) -> float:
    """Intersection over union; 1 if both are empty.

    Parameters
    ----------
    truth, predicted : ndarray, of one shape, bool
    """
    union = np.count_nonzero(truth | predicted)
    return float(np.count_nonzero(truth & predicted) / union) if union else 1.0
