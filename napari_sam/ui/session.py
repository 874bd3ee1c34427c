"""One image with its prompts, its document and its result layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_sam.annotation import Changes, Document, Key, Plane, SamObject
from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.layers import TRANSFORM, match_transform
from napari_sam.ui.plane import View, image_shape, view_of
from napari_sam.ui.prompt_layers import PromptLayers
from napari_sam.ui.result import Result
from napari_sam.ui.wording import what_changed

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

__all__ = ["Session"]

_numbers = count()
_revisions: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()


class Session:
    """Keeps prompt layers, document and result layer of one image in step while it is being worked on.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    result : Result
        Where the objects go; its current object's prompts are shown again.
    """

    changed = Signal(Changes)
    """The document changed."""

    plane_changed = Signal()
    """The viewer shows another plane."""

    pixels_changed = Signal()
    """The image looks different: contrast limits, gamma or data."""

    replaced = Signal()
    """The image has other data."""

    dragging = Signal()
    """The prompts should be read once the event at hand is over."""

    tool_changed = Signal()
    """A prompt layer is in another mode."""

    def __init__(self, viewer: ViewerModel, image: Image, result: Result) -> None:
        self.viewer, self.image, self.result = viewer, image, result
        self._ignored: list[str] = []
        self._labels_problem = ""
        self.plane: Plane | None = None
        self.plane_problem = ""
        self._shape = image_shape(image)
        _revisions.setdefault(image, next(_numbers))
        self.prompts = PromptLayers(viewer, image)
        self.prompts.changed.connect(self.read_prompts)
        self.prompts.dragging.connect(self.dragging.emit)
        self.prompts.mode_changed.connect(self.tool_changed.emit)
        self._shown: tuple[int, Mapping[Plane, Prompts]] = (0, {})
        self._reading = False
        self.document.changed.connect(self._on_document)
        dims = viewer.dims.events
        for emitter in (dims.point, dims.order, dims.ndisplay, dims.ndim):
            emitter.connect(self._on_dims)
        for emitter in (image.events.contrast_limits, image.events.gamma):
            emitter.connect(self._on_look)
        image.events.data.connect(self._on_image_data)
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._on_transform)
        self._on_dims()
        self._show_current()

    @property
    def document(self) -> Document:
        """The objects."""
        return self.result.document

    @property
    def ignored(self) -> list[str]:
        """A sentence for objects that no layer can show, and for each prompt that makes no sense."""
        return [self._labels_problem, *self._ignored] if self._labels_problem else self._ignored

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image, in pixels, without colours."""
        return self._shape

    @property
    def shape_changed(self) -> bool:
        """Whether the image was replaced by one of another shape."""
        return image_shape(self.image) != self._shape

    @property
    def is_full(self) -> bool:
        """Whether the result layer cannot hold the current object's id."""
        canvas = self.result.canvas
        return canvas is not None and self.document.current.id > canvas.greatest_id

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
        plane = coordinates.plane_at(where, self.plane.axes)
        if any(i is not None and not 0 <= i < n for i, n in zip(plane.index, self._shape, strict=True)):
            raise PromptError(f"Plane {plane} lies outside the image, whose shape is {self._shape}.")
        return plane, plane.size_in(self._shape)

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
        self.document.changed.disconnect(self._on_document)
        self.prompts.close(keep_layers=keep_layers)

    def read_prompts(self) -> None:
        """Bring the document up to date with the prompt layers."""
        if self.shape_changed:
            return
        prompts, self._ignored = self.prompts.read()
        before = self.document.current.prompts
        text = what_changed(before, prompts)
        self._reading = True
        try:
            self.document.set_prompts(prompts, text, self.prompts.gesture)
        finally:
            self._reading = False

    def end_gesture(self) -> None:
        """What happens next is a step of its own."""
        self.prompts.end_gesture()

    def restore_layers(self) -> None:
        """Put back whichever of the plugin's layers was removed from the viewer, with what it held."""
        if self.shape_changed:
            return
        active = self.viewer.layers.selection.active
        restored = self.prompts.restore(self.document.current.prompts)
        labels = self.result.labels
        if labels is not None and labels not in self.viewer.layers:
            self.result.hide()
            restored = True
            if any(item.masks for item in self.document.objects):
                self.show_objects()
        if restored:
            kept = active in self.viewer.layers
            self.viewer.layers.selection.active = active if kept else self.prompts.points

    def show_objects(self) -> None:
        """Have a layer that shows all objects, or say why there is none; the next change tries again."""
        try:
            self.ensure_labels()
        except ImageError as error:
            self._labels_problem = str(error)

    def ensure_labels(self) -> Labels:
        """The result layer, made now if there is none yet.

        Raises
        ------
        ImageError
            If there is not enough memory for it.
        """
        before = self.result.labels
        labels = self.result.ensure_labels(
            self.viewer, self.image, (self.prompts.shapes, self.prompts.points)
        )
        self._labels_problem = ""
        if labels is not before:
            self._select(self.document.current)
        return labels

    def ensure_class_labels(self) -> Labels:
        """The layer of classes, made now if there is none."""
        above = self.prompts.shapes, self.prompts.points
        return self.result.ensure_class_labels(self.viewer, self.image, above)

    def _on_document(self, changes: Changes) -> None:
        if self.result.labels is None and changes.regions and self.image in self.viewer.layers:
            self.show_objects()
        current = self.document.current
        if self._reading:
            self._shown = current.uid, current.prompts
        elif (current.uid, current.prompts) != self._shown:
            self._show_current()
        elif Key.CURRENT in changes.keys:
            self._select(current)
        self.changed.emit(changes)

    def _show_current(self) -> None:
        current = self.document.current
        self._shown = current.uid, current.prompts
        self.prompts.write(current.prompts)
        self._ignored = []
        self._select(current)

    def _select(self, item: SamObject) -> None:
        canvas = self.result.canvas
        if canvas is not None and item.id <= canvas.greatest_id:
            canvas.labels.selected_label = item.id

    def _displayed_plane(self) -> Plane:
        if self.shape_changed:
            raise ImageError("The image has another shape now: a new annotation of it is about to begin.")
        return coordinates.displayed_plane(self.viewer.dims, self.image, self._shape)

    def _on_dims(self) -> None:
        before = self.plane, self.plane_problem
        try:
            self.plane, self.plane_problem = self._displayed_plane(), ""
        except ImageError as error:
            self.plane, self.plane_problem = None, str(error)
        if (self.plane, self.plane_problem) != before:
            self.prompts.set_plane(self.plane)
            self.plane_changed.emit()

    def _on_look(self) -> None:
        self.pixels_changed.emit()

    def _on_image_data(self) -> None:
        _revisions[self.image] = next(_numbers)
        self._on_dims()
        self.replaced.emit()
        self.pixels_changed.emit()

    def _on_transform(self) -> None:
        if self.shape_changed:
            return  # it may have other axes
        self.prompts.follow_image()
        for labels in self.result.made_layers:
            match_transform(labels, self.image)
        self._on_dims()
