"""The Points and the Shapes layer that hold the prompts of the current object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psygnal import Signal

from napari_sam.annotation.plane import Plane
from napari_sam.errors import PromptError
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import Scribble
from napari_sam.ui import coordinates
from napari_sam.ui.layers import NEGATIVE, POSITIVE, match_transform, point_layer, shape_layer
from napari_sam.ui.plane import image_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points, Shapes

__all__ = ["DRAWING_MODES", "PromptLayers"]

DRAWING_MODES = {"box": "add_rectangle", "scribble": "add_path", "lasso": "add_polygon_lasso"}
"""napari's tool for each kind of shape."""

_KINDS = {
    "add_path": "scribble",
    "add_line": "scribble",
    "add_polyline": "scribble",
    "add_polygon": "lasso",
    "add_polygon_lasso": "lasso",
}
"""What is drawn with napari's tools; with all others, boxes."""

_FOLLOWING = frozenset(_KINDS)
"""Tools of napari that go on drawing between two clicks."""


_SHAPE_TYPES = {"box": "rectangle", "scribble": "path", "lasso": "polygon"}
"""What napari calls each kind of shape."""


# Of all layers: a document may see one set of them after another.
_gestures = count()


@dataclass(slots=True)
class Drawn:
    """What was drawn on one plane."""

    points: list[tuple[np.ndarray, int]] = field(default_factory=list)
    scribbles: list[Scribble] = field(default_factory=list)
    box: np.ndarray | None = None
    lasso: np.ndarray | None = None

    def prompts(self, size: tuple[int, int]) -> Prompts:
        """The same as prompts on a plane of this size."""
        xys, labels = zip(*self.points, strict=True) if self.points else ((), ())
        return Prompts.create(
            size, points=xys, labels=labels, box=self.box, scribbles=self.scribbles, lasso=self.lasso
        )


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
    """Points or shapes were added, changed or removed."""

    dragging = Signal()
    """The mouse moves with a button held; the layers may be half-way through a change."""

    mode_changed = Signal()
    """One of the layers has another tool, or points the other polarity."""

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self._viewer, self._image = viewer, image
        # The image may get another one, which is nothing to these layers.
        self._shape = image_shape(image)
        self._polarity = POSITIVE
        self._axes = "0,1" if image.ndim == 2 else ""
        self._writing = False
        # What was shown last, and what reading it gave.
        self._written: dict[Plane, tuple[Prompts, Prompts]] = {}
        # Since a press with a tool that draws, until what was drawn is tidied up.
        self._drawing = False
        self._clicked_shape = self._mouse_down = False
        self.gesture = ("prompt", next(_gestures))
        self._add_shapes()
        self._add_points()

    def _add_points(self) -> None:
        # About 1.5 % of the image: seen at once when the whole image is in view.
        extent = float(np.mean(sorted(self._shape)[-2:]))
        self.points: Points = point_layer(self._image, size=max(extent * 0.015, 1.0))
        self._show(self.points)

    def _add_shapes(self) -> None:
        extent = float(np.mean(sorted(self._shape)[-2:]))
        self.shapes: Shapes = shape_layer(self._image, edge_width=max(extent * 0.004, 0.25))
        self._show(self.shapes)

    def _show(self, layer: Points | Shapes) -> None:
        # napari's buttons show a mode that is chosen once they are there.
        mode = str(layer.mode)
        layer.mode = "pan_zoom"
        self._viewer.add_layer(layer)
        layer.mode = mode
        self._set_defaults()
        layer.events.data.connect(self._on_data)
        layer.events.mode.connect(self._on_mode)
        # Before napari's own, which draws.
        layer.mouse_drag_callbacks.insert(0, self._on_mouse)

    def __contains__(self, layer: object) -> bool:
        return layer is self.points or layer is self.shapes

    def close(self, *, keep_layers: bool = False) -> None:
        """Forget the layers, and take them out of the viewer."""
        for layer in (self.points, self.shapes):
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
        missing = [layer for layer in (self.shapes, self.points) if layer not in self._viewer.layers]
        for layer in missing:
            self._forget(layer)
            if layer is self.shapes:
                self._add_shapes()
            else:
                self._add_points()
        if missing:
            self.write(prompts)
        return bool(missing)

    def follow_image(self) -> None:
        """Take over the image's transform."""
        for layer in (self.points, self.shapes):
            match_transform(layer, self._image)

    @property
    def polarity(self) -> str:
        """What the next point will be: "positive" or "negative"."""
        return self._polarity

    @polarity.setter
    def polarity(self, value: str) -> None:
        self._polarity = value
        self._set_defaults()
        self.mode_changed.emit()

    def set_plane(self, plane: Plane | None) -> None:
        """New prompts are on this plane; None if the viewer shows none."""
        self._axes = "" if plane is None else _axes_of(plane)
        self._set_defaults()

    def _set_defaults(self, polarity: str | None = None) -> None:
        common = {"polarity": polarity or self._polarity, "axes": self._axes}
        if hasattr(self, "points"):
            _set_feature_defaults(self.points, common)
        kind = _KINDS.get(str(self.shapes.mode), "box")
        _set_feature_defaults(self.shapes, {**common, "kind": kind})

    def end_gesture(self) -> None:
        """What happens next is a step of its own, unless a mouse button is still held."""
        if not self._mouse_down:
            self.gesture = ("prompt", next(_gestures))

    def read(self) -> tuple[dict[Plane, Prompts], list[str]]:
        """The prompts by plane, and a sentence for each that had to be ignored."""
        shape = self._shape
        found: defaultdict[Plane, Drawn] = defaultdict(Drawn)
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
                found[plane].points.append((xy[0], label))
        features = self.shapes.features
        for kind, vertices, axes, polarity in zip(
            features["kind"], self.shapes.data, features["axes"], features["polarity"], strict=True
        ):
            try:
                plane, size = _plane_at(np.mean(vertices, axis=0), axes, shape, kind)
                xy = coordinates.to_xy(vertices, plane)
                if kind == "scribble":
                    found[plane].scribbles.append(Scribble.create(size, xy, int(polarity != NEGATIVE)))
                elif kind == "lasso":
                    Prompts.create(size, lasso=xy)
                    found[plane].lasso = xy
                else:
                    box = coordinates.corners_to_box(vertices, plane)
                    Prompts.create(size, box=box)
                    found[plane].box = box
            except PromptError as error:
                ignored.append(str(error))
        prompts = {plane: drawn.prompts(plane.size_in(shape)) for plane, drawn in found.items()}
        return {plane: self._as_written(plane, one) for plane, one in prompts.items()}, ignored

    def _as_written(self, plane: Plane, prompts: Prompts) -> Prompts:
        """What was written, where it is still there: napari keeps shapes in single precision."""
        written, back = self._written.get(plane, (prompts, prompts))
        return written if prompts == back else prompts

    def write(self, prompts: Mapping[Plane, Prompts]) -> None:
        """Show other prompts instead of those that are there."""
        self._writing = True
        try:
            self._end_drawing()
            # Emptying a layer through its `data` leaves rows behind in its features.
            for layer in (self.points, self.shapes):
                layer.selected_data = set(range(len(layer.data)))
                layer.remove_selected()
            self._write_points(prompts)
            self._write_shapes(prompts)
            self.points.selected_data = set()
            self.shapes.selected_data = set()
        finally:
            self._writing = False
            self._set_defaults()
        self._written = {}
        back = self.read()[0]
        self._written = {plane: (prompts[plane], one) for plane, one in back.items() if plane in prompts}

    def _write_points(self, prompts: Mapping[Plane, Prompts]) -> None:
        """Add all points in one call: each call takes milliseconds, however many points it adds."""
        rows = [
            (coordinates.to_data(one.points, plane), _axes_of(plane), one.labels)
            for plane, one in prompts.items()
            if len(one.points)
        ]
        if rows:
            self.points.add(np.concatenate([at for at, _, _ in rows]))
            self.points.features = _features(
                polarity=[_polarity_of(label) for _, _, labels in rows for label in labels],
                axes=[axes for at, axes, _ in rows for _ in at],
            )

    def _write_shapes(self, prompts: Mapping[Plane, Prompts]) -> None:
        """Add all shapes in one call."""
        drawn: list[tuple[str, np.ndarray, Plane, int]] = []
        for plane, one in prompts.items():
            for scribble in one.scribbles:
                # napari's paths have two vertices at least.
                path = scribble.path if len(scribble.path) > 1 else np.repeat(scribble.path, 2, axis=0)
                drawn.append(("scribble", coordinates.to_data(path, plane), plane, scribble.label))
            if one.lasso is not None:
                drawn.append(("lasso", coordinates.to_data(one.lasso, plane), plane, 1))
            if one.box is not None:
                drawn.append(("box", coordinates.box_to_corners(one.box, plane), plane, 1))
        if drawn:
            kinds, vertices, planes, labels = zip(*drawn, strict=True)
            types = [_SHAPE_TYPES[kind] for kind in kinds]
            self.shapes.add(list(vertices), shape_type=types, z_index=list(range(len(types))))
            self.shapes.features = _features(
                polarity=[_polarity_of(label) for label in labels],
                axes=[_axes_of(plane) for plane in planes],
                kind=kinds,
            )
            self.shapes.refresh_colors()

    def add_point(self, at: np.ndarray, plane: Plane, positive: bool) -> None:
        """Add a point from a script, in data coordinates."""
        self.points.feature_defaults = {"polarity": _polarity_of(positive), "axes": _axes_of(plane)}
        self.points.add(at)

    def add_shape(self, kind: str, vertices: np.ndarray, plane: Plane, positive: bool = True) -> None:
        """Add a "box" (its four corners), a "scribble" or a "lasso" from a script, in data coordinates."""
        self.shapes.feature_defaults = {
            "polarity": _polarity_of(positive),
            "axes": _axes_of(plane),
            "kind": kind,
        }
        self.shapes.add(vertices, shape_type=_SHAPE_TYPES[kind])

    def tidy(self) -> None:
        """Remove shapes that say nothing: a mere click, all boxes and lassos but the newest on a plane."""
        if self._mouse_down:
            return
        layer = self.shapes
        if self._clicked_shape:
            self._end_drawing()
        kinds = [
            (coordinates.plane_at(np.mean(vertices, axis=0), _parsed(axes)) if axes else None, kind)
            for kind, vertices, axes in zip(
                layer.features["kind"], layer.data, layer.features["axes"], strict=True
            )
        ]
        surplus = {
            i
            for i, (plane, kind) in enumerate(kinds)
            if plane is not None and kind != "scribble" and (plane, kind) in kinds[i + 1 :]
        }
        if self._clicked_shape and kinds:
            surplus.add(len(kinds) - 1)
        self._clicked_shape = False
        if surplus:
            layer.selected_data = surplus
            layer.remove_selected()
        self._drawing = False

    def _end_drawing(self) -> None:
        """Let napari forget a path or lasso that was begun: after a mere click, it follows the mouse."""
        mode = self.shapes.mode
        if mode in _FOLLOWING:
            self.shapes.mode = "pan_zoom"
            self.shapes.mode = mode

    def _on_data(self, event: Any) -> None:
        if self._writing or str(event.action) not in ("added", "changed", "removed"):
            return
        # A modifier holds for one point only.
        self._set_defaults()
        if self._drawing:
            # Whether it is more than a click shows later.
            self.dragging.emit()
        else:
            self.changed.emit()

    def _on_mode(self) -> None:
        self._set_defaults()
        self.mode_changed.emit()

    def _on_mouse(self, layer: Layer, event: Any) -> Generator[None, None, None]:
        """Ctrl or the right button turn the polarity round; and tell of every move."""
        drawing = layer is self.shapes and layer.mode in DRAWING_MODES.values()
        self.gesture = ("prompt", next(_gestures))
        if drawing or (layer is self.points and layer.mode == "add"):
            inverse = "Control" in event.modifiers or event.button == 2
            self._set_defaults(_opposite(self._polarity) if inverse else self._polarity)
        self._drawing = drawing
        self._mouse_down = True
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            self.dragging.emit()
            yield
        self._mouse_down = False
        self._clicked_shape = drawing and not moved
        self.dragging.emit()


def _set_feature_defaults(layer: Points | Shapes, wanted: dict[str, str]) -> None:
    """What the next prompt will be; napari takes milliseconds to set even what is set already."""
    there = layer.feature_defaults
    if any(name not in there or there[name].iat[0] != value for name, value in wanted.items()):
        layer.feature_defaults = wanted


def _opposite(polarity: str) -> str:
    return NEGATIVE if polarity == POSITIVE else POSITIVE


def _polarity_of(label: int) -> str:
    return POSITIVE if label else NEGATIVE


def _features(*, polarity: Sequence[str], **others: Sequence[str]) -> pd.DataFrame:
    """What napari is to know of each prompt of a layer, in its types: see :mod:`napari_sam.ui.layers`."""
    features = pd.DataFrame({name: np.array(values, dtype=object) for name, values in others.items()})
    features.insert(0, "polarity", pd.Categorical(polarity, categories=[POSITIVE, NEGATIVE]))
    return features


def _axes_of(plane: Plane) -> str:
    return ",".join(map(str, plane.axes))


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
    plane = coordinates.plane_at(at, _parsed(axes))
    if any(i is not None and not 0 <= i < n for i, n in zip(plane.index, shape, strict=True)):
        raise PromptError(f"The {what} on plane {plane} lies outside the image: delete it and place another.")
    return plane, plane.size_in(shape)
