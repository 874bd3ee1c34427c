"""What says where an object is along a series, what was carried over from there, and what is to be filled."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.crossing import crossed, cut
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.annotation.series import Series
from napari_sam.annotation.territory import is_canonical
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask

__all__ = [
    "Direction",
    "PlaneState",
    "annotated_masks",
    "carried_over",
    "is_annotated",
    "plane_states",
    "wanted_positions",
]


class PlaneState(IntEnum):
    """What is known of an object on a plane.

    A plane is *annotated* if it has prompts, was painted or erased by hand, or has a mask that was not
    carried over from another plane: imported, or found automatically. Propagation starts from these, and
    never changes them.
    """

    EMPTY = 0
    PROPAGATED = 1
    ANNOTATED = 2


class Direction(StrEnum):
    """Along a series."""

    BOTH = "both"
    FORWARD = "forward"
    BACKWARD = "backward"

    @classmethod
    def named(cls, name: str) -> Direction:
        """The direction of this name.

        Raises
        ------
        AnnotationError
            If there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise AnnotationError(
                f"There is no direction {name!r}: choose one of {', '.join(cls)}."
            ) from None


def plane_states(item: SamObject, series: Series) -> NDArray[np.uint8]:
    """What is known of an object on each plane of a series.

    Parameters
    ----------
    item : SamObject
    series : Series

    Returns
    -------
    ndarray, shape (len(series),), uint8
        Values of :class:`PlaneState`. Pixels that come of planes across those of the series do not make a
        plane annotated.

    Examples
    --------
    >>> from napari_sam.annotation.records import Answer
    >>> dot = Mask((1, 1), np.ones((1, 1), dtype=bool), (4, 4))
    >>> answers = [Answer(((dot, None),)), Answer(((dot, None),), propagated=True)]
    >>> item = SamObject(1, 1, base={Plane((z, None, None)): one for z, one in enumerate(answers)})
    >>> plane_states(item, Series(Plane((0, None, None)), 0, 4, (4, 4))).tolist()
    [2, 1, 0, 0]
    """
    states = np.zeros(len(series), dtype=np.uint8)
    through = [at for plane, mask in item.masks.items() for at in crossed(plane, mask, series)]
    if is_canonical(series.first) and all(is_canonical(p) for p in (*item.base, *item.answers)):
        # All that there is has been said on these planes: what nobody else said was painted.
        through = [at for at in through if _nobody_said(item, series.plane(at))]
        states[through] = PlaneState.ANNOTATED
    else:
        states[through] = PlaneState.PROPAGATED
    for plane, answer in item.base.items():
        at = series.position(plane)
        if at is not None and not answer.mask.is_empty:
            states[at] = max(states[at], PlaneState.PROPAGATED if answer.propagated else PlaneState.ANNOTATED)
    for plane in item.prompts.keys() | item.answers.keys():
        if (at := series.position(plane)) is not None:
            states[at] = PlaneState.ANNOTATED
    states[_by_hand(item, series)] = PlaneState.ANNOTATED
    return states


def is_annotated(item: SamObject, plane: Plane) -> bool:
    """Whether a plane of an object is annotated; see :class:`PlaneState`."""
    if plane in item.prompts or plane in item.answers:
        return True
    base = item.base.get(plane)
    if base is not None and not base.propagated and not base.mask.is_empty:
        return True
    if is_canonical(plane):
        edit = item.hand.get(plane)
        return edit is not None and not edit.is_empty
    if not item.hand:
        return False
    axis = next(axis for axis, at in enumerate(plane.index) if at is not None)
    at = plane.index[axis]
    assert at is not None
    return at in _by_hand(item, Series(plane, axis, at + 1, (0, 0)))


def carried_over(item: SamObject) -> set[Plane]:
    """The planes whose masks came by propagation, and were neither prompted nor painted since."""
    return {p for p, answer in item.base.items() if answer.propagated and not is_annotated(item, p)}


def annotated_masks(item: SamObject, series: Series) -> dict[int, Mask]:
    """What an object is on the annotated planes of a series, as it is displayed there: with hand edits.

    Parameters
    ----------
    item : SamObject
    series : Series

    Returns
    -------
    dict of int to Mask
        By position. An empty mask says that the object is not there. Planes whose prompts still wait for an
        answer are left out, unless something is there already.
    """
    found = {}
    for at in np.flatnonzero(plane_states(item, series) == PlaneState.ANNOTATED).tolist():
        plane = series.plane(at)
        mask = _shown(item, plane, series.size)
        if not mask.is_empty or not item.is_stale(plane):
            found[at] = mask
    return found


def wanted_positions(
    item: SamObject,
    series: Series,
    direction: Direction | str = Direction.BOTH,
    *,
    start: int | None = None,
    stop: int | None = None,
) -> list[int]:
    """Which planes of an object are to be filled from those that are annotated.

    Parameters
    ----------
    item : SamObject
    series : Series
    direction : Direction
        Forward is towards higher positions.
    start : int, optional
        Go on from this position, where the object is. If it is annotated, the next annotated plane is where
        it ends, so that a correction changes only what follows from it; if it was propagated, it is the first
        one to be filled. If not given, everything that can be reached from annotated planes.
    stop : int, optional
        The last position to be filled. With both directions, nothing beyond it is, as seen from `start` or,
        without that, from the annotated planes.

    Returns
    -------
    list of int
        In rising order. Annotated planes are never among them; empty if no plane is annotated, or the object
        is not on that of `start`: between the two, nothing would be filled.

    Raises
    ------
    AnnotationError
        If the direction is unknown, or `start` or `stop` is not in the series.

    Examples
    --------
    >>> from napari_sam.annotation.records import Answer
    >>> dot = Answer(((Mask((1, 1), np.ones((1, 1), dtype=bool), (4, 4)), None),))
    >>> item = SamObject(1, 1, base={Plane((z, None, None)): dot for z in (2, 5)})
    >>> series = Series(Plane((0, None, None)), 0, 9, (4, 4))
    >>> wanted_positions(item, series), wanted_positions(item, series, "forward")
    ([0, 1, 3, 4, 6, 7, 8], [3, 4, 6, 7, 8])
    >>> wanted_positions(item, series, start=2), wanted_positions(item, series, stop=7)
    ([0, 1, 3, 4], [3, 4, 6, 7])
    """
    direction = Direction.named(direction)
    for at in (start, stop):
        if at is not None and not 0 <= at < len(series):
            raise AnnotationError(f"Plane {at} is not one of the {len(series)} along axis {series.axis}.")
    states = plane_states(item, series)
    annotated = np.flatnonzero(states == PlaneState.ANNOTATED)
    if not len(annotated) or (start is not None and states[start] == PlaneState.EMPTY):
        return []
    low, high = _limits(annotated, len(series), direction, start, stop)
    known = set(annotated.tolist())
    return [at for at in range(low, high + 1) if at not in known]


def _limits(
    annotated: NDArray[np.intp], length: int, direction: Direction, start: int | None, stop: int | None
) -> tuple[int, int]:
    """The first and the last position to be filled."""
    low, high = 0, length - 1
    first, last = int(annotated[0]), int(annotated[-1])
    if start is not None:
        first = last = start
        if start in annotated:
            low = max(annotated[annotated < start], default=-1) + 1
            high = min(annotated[annotated > start], default=length) - 1
        elif direction == Direction.BOTH:
            # Nothing spreads from here in both directions: it is one end of a range.
            low = min(start, start if stop is None else stop)
            high = max(start, start if stop is None else stop)
    if direction == Direction.FORWARD:
        low = max(low, first)
        high = high if stop is None else min(high, stop)
    elif direction == Direction.BACKWARD:
        high = min(high, last)
        low = low if stop is None else max(low, stop)
    elif stop is not None:
        low, high = max(low, min(first, stop)), min(high, max(last, stop))
    return low, high


def _nobody_said(item: SamObject, plane: Plane) -> bool:
    return plane not in item.base and plane not in item.answers


def _by_hand(item: SamObject, series: Series) -> list[int]:
    """Positions of planes that were painted or erased on."""
    return [
        at
        for plane, edit in item.hand.items()
        for mask in (edit.added, edit.removed)
        for at in crossed(plane, mask, series)
    ]


def _shown(item: SamObject, plane: Plane, size: tuple[int, int]) -> Mask:
    """The pixels that are the object's on a plane."""
    if is_canonical(plane):
        return item.masks.get(plane) or Mask.empty(size)
    return cut(item.masks, plane, size)
