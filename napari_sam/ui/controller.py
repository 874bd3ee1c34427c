"""What a widget or a script can do: choose an image, prompt, accept, reject."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_error, show_warning
from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_sam.annotation import Changes
from napari_sam.errors import DownloadCancelled, ImageError, NapariSamError
from napari_sam.inference.mask import Mask
from napari_sam.ui import status
from napari_sam.ui.choosing import OTHER_SHAPE, Choosing
from napari_sam.ui.deciding import Deciding
from napari_sam.ui.hovering import Hovering
from napari_sam.ui.keeping import Keeping
from napari_sam.ui.layers import unwrap
from napari_sam.ui.lineage import Lineage
from napari_sam.ui.measuring import Measuring
from napari_sam.ui.prompting import Prompting
from napari_sam.ui.result import Result
from napari_sam.ui.segmenter import Loaded, ModelChoice
from napari_sam.ui.segmenting_everything import SegmentingEverything
from napari_sam.ui.session import Session
from napari_sam.ui.work import Work

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel

    from napari_sam.annotation import Document
    from napari_sam.annotation.recovery import Recoverable

__all__ = ["Controller"]

_SETTLE_MS = 120
"""A slider or contrast limits have to rest this long before the plane is embedded."""


class Controller(Choosing, Prompting, Deciding, SegmentingEverything, Lineage, Keeping):
    """Connects one viewer, one image at a time, the document and the worker.

    Use it from the GUI's thread. :func:`napari_sam.annotate` makes one together with its widget.

    Parameters
    ----------
    viewer : napari.Viewer
    choice : ModelChoice
        The model to begin with, and its device.
    download : bool, default True
        Download that model if need be; else begin with the one that is part of the package.
    """

    changed = Signal()
    """Anything that a view shows: status, image, result layer, tool, what is being done."""

    closing = Signal()
    """It is over; a view should stop listening."""

    loaded = Signal(Loaded)
    """A model is ready; says which devices there are."""

    def __init__(self, viewer: napari.Viewer, choice: ModelChoice, *, download: bool = True) -> None:
        self.viewer: ViewerModel = unwrap(viewer)
        self.session: Session | None = None
        self.device = ""
        self._work = Work(choice)
        self._work.requests.changed.connect(self.changed.emit)
        self._work.files.changed.connect(self.changed.emit)
        self._work.warned.connect(self._on_warned)
        self._work.answered.connect(self._on_answered)
        self._work.failed.connect(self._on_failed)
        self.measuring = Measuring(self._work)
        self._hovering: Hovering | None = None
        self._preview = True
        self._results: list[Result] = []
        self.left_behind: list[str] = []
        self._offers: WeakKeyDictionary[Image, list[Recoverable]] = WeakKeyDictionary()
        self._last: WeakKeyDictionary[Image, Result] = WeakKeyDictionary()
        self._notice = ""
        self._failure: Exception | None = None
        # Layer events come in the middle of what napari does: what changes layers waits for its end.
        self._soon = _timer(0, self._catch_up)
        self._settled = _timer(_SETTLE_MS, self._look_again)
        self._dropped = _timer(0, self._drop_removed)
        self._begin_overview()
        self._begin_everything()
        self._begin_propagating()
        self._begin_lineage()
        # After napari itself, which may still be busy with the removal.
        self.viewer.layers.events.removed.connect(self._on_removed, position="last")
        self.viewer.layers.selection.events.active.connect(self._on_active)
        self.models.changed.connect(self.changed.emit)
        self.models.told.connect(self._on_told)
        self.models.loaded.connect(self._on_loaded)
        self.models.choose(choice, download=download)
        self._look_for_what_is_left()

    # One image after the other

    def _enter(self, image: Image, result: Result) -> None:
        if result not in self._results:
            self._results.append(result)
        self._last[image] = result
        session = self.session = Session(self.viewer, image, result)
        session.changed.connect(self._on_document)
        session.plane_changed.connect(self._on_plane)
        session.pixels_changed.connect(self._on_pixels)
        session.replaced.connect(self._on_replaced)
        session.dragging.connect(self._on_dragging)
        session.tool_changed.connect(self.changed.emit)
        self.viewer.layers.selection.active = session.prompts.points
        self._hovering = Hovering(session, self._work, enabled=self._preview)
        self._open_outlines(session)
        self._open_everything(session)
        self._open_tracks(session)
        self.viewer.mouse_double_click_callbacks.append(self._on_double_click)
        self._work.embed(session)
        # Objects that were segmented on another image stay as they are.
        if result.image is image:
            self._work.ask_again(session)
        self._keep(image, result)
        if result.labels is None and any(item.masks for item in result.document.objects):
            session.show_objects()

    def _leave(self, *, keep_layers: bool = False) -> None:
        self._stop_reading()
        if self.session is not None:
            with suppress(RuntimeError):  # where Qt went before us, at the end of the program
                self._soon.stop()
                self._settled.stop()
            self._work.stop_embedding()
            self._close_everything(keep_layer=keep_layers)
            self._close_tracks(keep_layer=keep_layers)
            self._close_outlines(keep_layer=keep_layers)
            if self._hovering is not None:
                self._hovering.close(keep_layer=keep_layers)
                self._hovering = None
            if self._on_double_click in self.viewer.mouse_double_click_callbacks:
                self.viewer.mouse_double_click_callbacks.remove(self._on_double_click)
            session, self.session = self.session, None
            session.close(keep_layers=keep_layers)

    # Results

    @property
    def preview(self) -> bool:
        """Whether the mask that a click would give follows the mouse."""
        return self._preview

    @preview.setter
    def preview(self, value: bool) -> None:
        self._preview = value
        if self._hovering is not None:
            self._hovering.hover.enabled = value
        self.changed.emit()

    @property
    def labels(self) -> np.ndarray:
        """The array of the result layer, after all pending work is done.

        Raises
        ------
        ImageError
            If no image is chosen.
        NapariSamError
            If something that was asked for failed.
        """
        self.wait()
        if self.session is None:
            raise ImageError("No image is chosen: call set_image with an image layer first.")
        array: np.ndarray = self.session.ensure_labels().data
        return array

    def wait(self, timeout: float | None = None) -> bool:
        """Let the event loop turn until all results have arrived; False if `timeout` seconds passed before.

        Raises
        ------
        NapariSamError
            If something that was asked for failed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self.closed and (
            self.busy or self.models.busy or any(timer.isActive() for timer in self._timers)
        ):
            if end is not None and time.monotonic() > end:
                return False
            QApplication.processEvents()
            time.sleep(0.002)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return True

    @property
    def _timers(self) -> tuple[QTimer, ...]:
        return self._soon, self._settled, self._dropped, self._everything_soon, self._tracks_soon

    @property
    def busy(self) -> bool:
        """Whether results are still to come."""
        return self._work.requests.busy or self._work.files.busy or self.propagating

    @property
    def encoding(self) -> bool:
        """Whether the model is being loaded or an image embedding computed."""
        return self._work.encoding

    @property
    def doing(self) -> str:
        """What is being done at the moment."""
        return (
            self._work.requests.doing or self._work.files.doing or ("Propagating" if self.propagating else "")
        )

    @property
    def notice(self) -> str:
        """What went wrong last, as long as it matters."""
        ignored = self.session.ignored if self.session is not None else []
        return ignored[-1] if ignored else self._notice

    @property
    def status(self) -> str:
        """One or two sentences: what is going on and what to do next."""
        return status.describe(self)

    def owns(self, layer: object) -> bool:
        """Whether a layer belongs to what is being segmented here."""
        if self.session is None or layer is None:
            return False
        result = self.session.result
        shown = layer is result.labels or layer is self.image
        return shown or layer in self.session.prompts or self.only_shows(layer)

    def only_shows(self, layer: object) -> bool:
        """Whether a layer is a view: of what a click would give, or of classes."""
        if self.session is not None and layer is not None and layer is self.session.result.class_labels:
            return True
        if (
            self._shows_everything(layer)
            or self._is_tracks(layer)
            or (self._outlines is not None and self._outlines.owns(layer))
        ):
            return True
        return self._hovering is not None and self._hovering.layer.owns(layer)

    def works_on(self, document: Document) -> bool:
        """Whether a document is that of an image which was chosen here."""
        return any(result.document is document for result in self._results)

    @property
    def closed(self) -> bool:
        """Whether the widget was closed."""
        return self._work.requests.closed

    def close(self, *, window_is_gone: bool = False) -> None:
        """Take the prompt layers away and stop; the result layer stays. Closing twice is fine.

        Parameters
        ----------
        window_is_gone : bool, default False
            Leave all layers alone: what would draw the change does not exist any more.
        """
        if not self.closed:
            self.closing.emit()
            self.viewer.layers.events.removed.disconnect(self._on_removed)
            self.viewer.layers.selection.events.active.disconnect(self._on_active)
            # Tracks are a result, too.
            self._close_tracks(keep_layer=True)
            self._leave(keep_layers=window_is_gone)
            self._work.close()
            for result in self._results:
                result.close()

    # Events

    def _on_document(self, changes: Changes) -> None:
        if self.session is not None:
            self._notice = ""
            self._work.catch_up(self.session, changes.before)
            # A click may have left more behind than what counts: see `_catch_up`.
            self._soon.start()
            if self._hovering is not None:
                self._hovering.layer.clear()
            self._outline_again()
            self._everything_moved(document=True)
            self._touched(changes.before)
            self._tracks_again()
        self.changed.emit()

    def _on_double_click(self, _: ViewerModel, event: Any) -> None:
        """Open the object under the mouse."""
        session = self.session
        if session is None or session.plane is None:
            return
        at = np.round(session.image.world_to_data(event.position)).astype(int)
        if (at < 0).any() or (at >= session.shape).any():
            return
        item = session.document.object_at(at)
        if item is None or item.uid == session.document.current.uid:
            return
        # The first of the two clicks was a point for the object before, if it was with a tool for points.
        self._catch_up()
        if self.tool in ("positive", "negative") and session.document.undo_text == "Add point":
            session.document.undo()
        self.open_object(item.uid)

    def _on_plane(self) -> None:
        self._notice = ""
        self._settled.start()
        self._outline_again()
        self._everything_moved()
        self._tracks_moved()
        self.changed.emit()

    def _on_pixels(self) -> None:
        self._settled.start()

    def _on_replaced(self) -> None:
        if self.session is not None:
            image, another = self.session.image, self.session.shape_changed
            self._stop_for_image(image, "has another shape" if another else "has other pixels")
            self._stop_finding_in(image)

    def _on_dragging(self) -> None:
        self._soon.start()

    def _look_again(self) -> None:
        """Embed what is displayed now, and segment the current object as it looks now."""
        self._settled.stop()
        if self.session is None:
            return
        if self.session.shape_changed:
            image = self.session.image
            self._leave()
            self._tell(OTHER_SHAPE)
            self._enter(image, Result(image))
            return
        self._work.embed(self.session)
        self._work.ask_again(self.session)

    def _catch_up(self) -> None:
        """Do what could not be done in the middle of a layer's event."""
        self._soon.stop()
        if self.session is not None and self.session.image not in self.viewer.layers:
            self._leave_removed(self.session.result)
        if self.session is not None:
            self.session.restore_layers()
            self.session.prompts.tidy()
            self.session.read_prompts()
            self.session.end_gesture()

    def _on_removed(self, event: Any) -> None:
        self._stop_for_image(event.value, "was removed")
        self._on_tracks_removed()
        self._on_layer_removed(event.value)
        self._stop_finding_in(event.value)
        self._dropped.start()
        if self.session is None:
            return
        result = self.session.result
        if event.value in (self.image, result.labels) or event.value in self.session.prompts:
            # napari may be about to remove others, which are to be there for it.
            self._soon.start()
        elif event.value is result.class_labels and result.labels is not None:
            result.labels.visible = True
            self.changed.emit()

    def _leave_removed(self, result: Result) -> None:
        """Leave an image that was removed."""
        self._leave()
        stay = result.labels is not None and result.labels in self.viewer.layers
        there = " Its objects stay in their layer." if stay else ""
        self._notice = f"The image was removed: choose another one.{there}"
        self._dropped.start()
        self.changed.emit()

    def _drop_removed(self) -> None:
        """Forget objects whose image and layer are both gone; with the image, they are offered again."""
        layers = self.viewer.layers
        for result in [] if self.closed else list(self._results):
            chosen = self.session is not None and self.session.result is result
            if not chosen and result.image not in layers and result.labels not in layers:
                self._results.remove(result)
                result.close()
                if result.image is not None and self._last.get(result.image) is result:
                    del self._last[result.image]

    def _on_active(self) -> None:
        self.changed.emit()

    def _on_loaded(self, loaded: Loaded) -> None:
        self.device = loaded.device
        self.loaded.emit(loaded)
        self._look_again()

    def _on_warned(self, sentence: str, device: str) -> None:
        self.device = device
        self._tell(sentence)

    def _on_told(self, sentence: str) -> None:
        self._notice = sentence
        self.changed.emit()

    def _on_answered(self, document: Document, mask: Mask) -> None:
        self._say(document, status.NOTHING_FOUND if mask.is_empty else "")

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, DownloadCancelled) and self.models.ready:
            self._on_told(str(error))
            return
        self._failure = error
        expected = isinstance(error, NapariSamError)
        sentence = str(error) if expected else f"Something unexpected failed: {type(error).__name__}: {error}"
        # Without a model, everything that waits fails in the same way.
        if sentence != self._notice:
            self._notice = sentence
            show_error(sentence)

    def _tell(self, sentence: str) -> None:
        self._notice = sentence
        show_warning(sentence)
        self.changed.emit()


def _timer(milliseconds: int, function: Callable[[], None]) -> QTimer:
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(function)
    return timer
