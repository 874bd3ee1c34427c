"""The automatic protocol: what is found in an image without prompts, against what is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.evaluation.instances import (
    IOU_THRESHOLDS,
    match_labels,
    ranked_hits,
    seg_scores,
    segmentation_accuracy,
)
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.inference.mask_files import label_image

__all__ = ["AutomaticResult", "Found", "find_everything", "with_generator"]

Found = tuple[NDArray[np.integer], NDArray[np.float64] | None]
"""Labels of shape (H, W), and the score of each label, if there are scores."""


@dataclass(frozen=True, slots=True)
class AutomaticResult:
    """What was found in one image, compared with what is there.

    Attributes
    ----------
    scores : ndarray, shape (N,), float64
        How sure the program is of each object that it found, falling.
    right : ndarray, shape (10, N), bool
        Which of those are right, at each of the IoUs from 0.5 to 0.95.
    accuracy : ndarray, shape (10,), float64
        Segmentation accuracy at these IoUs.
    seg : ndarray, shape (M,), float64
        SEG of each true object.
    seconds : float
        From the image to its labels.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    accuracy: NDArray[np.float64]
    seg: NDArray[np.float64]
    seconds: float


def with_generator(generator: SamAutomaticMaskGenerator) -> Callable[[NDArray[Any]], Found]:
    """Labels as ``napari-sam auto`` writes them; the score of each is its predicted IoU.

    Parameters
    ----------
    generator : SamAutomaticMaskGenerator
    """

    def find(image: NDArray[Any]) -> Found:
        masks = generator.masks(image)
        return label_image(masks), np.concatenate([[0.0], masks.predicted_iou])

    return find


def find_everything(
    find: Callable[[NDArray[Any]], Found], image: NDArray[Any], labels: NDArray[np.integer[Any]]
) -> AutomaticResult:
    """Run the automatic protocol on an image.

    Parameters
    ----------
    find : callable
        From an image to labels and their scores; see :func:`with_generator`.
    image : ndarray, shape (H, W) or (H, W, channels)
    labels : ndarray, shape (H, W), integer
        The ground truth, 0 for background.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2]])
    >>> result = find_everything(lambda image: (image, None), np.array([[5, 5, 0, 0]]), truth)
    >>> result.right[0].tolist(), float(result.accuracy[0]), result.seg.tolist()
    ([True], 0.5, [1.0, 0.0])
    """
    began = time.perf_counter()
    found, scores = find(image)
    seconds = time.perf_counter() - began
    match = match_labels(found, labels, scores)
    return AutomaticResult(
        np.sort(match.scores)[::-1],
        np.stack([ranked_hits(match, threshold) for threshold in IOU_THRESHOLDS]),
        np.array([segmentation_accuracy(match, threshold) for threshold in IOU_THRESHOLDS]),
        seg_scores(found, labels),
        seconds,
    )
