"""The classical ways from a click to an object, that a model must be better than."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.filters import gaussian
from skimage.segmentation import flood, random_walker
from skimage.transform import resize

from napari_sam.evaluation.interactive import Ask
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

__all__ = ["flood_fill", "walk_randomly"]

_FLOOD_REACH = 256
"""Pixels around a click that are flooded: objects are up to 500 pixels across."""
_CACHED = 64 * 20
"""Flooded regions that are kept: of objects that are clicked on together, all clicks."""
_WALK_SIDE = 128
"""Larger windows are walked on at a coarser scale, since the time grows with the pixels."""

Gray = NDArray[np.float64]
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A mask that came without logits."""

    mask: Mask

    @property
    def low_res_logits(self) -> NDArray[np.float32]:
        raise NotImplementedError("Classical methods know no logits.")


def flood_fill(plane: NDArray[Any], *, tolerance: float = 0.15, sigma: float = 1.0) -> Ask:
    """An object is what is connected to a click and about as bright as that place.

    Positive clicks add their region, negative ones take theirs away, one after the other. A box is flooded
    from its middle, and what lies outside is cut off.

    Parameters
    ----------
    plane : ndarray, shape (H, W, 3), uint8 or float32
    tolerance : float
        How much brighter or darker than the place of the click, as a share of the range of gray values
        between the percentiles 0.5 and 99.5.
    sigma : float
        Of the smoothing before, in pixels.

    Returns
    -------
    callable
        From prompts to masks, for :func:`~napari_sam.evaluation.interactive.click_through`.

    Examples
    --------
    >>> plane = np.zeros((20, 20, 3), dtype=np.uint8)
    >>> plane[5:10, 5:15] = 200
    >>> flood_fill(plane, sigma=0)([Prompts.create((20, 20), points=[[6, 6]])])[0].mask.area
    50
    """
    gray = _gray(plane, sigma)

    # The clicks of an object come again each time that there is one more. Bits are packed: 32 kB at most.
    @lru_cache(maxsize=_CACHED)
    def flooded(row: int, column: int) -> tuple[Window, tuple[int, ...], NDArray[np.uint8]]:
        window = _around(row, row, column, column, _FLOOD_REACH, gray.shape)
        seed = row - window[0].start, column - window[1].start
        found = flood(gray[window], seed, tolerance=tolerance, connectivity=1)
        return window, found.shape, np.packbits(found)

    def region(row: int, column: int) -> tuple[Window, NDArray[np.bool_]]:
        window, shape, packed = flooded(row, column)
        return window, np.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)

    def one(prompts: Prompts) -> Mask:
        bits = np.zeros(gray.shape, dtype=bool)
        if prompts.box is not None:
            box = _inside(prompts.box)
            window, found = region((box[0].start + box[0].stop) // 2, (box[1].start + box[1].stop) // 2)
            whole = np.zeros_like(bits)
            whole[window] = found
            bits[box] = whole[box]
        for row, column, positive in _clicks(prompts):
            window, found = region(row, column)
            bits[window][found] = positive
        return Mask.from_array(bits)

    return _each(one)


def walk_randomly(
    plane: NDArray[Any], *, beta: float = 1000.0, sigma: float = 0.5, radius: int = 2, reach: int = 32
) -> Ask:
    """An object is from where a random walker comes to a positive click first (Grady 2006).

    It walks in a window around the clicks, whose rim is background as negative clicks are; steps over edges
    are rare. In a box, the middle is the object and what lies outside is background. Parameters were
    chosen on images of the train split of our data, as the tolerance of :func:`flood_fill`.

    Parameters
    ----------
    plane : ndarray, shape (H, W, 3), uint8 or float32
    beta : float
        How much rarer steps over edges are, as in :func:`skimage.segmentation.random_walker`.
    sigma : float
        Of the smoothing before, in pixels.
    radius : int
        Pixels around a click that are on its side, too.
    reach : int
        Pixels around all clicks that are walked on. Windows of more than 128 pixels are walked on coarsely,
        since the time grows with their area.

    Returns
    -------
    callable
        From prompts to masks, for :func:`~napari_sam.evaluation.interactive.click_through`.

    Examples
    --------
    >>> plane = np.zeros((20, 20, 3), dtype=np.uint8)
    >>> plane[5:10, 5:15] = 200
    >>> walk_randomly(plane, sigma=0)([Prompts.create((20, 20), points=[[9, 7]])])[0].mask.area
    50
    """
    gray = _gray(plane, sigma)

    def one(prompts: Prompts) -> Mask:
        clicks = _clicks(prompts)
        if prompts.box is not None:
            box = _inside(prompts.box)
            tall, wide = (side.stop - side.start for side in box)
            window = _around(
                *(box[0].start, box[0].stop - 1, box[1].start, box[1].stop - 1),
                max(2, max(tall, wide) // 4),
                gray.shape,
            )
            clicks = [(box[0].start + tall // 2, box[1].start + wide // 2, True), *clicks]
        else:
            rows, columns, _ = zip(*clicks, strict=True)
            window = _around(min(rows), max(rows), min(columns), max(columns), reach, gray.shape)
        seeds = np.zeros([side.stop - side.start for side in window], dtype=np.int32)
        seeds[[0, -1]] = seeds[:, [0, -1]] = 2
        if prompts.box is not None:
            kept = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, window, strict=True))
            seeds[...], seeds[kept] = 2, 0
        bits = _walked(
            gray[window],
            seeds,
            [(r - window[0].start, c - window[1].start, p) for r, c, p in clicks],
            beta,
            radius,
        )
        return Mask((window[0].start, window[1].start), bits, (gray.shape[0], gray.shape[1]))

    return _each(one)


def _walked(
    gray: Gray, seeds: NDArray[np.int32], clicks: Sequence[tuple[int, int, bool]], beta: float, radius: int
) -> NDArray[np.bool_]:
    """The object in a window, where seeds of the background are 2; squares around clicks are seeds, too."""
    shape = gray.shape
    coarse = [max(1, side * min(_WALK_SIDE, max(shape)) // max(shape)) for side in shape]
    # In which coarse row or column a pixel is, and which pixel is in the middle of each of those.
    rows, columns = (np.arange(n) * m // n for n, m in zip(shape, coarse, strict=True))
    middles = np.ix_(*((2 * np.arange(m) + 1) * n // (2 * m) for n, m in zip(shape, coarse, strict=True)))
    if max(shape) > _WALK_SIDE:
        gray, seeds = resize(gray, coarse, anti_aliasing=True), seeds[middles]
    for row, column, positive in clicks:
        seeds[_around(*(rows[row],) * 2, *(columns[column],) * 2, radius, seeds.shape)] = 1 if positive else 2
    if gray.min() == gray.max() or seeds.all() or not (seeds == 1).any():
        found = seeds == 1
    else:
        with warnings.catch_warnings():
            # Probabilities may be a little off: which is the greater is what counts.
            warnings.simplefilter("ignore", UserWarning)
            found = random_walker(gray, seeds, beta=beta, mode="cg_j", tol=1e-3) == 1
    return np.asarray(found[np.ix_(rows, columns)])


def _gray(plane: NDArray[Any], sigma: float) -> Gray:
    """Brightness, smoothed, so that 0 to 1 is the range of nearly all pixels."""
    smooth = gaussian(rgb2gray(plane), sigma) if sigma else rgb2gray(plane)
    low, high = np.percentile(smooth, [0.5, 99.5])
    return np.asarray((smooth - low) / max(high - low, 1e-9), dtype=np.float64)


def _each(one: Callable[[Prompts], Mask]) -> Ask:
    return lambda prompts: [_Drawn(one(prompt)) for prompt in prompts]


def _clicks(prompts: Prompts) -> list[tuple[int, int, bool]]:
    """Rows, columns, and whether they are on the object."""
    points = prompts.points.round().astype(int).tolist()
    return [(y, x, label == 1) for (x, y), label in zip(points, prompts.labels.tolist(), strict=True)]


def _inside(box: NDArray[np.float64]) -> Window:
    """The pixels whose centres are in a box."""
    x0, y0, x1, y1 = np.ceil(box[:2]).astype(int).tolist() + (np.floor(box[2:]).astype(int) + 1).tolist()
    return slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))


def _around(top: int, bottom: int, left: int, right: int, reach: int, shape: tuple[int, ...]) -> Window:
    """The window that reaches so far beyond pixels, within the plane."""
    return (
        slice(max(0, top - reach), min(shape[0], bottom + reach + 1)),
        slice(max(0, left - reach), min(shape[1], right + reach + 1)),
    )
