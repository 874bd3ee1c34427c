"""The dock widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakMethod

# Annotations of the constructor are read by napari, so this import is needed at run time.
import napari
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtGui import QCloseEvent, QColor, QIcon, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam.ui import preferences, samples
from napari_sam.ui.actions import ACCEPT, BOX, POLARITY, REJECT, keys
from napari_sam.ui.controller import Controller
from napari_sam.ui.download_row import DownloadRow
from napari_sam.ui.layers import NEGATIVE, POSITIVE, unwrap
from napari_sam.ui.model_combo import ModelCombo
from napari_sam.ui.segmenter import Loaded, ModelChoice

__all__ = ["SegmentWidget"]

_NEW = "New labels layer"
_OTHER = "With Ctrl or the right button they do the opposite."


class SegmentWidget(QWidget):
    """Segment an image with clicks and boxes; *Plugins > Segment* makes one.

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
        self._viewer = self.controller.viewer
        self._build(choice.device)
        self.controller.changed.connect(self._refresh)
        self.controller.loaded.connect(self._on_loaded)
        self.controller.models.on_disk_changed.connect(self.model_combo.mark_on_disk)
        self.controller.models.look_on_disk()
        for event in self._list_events():
            event.connect(self._on_layers)
        keys.open(self.controller)
        keys.changed.connect(self._refresh_keys)
        # A window that is destroyed does not tell its inner widgets in any other way.
        self.destroyed.connect(_closer(self.controller, WeakMethod(self._refresh_keys)))
        self.controller.closing.connect(self._on_closing)
        self._refresh_keys()
        self.controller.set_image(unwrap(image) or self._first_choice())
        self._on_layers()

    def _list_events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered, events.renamed]

    # Building

    def _build(self, device: str) -> None:
        self.image_combo = _combo("The image to segment, as it is displayed.")
        self.model_combo = ModelCombo()
        self.model_combo.setMinimumContentsLength(12)
        self.model_combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.device_combo = _combo("Where the network runs.")
        self.result_combo = _combo("Where the objects go. What is in an existing layer is never overwritten.")
        self.device_combo.addItems(list(dict.fromkeys(["auto", device, "cpu"])))
        self.device_combo.setCurrentText(device)
        self.image_combo.activated.connect(self._choose_image)
        self.result_combo.activated.connect(self._choose_result)
        self.model_combo.picked.connect(self._choose_model)
        self.device_combo.activated.connect(self._choose_device)
        self.download_row = DownloadRow()
        self.download_row.cancelled.connect(self.controller.models.cancel_download)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, combo in (
            ("Image", self.image_combo),
            ("Objects to", self.result_combo),
            ("Model", self.model_combo),
            ("Device", self.device_combo),
        ):
            form.addRow(label, combo)

        self.positive_button = _tool_button("Object", _icon("#2fbf4f", "+"))
        self.negative_button = _tool_button("Background", _icon("#e5383b", "-"))
        self.box_button = _tool_button("Box", _icon("#2fbf4f", "box"))
        self._tools = {POSITIVE: self.positive_button, NEGATIVE: self.negative_button, "box": self.box_button}
        self._tool_group = QButtonGroup(self)
        tool_row = _row()
        for tool, button in self._tools.items():
            self._tool_group.addButton(button)
            button.clicked.connect(lambda _=False, tool=tool: self.controller.set_tool(tool))
            tool_row.addWidget(button)

        self.accept_button = _button("Accept")
        self.reject_button = _button("Reject")
        self.accept_button.clicked.connect(self.controller.accept)
        self.reject_button.clicked.connect(self.controller.reject)
        decide_row = _row()
        decide_row.addWidget(self.accept_button, 3)
        decide_row.addWidget(self.reject_button, 2)

        self.status_label = QLabel()
        self.status_label.setWordWrap(True)
        self.status_label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        # Room for the longer sentences, so that nothing jumps when the text changes.
        self.status_label.setMinimumHeight(4 * self.fontMetrics().lineSpacing())
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.sample_button = _button("Open the sample image “coins”")
        self.sample_button.clicked.connect(self._open_sample)
        self.count_label = QLabel()
        self.count_label.setEnabled(False)

        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        layout.addLayout(form)
        layout.addWidget(self.download_row)
        layout.addLayout(tool_row)
        layout.addLayout(decide_row)
        layout.addWidget(self.progress)
        layout.addWidget(self.status_label)
        layout.addWidget(self.sample_button)
        layout.addWidget(self.count_label)
        layout.addStretch(1)

    # From the user

    def _choose_image(self) -> None:
        self.controller.set_image(self.image_combo.currentData())
        self._on_layers()

    def _choose_result(self) -> None:
        self.controller.set_result(self.result_combo.currentData())
        self._on_layers()

    def _choose_model(self, name: str) -> None:
        self.controller.set_model(ModelChoice(name, self.device_combo.currentText()))
        self._refresh()

    def _choose_device(self) -> None:
        self.controller.set_model(self._choice._replace(device=self.device_combo.currentText()))

    @property
    def _choice(self) -> ModelChoice:
        """The model that the user asked for last, if it is to be had."""
        models = self.controller.models
        return models.wanted or models.choice

    def _open_sample(self) -> None:
        data, options, _ = samples.coins()[0]
        self._viewer.add_image(data, **options)

    def _first_choice(self) -> Image | None:
        active = self._viewer.layers.selection.active
        images = self._of_type(Image)
        return active if isinstance(active, Image) else (images[-1] if images else None)

    def _of_type(self, kind: type[Layer]) -> list[Any]:
        return [layer for layer in self._viewer.layers if isinstance(layer, kind) and layer.ndim >= 2]

    # To the user

    def _on_layers(self, event: Any = None) -> None:
        if self.controller.closed:
            return
        images = self._of_type(Image)
        added = event.value if event is not None and event.type == "inserted" else None
        if self.controller.image is None and isinstance(added, Image) and images == [added]:
            # Once napari is done with it: it makes a new layer the active one.
            QTimer.singleShot(0, self._take_the_only_image)
        with _quiet(self.image_combo):
            self.image_combo.clear()
            for layer in reversed(images):
                self.image_combo.addItem(layer.name, layer)
            self.image_combo.setPlaceholderText("Choose an image" if images else "No image is open")
        with _quiet(self.result_combo):
            self.result_combo.clear()
            self.result_combo.addItem(_NEW, None)
            for layer in reversed(self._of_type(Labels)):
                self.result_combo.addItem(layer.name, layer)
        self._refresh()

    def _take_the_only_image(self) -> None:
        images = self._of_type(Image)
        if not self.controller.closed and self.controller.image is None and len(images) == 1:
            self.controller.set_image(images[0])

    def _refresh(self) -> None:
        if self.controller.closed:
            return
        controller, session = self.controller, self.controller.session
        _select(self.image_combo, controller.image)
        _select(self.result_combo, controller.result_layer)
        self.model_combo.select(self._choice.name)
        _select_text(self.device_combo, self._choice.device)
        current = controller.models.choice.label
        self.download_row.show_download(
            controller.models.download, current if controller.models.ready else ""
        )
        self.image_combo.setEnabled(self.image_combo.count() > 0)
        self.result_combo.setEnabled(session is not None)
        self._tool_group.setExclusive(False)
        for tool, button in self._tools.items():
            button.setEnabled(session is not None)
            button.setChecked(tool == controller.tool)
        self._tool_group.setExclusive(bool(controller.tool))
        started = session is not None and not session.document.current.is_empty
        self.accept_button.setEnabled(started)
        self.reject_button.setEnabled(started)
        self.progress.setVisible(controller.busy)
        self.sample_button.setVisible(session is None and self.image_combo.count() == 0)
        self.status_label.setText(controller.status)
        accepted = 0 if session is None else sum(item.accepted for item in session.document.objects)
        where = f" on {controller.device}" if controller.device else ""
        self.count_label.setText(f"{accepted} accepted  ·  {current}{where}")

    def _refresh_keys(self) -> None:
        for button, name, tip in (
            (self.accept_button, ACCEPT, "Keep the object and go on to the next."),
            (self.reject_button, REJECT, "Clear the object's mask and prompts."),
            (self.positive_button, POLARITY, f"Clicks mark the object. {_OTHER}"),
            (self.negative_button, POLARITY, f"Clicks mark background. {_OTHER}"),
            (self.box_button, BOX, "Drag a rectangle around the object."),
        ):
            key = keys.text(name)
            button.setToolTip(f"{tip} Key: {key}. Change it in Preferences > Shortcuts." if key else tip)
        accept_key = keys.text(ACCEPT).partition(" or ")[0]
        self.accept_button.setText(f"Accept  ({accept_key})" if accept_key else "Accept")

    def _on_loaded(self, loaded: Loaded) -> None:
        with _quiet(self.device_combo):
            self.device_combo.clear()
            devices = ["auto", *loaded.devices, self._choice.device]
            self.device_combo.addItems(list(dict.fromkeys(devices)))
        self._refresh()

    # Closing

    def close_session(self) -> None:
        """Stop everything and leave only the result layer behind."""
        self.controller.close()

    def _on_closing(self) -> None:
        for event in self._list_events():
            event.disconnect(self._on_layers)
        self.controller.changed.disconnect(self._refresh)
        self.controller.loaded.disconnect(self._on_loaded)
        self.controller.models.on_disk_changed.disconnect(self.model_combo.mark_on_disk)
        self.download_row.close_activity()
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
        return QSize(300, super().sizeHint().height())


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


@contextmanager
def _quiet(combo: QComboBox) -> Iterator[None]:
    blocked = combo.blockSignals(True)
    try:
        yield
    finally:
        combo.blockSignals(blocked)


def _select(combo: QComboBox, layer: Layer | None) -> None:
    index = next((i for i in range(combo.count()) if combo.itemData(i) is layer), -1)
    with _quiet(combo):
        combo.setCurrentIndex(index)


def _select_text(combo: QComboBox, text: str) -> None:
    with _quiet(combo):
        combo.setCurrentIndex(combo.findText(text))


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    # Long layer names must not make the dock widget wider.
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(12)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    # The canvas keeps the keyboard, so that shortcuts work right after a button was clicked.
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


def _tool_button(text: str, icon: QIcon) -> QPushButton:
    button = _button(text)
    button.setCheckable(True)
    button.setIcon(icon)
    return button


def _row() -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(6)
    return row


def _icon(colour: str, sign: str) -> QIcon:
    """A dot with a plus or a minus, or a rectangle, in the colour of the prompt."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    with _painting(pixmap) as painter:
        if sign == "box":
            painter.setPen(QPen(QColor(colour), 4))
            painter.drawRect(5, 7, 22, 18)
        else:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colour))
            painter.drawEllipse(3, 3, 26, 26)
            painter.setPen(QPen(QColor("white"), 4))
            painter.drawLine(10, 16, 22, 16)
            if sign == "+":
                painter.drawLine(16, 10, 16, 22)
    return QIcon(pixmap)


@contextmanager
def _painting(pixmap: QPixmap) -> Iterator[QPainter]:
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    try:
        yield painter
    finally:
        painter.end()
