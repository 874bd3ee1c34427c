"""Objects from label images that others made: another program, or a hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, SamObject, Source
from napari_sam.annotation.territory import canonical_planes
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask

__all__ = ["drafts_of_labels", "label_boxes"]


def drafts_of_labels(labels: Any, *, class_id: int = 0) -> list[SamObject]:
    """Every label of a label image as an object, for :meth:`~napari_sam.annotation.Document.add_objects`.

    One plane of the last two axes is read at a time.

    Parameters
    ----------
    labels : array_like of int or bool, shape (..., H, W)
        0 is background. NumPy, dask, zarr, ...: anything with a shape and a dtype that can be indexed.
    class_id : int

    Returns
    -------
    list of SamObject
        In order of their ids, which are the labels.

    Raises
    ------
    AnnotationError
        If it is not an array of integers with at least two axes, or an id needs more than 63 bits.

    Examples
    --------
    >>> drafts = drafts_of_labels(np.array([[0, 7, 7], [-3, 0, 7]]))
    >>> [(item.id, answer.mask.area) for item in drafts for answer in item.base.values()]
    [(-3, 1), (7, 3)]
    """
    if not hasattr(labels, "shape") or not hasattr(labels, "dtype"):
        labels = np.asarray(labels)
    kind = np.dtype(labels.dtype)
    if kind.kind not in "bui":
        raise AnnotationError(
            f"A label image has whole numbers, this one is of type {kind}: convert it to integers."
        )
    if len(labels.shape) < 2:
        raise AnnotationError(f"A label image has at least two axes, not the shape {tuple(labels.shape)}.")
    found: defaultdict[int, dict[Plane, Answer]] = defaultdict(dict)
    for plane in canonical_planes(labels.shape):
        for number, mask in _masks(np.asarray(labels[plane.slices])):
            found[number][plane] = Answer(((mask, None),))
    if max(found, default=0) > np.iinfo(np.int64).max:
        raise AnnotationError(f"The label {max(found)} is too large: ids have at most 63 bits.")
    return [
        SamObject(0, number, class_id=class_id, source=Source.IMPORTED, base=found[number])
        for number in sorted(found)
    ]


def _masks(plane: NDArray[Any]) -> Iterator[tuple[int, Mask]]:
    """The labels of one plane and their masks."""
    numbers, boxes = label_boxes(plane)
    for number, (top, bottom, left, right) in zip(numbers.tolist(), boxes.tolist(), strict=True):
        yield int(number), Mask((top, left), plane[top:bottom, left:right] == number, plane.shape)


def label_boxes(
    plane: NDArray[Any], check: Callable[[int], object] | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The labels of one plane and where they are.

    Labels are found by the runs of equal pixels in rows, of which there are far fewer than pixels.

    Parameters
    ----------
    plane : ndarray, shape (H, W), int or bool
    check : callable, optional
        Given the number of runs before any memory is used for them, some tens of bytes each: may raise an
        error.

    Returns
    -------
    labels : ndarray, shape (N,), as `plane`
        In rising order, without 0.
    boxes : ndarray, shape (N, 4), int64
        First row, row behind the last, first column, column behind the last.

    Examples
    --------
    >>> labels, boxes = label_boxes(np.array([[0, 7, 7], [-3, 0, 7]]))
    >>> labels.tolist(), boxes.tolist()
    ([-3, 7], [[1, 2, 0, 1], [0, 2, 1, 3]])
    """
    height, width = plane.shape
    nothing = plane.ravel()[:0], np.zeros((0, 4), dtype=np.int64)
    # Most planes of a stack may be empty: to see that takes a tenth of the time.
    if 0 in plane.shape or not plane.any():
        return nothing
    begins = np.ones(plane.shape, dtype=bool)
    np.not_equal(plane[:, 1:], plane[:, :-1], out=begins[:, 1:])
    if check is not None:
        check(int(np.count_nonzero(begins)))
    starts = np.flatnonzero(begins)
    values = plane.ravel()[starts] if plane.flags.c_contiguous else plane[starts // width, starts % width]
    ends = np.append(starts[1:], height * width)
    labelled = values != 0
    starts, ends, values = starts[labelled], ends[labelled], values[labelled]
    if not len(values):
        return nothing
    order = np.argsort(values, kind="stable")
    starts, ends, values = starts[order], ends[order], values[order]
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    last = np.append(first[1:], len(values)) - 1
    # Sorting was stable: the runs of a label go from top to bottom.
    rows = starts // width
    left = np.minimum.reduceat(starts % width, first)
    right = np.maximum.reduceat((ends - 1) % width, first) + 1
    return values[first], np.stack([rows[first], rows[last] + 1, left, right], axis=1)
