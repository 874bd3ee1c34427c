"""A propagation as the worker goes on with it: one plane at a time, so that clicks go first in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from napari_sam.annotation import Answer, Plane
from napari_sam.errors import Cancelled, ImageError, NapariSamError, reason_of

if TYPE_CHECKING:
    from napari_sam.annotation.planes import Planes
    from napari_sam.annotation.propagation_run import PropagationRun
    from napari_sam.models.base import Embedding, PromptableModel
    from napari_sam.ui.plane import View

__all__ = ["Carried", "Carrying"]


class Carried(NamedTuple):
    """What objects came to on one plane.

    Attributes
    ----------
    position : int
        Of the plane in its series.
    masks : mapping of int to (mapping of Plane to (Answer or None))
        By uid, for :meth:`~napari_sam.annotation.Document.put_propagated`.
    """

    position: int
    masks: Mapping[int, Mapping[Plane, Answer | None]]


class Carrying:
    """A propagation that is going on, with all that a model remembers between two planes.

    For the worker's thread only, except for `stop`.

    Parameters
    ----------
    run : PropagationRun
    planes : Planes
        Of the image as it was when the run began.
    view_at : callable
        Gives the view of the plane at a position, as it was displayed then.
    axis : str
        What the planes follow each other along, as a user knows it.

    Attributes
    ----------
    stop : threading.Event
        Set it from any thread: the plane that is being computed is the last, if it is not given up.
    """

    def __init__(
        self, run: PropagationRun, planes: Planes, view_at: Callable[[int], View], axis: str
    ) -> None:
        self.run, self._axis = run, axis
        self.stop = threading.Event()
        self._planes, self._view_at = planes, view_at
        self._steps: Iterator[tuple[int, Mapping[int, Mapping[Plane, Answer | None]]]] | None = None

    def go_on(
        self, model: PromptableModel, embedding: Callable[[View, Callable[[], NDArray[Any]]], Embedding]
    ) -> Carried | None:
        """The next plane; None after the last one.

        After an error, or once it was closed, it begins again with the model that it is given.

        Parameters
        ----------
        model : PromptableModel
        embedding : callable
            Gives the model's embedding of a view; what reads its pixels is given, too.

        Raises
        ------
        Cancelled
            If `stop` was set.
        ImageError
            If a plane cannot be read.
        """
        if self.stop.is_set():
            raise Cancelled("The propagation was stopped.")
        if self._steps is None:
            self._steps = self.run.run(
                model,
                self._planes,
                embed=lambda at: embedding(self._view_at(at), lambda: self._read(at)),
                cancelled=self.stop,
            )
        try:
            found = next(self._steps, None)
        except Exception:
            self._steps = None
            raise
        return None if found is None else Carried(*found)

    def _read(self, at: int) -> NDArray[Any]:
        try:
            return self._view_at(at).pixels()
        except NapariSamError:
            raise
        # Behind an image may be any reader: files, networks, other people's code.
        except Exception as error:
            raise ImageError(
                f"Plane {at} along {self._axis} cannot be read ({reason_of(error)}): what is done is kept; "
                "repair it, or go no further than to the plane before it."
            ) from error

    def close(self) -> None:
        """Forget what was remembered between planes; closing twice is fine."""
        steps, self._steps = self._steps, None
        if isinstance(steps, Generator):
            steps.close()
