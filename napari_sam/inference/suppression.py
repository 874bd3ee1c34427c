"""Of masks whose boxes are nearly the same, the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["best_of_overlapping"]


def best_of_overlapping(
    boxes: NDArray[np.integer],
    scores: ArrayLike,
    threshold: float,
    groups: ArrayLike | None = None,
) -> NDArray[np.intp]:
    """Non-maximum suppression of boxes.

    A box goes if its IoU with one of a higher score that stays is above the threshold. As published with
    Segment Anything, boxes reach from the centre of the first to the centre of the last pixel; those of a
    single row or column, which would have no area, reach to the edges.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4), int
        x0, y0, x1, y1, the latter two exclusive.
    scores : array_like, shape (N,)
        Of equal ones, the first is better.
    threshold : float
        With 1 or more, all stay.
    groups : array_like, shape (N,), int, optional
        Only boxes of the same group are compared.

    Returns
    -------
    ndarray, shape (K,), intp
        Those that stay, the best first.

    Examples
    --------
    >>> boxes = np.array([[0, 0, 11, 11], [0, 0, 11, 10], [20, 20, 31, 31]])
    >>> best_of_overlapping(boxes, [0.8, 0.9, 0.7], 0.7).tolist()
    [1, 2]
    """
    import torch
    from torchvision.ops import batched_nms

    values = np.array(scores, dtype=np.float32)
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    flat = (corners[:, 2:] - corners[:, :2]).min(axis=1) <= 1
    corners[~flat, 2:] -= 1
    members = np.zeros(len(values), dtype=np.int64) if groups is None else np.array(groups, dtype=np.int64)
    kept = batched_nms(
        torch.from_numpy(corners), torch.from_numpy(values), torch.from_numpy(members), float(threshold)
    ).numpy()
    # Equal scores in the order in which they came.
    kept = np.sort(kept)
    order: NDArray[np.intp] = kept[np.argsort(-values[kept], kind="stable")]
    return order
