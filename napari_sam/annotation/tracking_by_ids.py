"""Objects that are called by their ids, on many planes of an image: propagation, and who came from whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.annotation.by_ids import ByIds
from napari_sam.annotation.document import Document
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.propagating import Direction, is_annotated
from napari_sam.annotation.propagation_run import PropagationRun
from napari_sam.annotation.records import Look, SamObject
from napari_sam.annotation.segmenting import Segmenter
from napari_sam.annotation.series import Series
from napari_sam.annotation.timeline import named
from napari_sam.errors import AnnotationError

if TYPE_CHECKING:
    from napari_sam.models.base import Embedding

__all__ = ["PlaneLike", "TrackingByIds"]

PlaneLike = Plane | int | Sequence[int | None] | None
"""How a plane is chosen: see :class:`~napari_sam.annotation.annotation.Annotation`."""


class TrackingByIds(ByIds):
    """Carries the objects of a document from plane to plane.

    Parameters
    ----------
    document : Document
    planes : Planes
        Of its image.
    segmenter : Segmenter
        Of the same image.

    Attributes
    ----------
    document : Document
    look : Look
        How the model sees the image.
    """

    def __init__(self, document: Document, planes: Planes, segmenter: Segmenter) -> None:
        super().__init__(document)
        self.look = Look()
        self._planes, self._segmenter = planes, segmenter

    def propagate(
        self,
        objects: int | Iterable[int] | None = None,
        direction: Direction | str = Direction.BOTH,
        *,
        plane: PlaneLike = None,
        start: int | None = None,
        stop: int | None = None,
        axis: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[SamObject]:
        """Carry objects from the planes on which they are annotated to the others of a stack or a film.

        Annotated planes are those with prompts, with pixels that a hand painted or erased, and with masks
        that were imported or found automatically. They are never changed: to correct what was carried over,
        prompt the object where it went wrong, and call this again with that plane as `start`, which changes
        only what follows from it up to the next annotated plane. A plane that is annotated with an empty mask
        says that the object is not there. Where an object ends, its masks end.

        It is one step that `undo` takes back. If it ends early, by an error or because it is cancelled,
        what was done until then stays, and is one step, too.

        Parameters
        ----------
        objects : int or iterable of int, optional
            Ids. The current object, if not given; all of them, if there is no current one.
        direction : {"both", "forward", "backward"}
            Forward is towards higher positions.
        plane : int, sequence of (int or None), or Plane, optional
            Any of the planes that follow each other. If not given, wherever the objects are annotated: along
            z of an image with times, that may be at several times.
        start : int, optional
            The position to go on from, where the objects are: others are left out. See
            :func:`~napari_sam.annotation.propagating.wanted_positions`. Negative ones count from the end. If
            not given, everything that can be reached is filled.
        stop : int, optional
            The last position to be filled.
        axis : int, optional
            Along which planes follow each other; the last one before the plane's own that is longer than 1,
            if not given: z of an image with axes t, z, y, x.
        progress : callable, optional
            Called after each plane with how many masks of how many are done.
        cancelled : threading.Event, optional
            Set it, from another thread or from `progress`, to stop.

        Returns
        -------
        list of SamObject
            The objects as they are now.

        Raises
        ------
        AnnotationError
            If there is no such object, none has a mask to start from or is on plane `start`, or there are no
            other planes.
        ImageError
            If a plane cannot be read.
        Cancelled
            If `cancelled` was set.
        NapariSamError
            If the model cannot be loaded, or the device fails.

        Examples
        --------
        A ball that is clicked on one of eleven planes:

        >>> from napari_sam import Annotation
        >>> z, y, x = np.mgrid[-5:6, :96, :96]
        >>> ball = 900 - 30 * z**2 - (y - 46) ** 2 - (x - 50) ** 2 > 0
        >>> annotation = Annotation((30 + 170 * ball).astype(np.uint8), "nano", device="cpu")
        >>> annotation.add_point(50, 46, plane=4).area > 2000
        True
        >>> (found,) = annotation.propagate()
        >>> labels = annotation.to_labels()
        >>> bool((labels[ball] == 1).mean() > 0.9)
        True

        On plane 7 it is corrected, and what follows from that is done again:

        >>> _ = annotation.add_box([25, 21, 75, 71], plane=7)
        >>> _ = annotation.propagate(1, "forward", start=7)
        >>> bool((annotation.to_labels()[:7] == labels[:7]).all())
        True
        >>> annotation.undo(), annotation.undo(), annotation.undo()
        ('Propagate object 1', 'Add box', 'Propagate object 1')
        >>> [str(plane) for plane in annotation.current.masks]
        ['[4, :, :]']
        """
        direction = Direction.named(direction)
        items = self._meant(objects)
        series = self._series(items, plane, axis)
        model = self._segmenter.model
        text, gesture = named("Propagate", items), object()
        with self.document.step(text, gesture):
            self._answer(items)
        items = self._as_they_are(items)
        runs = self._runs(items, series, direction, start, stop)
        total, done = sum(run.total for run in runs), 0
        for run in runs:
            for _, masks in run.run(model, self._planes, embed=self._embed(run.series), cancelled=cancelled):
                self.document.put_propagated(masks, text, gesture)
                done += len(masks)
                if progress is not None:
                    progress(done, total)
        return self._as_they_are(items)

    def divide(self, number: int, plane: PlaneLike, *, axis: int | None = None) -> list[SamObject]:
        """End an object where it has divided: each of its parts there goes on as an object, its child.

        Parameters
        ----------
        number : int
            Its id.
        plane : int, sequence of (int or None), or Plane
            The first one on which there are several parts.
        axis : int, optional
            As for :meth:`propagate`; usually time.

        Returns
        -------
        list of SamObject
            The children, the largest first.

        Raises
        ------
        AnnotationError
            As :meth:`~napari_sam.annotation.Document.divide`.
        """
        return self.document.divide(self[number].uid, self._planes.named(plane), axis)

    def set_parent(self, ids: int | Iterable[int], parent: int | None) -> None:
        """Say which object others came from; None for none.

        Raises
        ------
        AnnotationError
            If one of them does not exist, or would descend from itself.
        """
        self.document.set_parent(self._uids(ids), 0 if parent is None else self[parent].uid)

    def parent_of(self, number: int) -> SamObject | None:
        """The object that another one came from; None if there is none, or it is gone.

        Raises
        ------
        AnnotationError
            If there is no object with this id.
        """
        return self.document.parent_of(self[number].uid)

    def children_of(self, number: int) -> list[SamObject]:
        """The objects that came from another one.

        Raises
        ------
        AnnotationError
            If there is no object with this id.
        """
        return self.document.children_of(self[number].uid)

    def _meant(self, objects: int | Iterable[int] | None) -> list[SamObject]:
        """The objects that are to be propagated."""
        if objects is not None:
            items = self._as_they_are(self[number] for number in _ids(objects))
        elif self.current.uid in self.document:
            items = [self.current]
        else:
            items = self.objects
        if not items:
            raise AnnotationError("There is nothing to propagate: prompt an object first.")
        return items

    def _as_they_are(self, items: Iterable[SamObject]) -> list[SamObject]:
        """Objects as they are now, each once."""
        uids = dict.fromkeys(item.uid for item in items)
        return [item for uid in uids if (item := self.document.get(uid)) is not None]

    def _series(self, items: Sequence[SamObject], plane: PlaneLike, axis: int | None) -> list[Series]:
        """The series of a plane; else, those in which objects are annotated."""
        if plane is not None:
            return [Series.through(self._planes.named(plane), self.shape, axis)]
        found: dict[Series, None] = {}
        error = AnnotationError("There is no mask to start from: prompt an object on a plane first.")
        for item in items:
            for one in dict.fromkeys([*item.prompts, *item.answers, *item.base, *item.hand]):
                try:
                    if is_annotated(item, one):
                        found[Series.through(one, self.shape, axis)] = None
                except AnnotationError as reason:
                    # Such a plane may be spanned by the axis.
                    error = reason
        if not found:
            raise error
        return list(found)

    def _answer(self, items: Iterable[SamObject]) -> None:
        """Ask for the masks of prompts that have none yet: they may be out of a file."""
        for item in items:
            for plane, prompts in item.prompts.items():
                if item.is_stale(plane):
                    (answer,) = self._segmenter.answers([prompts], plane, self.look)
                    self.document.answer(item.uid, plane, answer)

    def _runs(
        self,
        items: Sequence[SamObject],
        series: Sequence[Series],
        direction: Direction,
        start: int | None,
        stop: int | None,
    ) -> list[PropagationRun]:
        """What is to be done along each series that has a mask to start from."""
        runs, errors = [], []
        for one in series:
            try:
                first, last = (None if at is None else one.named(at) for at in (start, stop))
                run = PropagationRun.of(items, one, direction, start=first, stop=last, look=self.look)
                runs.append(run)
            except AnnotationError as error:
                errors.append(error)
        if not runs:
            raise errors[0]
        return runs

    def _embed(self, series: Series) -> Callable[[int], Embedding]:
        return lambda position: self._segmenter.embedding(series.plane(position), self.look)


def _ids(objects: int | Iterable[int]) -> Iterable[int]:
    return [int(objects)] if isinstance(objects, int | np.integer) else objects
