"""Which image is segmented, which layer its objects go to, and with which model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_sam.annotation import Document
from napari_sam.errors import AnnotationError
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.layers import refusal, unwrap
from napari_sam.ui.plane import image_shape
from napari_sam.ui.result import Result, document_in, layer_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.ui.segmenter import ModelChoice
    from napari_sam.ui.switching import ModelSwitch

__all__ = ["OTHER_SHAPE", "Choosing"]

_AT_ONCE = 1 << 22
"""Pixels of a layer whose objects are read while the user waits: some tenths of a second."""
_KEY = "read objects"
OTHER_SHAPE = "The image has another shape now: its objects stay in their layer, a new annotation begins."


class _Awaited:
    """A layer whose objects are being read.

    Attributes
    ----------
    touched : bool
        Whether somebody painted there meanwhile: what was read may be of before.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.touched = False
        events = labels.events
        self._events = events.paint, events.labels_update, events.data
        for event in self._events:
            event.connect(self._on_touched)

    def close(self) -> None:
        for event in self._events:
            event.disconnect(self._on_touched)

    def _on_touched(self) -> None:
        self.touched = True


class Choosing(Controlling):
    """The part of a controller that begins with an image and a layer, and leaves others."""

    _results: list[Result]
    _last: WeakKeyDictionary[Image, Result]
    _leave: Callable[[], None]
    _enter: Callable[[Image, Result], None]
    _awaited: _Awaited | None = None

    @property
    def models(self) -> ModelSwitch:
        """Which model segments, and which one is on its way."""
        return self._work.models

    @property
    def image(self) -> Image | None:
        """The image that is being segmented."""
        return None if self.session is None else self.session.image

    @property
    def result_layer(self) -> Labels | None:
        """The Labels layer that objects go to; None as long as a new one is to be made."""
        return None if self.session is None else self.session.result.labels

    @property
    def chosen_layer(self) -> Labels | None:
        """The Labels layer that objects go to as soon as those that it has are read."""
        return self.result_layer if self._awaited is None else self._awaited.labels

    def set_image(self, image: Image | None) -> None:
        """Segment another image; work on the one before is kept, and taken up on return."""
        image = unwrap(image)
        if image is self.image:
            return
        self._leave()
        self._notice = ""
        if image is not None and image.ndim < 2:
            self._tell(f"{image.name!r} has one axis only: choose an image with at least two.")
        elif image is not None:
            result = self._last.get(image)
            if result is not None and result.labels is not None and result.labels not in self.viewer.layers:
                result.hide()
            changed = result is not None and result.document.shape != image_shape(image)
            if result is None or changed:
                result = Result(image, layer_of(image, self.viewer.layers))
            self._enter(image, result)
            if changed:
                self._tell(OTHER_SHAPE)
        self.changed.emit()

    def set_result(self, labels: Labels | None, *, in_background: bool = False) -> bool:
        """Let objects go to an existing Labels layer, or to a new one (None).

        What is in the layer stays; objects get ids above those that are there. Returns False, and says why,
        if the layer cannot take the image's objects.

        Parameters
        ----------
        labels : napari.layers.Labels, optional
        in_background : bool, default False
            Return before the objects of a large layer are read; until they are, the layer before goes on.
        """
        labels = unwrap(labels)
        if self.session is None or (in_background and labels is self.chosen_layer):
            return True
        image = self.session.image
        if labels is not None and (problem := refusal(image, labels)):
            self._tell(problem)
            return False
        self._stop_reading()
        if labels is not self.result_layer:
            known = (one for one in self._results if labels is not None and one.labels is labels)
            result = next((one for one in known if one.document.shape == image_shape(image)), None)
            if result is None and labels is not None and in_background and _is_large(labels):
                self._read_objects(labels)
            else:
                try:
                    result = result or Result(image, labels)
                except AnnotationError as error:
                    self._tell(str(error))
                    return False
                self._enter_instead(image, result)
        self.changed.emit()
        return True

    def set_model(self, choice: ModelChoice) -> None:
        """Use another model or device, for the current object, too.

        It is downloaded if need be; until it is there, the one before goes on. All objects stay.
        """
        if not self.models.is_on(choice):
            self._notice = ""
            self.models.choose(choice)

    def _enter_instead(self, image: Image, result: Result) -> None:
        self._leave()
        self._notice = ""
        self._enter(image, result)

    # A large layer

    def _read_objects(self, labels: Labels) -> None:
        """Read the objects of a layer in the background, and go on with them."""
        self._notice = ""
        awaited = self._awaited = _Awaited(labels)

        def arrived(document: Document) -> None:
            self._stop_reading()
            if self.session is not None:
                image = self.session.image
                if problem := refusal(image, labels):
                    self._tell(problem)
                else:
                    self._enter_instead(image, Result(image, labels, document, agrees=not awaited.touched))
            self.changed.emit()

        def failed(error: Exception) -> None:
            self._stop_reading()
            if isinstance(error, AnnotationError):
                self._tell(str(error))
            else:
                self._on_failed(error)
                self.changed.emit()

        self._work.files.submit(
            _KEY, f"Reading the objects of {labels.name!r}", lambda: document_in(labels), arrived, failed
        )

    def _on_layer_removed(self, layer: object) -> None:
        if self._awaited is not None and layer in (self._awaited.labels, self.image):
            self._stop_reading()
            self.changed.emit()

    def _stop_reading(self) -> None:
        """Forget the layer that is being read."""
        if self._awaited is not None:
            self._awaited.close()
            self._awaited = None
            self._work.files.cancel(_KEY)


def _is_large(labels: Labels) -> bool:
    return math.prod(labels.data.shape) > _AT_ONCE
