"""A document and the layers that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, ref

from napari_sam.annotation import Changes, Document, Key
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.recovery import Recoverable
from napari_sam.ui.annotation_files import document_of, mark
from napari_sam.ui.classes import class_colormap
from napari_sam.ui.layers import refusal, result_layer
from napari_sam.ui.painting import Canvas, take_over_all
from napari_sam.ui.plane import image_shape
from napari_sam.ui.sieves import Sieves

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_sam.annotation.autosave import AutosaveFile

__all__ = ["Result", "document_in", "layer_of"]


class Parked(NamedTuple):
    """What a closed widget leaves behind for the next one.

    Attributes
    ----------
    document : Document
        With its history.
    made : bool
        Whether the layer is the plugin's.
    path : Path or None
        The file that it was written to.
    image : weak reference to an Image layer
    """

    document: Document
    made: bool
    path: Path | None
    image: ref[Image]


_parked: WeakKeyDictionary[Labels, Parked] = WeakKeyDictionary()
# Documents that nothing shows yet: what automatic runs found is all that they have.
_unseen: WeakKeyDictionary[Image, Parked] = WeakKeyDictionary()


def layer_of(image: Image, layers: Iterable[Layer]) -> Labels | None:
    """The layer with the objects of an image that were segmented in a widget which was closed."""
    mine = (layer for layer in layers if layer in _parked and _parked[layer].image() is image)
    # The image may have another shape since then.
    return next((layer for layer in mine if refusal(image, layer) is None), None)


def document_in(labels: Labels) -> Document:
    """The objects of a layer as a document that agrees with it.

    All of the layer is read, which takes some seconds if it is large: in any thread.

    Raises
    ------
    AnnotationError
        If it is of an annotation file that cannot be read any more, or an id needs more than 63 bits.
    """
    data = labels.data
    known = _parked_in(labels, tuple(data.shape)) or document_of(labels)
    if known is None:
        document = Document(data.shape)
        # What was there before is where the history begins.
        document.add_objects(drafts_of_labels(data), "Import labels", keep_ids=True)
        document.history.clear()
        return document
    # Somebody may have painted while nobody looked.
    take_over_all(known, data)
    return known


def _parked_in(labels: Labels, shape: tuple[int, ...]) -> Document | None:
    parked = _parked.get(labels)
    return None if parked is None or parked.document.shape != shape else parked.document


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
        To go on with. If `labels` is given, too, it is :func:`document_in` it, read before.
    agrees : bool, default True
        Whether nobody has painted in `labels` since then.
    """

    def __init__(
        self,
        image: Image,
        labels: Labels | None = None,
        document: Document | None = None,
        *,
        agrees: bool = True,
    ) -> None:
        shape = image_shape(image)
        self._image = ref(image)
        self._made = labels is None
        self.instead_of: Recoverable | None = None
        if labels is not None:
            document = document_in(labels) if document is None else document
            parked = _parked.get(labels)
            if parked is not None and parked.document is document:
                self._take_up(_parked.pop(labels))
        elif document is None and (unseen := _unseen.pop(image, None)) and unseen.document.shape == shape:
            document = unseen.document
            self._take_up(unseen)
        self.document = Document(shape) if document is None else document
        self.sieves = Sieves(self.document)
        self.autosave: AutosaveFile | None = None
        self._attach: Callable[[bool], AutosaveFile] | None = None
        self.identified = False
        self.unsaved = True
        self.canvas: Canvas | None = None
        self.class_canvas: Canvas | None = None
        self.document.changed.connect(self._on_document)
        if labels is not None:
            mark(labels, self.document)
            self.canvas = Canvas(labels, self.document)
            if not agrees:
                self.canvas.take_over_all()

    def _take_up(self, parked: Parked) -> None:
        """Go on with what a closed widget left behind."""
        self._made = parked.made
        if parked.path is not None:
            self.instead_of = Recoverable(parked.path, datetime.now(UTC))

    @property
    def image(self) -> Image | None:
        """The image that the objects were begun on; another one can have the same layer."""
        return self._image()

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
        """The layer of objects, made now if there is none yet, below the layers that are to stay `above`.

        Raises
        ------
        ImageError
            If there is not enough memory for it.
        """
        if self.canvas is None:
            labels = result_layer(image)
            _insert(viewer, labels, above)
            self._made = True
            mark(labels, self.document)
            self.canvas = Canvas(labels, self.document)
            self.canvas.fill()
        return self.canvas.labels

    def ensure_class_labels(self, viewer: ViewerModel, image: Image, above: Sequence[Layer]) -> Labels:
        """The layer of classes, made now if there is none; raises as :meth:`ensure_labels` does."""
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
        self.autosave = attach(self.unsaved)

    def saved(self) -> None:
        """The user has what there is: only what comes from now on can be lost."""
        if self.autosave is not None and self._attach is not None:
            self.autosave.close(discard=True)
            self.autosave = self._attach(False)

    def close(self) -> None:
        """Stop; whoever chooses the layer again goes on with the document."""
        labels, path = self.labels, None
        if self.autosave is not None:
            path = self.autosave.path
            self.autosave.close()
            self.autosave = None
        for canvas in (self.canvas, self.class_canvas):
            if canvas is not None:
                canvas.close()
        self.canvas = self.class_canvas = None
        parked = Parked(self.document, self._made, path, self._image)
        if labels is not None and (len(self.document) or self.document.candidates):
            _parked[labels] = parked
        elif (image := self.image) is not None and self.document.candidates:
            _unseen[image] = parked

    def hide(self) -> None:
        """The layer of objects is gone; the objects stay."""
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None


def _insert(viewer: ViewerModel, labels: Labels, above: Sequence[Layer]) -> None:
    layers = viewer.layers
    active = layers.selection.active
    # What the user removed comes back a moment later only.
    there = [layers.index(layer) for layer in above if layer in layers]
    layers.insert(min(there, default=len(layers)), labels)
    layers.selection.active = active
