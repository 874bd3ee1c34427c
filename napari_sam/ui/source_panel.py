"""The part of the widget that says what is segmented, by which model, and where the objects go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_sam.ui import samples
from napari_sam.ui.download_row import DownloadRow
from napari_sam.ui.layers import unwrap
from napari_sam.ui.model_combo import ModelCombo
from napari_sam.ui.parts import button, combo, panel, quiet
from napari_sam.ui.segmenter import Loaded, ModelChoice

if TYPE_CHECKING:
    from napari_sam.ui.controller import Controller

__all__ = ["SourcePanel"]

_NEW = "New labels layer"


class SourcePanel(QWidget):
    """Image, result layer, model and device.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._viewer = controller.viewer
        device = controller.models.choice.device
        self.image_combo = combo(
            "The image to segment, as it is displayed: with its contrast limits and gamma."
        )
        self.model_combo = ModelCombo()
        self.model_combo.setMinimumContentsLength(12)
        self.model_combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.device_combo = combo("Where the model runs; auto is the fastest device there is.")
        self.result_combo = combo(
            "Where the objects go. What is in an existing layer stays; its labels become objects."
        )
        self.device_combo.addItems(list(dict.fromkeys(["auto", device, "cpu"])))
        self.device_combo.setCurrentText(device)
        self.image_combo.activated.connect(self._choose_image)
        self.result_combo.activated.connect(self._choose_result)
        self.model_combo.picked.connect(self._choose_model)
        self.device_combo.activated.connect(self._choose_device)
        self.download_row = DownloadRow()
        self.download_row.cancelled.connect(controller.models.cancel_download)
        self.sample_button = button("Open the sample image “coins”")
        self.sample_button.clicked.connect(self._open_sample)
        layout = panel(self, "Image and model")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, box in (
            ("Image", self.image_combo),
            ("Objects to", self.result_combo),
            ("Model", self.model_combo),
            ("Device", self.device_combo),
        ):
            form.addRow(label, box)
        layout.addLayout(form)
        layout.addWidget(self.sample_button)
        layout.addWidget(self.download_row)
        controller.loaded.connect(self._on_loaded)
        controller.models.on_disk_changed.connect(self.model_combo.mark_on_disk)
        controller.models.look_on_disk()
        for event in self._list_events():
            event.connect(self.on_layers)

    def close_panel(self) -> None:
        """Stop listening."""
        for event in self._list_events():
            event.disconnect(self.on_layers)
        self._controller.loaded.disconnect(self._on_loaded)
        self._controller.models.on_disk_changed.disconnect(self.model_combo.mark_on_disk)
        self.download_row.close_activity()

    def _list_events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered, events.renamed]

    # From the user

    def _choose_image(self) -> None:
        self._controller.set_image(self.image_combo.currentData())
        self.on_layers()

    def _choose_result(self) -> None:
        self._controller.set_result(self.result_combo.currentData(), in_background=True)
        self.on_layers()

    def _choose_model(self, name: str) -> None:
        self._controller.set_model(ModelChoice(name, self.device_combo.currentText()))
        self.refresh()

    def _choose_device(self) -> None:
        self._controller.set_model(self._choice._replace(device=self.device_combo.currentText()))

    @property
    def _choice(self) -> ModelChoice:
        """The model that the user asked for last, if it is to be had."""
        models = self._controller.models
        return models.wanted or models.choice

    def _open_sample(self) -> None:
        data, options, _ = samples.coins()[0]
        self._viewer.add_image(data, **options)

    def first_image(self) -> Image | None:
        """The selected image, or the topmost one."""
        active = unwrap(self._viewer.layers.selection.active)
        images = self._of_type(Image)
        return active if isinstance(active, Image) else (images[-1] if images else None)

    def _of_type(self, kind: type[Layer]) -> list[Any]:
        return [layer for layer in self._viewer.layers if isinstance(layer, kind) and layer.ndim >= 2]

    # To the user

    def on_layers(self, event: Any = None) -> None:
        """Layers came or went, or have other names."""
        if self._controller.closed:
            return
        images = self._of_type(Image)
        added = event.value if event is not None and event.type == "inserted" else None
        if self._controller.image is None and isinstance(added, Image) and images == [added]:
            # Once napari is done with it: it makes a new layer the active one.
            QTimer.singleShot(0, self._take_the_only_image)
        with quiet(self.image_combo):
            self.image_combo.clear()
            for layer in reversed(images):
                self.image_combo.addItem(layer.name, layer)
            self.image_combo.setPlaceholderText("Choose an image" if images else "No image is open")
        with quiet(self.result_combo):
            self.result_combo.clear()
            self.result_combo.addItem(_NEW, None)
            for layer in reversed(self._of_type(Labels)):
                if not self._controller.only_shows(layer):
                    self.result_combo.addItem(layer.name, layer)
        self.refresh()

    def _take_the_only_image(self) -> None:
        images = self._of_type(Image)
        if not self._controller.closed and self._controller.image is None and len(images) == 1:
            self._controller.set_image(images[0])

    def refresh(self) -> None:
        """Show what the controller says."""
        controller = self._controller
        _select(self.image_combo, controller.image)
        _select(self.result_combo, controller.chosen_layer)
        self.model_combo.select(self._choice.name)
        with quiet(self.device_combo):
            self.device_combo.setCurrentIndex(self.device_combo.findText(self._choice.device))
        current = controller.models.choice.label
        self.download_row.show_download(
            controller.models.download, current if controller.models.ready else ""
        )
        self.image_combo.setEnabled(self.image_combo.count() > 0)
        self.result_combo.setEnabled(controller.session is not None)
        self.sample_button.setVisible(controller.session is None and self.image_combo.count() == 0)

    def _on_loaded(self, loaded: Loaded) -> None:
        with quiet(self.device_combo):
            self.device_combo.clear()
            devices = ["auto", *loaded.devices, self._choice.device]
            self.device_combo.addItems(list(dict.fromkeys(devices)))
        self.refresh()


def _select(box: QComboBox, layer: Layer | None) -> None:
    index = next((i for i in range(box.count()) if box.itemData(i) is layer), -1)
    with quiet(box):
        box.setCurrentIndex(index)
