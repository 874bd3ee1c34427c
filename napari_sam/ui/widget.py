"""The dock widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

# Annotations of the constructor are read by napari, so this import is needed at run time.
import napari
from napari.layers import Image
from qtpy.QtCore import QEvent, QSize, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_sam.ui import preferences
from napari_sam.ui.actions import keys
from napari_sam.ui.automatic_panel import AutomaticPanel
from napari_sam.ui.controller import Controller
from napari_sam.ui.current_panel import CurrentPanel
from napari_sam.ui.layers import unwrap
from napari_sam.ui.objects_panel import ObjectsPanel
from napari_sam.ui.propagation_panel import PropagationPanel
from napari_sam.ui.recovery_row import RecoveryRow
from napari_sam.ui.segmenter import ModelChoice
from napari_sam.ui.source_panel import SourcePanel

__all__ = ["SegmentWidget"]


class SegmentWidget(QScrollArea):
    """Segment an image with clicks, boxes, scribbles and lassos; *Plugins > Segment* makes one.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    image : napari.layers.Image, optional
        Begin with this image; with the selected or the topmost one if not given.
    model, device : str, optional
        Begin with these; a model that is not on disk is downloaded. If not given, those of napari's
        Preferences, and nothing is downloaded before the user asks for it.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        image: Image | None = None,
        model: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        preferred = preferences.first_choice()
        choice = ModelChoice(model or preferred.name, device or preferred.device)
        self.controller = Controller(napari_viewer, choice, download=model is not None)
        self.source = SourcePanel(self.controller)
        self.recovery = RecoveryRow(self.controller)
        self.current = CurrentPanel(self.controller)
        self.automatic = AutomaticPanel(self.controller)
        self.propagation = PropagationPanel(self.controller)
        self.objects = ObjectsPanel(self.controller)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(self.source)
        layout.addWidget(self.recovery)
        layout.addWidget(self.current)
        layout.addWidget(self.automatic)
        layout.addWidget(self.propagation)
        layout.addWidget(self.objects, 1)
        # On small screens, and beside other docks, there may be less room than all of them need.
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        # Once it has grown.
        for grown in (self.automatic, self.propagation):
            grown.grown.connect(lambda part=grown: QTimer.singleShot(0, lambda: self._show_part(part)))
        self.controller.changed.connect(self._refresh)
        keys.open(self.controller)
        keys.changed.connect(self._refresh_keys)
        # A window that is destroyed does not tell its inner widgets in any other way.
        self.destroyed.connect(_closer(self.controller, WeakMethod(self._refresh_keys)))
        self.controller.closing.connect(self._on_closing)
        self._refresh_keys()
        self.controller.set_image(unwrap(image) or self.source.first_image())
        self.source.on_layers()
        self._refresh()

    def _refresh(self) -> None:
        if not self.controller.closed:
            self.source.refresh()
            self.recovery.refresh()
            self.current.refresh()
            self.automatic.refresh()
            self.propagation.refresh()
            self.objects.refresh()

    def _show_part(self, part: AutomaticPanel | PropagationPanel) -> None:
        # Layouts inside layouts take several turns of the event loop.
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        # Its beginning is worth more than its end, where there is no room for both.
        self.ensureWidgetVisible(part, 0, 0)
        self.ensureWidgetVisible(part.button, 0, 0)

    def _refresh_keys(self) -> None:
        self.current.refresh_keys()
        self.propagation.refresh_keys()

    # Closing

    def close_session(self) -> None:
        """Stop everything and leave only the result layer behind."""
        self.controller.close()

    def _on_closing(self) -> None:
        self.controller.changed.disconnect(self._refresh)
        self.source.close_panel()
        self.automatic.close_panel()
        self.propagation.close_panel()
        self.objects.close_panel()
        keys.changed.disconnect(self._refresh_keys)
        keys.close(self.controller)
        self.setEnabled(False)

    def event(self, event: QEvent | None) -> bool:
        """Close with the dock widget: napari then takes the widget out of its parent."""
        orphaned = event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None
        if orphaned and hasattr(self, "controller"):
            self.close_session()
        return super().event(event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Close when used as a window of its own."""
        self.close_session()
        super().closeEvent(event)

    def sizeHint(self) -> QSize:
        """Wide enough for the longest layer names that are usual."""
        return QSize(360, super().sizeHint().height())


def _closer(controller: Controller, on_keys: WeakMethod[Callable[[], None]]) -> Any:
    """A function for when the window was destroyed with the widget in it; it does not keep that alive."""

    def close(_: Any = None) -> None:
        # The widget, which listens, is no more than a shell by now.
        controller.closing.disconnect()
        if (listener := on_keys()) is not None:
            keys.changed.disconnect(listener)
        keys.close(controller)
        controller.close(window_is_gone=True)

    return close
