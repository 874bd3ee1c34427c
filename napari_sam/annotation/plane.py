"""Which plane of an image something is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

__all__ = ["Plane", "is_whole"]


def is_whole(value: object) -> TypeGuard[int]:
    """Whether something can be a position along an axis: a whole number, which True is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Plane:
    """A 2-D slice of an n-D image: the same one whichever way round a viewer shows it.

    Parameters
    ----------
    index : tuple of (int or None)
        One entry per axis of the image: the position along it, or None for the two axes that span the
        plane. The first of those is the row axis (y), the second the column axis (x).

    Raises
    ------
    ValueError
        If not exactly two entries are None.

    Examples
    --------
    >>> plane = Plane((5, None, None))
    >>> plane.axes, plane.slices, plane.ndim
    ((1, 2), (5, slice(None, None, None), slice(None, None, None)), 3)
    >>> Plane((None, 7, None)).size_in((10, 20, 30))
    (10, 30)
    """

    index: tuple[int | None, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if sum(i is None for i in self.index) != 2:
            raise ValueError(f"A plane is spanned by exactly two axes (None), not {self.index}.")
        # Planes are looked up all the time. The hash of None is not the same in every process.
        object.__setattr__(self, "_hash", hash(tuple(-1 if i is None else i for i in self.index)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def ndim(self) -> int:
        """Axes of the image."""
        return len(self.index)

    @property
    def axes(self) -> tuple[int, int]:
        """The row axis and the column axis."""
        row, column = (axis for axis, i in enumerate(self.index) if i is None)
        return row, column

    def size_in(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width in pixels, in an image of this shape (without colours)."""
        row, column = self.axes
        return shape[row], shape[column]

    @property
    def slices(self) -> tuple[int | slice, ...]:
        """What to index the image's array with to get the plane."""
        return tuple(slice(None) if i is None else i for i in self.index)

    def __str__(self) -> str:
        """As in array indexing: ``[5, :, :]``."""
        return "[" + ", ".join(":" if i is None else str(i) for i in self.index) + "]"
