"""The mask that a click would give, while the mouse moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.correcting import corrected
from napari_sam.annotation.editing import with_mask_prompt
from napari_sam.errors import PromptError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.hover import Hover
from napari_sam.ui.layers import NEGATIVE
from napari_sam.ui.preview import PreviewLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel

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
        # Another tool: what is under the mouse means something else.
        session.tool_changed.connect(self._on_tool)
        session.viewer.layers.selection.events.active.connect(self._on_tool)
        session.viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self, *, keep_layer: bool = False) -> None:
        """Take the preview away."""
        if self._on_press in self._session.viewer.mouse_drag_callbacks:
            self._session.viewer.mouse_drag_callbacks.remove(self._on_press)
        self._session.tool_changed.disconnect(self._on_tool)
        self._session.viewer.layers.selection.events.active.disconnect(self._on_tool)
        self.hover.close()
        self.layer.close(keep_layer=keep_layer)

    def _on_press(self, _: ViewerModel, event: Any) -> None:
        """Ask already when the button goes down: napari adds the point when it goes up."""
        session = self._session
        at = np.asarray(session.image.world_to_data(event.position), dtype=np.float64)
        inverse = "Control" in event.modifiers or event.button == 2
        positive = (session.prompts.polarity != NEGATIVE) != inverse
        if (prompts := self._after_click(at, positive)) is not None and session.plane is not None:
            self._work.preview(session, session.plane, prompts, lambda _: None)

    def _after_click(self, at: NDArray[np.float64], positive: bool) -> Prompts | None:
        """What the prompts would be after a click; None where it would add no point."""
        session = self._session
        points, active = session.prompts.points, session.viewer.layers.selection.active
        if session.plane is None or active is not points or points.mode != "add":
            return None
        return self._prompts(session.plane, at, positive)

    def _on_tool(self) -> None:
        self.hover.forget()
        self.layer.clear()

    def _ask(self, at: NDArray[np.float64], modifiers: frozenset[str]) -> None:
        session, plane = self._session, self._session.plane
        positive = (session.prompts.polarity != NEGATIVE) != ("Control" in modifiers)
        prompts = self._after_click(at, positive)
        if prompts is None or plane is None:
            self.layer.clear()
            self._deliver(None, positive)
            return
        asked_of = session.document.current
        base = asked_of.base.get(plane)

        def deliver(mask: Mask | None) -> None:
            # A click that came meanwhile makes the answer one to an old question.
            if mask is not None and session.document.current != asked_of:
                mask = None
            if mask is not None and base is not None and prompts.mask == base.mask:
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
                size = plane.size_in(self._session.shape)
                drawn = Prompts.create(size, points=[xy], labels=[int(positive)])
            else:
                drawn = before.with_point((xy[0], xy[1]), int(positive))
            prompts = with_mask_prompt(item, plane, drawn)
        except PromptError:
            return None
        return prompts if prompts is not None and prompts.selects_something else None

    def _deliver(self, mask: Mask | None, positive: bool) -> None:
        plane = self._session.plane
        if not self.hover.finished() or mask is None or plane is None:
            return
        self.layer.show(mask, plane, positive)
