"""One propagation: objects of an annotation, carried from their annotated planes to others of a series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.propagating import (
    Direction,
    PlaneState,
    annotated_masks,
    plane_states,
    wanted_positions,
)
from napari_sam.annotation.records import Answer, Look, SamObject
from napari_sam.annotation.series import Series
from napari_sam.errors import AnnotationError

if TYPE_CHECKING:
    import threading

    from napari_sam.annotation.planes import Planes
    from napari_sam.inference.video_frames import VideoFrames
    from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["PropagationRun"]


# Compared by identity: two runs that ask the same are two gestures.
@dataclass(frozen=True, eq=False)
class PropagationRun:
    """What is to be done, made of immutable objects: another thread can do it while the document goes on.

    Attributes
    ----------
    series : Series
    objects : tuple of SamObject
        As they were when this was made.
    wanted : mapping of int to list of int
        The positions to fill, by uid; see :func:`~napari_sam.annotation.propagating.wanted_positions`.
    look : Look
        How a model sees the planes.

    Examples
    --------
    A disc that moves to the right, known on the first of four planes:

    >>> import napari_sam, numpy as np
    >>> from napari_sam.annotation import Document
    >>> from napari_sam.annotation.planes import Planes
    >>> from napari_sam.inference.mask import Mask
    >>> y, x = np.mgrid[:64, :96]
    >>> discs = np.stack([(y - 32) ** 2 + (x - 24 - 4 * t) ** 2 < 144 for t in range(4)])
    >>> known = Answer(((Mask.from_array(discs[0]), None),))
    >>> document = Document(discs.shape)
    >>> _ = document.add_objects([SamObject(0, 0, base={Plane((0, None, None)): known})])
    >>> series = Series.through(Plane((0, None, None)), document.shape)
    >>> run = PropagationRun.of(document.objects, series, "forward", stop=2)
    >>> run.wanted, run.total
    ({2: [1, 2]}, 2)
    >>> model = napari_sam.load_model("nano", device="cpu")
    >>> for position, found in run.run(model, Planes(discs)):
    ...     document.put_propagated(found, gesture=run)
    >>> sorted(str(plane) for plane in document.objects[0].masks)
    ['[0, :, :]', '[1, :, :]', '[2, :, :]']
    """

    series: Series
    objects: tuple[SamObject, ...]
    wanted: Mapping[int, list[int]]
    look: Look

    @classmethod
    def of(
        cls,
        objects: Sequence[SamObject],
        series: Series,
        direction: Direction | str = Direction.BOTH,
        *,
        start: int | None = None,
        stop: int | None = None,
        look: Look | None = None,
    ) -> PropagationRun:
        """What there is to do for some objects.

        Those without a mask to start from are left out, and so are those that are not on plane `start`.

        Parameters
        ----------
        objects : sequence of SamObject
        series : Series
        direction, start, stop
            As of :func:`~napari_sam.annotation.propagating.wanted_positions`.
        look : Look, optional

        Raises
        ------
        AnnotationError
            If none of the objects has a mask to start from, or is on plane `start`, or `direction`,
            `start` or `stop` makes no sense.
        """
        wanted = {
            item.uid: wanted_positions(item, series, direction, start=start, stop=stop) for item in objects
        }
        known = [
            item
            for item in objects
            if any(not mask.is_empty for mask in annotated_masks(item, series).values())
        ]
        there = known
        if start is not None:
            there = [item for item in known if plane_states(item, series)[start] != PlaneState.EMPTY]
        if not there:
            alone = len(objects) == 1
            who = f"Object {objects[0].id} has no mask" if alone else "None of the objects has a mask"
            if known:
                raise AnnotationError(f"{who} on plane {start}: start from a plane where there is one.")
            raise AnnotationError(
                f"{who} to start from on the planes along axis {series.axis}: prompt or paint one first."
            )
        wanted = {item.uid: wanted[item.uid] for item in there}
        return cls(series, tuple(there), wanted, Look() if look is None else look)

    @property
    def total(self) -> int:
        """How many masks are to be found: pairs of an object and a position."""
        return sum(map(len, self.wanted.values()))

    def run(
        self,
        model: PromptableModel,
        planes: Planes | VideoFrames,
        *,
        embed: Callable[[int], Embedding] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[tuple[int, dict[int, dict[Plane, Answer | None]]]]:
        """Do it, plane by plane.

        Parameters
        ----------
        model : PromptableModel
        planes : Planes or VideoFrames
            Of the image, or the frames of the series.
        embed : callable, optional
            Returns the model's embedding of a position, from a cache for example.
        cancelled : threading.Event, optional
            Set it to stop.

        Yields
        ------
        position : int
            That was done. One may come again, with other objects.
        masks : dict of int to (dict of Plane to (Answer or None))
            For :meth:`~napari_sam.annotation.Document.put_propagated`, by uid: those that the model is most
            sure of come first. All together, there are `total` of them.

        Raises
        ------
        ImageError
            If a plane cannot be read.
        Cancelled
            If `cancelled` was set.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        from napari_sam.annotation.plane_frames import PlaneFrames
        from napari_sam.annotation.planes import Planes
        from napari_sam.inference.propagation import propagate

        frames = PlaneFrames(planes, self.series, self.look) if isinstance(planes, Planes) else planes
        annotated = {item.uid: annotated_masks(item, self.series) for item in self.objects}
        carried = propagate(model, frames, annotated, self.wanted, embed=embed, cancelled=cancelled)
        for found in carried:
            plane = self.series.plane(found.position)
            best = sorted(found.masks.items(), key=lambda one: -1.0 if one[1] is None else -one[1][1])
            masks: dict[int, dict[Plane, Answer | None]] = {}
            for uid, answer in best:
                masks[uid] = {plane: None}
                if answer is not None:
                    masks[uid][plane] = Answer(
                        (answer,),
                        model=model.name,
                        digest=model.known_digest,
                        look=self.look,
                        propagated=True,
                    )
            yield found.position, masks
