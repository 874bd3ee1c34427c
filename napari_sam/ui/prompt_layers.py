"""The Points and the Shapes layer that hold the prompts of the current object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.annotation.plane import Plane
from napari_sam.errors import PromptError
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.layers import NEGATIVE, POSITIVE, box_layer, match_transform, point_layer
from napari_sam.ui.plane import image_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points, Shapes

__all__ = ["PromptLayers"]


class PromptLayers:
    """Shows the prompts of one object and reads what the user made of them.

    The layers are the only state: whatever happens to them, by mouse, by key, by paste or from a script, they
    are read again as a whole.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
        The image that the prompts are on.
    """

    changed = Signal()
    """Points or boxes were added, changed or removed."""

    dragging = Signal()
    """The mouse moves with a button held; the layers may be half-way through a change."""

    mode_changed = Signal()
    """One of the layers has another tool."""

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self._viewer, self._image = viewer, image
        self._polarity = POSITIVE
        self._axes = "0,1" if image.ndim == 2 else ""
        self._writing = False
        self._clicked_box = self._mouse_down = False
        self._add_boxes()
        self._add_points()

    def _add_points(self) -> None:
        # About 1.5 % of the image: seen at once when the whole image is in view.
        extent = float(np.mean(sorted(image_shape(self._image))[-2:]))
        self.points: Points = point_layer(self._image, size=max(extent * 0.015, 1.0))
        self._show(self.points)

    def _add_boxes(self) -> None:
        extent = float(np.mean(sorted(image_shape(self._image))[-2:]))
        self.boxes: Shapes = box_layer(self._image, edge_width=max(extent * 0.004, 0.25))
        self._show(self.boxes)

    def _show(self, layer: Points | Shapes) -> None:
        self._viewer.add_layer(layer)
        self._set_defaults()
        layer.events.data.connect(self._on_data)
        layer.events.mode.connect(self._on_mode)
        layer.mouse_drag_callbacks.append(self._on_mouse)

    def __contains__(self, layer: object) -> bool:
        return layer is self.points or layer is self.boxes

    def close(self, *, keep_layers: bool = False) -> None:
        """Forget the layers, and take them out of the viewer."""
        for layer in (self.points, self.boxes):
            self._forget(layer)
            if layer in self._viewer.layers and not keep_layers:
                self._viewer.layers.remove(layer)

    def _forget(self, layer: Points | Shapes) -> None:
        layer.events.data.disconnect(self._on_data)
        layer.events.mode.disconnect(self._on_mode)
        if self._on_mouse in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_mouse)

    def restore(self, prompts: Mapping[Plane, Prompts]) -> bool:
        """Put back layers that were removed from the viewer, with the given prompts; whether any was."""
        missing = [layer for layer in (self.boxes, self.points) if layer not in self._viewer.layers]
        for layer in missing:
            self._forget(layer)
            if layer is self.boxes:
                self._add_boxes()
            else:
                self._add_points()
        if missing:
            self.write(prompts)
        return bool(missing)

    def follow_image(self) -> None:
        """Take over the image's transform."""
        for layer in (self.points, self.boxes):
            match_transform(layer, self._image)

    @property
    def polarity(self) -> str:
        """What the next point will be: "positive" or "negative"."""
        return self._polarity

    @polarity.setter
    def polarity(self, value: str) -> None:
        self._polarity = value
        self._set_defaults()

    def set_plane(self, plane: Plane | None) -> None:
        """New prompts are on this plane; None if the viewer shows none."""
        self._axes = "" if plane is None else ",".join(map(str, plane.axes))
        self._set_defaults()

    def _set_defaults(self, polarity: str | None = None) -> None:
        if hasattr(self, "points"):
            self.points.feature_defaults = {"polarity": polarity or self._polarity, "axes": self._axes}
        self.boxes.feature_defaults = {"axes": self._axes}

    def read(self) -> tuple[dict[Plane, Prompts], list[str]]:
        """The prompts by plane, and a sentence for each that had to be ignored."""
        shape = image_shape(self._image)
        points: dict[Plane, list[tuple[np.ndarray, int]]] = defaultdict(list)
        boxes: dict[Plane, np.ndarray] = {}
        ignored: list[str] = []
        for at, axes, polarity in zip(
            self.points.data, self.points.features["axes"], self.points.features["polarity"], strict=True
        ):
            try:
                plane, size = _plane_at(at, axes, shape, "point")
                xy = coordinates.to_xy(at, plane)
                label = int(polarity != NEGATIVE)
                Prompts.create(size, points=xy, labels=[label])
            except PromptError as error:
                ignored.append(str(error))
            else:
                points[plane].append((xy[0], label))
        for corners, axes in zip(self.boxes.data, self.boxes.features["axes"], strict=True):
            try:
                plane, size = _plane_at(np.mean(corners, axis=0), axes, shape, "box")
                box = coordinates.corners_to_box(corners, plane)
                Prompts.create(size, box=box)
            except PromptError as error:
                ignored.append(str(error))
            else:
                boxes[plane] = box
        prompts = {}
        for plane in points.keys() | boxes.keys():
            size = shape[plane.axes[0]], shape[plane.axes[1]]
            xys, labels = zip(*points[plane], strict=True) if points[plane] else ((), ())
            prompts[plane] = Prompts.create(size, points=xys, labels=labels, box=boxes.get(plane))
        return prompts, ignored

    def write(self, prompts: Mapping[Plane, Prompts]) -> None:
        """Show other prompts instead of those that are there."""
        self._writing = True
        try:
            # Emptying a layer through its `data` leaves rows behind in its features.
            for layer in (self.points, self.boxes):
                layer.selected_data = set(range(len(layer.data)))
                layer.remove_selected()
            for plane, one in prompts.items():
                axes = ",".join(map(str, plane.axes))
                for label, polarity in ((1, POSITIVE), (0, NEGATIVE)):
                    if (chosen := one.points[one.labels == label]).size:
                        self.points.feature_defaults = {"polarity": polarity, "axes": axes}
                        self.points.add(coordinates.to_data(chosen, plane))
                if one.box is not None:
                    self.boxes.feature_defaults = {"axes": axes}
                    self.boxes.add_rectangles(coordinates.box_to_corners(one.box, plane))
        finally:
            self._writing = False
            self._set_defaults()

    def add_point(self, at: np.ndarray, plane: Plane, positive: bool) -> None:
        """Add a point from a script, in data coordinates."""
        axes = ",".join(map(str, plane.axes))
        self.points.feature_defaults = {"polarity": POSITIVE if positive else NEGATIVE, "axes": axes}
        self.points.add(at)

    def add_box(self, corners: np.ndarray, plane: Plane) -> None:
        """Add a box from a script: its four corners in data coordinates."""
        self.boxes.feature_defaults = {"axes": ",".join(map(str, plane.axes))}
        self.boxes.add_rectangles(corners)

    def tidy(self) -> None:
        """Remove boxes that say nothing: a mere click, and all but the newest on a plane."""
        if self._mouse_down:
            return
        layer = self.boxes
        planes = [
            coordinates.plane_at(np.mean(corners, axis=0), _parsed(axes)) if axes else None
            for corners, axes in zip(layer.data, layer.features["axes"], strict=True)
        ]
        surplus = {i for i, plane in enumerate(planes) if plane is not None and plane in planes[i + 1 :]}
        if self._clicked_box and planes:
            surplus.add(len(planes) - 1)
        self._clicked_box = False
        if surplus:
            layer.selected_data = surplus
            layer.remove_selected()

    def _on_data(self, event: Any) -> None:
        if self._writing or str(event.action) not in ("added", "changed", "removed"):
            return
        # A modifier holds for one point only.
        self._set_defaults()
        self.changed.emit()

    def _on_mode(self) -> None:
        self.mode_changed.emit()

    def _on_mouse(self, layer: Layer, event: Any) -> Generator[None, None, None]:
        """Ctrl or the right button turn the polarity round; and tell of every move."""
        drawing = layer.mode == "add_rectangle"
        if layer is self.points and layer.mode == "add":
            inverse = "Control" in event.modifiers or event.button == 2
            self._set_defaults(_opposite(self._polarity) if inverse else self._polarity)
        self._mouse_down = True
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            self.dragging.emit()
            yield
        self._mouse_down = False
        self._clicked_box = drawing and not moved
        self.dragging.emit()


def _opposite(polarity: str) -> str:
    return NEGATIVE if polarity == POSITIVE else POSITIVE


def _parsed(axes: str) -> tuple[int, int]:
    row, column = (int(axis) for axis in axes.split(","))
    return row, column


def _plane_at(at: np.ndarray, axes: str, shape: tuple[int, ...], what: str) -> tuple[Plane, tuple[int, int]]:
    """The plane that a prompt is on, and its size (height, width).

    Raises
    ------
    PromptError
        If it is on no plane of the image.
    """
    if not axes or not np.isfinite(at).all():
        raise PromptError(f"A {what} that is on no plane was ignored: add prompts in 2D display.")
    row, column = _parsed(axes)
    plane = coordinates.plane_at(at, (row, column))
    if any(i is not None and not 0 <= i < n for i, n in zip(plane.index, shape, strict=True)):
        raise PromptError(f"The {what} on plane {plane} lies outside the image: delete it and place another.")
    return plane, (shape[row], shape[column])
