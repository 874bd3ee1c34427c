"""The part of the widget for all objects: their table, and what is done with many of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Points, Shapes
from qtpy.QtWidgets import QFileDialog, QLabel, QMenu, QMessageBox, QWidget

from napari_sam.annotation import Changes, Key, SamObject
from napari_sam.annotation.archive import SUFFIX
from napari_sam.ui.object_columns import Row
from napari_sam.ui.object_facts import row_of
from napari_sam.ui.object_table import ObjectTable
from napari_sam.ui.parts import button, panel, row
from napari_sam.ui.pixel_size import pixel_area

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.annotation import Document
    from napari_sam.ui.controller import Controller

__all__ = ["ObjectsPanel"]

_FILTER = f"Annotations (*{SUFFIX})"


class ObjectsPanel(QWidget):
    """The objects of the image that is being segmented.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._document: Document | None = None
        self._labels: Labels | None = None
        self._pixel: tuple[float, str] | None = None
        self.table = ObjectTable()
        self.table.picked.connect(controller.show_objects)
        self.table.opened.connect(controller.open_object)
        self.table.delete_asked.connect(controller.delete_objects)
        self.table.merge_asked.connect(controller.merge_objects)
        self.table.split_asked.connect(controller.split_object)
        self.table.relate_asked.connect(controller.relate)
        self.table.unrelate_asked.connect(lambda uids: controller.set_parent(uids, 0))
        self.table.measure_asked.connect(self._measure)
        controller.measuring.changed.connect(self._on_measured)
        self.table.class_asked.connect(lambda uids, number: controller.set_class(number, uids))
        self.each_button = button(
            "Segment each…", "Ask the model for one object per point, box or label of another layer."
        )
        self.each_menu = QMenu(self.each_button)
        self.each_menu.aboutToShow.connect(self._fill_each_menu)
        self.each_button.setMenu(self.each_menu)
        self.classes_button = button(
            "Show classes",
            "Show classes instead of objects.",
        )
        self.classes_button.setCheckable(True)
        self.classes_button.clicked.connect(controller.show_classes)
        self.save_button = button("Save…", "Save objects, prompts, classes and scores in one file.")
        self.save_button.clicked.connect(self._save)
        self.open_button = button("Open…", "Open an annotation that was saved.")
        self.open_button.clicked.connect(self._open)
        self.count_label = QLabel()
        self.count_label.setEnabled(False)
        layout = panel(self, "Objects")
        layout.addWidget(self.table, 1)
        layout.addLayout(row(self.each_button, self.classes_button))
        layout.addLayout(row(self.save_button, self.open_button))
        layout.addWidget(self.count_label)

    def close_panel(self) -> None:
        """Stop listening."""
        self._controller.measuring.changed.disconnect(self._on_measured)
        self._controller.measuring.close()
        self._follow(None)
        self._follow_labels(None)

    def refresh(self) -> None:
        """Show what the controller says."""
        session = self._controller.session
        pixel = None if session is None else pixel_area(session.image)
        anew, self._pixel = pixel != self._pixel, pixel
        if session is not None:
            planes = int(np.prod(session.shape[:-2], dtype=int))
            self.table.fit_image("" if pixel is None else pixel[1], planes > 1)
        self._follow(None if session is None else session.document, anew)
        self._follow_labels(self._controller.result_layer)
        self._controller.measuring.follow(self._controller.image, self._document)
        for made in (self.each_button, self.classes_button, self.save_button, self.open_button):
            made.setEnabled(session is not None)
        self.classes_button.setChecked(self._controller.classes_shown)
        document = self._document
        number, accepted = (0, 0) if document is None else (len(document), document.accepted)
        models = self._controller.models
        where = f" on {self._controller.device}" if self._controller.device else ""
        self.count_label.setText(f"{number} objects, {accepted} accepted  ·  {models.choice.label}{where}")

    def _follow(self, document: Document | None, anew: bool = False) -> None:
        if document is self._document:
            if anew and document is not None:
                self.table.set_rows(self._rows(document.objects))
            return
        if self._document is not None:
            self._document.changed.disconnect(self._on_document)
        self._document = document
        if document is not None:
            document.changed.connect(self._on_document)
        self.table.set_rows([] if document is None else self._rows(document.objects))

    def _on_document(self, changes: Changes) -> None:
        document = self._document
        if document is None:
            return
        if Key.CLASSES in changes.keys:
            self.table.set_rows(self._rows(document.objects))
            return
        touched = set(changes.before)
        if changes.keys:
            touched.add(document.current.uid)
        if self.table.related:
            # What is gone is nobody's parent, and what comes back may be.
            moved = {uid for uid, was in changes.before.items() if was is None or uid not in document}
            touched |= {item.uid for item in document.objects if item.parent in moved} if moved else set()
        here = [item for uid in touched if (item := document.get(uid)) is not None]
        self.table.update_rows(self._rows(here), [uid for uid in touched if uid not in document])

    def _rows(self, items: Iterable[SamObject]) -> list[Row]:
        document = self._document
        if document is None:
            return []
        names = {one.id: one.name for one in document.classes}
        self.table.classes = list(names.items())
        pixel = None if self._pixel is None else self._pixel[0]
        current = document.current.uid

        def parent(item: SamObject) -> int:
            found = document.get(item.parent) if item.parent else None
            return 0 if found is None else found.id

        return [row_of(item, names, self._colour, current, pixel, parent(item)) for item in items]

    def _colour(self, number: int) -> tuple[float, float, float, float]:
        labels = self._controller.result_layer
        colour = None if labels is None else labels.get_color(number)
        if colour is None:
            return 0.5, 0.5, 0.5, 1.0
        red, green, blue, opacity = (float(c) for c in np.ravel(colour))
        return red, green, blue, opacity

    # Measuring

    def _measure(self, wanted: bool) -> None:
        self.table.measures = wanted
        self._controller.measuring.on = wanted

    def _on_measured(self) -> None:
        known = self._controller.measuring
        self.table.show_measured(known.names, known.values, known.outdated, known.unmeasured)

    # Picking

    def _follow_labels(self, labels: Labels | None) -> None:
        """Select the row of what is picked in the layer of objects."""
        if labels is self._labels:
            return
        if self._labels is not None:
            self._labels.events.selected_label.disconnect(self._on_label)
            self._labels.events.colormap.disconnect(self._on_colormap)
        self._labels = labels
        if labels is not None:
            labels.events.selected_label.connect(self._on_label)
            labels.events.colormap.connect(self._on_colormap)

    def _on_colormap(self) -> None:
        if self._document is not None:
            self.table.update_rows(self._rows(self._document.objects), [])

    def _on_label(self) -> None:
        # The label that is selected otherwise is that of the current object, or what the brush paints.
        if self._document is None or self._labels is None or str(self._labels.mode) != "pick":
            return
        number = int(self._labels.selected_label)
        item = self._document.with_id(number)
        # One that is to become an object says nothing about those that are there.
        if item is not None or number == 0:
            uids = [] if item is None else [item.uid]
            self.table.select(uids)
            self._controller.highlight(uids)

    def _save(self) -> None:
        session = self._controller.session
        if session is None:
            return
        name = re.sub(r"[/\\:]", "-", session.image.name)
        suggested = str(Path(_folder(session.image)) / f"{name}{SUFFIX}")
        path, _ = QFileDialog.getSaveFileName(self, "Save annotation", suggested, _FILTER)
        if path and not path.endswith(SUFFIX):
            path = path.removesuffix(".zip") + SUFFIX
            # The dialog has asked about the name without the ending.
            if Path(path).exists() and not self._may_replace(path):
                return
        if path:
            self._controller.save(path)

    def _may_replace(self, path: str) -> bool:
        question = f"{Path(path).name} exists already. Do you want to replace it?"
        return QMessageBox.question(self, "Save annotation", question) == QMessageBox.StandardButton.Yes

    def _open(self) -> None:
        session = self._controller.session
        if session is None:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Open annotation", _folder(session.image), _FILTER)
        if path:
            self._controller.open_annotation(path)

    def _fill_each_menu(self) -> None:
        self.each_menu.clear()
        layers = [
            layer
            for layer in reversed(self._controller.viewer.layers)
            if isinstance(layer, Points | Shapes | Labels) and not self._controller.owns(layer)
        ]
        for layer in layers:
            what = (
                "Points" if isinstance(layer, Points) else "Boxes" if isinstance(layer, Shapes) else "Labels"
            )
            action = self.each_menu.addAction(f"{what} of “{layer.name}”")
            if action is not None:
                action.triggered.connect(lambda _=False, layer=layer: self._controller.segment_each(layer))
        if not layers:
            action = self.each_menu.addAction("Add a Points, Shapes or Labels layer first")
            if action is not None:
                action.setEnabled(False)


def _folder(image: Image) -> str:
    """Where the image came from, or the user's folder."""
    path = image.source.path
    return str(Path(path).parent) if path else str(Path.home())
