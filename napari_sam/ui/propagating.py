"""Objects carried from the planes where they are annotated to others, in the background."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_sam.annotation import Answer, Document, Plane, SamObject
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.propagating import PlaneState, annotated_masks, plane_states, wanted_positions
from napari_sam.annotation.propagation_run import PropagationRun
from napari_sam.annotation.series import Series
from napari_sam.errors import Cancelled
from napari_sam.ui.carrying import Carried, Carrying
from napari_sam.ui.overview import Overview
from napari_sam.ui.plane import View, finest
from napari_sam.ui.propagating_words import named, nothing_to_do, them
from napari_sam.ui.viewing import go_to_plane

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.ui.result import Result

__all__ = ["Propagating", "Reach"]

KEY = "propagate"

_PORTION = 100
"""Objects that a document takes at once: in a tenth of a second, about."""

_Masks = Mapping[int, Mapping[Plane, Answer | None]]

_CHANNELS = {"c", "ch", "channel", "channels"}


@dataclass(eq=False)
class _Run:
    """What is being carried on, and how far that is."""

    result: Result
    image: Image
    series: Series
    uids: tuple[int, ...]
    name: str
    gesture: object = field(default_factory=object)
    carrying: Carrying | None = None
    # By position, how many objects are still to be found there.
    left: Counter[int] = field(default_factory=Counter)
    total: int = 0
    found: int = 0
    left_out: str = ""
    why: str = ""
    stopped: bool = False
    dropped: bool = False

    @property
    def document(self) -> Document:
        """Where it goes."""
        return self.result.document

    @property
    def done(self) -> int:
        """How many planes are done with all that was to be found there."""
        return self.total - len(self.left)

    def note(self, carried: Carried) -> None:
        """Something was found on a plane, or not."""
        self.left[carried.position] -= len(carried.masks)
        if self.left[carried.position] <= 0:
            del self.left[carried.position]
        answers = (answer for planes in carried.masks.values() for answer in planes.values())
        self.found += sum(answer is not None and not answer.mask.is_empty for answer in answers)


class Reach(NamedTuple):
    """How far a propagation goes.

    Attributes
    ----------
    all_objects : bool
        All that are annotated on a plane of the series; else those in :attr:`Propagating.targets`.
    from_here : bool
        Only go on from the displayed plane, no further than to the next annotated one: what follows from a
        correction. Else fill all that can be reached from annotated planes.
    stop : int or None
        The last position to go to.
    """

    all_objects: bool = False
    from_here: bool = False
    stop: int | None = None


class Propagating(Overview):
    """The part of a controller for volumes and time.

    A propagation goes plane by plane; each is in the document, and to be seen, as soon as it is done. All of
    them are one step of the history, unless something else is done in between.
    """

    propagation_changed = Signal()
    """How far a propagation is."""

    def _begin_propagating(self) -> None:
        """Set up, once."""
        self.propagation_progress = (0, 0)
        self._propagation: _Run | None = None
        self._axis_of: WeakKeyDictionary[Image, int] = WeakKeyDictionary()
        self._picked = False
        self.reach = Reach()
        self.selection_changed.connect(self._on_selected)
        self._work.models.loading.connect(self._stop_for_model)

    # Where

    @property
    def series_axes(self) -> list[int]:
        """The axes of the image, beside the two of a plane, along which it is longer than 1."""
        session = self.session
        if session is None:
            return []
        shape = session.shape
        across = range(len(shape) - 2, len(shape)) if session.plane is None else session.plane.axes
        return [axis for axis, length in enumerate(shape) if axis not in across and length > 1]

    @property
    def series_axis(self) -> int | None:
        """The one of them along which objects are carried on: depth rather than time, if not chosen."""
        axes = self.series_axes
        if not axes or self.session is None:
            return None
        chosen = self._axis_of.get(self.session.image)
        if chosen in axes:
            return chosen
        names = {axis: self.axis_name(axis).casefold() for axis in axes}
        return max(axes, key=lambda axis: (names[axis] not in _CHANNELS, axis))

    @series_axis.setter
    def series_axis(self, axis: int) -> None:
        if self.session is not None:
            self._axis_of[self.session.image] = axis
            self.changed.emit()

    @property
    def series(self) -> Series | None:
        """The displayed plane and those that follow each other through it; None without such planes."""
        session, axis = self.session, self.series_axis
        if session is None or session.plane is None or axis is None:
            return None
        return Series.through(session.plane, session.shape, axis)

    @property
    def series_position(self) -> int | None:
        """Where the displayed plane is in its series."""
        session, series = self.session, self.series
        if session is None or session.plane is None or series is None:
            return None
        return series.position(session.plane)

    def axis_label(self, axis: int) -> str:
        """What a user calls an axis of the image; empty if it has no name."""
        if self.session is None:
            return ""
        image, dims = self.session.image, self.viewer.dims
        for names in (image.axis_labels, dims.axis_labels[dims.ndim - image.ndim :]):
            # napari's own names count from the end.
            if axis < len(names) and not re.fullmatch(r"-?\d*", names[axis]):
                return str(names[axis])
        return ""

    def axis_name(self, axis: int) -> str:
        """What to call an axis of the image."""
        return self.axis_label(axis) or f"axis {axis}"

    def go_to(self, position: int) -> None:
        """Display another plane of the series."""
        session, series = self.session, self.series
        if session is not None and series is not None and 0 <= position < len(series):
            go_to_plane(self.viewer, session, series.plane(position))

    # What

    @property
    def targets(self) -> list[SamObject]:
        """The objects that are meant: the current one, and those that are selected in the table."""
        session = self.session
        if session is None:
            return []
        document = session.document
        current = [document.current.uid] if document.current.uid in document else []
        chosen = self.selected if self._picked or not current else []
        items = (document.get(uid) for uid in dict.fromkeys([*current, *chosen]))
        return [item for item in items if item is not None]

    @property
    def in_focus(self) -> SamObject | None:
        """The one whose planes are shown: that which the user touched last, or the first in a propagation."""
        session, targets = self.session, self.targets
        if session is None:
            return None
        run = self._propagation
        if not targets and run is not None and run.document is session.document:
            return next((item for uid in run.uids if (item := session.document.get(uid)) is not None), None)
        if not targets:
            return None
        picked = self.selected if self._picked else []
        return next((item for uid in picked if (item := session.document.get(uid)) is not None), targets[0])

    def states_of(self, item: SamObject | None) -> np.ndarray:
        """What is known of an object on each plane of the series, as PlaneState; zeros for no object."""
        series = self.series
        if series is None:
            return np.zeros(0, dtype=np.uint8)
        return np.zeros(len(series), dtype=np.uint8) if item is None else plane_states(item, series)

    # A run

    @property
    def propagating(self) -> bool:
        """Whether a propagation is going on."""
        return self._propagation is not None

    def propagate(
        self, direction: str = "both", uids: Collection[int] = (), reach: Reach | None = None
    ) -> None:
        """Carry objects on along the series, in the background; clicks are answered first.

        Annotated planes stay as they are: planes with prompts, with something painted by hand, and those
        whose masks came from elsewhere.

        Parameters
        ----------
        direction : str, default "both"
            Or "forward", to higher positions, or "backward".
        uids : collection of int, optional
            Of the objects; if not given, those that `reach` says.
        reach : Reach, optional
            The one that the user chose if not given.
        """
        session = self.session
        if session is None or self.propagating:
            return
        self._catch_up()
        series = self.series
        if series is None:
            self._tell(session.plane_problem or "The image has a single plane: there is none to go on to.")
            return
        reach = reach or self._reach_in(series)
        everything = reach.all_objects and not uids
        chosen = list(uids) or [
            item.uid for item in (session.document.objects if everything else self.targets)
        ]
        if not chosen:
            self._tell("There is no object to propagate: click one on this plane first.")
            return
        run = _Run(session.result, session.image, series, tuple(chosen), self.axis_name(series.axis))
        start = self.series_position if reach.from_here else None
        view = session.view(series.first)
        self._notice = ""
        self._propagation = run
        self.propagation_progress = (0, 0)
        # Masks of clicks that are still on their way are what it starts from.
        self._work.when_answered(
            KEY,
            lambda: self._start_run(run, view, direction, start, reach.stop, quietly=everything),
            lambda error: self._end_run(run, error),
        )
        self.propagation_changed.emit()
        self.changed.emit()

    def _reach_in(self, series: Series) -> Reach:
        """What the user chose, which may have been on an image with more planes."""
        reach = self.reach
        return reach if reach.stop is None else reach._replace(stop=min(reach.stop, len(series) - 1))

    def _start_run(
        self, run: _Run, view: View, direction: str, start: int | None, stop: int | None, *, quietly: bool
    ) -> None:
        try:
            problem = self._prepare(run, view, direction, start, stop, quietly=quietly)
        except Exception as error:  # noqa: BLE001  # what is not ended here goes on for ever
            self._end_run(run, error)
            return
        if problem:
            self._propagation = None
            self._tell(problem)
            self.propagation_changed.emit()
        else:
            self._go_on(run)

    def _prepare(
        self, run: _Run, view: View, direction: str, start: int | None, stop: int | None, *, quietly: bool
    ) -> str:
        """Find out what is to be done; why there is nothing, if so."""
        there = (run.document.get(uid) for uid in run.uids)
        items = [item for item in there if item is not None]
        known = [item for item in items if _has_mask(item, run.series)]
        wanted = {
            item.uid: at
            for item in known
            if (at := wanted_positions(item, run.series, direction, start=start, stop=stop))
        }
        missing = [item for item in items if item not in known]
        if not wanted:
            absent = start is not None and all(
                plane_states(item, run.series)[start] == PlaneState.EMPTY for item in known
            )
            return nothing_to_do(items, missing, absent)
        carried = tuple(item for item in known if item.uid in wanted)
        planes = Planes(finest(run.image), run.image.rgb)
        headless = PropagationRun(series=run.series, objects=carried, wanted=wanted, look=view.look)
        run.carrying = Carrying(
            headless, planes, lambda at: replace(view, plane=run.series.plane(at)), run.name
        )
        run.left = Counter(at for positions in wanted.values() for at in positions)
        run.total = len(run.left)
        run.uids = tuple(wanted)
        if missing and not quietly:
            run.left_out = (
                f" {named(missing)} cannot be propagated: annotate {them(missing)} on a plane first."
            )
        return ""

    def _go_on(self, run: _Run) -> None:
        assert run.carrying is not None
        done = run.done
        self.propagation_progress = (done, run.total)
        self._work.carry_on(
            KEY,
            run.carrying,
            f"Propagating: plane {min(done + 1, run.total)} of {run.total}",
            lambda carried: self._on_carried(run, carried),
            lambda error: self._end_run(run, error),
        )
        self.propagation_changed.emit()

    def _on_carried(self, run: _Run, carried: Carried | None) -> None:
        if carried is None:
            self._end_run(run)
            return
        if not run.dropped:
            run.note(carried)
        self._put(run, _portions(run.document, carried.masks))

    def _put(self, run: _Run, portions: deque[_Masks]) -> None:
        """Put what was found on a plane; of very many objects, the GUI has its turn in between."""
        if portions and not run.dropped:
            picked = self._picked
            run.document.put_propagated(portions.popleft(), "Propagate", gesture=run.gesture)
            self._picked = picked
        if portions and not run.dropped:
            self._work.requests.post(lambda: self._put(run, portions))
            return
        if run.stopped or not any(uid in run.document for uid in run.uids):
            # The next request only tells the worker to forget what it remembers.
            self._work.stop_carrying()
        self._go_on(run)

    def _end_run(self, run: _Run, error: Exception | None = None) -> None:
        if run is not self._propagation:
            return
        self._propagation = None
        done = f"{run.done} of {run.total} planes are done"
        if error is None:
            self.propagation_progress = (run.total, run.total)
            self._say(run.document, _summary(run) + run.left_out)
        elif isinstance(error, Cancelled):
            why = run.why or "Stopped"
            # Somebody stopped it, perhaps from another image.
            self._notice = (
                f"{why}: {done}, and stay as they are." if run.done else f"{why}: nothing was changed."
            )
        else:
            self._on_failed(error)
        self.propagation_changed.emit()
        self.changed.emit()

    def stop_propagating(self, why: str = "Stopped", *, drop: bool = False) -> None:
        """Stop the propagation that is going on, within a plane; what is done stays.

        Parameters
        ----------
        why : str
            The beginning of a sentence for the user.
        drop : bool, default False
            A plane that is on its way is not taken any more.
        """
        run = self._propagation
        if run is not None and not (run.stopped and run.dropped >= drop):
            run.stopped, run.dropped, run.why = True, run.dropped or drop, run.why or why
            if run.carrying is None:
                # It still waits, for masks or for a model whose download may take an hour.
                self._work.requests.cancel(KEY)
                self._end_run(run, Cancelled(""))
            else:
                self._work.stop_carrying()

    # What the rest of the controller tells

    def _stop_for_history(self, document: Document | None = None) -> None:
        """Something is to be undone or done again: what comes after that would be on top of it.

        That is in the document of the image which is chosen, if not in another one.
        """
        run = self._propagation
        if document is None and self.session is not None:
            document = self.session.document
        if run is not None and run.document is document:
            self.stop_propagating("Stopped by the undo", drop=True)

    def _stop_for_image(self, layer: Any, what: str) -> None:
        """Something happened to a layer."""
        if self._propagation is not None and self._propagation.image is layer:
            self.stop_propagating(f"“{layer.name}” {what}, so the propagation stopped")

    def _stop_for_model(self) -> None:
        """Another model is being loaded."""
        if self._propagation is not None and self._work.models.ready:
            self.stop_propagating("Another model was chosen, so the propagation stopped")

    def _on_selected(self) -> None:
        self._picked = bool(self.selected)
        self.propagation_changed.emit()

    def _touched(self, uids: Iterable[int]) -> None:
        """Objects changed: to work on the current one brings it into focus."""
        if self.session is not None and self.session.document.current.uid in uids:
            self._picked = False


def _has_mask(item: SamObject, series: Series) -> bool:
    """Whether there is something to start from."""
    return any(not mask.is_empty for mask in annotated_masks(item, series).values())


def _portions(document: Document, masks: _Masks) -> deque[_Masks]:
    """The same in portions that a document takes in a moment: what is to go first, then what comes."""
    many = list(masks.items())
    old: list[tuple[int, Mapping[Plane, Answer | None]]] = []
    if len(many) > _PORTION:
        for uid, planes in many:
            item = document.get(uid)
            if item is not None and any(plane in item.base for plane in planes):
                old.append((uid, dict.fromkeys(planes)))
    return deque(
        dict(part[first : first + _PORTION])
        for part in (old, many)
        for first in range(0, len(part), _PORTION)
    )


def _summary(run: _Run) -> str:
    """What a run came to."""
    document, several = run.document, len(run.uids) > 1
    item = document.get(run.uids[0])
    if several:
        name = f"{len(run.uids):,} objects were"
    else:
        name = f"Object {item.id if item is not None else ''} was".replace("  ", " ")
    if not run.found:
        return f"{name} found on none of {run.total} planes: annotate another plane to help the model."
    one = f"found on {run.found:,} of {run.total:,} planes"
    masks = f"{run.found:,} masks on {run.total:,} planes" if several else one
    return f"{name} propagated: {masks}. Correct a plane and propagate from there, or undo all of it."
