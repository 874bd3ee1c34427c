"""Corrections of a mask that came from elsewhere: they change it where somebody pointed, and nowhere else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.inference.mask import Mask, box_around
from napari_sam.inference.prompts import Prompts

__all__ = ["corrected", "mask_on"]


def mask_on(item: SamObject, plane: Plane) -> Mask | None:
    """What the model, or whoever else made the object, says of a plane; None if nobody does."""
    answer, base = item.answers.get(plane), item.base.get(plane)
    if answer is None or base is None:
        either = answer or base
        return None if either is None else either.mask
    if answer.prompts is None or answer.prompts.mask != base.mask:
        return answer.mask
    return corrected(base.mask, answer.mask, answer.prompts)


def corrected(base: Mask, answer: Mask, prompts: Prompts) -> Mask:
    """A mask with the model's corrections at the points and scribbles.

    A model that is given a good mask and one point returns its own idea of the whole object, which may be
    worse everywhere else. What differs between the two falls into connected parts (pixels that touch at a
    corner are connected): parts that are added count if something positive lies on them, parts that are taken
    away if something negative does.

    Parameters
    ----------
    base : Mask
    answer : Mask
        What the model said to `prompts`, `base` among them.
    prompts : Prompts

    Returns
    -------
    Mask
        `answer` itself if the prompts have a box or a lasso: these speak of the whole object.

    Examples
    --------
    >>> def row(text): return Mask.from_array([[c == "x" for c in text]])
    >>> prompts = Prompts.create((1, 9), points=[[7, 0]], mask=row("..xxx...."))
    >>> corrected(row("..xxx...."), row("x..xx..xx"), prompts) == row("..xxx..xx")
    True
    """
    if prompts.box is not None or prompts.lasso is not None:
        return answer
    rows, columns = box_around(base, answer)
    before, after = base.bits_in(rows, columns), answer.bits_in(rows, columns)
    more = _parts_at(after & ~before, _pixels(prompts, 1), rows, columns)
    less = _parts_at(before & ~after, _pixels(prompts, 0), rows, columns)
    return Mask((rows.start, columns.start), (before | more) & ~less, base.shape)


def _pixels(prompts: Prompts, label: int) -> NDArray[np.intp]:
    """Rows and columns, shape (2, N), of what has a label; scribbles count with all that they cross."""
    scribbles = [_dense(scribble.path) for scribble in prompts.scribbles if scribble.label == label]
    xy = [prompts.points[prompts.labels == label], *scribbles]
    x, y = np.round(np.concatenate(xy)).astype(np.intp).T
    return np.stack([y, x])


def _dense(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along a line, less than a pixel apart."""
    if len(path) < 2:
        return path
    lengths = np.abs(np.diff(path, axis=0)).max(axis=1)
    way = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.linspace(0, way[-1], int(np.ceil(way[-1])) + 2)
    return np.stack([np.interp(at, way, path[:, axis]) for axis in (0, 1)], axis=1)


def _parts_at(
    different: NDArray[np.bool_], pixels: NDArray[np.intp], rows: slice, columns: slice
) -> NDArray[np.bool_]:
    """The connected parts on which one of the pixels lies."""
    y, x = pixels[0] - rows.start, pixels[1] - columns.start
    inside = (y >= 0) & (x >= 0) & (y < different.shape[0]) & (x < different.shape[1])
    y, x = y[inside], x[inside]
    if not different[y, x].any():
        return np.zeros_like(different)
    parts, count = ndimage.label(different, structure=np.ones((3, 3)))
    wanted = np.zeros(count + 1, dtype=bool)
    wanted[parts[y, x]] = True
    wanted[0] = False
    found: NDArray[np.bool_] = wanted[parts]
    return found
