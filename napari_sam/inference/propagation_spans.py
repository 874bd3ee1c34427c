"""The stretches between annotated planes, through which an object is carried from one side or from both."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from napari_sam.inference.mask import Mask

__all__ = ["Span", "spans_of"]


@dataclass(slots=True)
class Span:
    """The positions between two neighbouring annotated planes of an object, or beyond its last one.

    Attributes
    ----------
    obj_id : int
    before, after : (int, Mask) or None
        The annotated planes on both sides and the object's masks there; None where there is none, or where
        the annotation says that the object is not there.
    wanted : list of int
        Where it is to be found, in order; what is done is taken out.
    """

    obj_id: int
    before: tuple[int, Mask] | None
    after: tuple[int, Mask] | None
    wanted: list[int]

    def last(self, step: int, *, halfway: bool) -> int | None:
        """How far to go in a direction: the last wanted position there; None if there is none.

        Parameters
        ----------
        step : int
            1 for forward, -1 for backward.
        halfway : bool
            Only to the middle if the object comes from the other side as well.
        """
        ends = self.wanted
        if halfway and self.before is not None and self.after is not None:
            twice = self.before[0] + self.after[0]
            ends = [at for at in ends if (2 * at <= twice if step > 0 else 2 * at > twice)]
        return (ends[-1] if step > 0 else ends[0]) if ends else None


def spans_of(
    annotated: Mapping[int, Mapping[int, Mask]], wanted: Mapping[int, Iterable[int]]
) -> Iterator[Span]:
    """The spans of all objects in which something is wanted.

    Parameters
    ----------
    annotated : mapping of int to (mapping of int to Mask)
        By object and position.
    wanted : mapping of int to iterable of int
        By object: positions that are not annotated.

    Examples
    --------
    >>> import numpy as np
    >>> mask = Mask.from_array(np.eye(5))
    >>> for span in spans_of({1: {3: mask, 8: mask}}, {1: [2, 4, 7]}):
    ...     print(span.before and span.before[0], span.after and span.after[0], span.wanted)
    None 3 [2]
    3 8 [4, 7]
    """
    for obj_id, positions in wanted.items():
        known = annotated[obj_id]
        edges = [None, *sorted(known), None]
        for low, high in itertools.pairwise(edges):
            inside = sorted(
                at for at in positions if (low is None or at > low) and (high is None or at < high)
            )
            if inside:
                yield Span(obj_id, _side(known, low), _side(known, high), inside)


def _side(known: Mapping[int, Mask], position: int | None) -> tuple[int, Mask] | None:
    """The mask on an annotated plane, if the object is there."""
    if position is None or known[position].is_empty:
        return None
    return position, known[position]
