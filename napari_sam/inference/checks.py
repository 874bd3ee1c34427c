"""What a prompt has to be, and the sentences that say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError, reason_of
from napari_sam.inference.arrays import as_array
from napari_sam.inference.mask import Mask

__all__ = ["checked_box", "checked_logits", "checked_mask", "checked_points", "numbers"]

_LOW_RES = 256
_MOST_LOGIT = 1e4
"""Logits are cut off here, which is far beyond what networks give."""


def numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Finite float64 of what is called `what` in the sentence."""
    array = as_array(values, what, PromptError)
    if array.dtype.kind == "c":
        raise PromptError(f"{what} must be real numbers, not complex ones.")
    try:
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} must be numbers ({reason_of(error)}).") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, without NaN or infinity.")
    return array


def checked_points(
    size: tuple[int, int], points: ArrayLike | None, labels: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points (N, 2) on the image and their labels (N,), padding dropped."""
    if points is None:
        if labels is not None and as_array(labels, "Point labels", PromptError).size > 0:
            raise PromptError("Point labels were given without points: give the points as well.")
        return np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    xy = numbers(points, "Point coordinates")
    if xy.size == 0:
        xy = xy.reshape(0, 2)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError(f"Points must have the shape (N, 2), one x and one y each, not {xy.shape}.")
    marks = np.ones(len(xy)) if labels is None else np.atleast_1d(numbers(labels, "Point labels"))
    if marks.size == 0:
        marks = marks.reshape(0)
    if marks.shape != (len(xy),):
        raise PromptError(f"There are {len(xy)} points but {marks.size} labels: give one label per point.")
    wrong = ~np.isin(marks, (-1, 0, 1))
    if wrong.any():
        raise PromptError(
            f"A point label is 1 (on the object) or 0 (on the background), not {marks[wrong][0]:g}."
        )
    xy, marks = xy[marks >= 0], marks[marks >= 0]
    height, width = size
    outside = (xy < -0.5).any(axis=1) | (xy > np.array([width, height]) - 0.5).any(axis=1)
    if outside.any():
        x, y = xy[outside][0]
        raise PromptError(
            f"The point ({x:g}, {y:g}) lies outside the image, "
            f"which is {width} pixels wide and {height} high."
        )
    return xy, marks.astype(np.int64)


def checked_box(size: tuple[int, int], box: ArrayLike) -> NDArray[np.float64]:
    """x0, y0, x1, y1 in rising order, clipped to the image: shape (4,)."""
    corners = numbers(box, "Box coordinates")
    if corners.size != 4:
        raise PromptError(f"A box is four numbers, x0, y0, x1, y1; {corners.size} were given.")
    corners = corners.reshape(2, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (low == high).any():
        raise PromptError(
            f"The box from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) has no area: "
            "its corners must differ in x and in y."
        )
    height, width = size
    edge = np.array([width, height]) - 0.5
    clipped_low, clipped_high = np.clip(low, -0.5, edge), np.clip(high, -0.5, edge)
    if (clipped_low >= clipped_high).any():
        raise PromptError(
            f"The box from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) lies outside the image, "
            f"which is {width} pixels wide and {height} high."
        )
    return np.concatenate([clipped_low, clipped_high])


def checked_logits(mask_input: ArrayLike) -> NDArray[np.float32]:
    """Logits of the low-resolution frame: shape (256, 256), float32."""
    given = as_array(mask_input, "The mask prompt", PromptError)
    if given.dtype == bool:
        raise PromptError(
            "A mask prompt is logits, not a boolean mask: "
            "give the low-resolution logits of an earlier prediction."
        )
    logits = numbers(given, "Mask prompts")
    if logits.shape == (1, _LOW_RES, _LOW_RES):
        logits = logits[0]
    if logits.shape != (_LOW_RES, _LOW_RES):
        raise PromptError(
            f"A mask prompt has the shape ({_LOW_RES}, {_LOW_RES}), not {logits.shape}: "
            "give the low-resolution logits of an earlier prediction."
        )
    # No network means more by a greater one, and half precision would make it infinite.
    return np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT).astype(np.float32)


def checked_mask(size: tuple[int, int], mask: object, what: str = "mask to start from") -> Mask:
    """A mask of this plane that is not empty; `what` it is called in a sentence."""
    if not isinstance(mask, Mask):
        raise PromptError(f"A {what} is a Mask, not a {type(mask).__name__}: make it with Mask.from_array.")
    if mask.shape != tuple(size):
        raise PromptError(
            f"The {what} is of a plane of {mask.shape[0]} x {mask.shape[1]} pixels and the image "
            f"has {size[0]} x {size[1]}: give a mask of this image."
        )
    if mask.is_empty:
        raise PromptError(f"The {what} is empty: give a mask with at least one pixel.")
    return mask
