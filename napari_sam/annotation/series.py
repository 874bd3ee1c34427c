"""Planes that follow each other along one axis of an image: through its depth, or through time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from napari_sam.annotation.plane import Plane, is_whole
from napari_sam.errors import AnnotationError

__all__ = ["Series"]


@dataclass(frozen=True, slots=True)
class Series:
    """The planes that differ in their position along one axis only.

    Parameters
    ----------
    first : Plane
        At position 0; of any other plane of the series, that one is kept.
    axis : int
        Of the image: along which the planes follow each other.
    length : int
        How many there are.
    size : tuple of int
        Height and width of each, in pixels.

    Raises
    ------
    AnnotationError
        If the planes are spanned by that axis, or the image has no such axis.

    Examples
    --------
    >>> series = Series.through(Plane((3, 5, None, None)), (10, 20, 64, 64))
    >>> series.axis, len(series), str(series.plane(7)), series.position(Plane((3, 2, None, None)))
    (1, 20, '[3, 7, :, :]', 2)
    >>> series.position(Plane((4, 2, None, None))) is None
    True
    >>> len(Series.through(Plane((3, 5, None, None)), (10, 20, 64, 64), axis=0))
    10
    """

    first: Plane
    axis: int
    length: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        axis, index = self.axis, self.first.index
        if not 0 <= axis < len(index) or index[axis] is None:
            raise AnnotationError(
                f"Plane {self.first} has no neighbours along axis {axis}: choose one that does not span it."
            )
        object.__setattr__(self, "first", Plane((*index[:axis], 0, *index[axis + 1 :])))

    @classmethod
    def through(cls, plane: Plane, shape: Sequence[int], axis: int | None = None) -> Series:
        """The series that a plane is in.

        Parameters
        ----------
        plane : Plane
        shape : sequence of int
            Of the image, in pixels, without colours.
        axis : int, optional
            Negative ones count from the end. If not given, the last one that does not span the plane and is
            longer than 1: the depth of a stack in time.

        Raises
        ------
        AnnotationError
            If there is no such axis, or the image has only one plane along it.
        """
        if axis is None:
            axis = max(cls.axes(plane, shape), default=None)
            if axis is None:
                raise AnnotationError(
                    f"An image of shape {tuple(shape)} has one plane only like {plane}: "
                    "there is none to go on to."
                )
        elif not -len(shape) <= axis < len(shape):
            raise AnnotationError(f"An image of shape {tuple(shape)} has no axis {axis}.")
        axis %= len(shape)
        series = cls(plane, axis, int(shape[axis]), plane.size_in(shape))
        if len(series) < 2:
            raise AnnotationError(
                f"An image of shape {tuple(shape)} has only one plane along axis {axis}: "
                "there is none to go on to."
            )
        return series

    @staticmethod
    def axes(plane: Plane, shape: Sequence[int]) -> list[int]:
        """Along which axes an image of this shape has other planes like this one."""
        return [axis for axis, at in enumerate(plane.index) if at is not None and shape[axis] > 1]

    def __len__(self) -> int:
        """How many planes there are."""
        return self.length

    def __iter__(self) -> Iterator[Plane]:
        """All planes in order."""
        return map(self.plane, range(self.length))

    def named(self, position: int) -> int:
        """The position that a user means: negative ones count from the end.

        Raises
        ------
        AnnotationError
            If it is no whole number, or there is no such position.
        """
        if not is_whole(position):
            raise AnnotationError(
                f"Plane {position!r} is not given in whole numbers: give its position along axis {self.axis}."
            )
        if not -self.length <= position < self.length:
            raise AnnotationError(f"Plane {position} is not one of the {self.length} along axis {self.axis}.")
        return int(position) % self.length

    def plane(self, position: int) -> Plane:
        """The plane at a position from 0 to the length less one."""
        index = self.first.index
        return Plane((*index[: self.axis], int(position), *index[self.axis + 1 :]))

    def position(self, plane: Plane) -> int | None:
        """Where a plane is along the axis; None if it is not of this series."""
        index = plane.index
        if len(index) != len(self.first.index):
            return None
        at = index[self.axis]
        same = all(
            one == other
            for axis, (one, other) in enumerate(zip(index, self.first.index, strict=True))
            if axis != self.axis
        )
        return at if same and at is not None and at < self.length else None
