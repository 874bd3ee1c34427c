"""Tools, and prompts from a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.layers import NEGATIVE, POSITIVE
from napari_sam.ui.prompt_layers import DRAWING_MODES

if TYPE_CHECKING:
    from napari_sam.ui.session import Session

__all__ = ["Prompting"]


class Prompting(Controlling):
    """The part of a controller through which objects are prompted."""

    # Tools

    @property
    def tool(self) -> str:
        """What a click or a drag does now; "" if it does not prompt.

        One of "positive", "negative", "box", "scribble", "lasso".
        """
        if self.session is None:
            return ""
        active, prompts = self.viewer.layers.selection.active, self.session.prompts
        if active is prompts.points:
            return prompts.polarity if prompts.points.mode == "add" else ""
        modes = {mode: tool for tool, mode in DRAWING_MODES.items()}
        return modes.get(str(prompts.shapes.mode), "") if active is prompts.shapes else ""

    def set_tool(self, tool: str) -> None:
        """Let clicks add a "positive" or a "negative" point, or drags draw a "box", "scribble" or "lasso"."""
        if self.session is None:
            return
        prompts = self.session.prompts
        if tool in DRAWING_MODES:
            prompts.shapes.mode = DRAWING_MODES[tool]
            self.viewer.layers.selection.active = prompts.shapes
        else:
            prompts.polarity = tool
            prompts.points.mode = "add"
            self.viewer.layers.selection.active = prompts.points
        self.changed.emit()

    def toggle_polarity(self) -> None:
        """Let clicks, or scribbles, do the opposite: on the object or on the background."""
        if self.session is None:
            return
        prompts, other = self.session.prompts, NEGATIVE
        if prompts.polarity == NEGATIVE:
            other = POSITIVE
        if self.tool == "scribble":
            prompts.polarity = other
            self.changed.emit()
        else:
            self.set_tool(other)

    def toggle_tool(self, tool: str) -> None:
        """Go from points to a "box", "scribble" or "lasso", and back."""
        if self.session is not None:
            self.set_tool(self.session.prompts.polarity if self.tool == tool else tool)

    # Prompting

    def add_point(self, at: Sequence[float], positive: bool = True) -> None:
        """Add a point prompt to the current object.

        Parameters
        ----------
        at : sequence of float
            Data coordinates (..., row, column) in pixels of the image, one number per axis.
        positive : bool, default True
            On the object, or on the background.

        Raises
        ------
        ImageError
            If no image is chosen, or the viewer shows no plane of it.
        PromptError
            If the point does not lie on the image.
        """
        session, where = self._on_image(np.asarray([at], dtype=float))
        plane, size = session.plane_at(where[0])
        Prompts.create(size, points=coordinates.to_xy(where, plane))
        session.prompts.add_point(where[0], plane, positive)

    def add_box(self, corner: Sequence[float], opposite: Sequence[float]) -> None:
        """Add a box prompt to the current object; it replaces one that is on the same plane.

        Parameters
        ----------
        corner, opposite : sequence of float
            Two opposite corners in data coordinates (..., row, column), one number per axis.

        Raises
        ------
        ImageError
            If no image is chosen, or the viewer shows no plane of it.
        PromptError
            If the box has no area or does not lie on the image.
        """
        session, where = self._on_image(np.asarray([corner, opposite], dtype=float))
        plane, size = session.plane_at(where.mean(axis=0))
        box = coordinates.corners_to_box(where, plane)
        Prompts.create(size, box=box)
        session.prompts.add_shape("box", coordinates.box_to_corners(box, plane), plane)

    def add_scribble(self, path: Sequence[Sequence[float]], positive: bool = True) -> None:
        """Add a freehand line through the object, or through the background.

        Parameters
        ----------
        path : sequence of sequence of float
            At least two vertices in data coordinates (..., row, column), one number per axis.
        positive : bool, default True
            On the object, or on the background.

        Raises
        ------
        ImageError
            If no image is chosen, or the viewer shows no plane of it.
        PromptError
            If it does not lie on the image.
        """
        session, where = self._on_image(np.asarray(path, dtype=float))
        plane, size = session.plane_at(where.mean(axis=0))
        Prompts.create(size, scribbles=[(coordinates.to_xy(where, plane), int(positive))])
        session.prompts.add_shape("scribble", where, plane, positive)

    def add_lasso(self, vertices: Sequence[Sequence[float]]) -> None:
        """Add a polygon drawn roughly around the object; it replaces one that is on the same plane.

        Parameters
        ----------
        vertices : sequence of sequence of float
            At least three, in data coordinates (..., row, column), one number per axis.

        Raises
        ------
        ImageError
            If no image is chosen, or the viewer shows no plane of it.
        PromptError
            If it has no area or does not lie on the image.
        """
        session, where = self._on_image(np.asarray(vertices, dtype=float))
        plane, size = session.plane_at(where.mean(axis=0))
        Prompts.create(size, lasso=coordinates.to_xy(where, plane))
        session.prompts.add_shape("lasso", where, plane)

    def _on_image(self, where: np.ndarray) -> tuple[Session, np.ndarray]:
        if self.session is None:
            raise ImageError("No image is chosen: call set_image with an image layer first.")
        if where.shape[1:] != (self.session.image.ndim,):
            raise PromptError(
                f"A position in this image has {self.session.image.ndim} coordinates (..., row, column): "
                f"{where.shape[-1]} were given."
            )
        self.session.end_gesture()
        return self.session, where
