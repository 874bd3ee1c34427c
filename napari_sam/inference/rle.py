"""Masks as run lengths, as in COCO: column by column, background first."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam.inference.mask import Mask

__all__ = ["coco_rle", "run_lengths"]


def run_lengths(mask: Mask) -> dict[str, Any]:
    """The uncompressed form: ``{"size": [height, width], "counts": [...]}``.

    Examples
    --------
    >>> run_lengths(Mask((0, 1), np.ones((2, 2), dtype=bool), (3, 4)))
    {'size': [3, 4], 'counts': [3, 2, 1, 2, 4]}
    """
    height, width = mask.shape
    row, column = mask.origin
    framed = np.pad(mask.bits, ((1, 1), (0, 0))).astype(np.int8)
    change = np.diff(framed, axis=0).T
    edges = (np.nonzero(change == 1), np.nonzero(change == -1))
    starts, stops = ((column + at) * height + row + along for at, along in edges)
    # A run that reaches the last row goes on in the first of the next column.
    between = starts[1:] != stops[:-1]
    starts = np.concatenate([starts[:1], starts[1:][between]])
    stops = np.concatenate([stops[:-1][between], stops[-1:]])
    positions = np.concatenate([[0], np.stack([starts, stops], axis=1).ravel(), [height * width]])
    counts = np.diff(positions).tolist()
    return {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}


def coco_rle(mask: Mask) -> dict[str, Any]:
    """The compressed form, ready for JSON: ``{"size": [height, width], "counts": "..."}``."""
    from pycocotools import mask as coco

    encoded = coco.frPyObjects(run_lengths(mask), *mask.shape)
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
