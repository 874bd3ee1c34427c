"""Whether tracks stay with their objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_sam.inference.mask import Mask

__all__ = ["id_switches"]

_SAME = 0.5
"""The IoU from which on a mask is that of an object."""


def id_switches(truth: Mapping[int, Mapping[int, Mask]], found: Mapping[int, Mapping[int, Mask]]) -> int:
    """How often a true object is found under another number than before.

    On each frame, true and found masks with an IoU of 0.5 or more are matched one to one; a switch is a match
    of an object with another track than in its last match (Bernardin and Stiefelhagen 2008, Evaluating
    multiple object tracking performance: the CLEAR MOT metrics, section 2.1.3: mismatches). A track that had
    been with another object before switches, too, even where the object it comes to was never found.

    Parameters
    ----------
    truth, found : mapping of int to (mapping of int to Mask)
        By number and frame. Numbers of the two need not agree.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = Mask.from_array([[1, 0]]), Mask.from_array([[0, 1]])
    >>> id_switches({1: {0: a, 1: a}, 2: {0: b, 1: b}}, {7: {0: a, 1: b}, 8: {0: b, 1: a}})
    2
    """
    frames = sorted({frame for masks in truth.values() for frame in masks})
    last_track: dict[int, int] = {}
    last_object: dict[int, int] = {}
    switches = 0
    for frame in frames:
        there = [number for number, masks in truth.items() if frame in masks]
        tracks = [number for number, masks in found.items() if frame in masks]
        iou = np.array([[_iou(truth[one][frame], found[other][frame]) for other in tracks] for one in there])
        if not iou.size:
            continue
        for row, column in zip(
            *linear_sum_assignment(np.where(iou >= _SAME, iou, 0), maximize=True), strict=True
        ):
            if iou[row, column] < _SAME:
                continue
            one, track = there[row], tracks[column]
            switches += last_track.get(one, track) != track or last_object.get(track, one) != one
            last_track[one], last_object[track] = track, one
    return switches


def _iou(one: Mask, other: Mask) -> float:
    common = (one & other).area
    total = one.area + other.area - common
    return common / total if total else 0.0
