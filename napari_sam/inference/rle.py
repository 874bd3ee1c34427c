"""Masks as run lengths, as in COCO: column by column, background first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask

__all__ = ["box_of_runs", "coco_rle", "mask_of_runs", "run_lengths", "runs_of_text"]

# A run of 2**35 pixels is longer than any mask, and sums of such numbers fit into 64 bits.
_LONGEST_NUMBER = 7


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


def runs_of_text(text: str) -> NDArray[np.int64]:
    """The run lengths of the compressed form.

    A letter has six bits, five of them a digit; numbers from the third on are differences. pycocotools reads
    such texts, too, but trusts them: a wrong one makes it read beyond its memory.

    Raises
    ------
    ValueError
        If the text is none of COCO's: the message goes on from "counts are ...".

    Examples
    --------
    >>> mask = Mask((0, 1), np.ones((2, 2), dtype=bool), (3, 4))
    >>> runs_of_text(coco_rle(mask)["counts"]).tolist()
    [3, 2, 1, 2, 4]
    """
    try:
        letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ValueError("letters that are not COCO's") from None
    last = np.flatnonzero((letters & 32) == 0)
    if not letters.size or letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError("letters that are not COCO's")
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise ValueError("a number that is too long")
    place = np.arange(letters.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((letters & 31) << (5 * place), starts)
    runs -= np.where(letters[last] & 16, 1 << (5 * lengths), 0)
    runs[2::2] = np.cumsum(runs[2::2])
    runs[1::2] = np.cumsum(runs[1::2])
    if runs.min() < 0:
        raise ValueError("a negative run length")
    return runs


def box_of_runs(runs: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """First row and column of what is foreground, and the row and column after the last; zeros if nothing is.

    Parameters
    ----------
    runs : ndarray, shape (N,), int64
        Not negative; their sum fits into 64 bits.
    height : int
        Of the plane, in pixels.
    """
    starts, stops = _foreground(runs)
    if not starts.size:
        return 0, 0, 0, 0
    first, last = starts // height, (stops - 1) // height
    if (first != last).any():  # a run that goes on in the next column has the last row and the first
        top, bottom = 0, height
    else:
        top, bottom = int((starts % height).min()), int(((stops - 1) % height).max()) + 1
    return top, int(first[0]), bottom, int(last[-1]) + 1


def mask_of_runs(runs: NDArray[np.int64], shape: tuple[int, int]) -> Mask:
    """The mask with these run lengths; memory is taken for its box only.

    Parameters
    ----------
    runs : ndarray, shape (N,), int64
        Background first; not negative.
    shape : tuple of int
        Height and width of the plane, in pixels.

    Raises
    ------
    ValueError
        If their sum is not the number of pixels.

    Examples
    --------
    >>> mask_of_runs(np.array([3, 2, 1, 2, 4]), (3, 4)).box_xyxy
    (1, 0, 2, 1)
    """
    height, width = shape
    if runs.max(initial=0) > height * width or runs.sum() != height * width:
        raise ValueError(f"not run lengths of {height} x {width} pixels")
    top, left, bottom, right = box_of_runs(runs, height)
    rows = bottom - top
    if not rows:
        return Mask.empty(shape)
    starts, stops = _foreground(runs)
    inside = (starts // height - left) * rows + starts % height - top
    edges = np.stack([inside, inside + stops - starts], axis=1).ravel()
    between = np.diff(np.concatenate([[0], edges, [rows * (right - left)]]))
    bits = np.repeat(np.arange(len(between)) % 2 == 1, between).reshape(right - left, rows)
    return Mask((top, left), np.ascontiguousarray(bits.T), shape)


def _foreground(runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of foreground begin and end, along the columns."""
    ends = np.cumsum(runs)
    stops = ends[1::2]
    starts = ends[0::2][: len(stops)]
    some = stops > starts
    return starts[some], stops[some]
