"""What is drawn by hand: scribbles through an object, and a lasso around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError
from napari_sam.inference.checks import numbers
from napari_sam.inference.clipping import covers_some, parts_on

__all__ = ["Scribble", "checked_lasso", "sample_path"]


@dataclass(frozen=True, slots=True, eq=False)
class Scribble:
    """A freehand line that lies on an object or on its background.

    Compares by value. Check one against an image with :meth:`create`.

    Attributes
    ----------
    path : ndarray, shape (N, 2), float64
        (x, y) of at least one vertex, in pixels of the plane. Read-only.
    label : int
        1 on the object, 0 on the background.

    Examples
    --------
    >>> Scribble([[10, 10], [30, 12]], 1) == Scribble([[10.0, 10.0], [30.0, 12.0]], 1)
    True
    """

    path: NDArray[np.float64]
    label: int

    def __post_init__(self) -> None:
        path = numbers(self.path, "Scribbles")
        if path.ndim != 2 or path.shape[1] != 2 or len(path) == 0:
            raise PromptError(
                f"A scribble has the shape (N, 2), one x and one y for each vertex, not {path.shape}."
            )
        if np.ndim(self.label) != 0 or self.label not in (0, 1):
            raise PromptError(
                f"A scribble's label is 1 (on the object) or 0 (on the background), not {self.label}."
            )
        path = path.copy()
        path.flags.writeable = False
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "label", int(self.label))

    @classmethod
    def create(cls, size: tuple[int, int], path: ArrayLike, label: int = 1) -> Scribble:
        """Check a scribble against an image; what of it lies outside is cut off.

        Where it leaves the image and comes back, both places are joined.

        Parameters
        ----------
        size : tuple of int
            Height and width of the plane, in pixels.
        path : array_like, shape (N, 2)
        label : int, default 1

        Raises
        ------
        PromptError
            If a number is not finite, the label unknown, or the whole line lies outside the image.
        """
        drawn = cls(numbers(path, "Scribbles"), label)
        height, width = size
        if ((drawn.path >= -0.5) & (drawn.path <= np.array([width, height]) - 0.5)).all():
            return drawn
        parts = parts_on(size, drawn.path)
        if not len(parts):
            x, y = drawn.path[0]
            raise PromptError(
                f"The scribble from ({x:g}, {y:g}) lies outside the image, "
                f"which is {width} pixels wide and {height} high."
            )
        ends = parts.reshape(-1, 2)
        again = np.concatenate([[False], (ends[1:] == ends[:-1]).all(axis=1)])
        return cls(ends[~again], label)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scribble):
            return NotImplemented
        return self.label == other.label and np.array_equal(self.path, other.path)

    def __hash__(self) -> int:
        return hash((self.label, tuple(self.path.ravel().tolist())))


def sample_path(path: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Points in the middles of `count` pieces of a line that are equally long.

    Parameters
    ----------
    path : ndarray, shape (N, 2), float64
        Vertices.
    count : int

    Returns
    -------
    ndarray, shape (count, 2), float64

    Examples
    --------
    >>> sample_path(np.array([[0.0, 0.0], [6.0, 0.0], [6.0, 2.0]]), 2).tolist()
    [[2.0, 0.0], [6.0, 0.0]]
    """
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = (np.arange(count) + 0.5) / count * along[-1]
    return np.stack([np.interp(wanted, along, path[:, axis]) for axis in (0, 1)], axis=1)


def checked_lasso(size: tuple[int, int], lasso: ArrayLike) -> NDArray[np.float64]:
    """A polygon with an area, some of it on the image: shape (K, 2).

    It is kept as it was drawn; what counts of it is the part on the image.

    Raises
    ------
    PromptError
        If it is no polygon, or lies outside the image.
    """
    polygon = numbers(lasso, "Lasso coordinates")
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise PromptError(f"A lasso has the shape (K, 2), one x and one y each, not {polygon.shape}.")
    if len(polygon) < 3:
        raise PromptError(f"A lasso has at least three vertices; {len(polygon)} were given.")
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    # Vertices on one line: relative to the extent, a millionth is nothing.
    if np.linalg.matrix_rank(polygon - polygon[0], tol=1e-6 * max((high - low).max(), 1e-300)) < 2:
        raise PromptError("The lasso has no area: draw it around the object.")
    height, width = size
    if not covers_some(size, polygon):
        raise PromptError(
            f"The lasso from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) lies outside the image, "
            f"which is {width} pixels wide and {height} high."
        )
    return polygon
