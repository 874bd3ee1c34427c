"""How well a segmentation of everything in an image agrees with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = [
    "IOU_THRESHOLDS",
    "Match",
    "average_precision",
    "label_iou",
    "match_labels",
    "precision_of_hits",
    "ranked_hits",
    "seg_scores",
    "segmentation_accuracy",
]

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
"""From 0.5 to 0.95, as in COCO."""

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Match:
    """The objects that were found in one image against those that are there.

    Attributes
    ----------
    iou : ndarray, shape (N, M), float64
        Of each of N found objects with each of M true ones.
    scores : ndarray, shape (N,), float64
        How sure the program is of each that it found.
    """

    iou: NDArray[np.float64]
    scores: NDArray[np.float64]


def label_iou(
    found: NDArray[np.integer], truth: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The IoU of all objects of two label images.

    Parameters
    ----------
    found, truth : ndarray of int, of one shape
        0 is background.

    Returns
    -------
    iou : ndarray, shape (N, M), float64
        In order of the labels.
    labels : ndarray, shape (N,), int64
        Of those found.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> iou, labels = label_iou(np.array([[7, 7, 0], [0, 0, 9]]), np.array([[1, 1, 1], [0, 0, 0]]))
    >>> iou.round(2).tolist(), labels.tolist()
    ([[0.67], [0.0]], [7, 9])
    """
    iou, _, labels = _overlaps(found, truth)
    return iou, labels


def match_labels(
    found: NDArray[np.integer], truth: NDArray[np.integer], scores: NDArray[np.floating] | None = None
) -> Match:
    """Compare two label images.

    Parameters
    ----------
    found, truth : ndarray of int, of one shape
    scores : ndarray, shape (greatest label + 1,), float, optional
        By label; all are equal, if not given.
    """
    iou, labels = label_iou(found, truth)
    given = np.ones(len(labels)) if scores is None else np.asarray(scores, dtype=np.float64)[labels]
    return Match(iou, given)


def average_precision(matches: Sequence[Match], threshold: float) -> float:
    """The area under the curve of precision and recall, over the objects of all images together.

    As in COCO (Lin et al. 2014, Microsoft COCO; its evaluation is the file ``cocoeval.py`` of pycocotools):
    found objects are taken from the surest on; each is right if the best true object that is left has at
    least an IoU of `threshold` with it; precision is interpolated at 101 recalls. There is no limit on the
    number of objects in an image.

    Parameters
    ----------
    matches : sequence of Match
        One for each image.
    threshold : float

    Returns
    -------
    float
        NaN if there are no true objects.
    """
    total = sum(match.iou.shape[1] for match in matches)
    right = [ranked_hits(match, threshold) for match in matches]
    return precision_of_hits(right, [np.sort(match.scores)[::-1] for match in matches], total)


def precision_of_hits(
    right: Sequence[NDArray[np.bool_]], scores: Sequence[NDArray[np.float64]], total: int
) -> float:
    """The same, of found objects of which it is known whether they are right.

    Parameters
    ----------
    right : sequence of ndarray, shape (N,), bool
        For each image, the surest first; see :func:`ranked_hits`.
    scores : sequence of ndarray, shape (N,), float64
        In the same order.
    total : int
        True objects in all images.
    """
    if not total:
        return float("nan")
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    # Recalls that are not reached count with a precision of 0.
    at = np.searchsorted(hits / total, _RECALLS)
    return float(np.append(precision, 0)[np.minimum(at, len(hits))].mean())


def ranked_hits(match: Match, threshold: float) -> NDArray[np.bool_]:
    """Which of the found objects, the surest first, are right: shape (N,), bool."""
    free = np.ones(match.iou.shape[1], dtype=bool)
    order = np.argsort(-match.scores, kind="stable")
    right = np.zeros(len(order), dtype=bool)
    for place, index in enumerate(order.tolist()):
        left = np.where(free, match.iou[index], 0)
        if left.size and left[best := int(left.argmax())] >= threshold:
            free[best], right[place] = False, True
    return right


def segmentation_accuracy(match: Match, threshold: float) -> float:
    """True positives among all objects, found or there: TP / (TP + FP + FN).

    As in the 2018 Data Science Bowl (Caicedo et al. 2019, Nature Methods 16, 1247, evaluation metrics); its
    mean over :data:`IOU_THRESHOLDS` is the mean segmentation accuracy of micro-sam (Archit et al. 2025,
    Nature Methods). Objects are matched one to one so that as many as possible are right.

    Parameters
    ----------
    match : Match
        Of one image.
    threshold : float

    Returns
    -------
    float
        1 where nothing is there and nothing was found.

    Examples
    --------
    >>> segmentation_accuracy(Match(np.array([[0.9, 0.0], [0.0, 0.4]]), np.ones(2)), 0.5)
    0.3333333333333333
    """
    good = match.iou >= threshold
    rows, columns = linear_sum_assignment(-(good * (1 + match.iou)))
    right = int(good[rows, columns].sum())
    all_objects = sum(match.iou.shape) - right
    return right / all_objects if all_objects else 1.0


def seg_scores(found: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.float64]:
    """SEG of the Cell Tracking Challenge, for each true object: shape (M,), float64, in order of the labels.

    The IoU with the found object that covers more than half of its pixels, 0 if none does (Maška et al. 2014,
    A benchmark for comparison of cell tracking algorithms, section on evaluation, "SEG"). The measure of a
    data set is the mean over its true objects; what was found beside them does not count.

    Parameters
    ----------
    found, truth : ndarray of int, of one shape
        0 is background.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> seg_scores(np.array([[7, 7, 7, 0, 9, 0]]), np.array([[1, 1, 0, 0, 2, 2]])).round(2).tolist()
    [0.67, 0.0]
    """
    iou, covered, _ = _overlaps(found, truth)
    # At most one object can have more than half.
    return np.asarray((iou * (covered > 0.5)).sum(axis=0))


def _overlaps(
    found: NDArray[np.integer], truth: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The IoU of found and true objects, the share of the true ones that is covered, and the found labels."""
    if found.shape != truth.shape:
        raise ValueError(f"Label images of the shapes {found.shape} and {truth.shape} cannot be compared.")
    ours, row = np.unique(found, return_inverse=True)
    theirs, column = np.unique(truth, return_inverse=True)
    size = len(ours), len(theirs)
    shared = np.bincount(row.ravel() * size[1] + column.ravel(), minlength=size[0] * size[1]).reshape(size)
    kept = np.ix_(ours != 0, theirs != 0)
    areas = shared.sum(1, keepdims=True)[ours != 0], shared.sum(0, keepdims=True)[:, theirs != 0]
    both = shared[kept]
    return both / (areas[0] + areas[1] - both), both / areas[1], ours[ours != 0].astype(np.int64)
