"""The part of the training widget that says what is learnt from: layers, or two folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from psygnal import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sam.ui.parts import button, combo, panel, quiet, row
from napari_sam.ui.plane import finest, image_shape
from napari_sam.ui.training_run import LayerPair

__all__ = ["TrainingImages"]

_UNUSED = "not used"


class TrainingImages(QWidget):
    """One row for each image layer with the labels that belong to it, or two folders.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    """

    changed = Signal()
    """Something else was chosen."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._rows: dict[Image, QComboBox] = {}
        self._seen: set[tuple[Image, Labels]] = set()
        self.where_combo = combo("Where the images and their labels are.")
        self.where_combo.addItems(["layers of the viewer", "folders"])
        self.where_combo.activated.connect(self._on_where)
        self.images_edit, images = self._folder("Folder of images; stacks are taken plane by plane.")
        self.labels_edit, labels = self._folder(
            "Folder of label images of the same names: 1, 2, … on the objects, 0 elsewhere."
        )
        self.empty = QLabel("Open an image and a Labels layer of its size, or choose folders.")
        self.empty.setWordWrap(True)
        layers, folders = QWidget(), QWidget()
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        inside = QVBoxLayout(layers)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.empty)
        inside.addLayout(self._form)
        inside.addStretch()
        second = QFormLayout(folders)
        second.setContentsMargins(0, 0, 0, 0)
        second.addRow("Images", images)
        second.addRow("Labels", labels)
        self.stack = QStackedWidget()
        self.stack.addWidget(layers)
        self.stack.addWidget(folders)
        layout = panel(self, "Images and labels")
        first = QFormLayout()
        first.setContentsMargins(0, 0, 0, 0)
        first.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        first.addRow("From", self.where_combo)
        layout.addLayout(first)
        layout.addWidget(self.stack)
        for event in self._events():
            event.connect(self.refresh)
        self.refresh()

    def close_panel(self) -> None:
        """Stop listening."""
        for event in self._events():
            event.disconnect(self.refresh)

    @property
    def folders(self) -> bool:
        """Whether folders were chosen."""
        return self.where_combo.currentIndex() == 1

    @property
    def complete(self) -> bool:
        """Whether there is something to learn from, as far as can be told at once."""
        if self.folders:
            return bool(self.images_edit.text().strip() and self.labels_edit.text().strip())
        return any(box.currentData() is not None for box in self._rows.values())

    def combo_of(self, image: Image) -> QComboBox:
        """The labels that belong to an image layer."""
        return self._rows[image]

    def pairs(self) -> list[LayerPair]:
        """The layers that were chosen; arrays of labels are copied, since they may go on to be painted."""
        found = []
        for image, box in self._rows.items():
            labels = box.currentData()
            if labels is not None:
                low, high = image.contrast_limits
                # What is computed or read when needed may take long: the run does that.
                ids = np.array(labels.data) if isinstance(labels.data, np.ndarray) else labels.data
                limits = (float(low), float(high))
                found.append(LayerPair(image.name, finest(image), ids, limits, float(image.gamma)))
        return found

    def refresh(self) -> None:
        """Layers came, went, or have other names."""
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image) and layer.ndim >= 2]
        self._seen = {pair for pair in self._seen if all(layer in self._viewer.layers for layer in pair)}
        chosen = {image: box.currentData() for image, box in self._rows.items()}
        while self._form.rowCount():
            self._form.removeRow(0)
        self._rows = {}
        for image in reversed(images):
            fitting = self._fitting(image)
            if not fitting:
                continue
            box = combo(f"The labels of {image.name}: what the model is to find in it.")
            box.addItem(_UNUSED, None)
            for labels in fitting:
                box.addItem(labels.name, labels)
            self._rows[image] = box
            self._form.addRow(_short(image.name), box)
            with quiet(box):
                box.setCurrentIndex(self._chosen(image, chosen.get(image), fitting, len(images) == 1))
            box.currentIndexChanged.connect(self._on_chosen)
        self.empty.setVisible(not self._rows)
        self.changed.emit()

    def _fitting(self, image: Image) -> list[Labels]:
        """Labels layers of the size of an image, the topmost first."""
        shape = image_shape(image)
        return [
            layer
            for layer in reversed(self._viewer.layers)
            if isinstance(layer, Labels) and not layer.multiscale and tuple(layer.data.shape) == shape
        ]

    def _chosen(self, image: Image, before: Labels | None, fitting: list[Labels], alone: bool) -> int:
        """Which of the labels to choose, counted from 1: those that were, else new ones that belong to it."""
        new = [labels for labels in fitting if (image, labels) not in self._seen]
        self._seen.update((image, labels) for labels in new)
        if before in fitting:
            return fitting.index(before) + 1
        named = [labels for labels in new if labels.name == f"{image.name}: objects"]
        likely = [*named, *(new if alone and len(fitting) == 1 else ())]
        return fitting.index(likely[0]) + 1 if likely else 0

    def _events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered, events.renamed]

    def _on_where(self) -> None:
        self.stack.setCurrentIndex(self.where_combo.currentIndex())
        self.changed.emit()

    def _on_chosen(self) -> None:
        self.changed.emit()

    def _folder(self, tip: str) -> tuple[QLineEdit, QWidget]:
        edit = QLineEdit()
        edit.setToolTip(tip)
        edit.textChanged.connect(self._on_chosen)
        choose = button("…", tip)
        choose.setFixedWidth(32)

        def ask() -> None:
            start = edit.text() or str(Path.home())
            if path := QFileDialog.getExistingDirectory(self, "Choose a folder", start):
                edit.setText(path)

        choose.clicked.connect(ask)
        both = QWidget()
        both.setLayout(row(edit, choose))
        return edit, both


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
