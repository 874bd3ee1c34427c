"""Automatic runs, plane by plane, in the background."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes
from psygnal import Signal

from napari_sam.annotation import Document, Plane
from napari_sam.errors import Cancelled
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.plane import View
from napari_sam.ui.region import Region

if TYPE_CHECKING:
    from napari_sam.ui.result import Result
    from napari_sam.ui.segmenter import Everything

__all__ = ["STACK_BYTES", "Finding", "planes_along"]

KEY = "everything"

STACK_BYTES = 2**30
"""Memory that what is found on all planes of a run may take, in packed bits; a plane takes at most half."""


def planes_along(shape: tuple[int, ...], plane: Plane) -> list[Plane]:
    """All planes of an image that lie as a plane of it.

    Examples
    --------
    >>> [str(one) for one in planes_along((2, 30, 40), Plane((1, None, None)))]
    ['[0, :, :]', '[1, :, :]']
    """
    others = [axis for axis, at in enumerate(plane.index) if at is not None]
    result = []
    for at in np.ndindex(*(shape[axis] for axis in others)):
        index = dict(zip(others, at, strict=True))
        result.append(Plane(tuple(index.get(axis) for axis in range(plane.ndim))))
    return result


@dataclass(eq=False)
class _Run:
    """What is being looked for, and how far that is."""

    result: Result
    views: list[View]
    prompts: str
    points_per_side: int
    region: Region | None
    choice: Hashable
    size: tuple[int, int]
    done: int = 0
    nbytes: int = 0
    cancelled: bool = False

    @property
    def view(self) -> View:
        """The plane that is next."""
        return self.views[self.done]

    @property
    def document(self) -> Document:
        """Where it goes."""
        return self.result.document

    @property
    def room(self) -> int:
        """Bytes that its masks may take: an equal part of what is left."""
        return max(1, (STACK_BYTES - self.nbytes) // max(2, len(self.views) - self.done))

    def settings(self, view: View) -> Hashable:
        """Equal for runs that find the same on a plane."""
        region = None if self.region is None else self.region.mask(view.plane, self.size)
        points = self.points_per_side if self.prompts == "grid" else None
        return view.key, self.prompts, points, region, self.choice


class Finding(Controlling):
    """The part of a controller that looks for everything.

    What is found on a plane is kept in the document as soon as the plane is done.
    """

    everything_changed = Signal()
    """How far a run is, what it found, or what is shown of it."""

    region: Shapes | None

    def _begin_finding(self) -> None:
        """Set up, once."""
        self.everything_progress = (0, 0)
        self._run: _Run | None = None

    @property
    def finding(self) -> bool:
        """Whether a run is going on."""
        return self._work.requests.pending(KEY)

    @property
    def stack_length(self) -> int:
        """How many planes lie as the displayed one; 0 without one."""
        session = self.session
        if session is None or session.plane is None:
            return 0
        height, width = session.plane.size_in(session.shape)
        return int(np.prod(session.shape, dtype=np.int64)) // max(1, height * width)

    def find_everything(
        self, prompts: str = "grid", *, points_per_side: int = 32, all_planes: bool = False
    ) -> None:
        """Find all objects on the displayed plane, in the background.

        Clicks are answered first. With a region, only what is inside it is asked about.

        Parameters
        ----------
        prompts : {"grid", "centres", "none"}
            What the model is asked about; see
            :class:`~napari_sam.inference.automatic.SamAutomaticMaskGenerator`. A grid for models that do not
            see objects by themselves.
        points_per_side : int, default 32
            Of the grid.
        all_planes : bool, default False
            Go through all planes that lie as the displayed one, which comes first. If that is stopped, planes
            that are done keep what was found, and are left out next time.
        """
        session = self.session
        if session is None or self.finding:
            return
        if session.plane is None:
            self._tell(session.plane_problem)
            return
        layer, plane = self.region, session.plane
        region = None if layer is None else Region(layer, session, plane.axes)
        if layer is not None and region is not None and region.is_empty:
            self._tell(f"Nothing is drawn in {layer.name!r}: draw a shape, or choose the whole plane.")
            return
        planes = [plane]
        if all_planes:
            planes += [one for one in planes_along(session.shape, plane) if one != plane]
        views = [session.view(one) for one in planes]
        size = plane.size_in(session.shape)
        choice = self._work.models.choice
        run = _Run(session.result, views, prompts, points_per_side, region, choice, size)
        run.views = self._still_to_do(run) if all_planes else views
        again = {view.plane for view in run.views}
        run.nbytes = sum(one.nbytes for on, one in run.document.candidates.items() if on not in again)
        self._notice = ""
        self.everything_progress = (0, 0)
        self._run = run
        self._find_next(run)
        self.everything_changed.emit()
        self.changed.emit()

    def _still_to_do(self, run: _Run) -> list[View]:
        """Without those planes that a run like this has done before it was stopped."""
        done, kept = run.result.sieves.half_done, run.document.candidates
        left = [
            view
            for view in run.views
            if view.plane not in done or view.plane not in kept or done[view.plane] != run.settings(view)
        ]
        return left or run.views

    def _find_next(self, run: _Run) -> None:
        count, view, sieves = len(run.views), run.view, run.result.sieves
        settings = run.settings(view)

        def progress(done: int, total: int) -> None:
            if run is self._run:
                self.everything_progress = run.done * total + done, count * total
                self.everything_changed.emit()

        def arrived(found: Everything) -> None:
            run.done += 1
            run.nbytes += found.sieve.candidates.nbytes
            sieves.add(view.plane, found.sieve)
            sieves.half_done[view.plane] = settings
            stopped = run.cancelled or run.choice != self._work.models.choice
            if run.done < count and not stopped:
                self._find_next(run)
            else:
                self._run = None
                if run.done == count:
                    sieves.half_done.clear()
            self._on_found(run.document, view.plane, found)
            if run.done < count and stopped:
                self._say_stopped(run)

        def failed(error: Exception) -> None:
            self._run = None
            if isinstance(error, Cancelled):
                self._say_stopped(run)
            else:
                self.everything_changed.emit()
                self._on_failed(error)

        at = f": plane {run.done + 1} of {count}" if count > 1 else ""
        self._work.find_everything(
            view,
            f"Looking for everything{at}",
            {
                "prompts": run.prompts,
                "points_per_side": run.points_per_side,
                "region": None if run.region is None else run.region.mask(view.plane, run.size),
                "most_bytes": run.room,
                # Clicks on the displayed plane have use for it; a whole stack would drive out all others.
                "keep_embedding": count == 1,
            },
            progress,
            arrived,
            failed,
        )

    def _say_stopped(self, run: _Run) -> None:
        if len(run.views) > 1:
            said = f"Stopped: {run.done} of {len(run.views)} planes are done, and can be accepted."
        else:
            said = "Cancelled: nothing was segmented."
        self._say(run.document, said)
        self.everything_changed.emit()
        self.changed.emit()

    def stop_finding(self) -> None:
        """Stop the run that is going on, within one batch of points; planes that are done stay."""
        if self._run is not None:
            self._run.cancelled = True
        self._work.stop_everything()

    def _stop_finding_in(self, image: object) -> None:
        """Something happened to an image: what is found in its old pixels is of no use."""
        if self._run is not None and self._run.result.image is image:
            self.stop_finding()

    def _on_found(self, document: Document, plane: Plane, found: Everything) -> None:
        """A plane is done."""
        raise NotImplementedError
