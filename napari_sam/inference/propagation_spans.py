"""The stretches between annotated planes, and how objects are carried through them from both sides."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from napari_sam.errors import Cancelled
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried
from napari_sam.models.base import PromptableModel

__all__ = ["Front", "Span", "arriving", "ended", "fronts_of", "spans_of", "stoppable"]

_Known = tuple[int, Mask]


@dataclass(slots=True, eq=False)
class Span:
    """The positions between two neighbouring annotated planes of an object, or beyond its last one.

    Attributes
    ----------
    obj_id : int
    before, after : (int, Mask) or None
        The annotated planes on both sides and the object's masks there; None where there is none, or where
        the annotation says that the object is not there.
    wanted : list of int
        Where it is still to be found, in order.
    """

    obj_id: int
    before: _Known | None
    after: _Known | None
    wanted: list[int]

    def goal(self, step: int, *, halfway: bool) -> int | None:
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


@dataclass(slots=True, eq=False)
class Front:
    """How far an object has been carried from one side of a span.

    Attributes
    ----------
    span : Span
    position : int
    mask : Mask
        Of the object there.
    ahead : (int, Mask) or None
        What is known on the other side of the span.
    goal : int or None
        Where it is to come, for the time being.
    begun : float or None
        The contrast on the annotated plane that it comes from, once that was looked at.
    contrast : float
        The greatest with which it stood out from its surroundings on this way; 0 if it did not.
    """

    span: Span
    position: int
    mask: Mask
    ahead: _Known | None
    goal: int | None = None
    begun: float | None = None
    contrast: float = 0.0


def spans_of(annotated: Mapping[int, Mapping[int, Mask]], wanted: Mapping[int, Iterable[int]]) -> list[Span]:
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
    spans = []
    for obj_id, positions in wanted.items():
        known = annotated[obj_id]
        for low, high in itertools.pairwise([None, *sorted(known), None]):
            inside = [at for at in positions if (low is None or at > low) and (high is None or at < high)]
            if inside:
                spans.append(Span(obj_id, _side(known, low), _side(known, high), sorted(inside)))
    return spans


def fronts_of(spans: Iterable[Span]) -> tuple[list[Front], list[Front]]:
    """Where objects can be carried on from: forward, and backward."""
    forward, backward = [], []
    for span in spans:
        if span.before is not None:
            forward.append(Front(span, *span.before, span.after))
        if span.after is not None:
            backward.append(Front(span, *span.after, span.before))
    return forward, backward


def arriving(fronts: Sequence[Front], step: int, *, halfway: bool) -> Iterator[tuple[int, list[Front]]]:
    """Positions in order, and the fronts that are to come there from the position before.

    Whoever iterates moves them; one that is not moved stays behind.

    Parameters
    ----------
    fronts : sequence of Front
    step : int
        1 for forward, -1 for backward.
    halfway : bool
        As for :meth:`Span.goal`.
    """
    due: dict[int, list[Front]] = defaultdict(list)
    for front in fronts:
        front.goal = front.span.goal(step, halfway=halfway)
        if front.goal is not None and (front.goal - front.position) * step > 0:
            due[front.position + step].append(front)
    while due:
        position = min(due) if step > 0 else max(due)
        here = due.pop(position)
        yield position, here
        for front in here:
            if front.position == position and front.goal is not None and front.goal != position:
                due[position + step].append(front)


def ended(spans: Iterable[Span], fronts: Collection[Front]) -> Iterator[Carried]:
    """Say of objects that no front carries on any more that they are not there."""
    alive = {id(front.span) for front in fronts}
    nowhere: dict[int, dict[int, None]] = defaultdict(dict)
    for span in spans:
        if id(span) not in alive:
            for position in span.wanted:
                nowhere[position][span.obj_id] = None
            span.wanted.clear()
    for position in sorted(nowhere):
        yield Carried(position, nowhere[position])


@contextlib.contextmanager
def stoppable(model: PromptableModel, cancelled: threading.Event | None, position: int) -> Iterator[None]:
    """Let an event stop what is computed inside the block."""
    if cancelled is None:
        yield
        return
    try:
        if cancelled.is_set():
            raise Abandoned
        with abandonable(model, cancelled):
            yield
    except Abandoned:
        raise Cancelled(f"Cancelled on the way to plane {position}: what is done is kept.") from None


def _side(known: Mapping[int, Mask], position: int | None) -> _Known | None:
    """The mask on an annotated plane, if the object is there."""
    if position is None or known[position].is_empty:
        return None
    return position, known[position]
