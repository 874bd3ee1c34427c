"""A document and the layers that show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_sam.annotation import Changes, Document, Key
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.ui.annotation_files import document_of, mark
from napari_sam.ui.classes import class_colormap
from napari_sam.ui.layers import result_layer
from napari_sam.ui.painting import Canvas
from napari_sam.ui.plane import image_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_sam.annotation.autosave import AutosaveFile
    from napari_sam.annotation.recovery import Recoverable

__all__ = ["Result"]


class Result:
    """The objects of one image, and the Labels layers that show them.

    Objects that are segmented after the user went on to another image or layer still arrive here.

    Parameters
    ----------
    image : napari.layers.Image
    labels : napari.layers.Labels, optional
        An existing layer of the image's shape, whose labels become objects; if not given, one is made when
        the first object needs it.
    document : Document, optional
        To go on with; its objects are in `labels` already if that is given.
    """

    def __init__(self, image: Image, labels: Labels | None = None, document: Document | None = None) -> None:
        saved = None if labels is None or document is not None else document_of(labels)
        given = document is not None
        if document is None:
            document = Document(image_shape(image)) if saved is None else saved
        self.document = document
        self.autosave: AutosaveFile | None = None
        self._attach: Callable[[bool], AutosaveFile] | None = None
        self.identified = False
        self.instead_of: Recoverable | None = None
        self.canvas: Canvas | None = None
        self.class_canvas: Canvas | None = None
        self._made = labels is None
        self.document.changed.connect(self._on_document)
        if labels is not None:
            if not given and saved is None:
                # What was there before is where the history begins.
                self.document.add_objects(drafts_of_labels(labels.data), "Import labels", keep_ids=True)
                self.document.history.clear()
            mark(labels, self.document)
            self.canvas = Canvas(labels, self.document)
            if saved is not None:
                # Somebody may have painted since the file was read.
                self.canvas.take_over_all()

    @property
    def labels(self) -> Labels | None:
        """The layer of objects, if there is one yet."""
        return None if self.canvas is None else self.canvas.labels

    @property
    def class_labels(self) -> Labels | None:
        """The layer of classes, if it was asked for."""
        return None if self.class_canvas is None else self.class_canvas.labels

    @property
    def made_layers(self) -> list[Labels]:
        """Those of the layers that are not the user's own."""
        layers = [self.labels if self._made else None, self.class_labels]
        return [layer for layer in layers if layer is not None]

    def ensure_labels(self, viewer: ViewerModel, image: Image, above: Sequence[Layer]) -> Labels:
        """The layer of objects, made now if there is none yet, below the layers that are to stay `above`."""
        if self.canvas is None:
            labels = result_layer(image)
            _insert(viewer, labels, above)
            self._made = True
            mark(labels, self.document)
            self.canvas = Canvas(labels, self.document)
            self.canvas.fill()
        return self.canvas.labels

    def ensure_class_labels(self, viewer: ViewerModel, image: Image, above: Sequence[Layer]) -> Labels:
        """The layer of classes, made now if there is none."""
        canvas = self.class_canvas
        if canvas is not None and canvas.labels not in viewer.layers:
            canvas.close()
            canvas = None
        if canvas is None:
            labels = result_layer(image, "classes")
            _insert(viewer, labels, above)
            canvas = self.class_canvas = Canvas(labels, self.document, classes=True)
            canvas.fill()
            labels.editable = False
            self._colour_classes()
        return canvas.labels

    def _colour_classes(self) -> None:
        if self.class_canvas is not None:
            self.class_canvas.labels.colormap = class_colormap(self.document.classes)

    def _on_document(self, changes: Changes) -> None:
        if Key.CLASSES in changes.keys:
            self._colour_classes()

    def keep(self, attach: Callable[[bool], AutosaveFile]) -> None:
        """Write the objects to a file from now on; `attach` is told whether there is anything unsaved."""
        self._attach = attach
        self.autosave = attach(True)

    def saved(self) -> None:
        """The user has what there is: only what comes from now on can be lost."""
        if self.autosave is not None and self._attach is not None:
            self.autosave.close(discard=True)
            self.autosave = self._attach(False)

    def close(self) -> None:
        """Write what is not written yet, and stop."""
        if self.autosave is not None:
            self.autosave.close()
            self.autosave = None

    def hide(self) -> None:
        """The layer of objects is gone; the objects stay."""
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None


def _insert(viewer: ViewerModel, labels: Labels, above: Sequence[Layer]) -> None:
    active = viewer.layers.selection.active
    viewer.layers.insert(min(map(viewer.layers.index, above), default=len(viewer.layers)), labels)
    viewer.layers.selection.active = active
