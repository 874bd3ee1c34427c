"""Whether a mask does what the clicks on it say, and which candidate does it best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_sam.inference.engine import Prediction
    from napari_sam.inference.mask import Mask
    from napari_sam.inference.prompts import Prompts

__all__ = ["contradictions", "most_agreeable"]


def contradictions(mask: Mask, prompts: Prompts) -> int:
    """How many points, and vertices of scribbles, a mask has on the wrong side of its outline.

    Parameters
    ----------
    mask : Mask
    prompts : Prompts
        Of the same plane.

    Examples
    --------
    >>> from napari_sam.inference.mask import Mask
    >>> from napari_sam.inference.prompts import Prompts
    >>> square = Mask((10, 10), np.ones((5, 5), dtype=bool), (40, 40))
    >>> contradictions(square, Prompts.create((40, 40), [[12, 12], [14, 10], [30, 30]], [1, 0, 1]))
    2
    """
    paths = [scribble.path for scribble in prompts.scribbles]
    points = np.concatenate([prompts.points, *paths])
    if not len(points):
        return 0
    wanted = np.concatenate(
        [
            prompts.labels == 1,
            *(np.full(len(scribble.path), scribble.label == 1) for scribble in prompts.scribbles),
        ]
    )
    # The last half of a pixel rounds to one that is not there.
    last = np.array(mask.shape[::-1]) - 1
    columns, rows = np.minimum(np.rint(points).astype(np.int64), last).T
    row, column = rows - mask.origin[0], columns - mask.origin[1]
    height, width = mask.bits.shape
    near = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    inside = np.zeros(len(points), dtype=bool)
    inside[near] = mask.bits[row[near], column[near]]
    return int(np.count_nonzero(inside != wanted))


def most_agreeable(prediction: Prediction, prompts: Prompts) -> tuple[int, int]:
    """The candidate that contradicts the fewest points; of several, the one with the highest predicted IoU.

    Masks are computed only until one contradicts none.

    Returns
    -------
    index : int
    count : int
        How many points it contradicts.
    """
    order = np.argsort(-prediction.scores, kind="stable").tolist()
    best, fewest = order[0], contradictions(prediction.mask(order[0]), prompts)
    for index in order[1:]:
        if not fewest:
            break
        count = contradictions(prediction.mask(index), prompts)
        if count < fewest:
            best, fewest = index, count
    return best, fewest
