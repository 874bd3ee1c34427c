"""One image with its prompts, its document and its result layer."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_sam.annotation import Annotation, Plane, SamObject
from napari_sam.errors import ImageError, PromptError
from napari_sam.ui import coordinates
from napari_sam.ui.layers import TRANSFORM, first_free_id, match_transform, result_layer
from napari_sam.ui.painting import Painter
from napari_sam.ui.plane import View, image_shape, view_of
from napari_sam.ui.prompt_layers import PromptLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

__all__ = ["Result", "Session"]

_numbers = count()
_revisions: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()


class Result:
    """A document and the Labels layer that shows it.

    Objects that are segmented after the user went on to another image or layer still arrive here.

    Parameters
    ----------
    labels : napari.layers.Labels, optional
        An existing layer of the image's shape; if not given, one is made when the first object needs it.
    """

    def __init__(self, labels: Labels | None = None) -> None:
        self.document = Annotation(1 if labels is None else first_free_id(labels))
        self.painter = None if labels is None else Painter(labels)
        self.made = labels is None

    @property
    def labels(self) -> Labels | None:
        """The layer, if there is one yet."""
        return None if self.painter is None else self.painter.labels

    def show_on(self, labels: Labels) -> None:
        """Paint all objects on another, empty layer."""
        self.painter = Painter(labels)
        self.made = True
        for item in self.document.objects:
            for plane in item.masks:
                self.painter.paint(item, plane)


class Session:
    """Keeps prompt layers, document and result layer of one image in step while it is being worked on.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    result : Result
        Where the objects go; its current object's prompts are shown again.
    """

    prompts_changed = Signal(set)
    """Planes on which the current object's prompts are not what they were."""

    plane_changed = Signal()
    """The viewer shows another plane."""

    pixels_changed = Signal()
    """The image looks different: contrast limits, gamma or data."""

    dragging = Signal()
    """The prompts should be read once the event at hand is over."""

    tool_changed = Signal()
    """A prompt layer is in another mode."""

    def __init__(self, viewer: ViewerModel, image: Image, result: Result) -> None:
        self.viewer, self.image, self.result = viewer, image, result
        self.ignored: list[str] = []
        self.plane: Plane | None = None
        self.plane_problem = ""
        self._shape = image_shape(image)
        _revisions.setdefault(image, next(_numbers))
        self.prompts = PromptLayers(viewer, image)
        self.prompts.changed.connect(self.read_prompts)
        self.prompts.dragging.connect(self.dragging.emit)
        self.prompts.mode_changed.connect(self.tool_changed.emit)
        self.document.events.current_changed.connect(self._show_current)
        self.document.events.mask_changed.connect(self._paint)
        dims = viewer.dims.events
        for emitter in (dims.point, dims.order, dims.ndisplay, dims.ndim):
            emitter.connect(self._on_dims)
        for emitter in (image.events.contrast_limits, image.events.gamma):
            emitter.connect(self._on_look)
        image.events.data.connect(self._on_image_data)
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._on_transform)
        self._on_dims()
        self.prompts.write(self.document.current.prompts)

    @property
    def document(self) -> Annotation:
        """The objects."""
        return self.result.document

    @property
    def shape_changed(self) -> bool:
        """Whether the image was replaced by one of another shape."""
        return image_shape(self.image) != self._shape

    @property
    def is_full(self) -> bool:
        """Whether the result layer cannot hold the current object's id."""
        painter = self.result.painter
        return painter is not None and self.document.current.id > painter.greatest_id

    def view(self, plane: Plane) -> View:
        """A plane as it is displayed now."""
        return view_of(self.image, plane, _revisions[self.image])

    def plane_at(self, where: np.ndarray) -> tuple[Plane, tuple[int, int]]:
        """The plane through a position (data coordinates) that lies as the displayed one; its size.

        Raises
        ------
        ImageError
            If the viewer shows no plane of the image.
        PromptError
            If the position is not on the image.
        """
        if self.plane is None:
            raise ImageError(self.plane_problem)
        row, column = self.plane.axes
        plane = coordinates.plane_at(where, (row, column))
        if any(i is not None and not 0 <= i < n for i, n in zip(plane.index, self._shape, strict=True)):
            raise PromptError(f"Plane {plane} lies outside the image, whose shape is {self._shape}.")
        return plane, (self._shape[row], self._shape[column])

    def close(self, *, keep_layers: bool = False) -> None:
        """Stop listening to the viewer and take the prompt layers away; results still arrive."""
        dims = self.viewer.dims.events
        for emitter in (dims.point, dims.order, dims.ndisplay, dims.ndim):
            emitter.disconnect(self._on_dims)
        for emitter in (self.image.events.contrast_limits, self.image.events.gamma):
            emitter.disconnect(self._on_look)
        self.image.events.data.disconnect(self._on_image_data)
        for name in TRANSFORM:
            getattr(self.image.events, name).disconnect(self._on_transform)
        self.document.events.current_changed.disconnect(self._show_current)
        self.prompts.close(keep_layers=keep_layers)

    def read_prompts(self) -> None:
        """Bring the document up to date with the prompt layers."""
        prompts, self.ignored = self.prompts.read()
        self.prompts_changed.emit(self.document.set_prompts(prompts))

    def restore_layers(self) -> None:
        """Put back whichever of the plugin's layers was removed from the viewer, with what it held."""
        active = self.viewer.layers.selection.active
        restored = self.prompts.restore(self.document.current.prompts)
        labels = self.result.labels
        if labels is not None and labels not in self.viewer.layers:
            self.result.painter = None
            restored = True
            if any(item.masks for item in self.document.objects):
                self.ensure_labels()
        if restored:
            kept = active in self.viewer.layers
            self.viewer.layers.selection.active = active if kept else self.prompts.points

    def ensure_labels(self) -> Labels:
        """The result layer, made now if there is none yet."""
        if (labels := self.result.labels) is None:
            active = self.viewer.layers.selection.active
            labels = result_layer(self.image)
            # Below the prompts, which have to stay visible.
            layers = self.viewer.layers
            layers.insert(min(map(layers.index, (self.prompts.boxes, self.prompts.points))), labels)
            self.viewer.layers.selection.active = active
            self.result.show_on(labels)
        return labels

    def _paint(self, item: SamObject, plane: Plane) -> None:
        if self.result.painter is None:
            if plane in item.masks and self.image in self.viewer.layers:
                self.ensure_labels()  # paints all objects
            return
        self.result.painter.paint(item, plane)

    def _show_current(self, item: SamObject) -> None:
        self.prompts.write(item.prompts)
        if (labels := self.result.labels) is not None:
            labels.selected_label = item.id

    def _on_dims(self) -> None:
        before = self.plane, self.plane_problem
        try:
            self.plane, self.plane_problem = (
                coordinates.displayed_plane(self.viewer.dims, self.image, self._shape),
                "",
            )
        except ImageError as error:
            self.plane, self.plane_problem = None, str(error)
        if (self.plane, self.plane_problem) != before:
            self.prompts.set_plane(self.plane)
            self.plane_changed.emit()

    def _on_look(self) -> None:
        self.pixels_changed.emit()

    def _on_image_data(self) -> None:
        _revisions[self.image] = next(_numbers)
        self.pixels_changed.emit()

    def _on_transform(self) -> None:
        self.prompts.follow_image()
        if self.result.made and self.result.labels is not None:
            match_transform(self.result.labels, self.image)
        self._on_dims()
