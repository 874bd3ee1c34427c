"""The mask that a click would give, while the mouse moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.correcting import corrected
from napari_sam.errors import PromptError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.hover import Hover
from napari_sam.ui.layers import NEGATIVE
from napari_sam.ui.preview import PreviewLayer

if TYPE_CHECKING:
    from napari_sam.annotation import Plane
    from napari_sam.ui.session import Session
    from napari_sam.ui.work import Work

__all__ = ["Hovering"]


class Hovering:
    """Asks the model about the place under the mouse, and shows what it says.

    Parameters
    ----------
    session : Session
    work : Work
    enabled : bool
        Whether it begins switched on.
    """

    def __init__(self, session: Session, work: Work, *, enabled: bool) -> None:
        self._session, self._work = session, work
        self.layer = PreviewLayer(
            session.viewer, session.image, lambda: (session.prompts.shapes, session.prompts.points)
        )
        self.hover = Hover(session.viewer, session.image, self._ask)
        self.hover.enabled = enabled
        self.hover.left.connect(self.layer.clear)

    def close(self, *, keep_layer: bool = False) -> None:
        """Take the preview away."""
        self.hover.close()
        self.layer.close(keep_layer=keep_layer)

    def _ask(self, at: NDArray[np.float64], modifiers: frozenset[str]) -> None:
        session = self._session
        points = session.prompts.points
        active = session.viewer.layers.selection.active
        prompts = None
        positive = (session.prompts.polarity != NEGATIVE) != ("Control" in modifiers)
        # Only where a click would add a point.
        if session.plane is not None and active is points and points.mode == "add":
            plane = session.plane
            prompts = self._prompts(plane, at, positive)
        if prompts is None:
            self._deliver(None, positive)
            return
        asked_of = session.document.current
        base = asked_of.base.get(plane)

        def deliver(mask: Mask | None) -> None:
            # A click that came meanwhile makes the answer one to an old question.
            if mask is not None and session.document.current != asked_of:
                mask = None
            if mask is not None and base is not None:
                mask = corrected(base.mask, mask, prompts)
            self._deliver(mask, positive)

        self._work.preview(session, plane, prompts, deliver)

    def _prompts(self, plane: Plane, at: NDArray[np.float64], positive: bool) -> Prompts | None:
        """What the prompts would be after a click; None if they would select nothing."""
        (xy,) = coordinates.to_xy(at, plane)
        item = self._session.document.current
        try:
            before = item.prompts.get(plane)
            if before is None:
                row, column = plane.axes
                size = self._session.shape[row], self._session.shape[column]
                prompts = Prompts.create(size, points=[xy], labels=[int(positive)])
                base = item.base.get(plane)
                prompts = prompts.with_mask(None if base is None else base.mask)
            else:
                prompts = before.with_point((xy[0], xy[1]), int(positive))
        except PromptError:
            return None
        return prompts if prompts.selects_something else None

    def _deliver(self, mask: Mask | None, positive: bool) -> None:
        plane = self._session.plane
        if not self.hover.finished() or mask is None or plane is None:
            return
        self.layer.show(mask, plane, positive)
