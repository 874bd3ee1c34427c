"""The part of the widget for automatic masks: a run, sliders that filter what it found, and a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleRangeSlider, QLabeledDoubleSlider

from napari_sam.inference.box_overlap import LEAST_OVERLAP
from napari_sam.inference.filtering import Filter
from napari_sam.inference.linking import LINK_IOU
from napari_sam.ui.folding import Folding
from napari_sam.ui.parts import button, combo, quiet, row
from napari_sam.ui.pixel_size import pixel_area
from napari_sam.ui.segmenter import Loaded

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.ui.controller import Controller

__all__ = ["AutomaticPanel"]

_EVERYWHERE = "the whole plane"


class AutomaticPanel(Folding):
    """Finds everything on the displayed plane, or on all planes.

    Parameters
    ----------
    controller : Controller
    """

    grown = Signal()
    """More of it is to be seen than before."""

    def __init__(self, controller: Controller) -> None:
        super().__init__("Everything", "Find all objects at once.")
        self.button.toggled.connect(self._on_toggled)
        self._controller = controller
        self.scope_combo = combo("What is looked for, accepted and discarded: one plane, or all of them.")
        self.scope_combo.activated.connect(lambda _: self.refresh())
        self.region_combo = combo("Only look for what is inside a shape of this layer: that takes less time.")
        self.region_combo.activated.connect(self._choose_region)
        self.asking_combo = combo(
            "What the model is asked about: the centres of objects that it sees by itself, or a grid of "
            "points. A grid takes longer, and finds what does not look like an object to it. To ask nothing "
            "takes the least time: all that it sees at a glance, with rougher edges."
        )
        self.asking_combo.addItem("a grid of points", "grid")
        self.asking_combo.activated.connect(lambda _: self.refresh())
        self.points_box = QSpinBox()
        self.points_box.setRange(8, 64)
        self.points_box.setValue(32)
        self.points_box.setSuffix(" per side")
        self.points_box.setToolTip("More points find smaller objects, and take longer.")
        self.run_button = button("Find everything", "Look for all objects in the background.")
        self.run_button.clicked.connect(self._run)
        self.cancel_button = button("Cancel")
        self.cancel_button.clicked.connect(controller.stop_finding)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.running = QWidget()
        self.running.setLayout(row(self.progress, self.cancel_button))
        self.iou_slider = self._slider("Only masks that the model itself thinks well of.", 0, 1)
        self.stability_slider = self._slider(
            "Only masks that hardly change with the threshold: those with clear edges.", 0, 1
        )
        self.area_slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.area_slider.setToolTip("Only masks of a size between these two. The scale is logarithmic.")
        self.area_slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.area_slider.setRange(0, 6)
        self.area_slider.setValue((0, 6))
        self.area_label = QLabel()
        self.overlap_slider = self._slider(
            "Of masks whose boxes overlap by more than this, only the best counts.", LEAST_OVERLAP, 1
        )
        self.border_box = self._check("Not at the border", "Leave out what touches the border of the image.")
        self.holes_box = self._check("Fill holes up to", "Fill holes of masks that are not larger than this.")
        self.holes_size = QSpinBox()
        self.holes_size.setRange(1, 10**6)
        self.holes_size.setValue(100)
        self.holes_size.setSuffix(" px")
        self.holes_size.valueChanged.connect(self._filter)
        self.smaller_box = self._check(
            "Smaller on top",
            "Pixels of two masks go to the smaller one; else to the one with the higher predicted IoU.",
        )
        self.as_combo = combo("Objects of their own, or all of it as one: for a segmentation into classes.")
        self.as_combo.addItem("separate objects", False)
        self.as_combo.addItem("one object of the class", True)
        self.as_combo.activated.connect(self._choose_as)
        self.link_box = self._check(
            "Link planes, from IoU", "Masks of neighbouring planes that overlap by this much are one object."
        )
        self.link_box.setChecked(True)
        self.link_box.toggled.connect(lambda _: self.refresh())
        self.link_iou = QDoubleSpinBox()
        self.link_iou.setRange(0.05, 1)
        self.link_iou.setSingleStep(0.05)
        self.link_iou.setValue(LINK_IOU)
        self.linking = QWidget()
        self.linking.setLayout(row(self.link_box, self.link_iou))
        self.accept_button = button("Accept", "Make objects of what is shown. Undo takes them all back.")
        self.accept_button.clicked.connect(self._accept)
        self.discard_button = button("Discard", "Forget what was found.")
        self.discard_button.clicked.connect(
            lambda: controller.discard_everything(all_planes=self.is_for_all_planes)
        )
        self._lay_out()
        for made in (self.area_slider, self.iou_slider, self.stability_slider, self.overlap_slider):
            made.valueChanged.connect(self._filter)
        for box in (self.border_box, self.holes_box, self.smaller_box):
            box.toggled.connect(self._filter)
        self._listed: list[tuple[str, Shapes]] | None = None
        layers = controller.viewer.layers.events
        for emitter in (layers.inserted, layers.removed):
            emitter.connect(self._list_regions)
        controller.everything_changed.connect(self.refresh)
        controller.loaded.connect(self._on_loaded)
        self._list_regions()
        self._show_filter(controller.wanted)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        for name, part in (
            ("Predicted IoU", self.iou_slider),
            ("Stability", self.stability_slider),
            ("Area", self.area_slider),
            ("", self.area_label),
            ("Overlap", self.overlap_slider),
            ("As", self.as_combo),
        ):
            form.addRow(name, part)
        self.filters = QWidget()
        filters = QVBoxLayout(self.filters)
        filters.setContentsMargins(0, 0, 0, 0)
        filters.setSpacing(4)
        filters.addLayout(form)
        holes = row(self.holes_box, self.holes_size)
        holes.addStretch()
        filters.addLayout(holes)
        filters.addLayout(row(self.border_box, self.smaller_box))
        filters.addWidget(self.linking)
        decide = row()
        decide.addWidget(self.accept_button, 3)
        decide.addWidget(self.discard_button, 2)
        filters.addLayout(decide)
        layout = QVBoxLayout(self.inside)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.run_form = QFormLayout()
        self.run_form.setContentsMargins(0, 0, 0, 0)
        self.run_form.setVerticalSpacing(4)
        asking = row()
        asking.addWidget(self.asking_combo, 1)
        asking.addWidget(self.points_box)
        self.run_form.addRow("On", self.scope_combo)
        self.run_form.addRow("Inside", self.region_combo)
        self.run_form.addRow("Ask about", asking)
        layout.addLayout(self.run_form)
        layout.addWidget(self.run_button)
        layout.addWidget(self.running)
        layout.addWidget(self.filters)

    def _slider(self, tip: str, low: float, high: float) -> QLabeledDoubleSlider:
        made = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        made.setRange(low, high)
        made.setDecimals(2)
        made.setSingleStep(0.01)  # type: ignore[arg-type]
        made.setToolTip(tip)
        return made

    def _check(self, text: str, tip: str) -> QCheckBox:
        made = QCheckBox(text)
        made.setToolTip(tip)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return made

    def close_panel(self) -> None:
        """Stop listening."""
        self._controller.everything_changed.disconnect(self.refresh)
        self._controller.loaded.disconnect(self._on_loaded)
        layers = self._controller.viewer.layers.events
        for emitter in (layers.inserted, layers.removed):
            emitter.disconnect(self._list_regions)

    # What the user does

    def _on_toggled(self, shown: bool) -> None:
        if shown:
            self.grown.emit()

    @property
    def is_for_all_planes(self) -> bool:
        """Whether all planes are meant, not only the displayed one."""
        return self.scope_combo.count() > 1 and self.scope_combo.currentIndex() == 1

    def _run(self) -> None:
        self._controller.find_everything(
            self.asking_combo.currentData(),
            points_per_side=self.points_box.value(),
            all_planes=self.is_for_all_planes,
        )

    def _accept(self) -> None:
        link = self.link_iou.value() if self.link_box.isChecked() else None
        self._controller.accept_everything(all_planes=self.is_for_all_planes, link=link)

    def _choose_as(self, _: int) -> None:
        self._controller.as_one = self.as_combo.currentData()

    def _filter(self) -> None:
        low, high = self._area_ends()
        top = self.area_slider.maximum()
        self._controller.wanted = Filter(
            min_predicted_iou=self.iou_slider.value(),
            min_stability=self.stability_slider.value(),
            min_area=round(10**low),
            max_area=None if high >= top else round(10**high),
            exclude_border=self.border_box.isChecked(),
            max_overlap=max(self.overlap_slider.value(), LEAST_OVERLAP),
            fill_holes=self.holes_size.value() if self.holes_box.isChecked() else 0,
            smaller_on_top=self.smaller_box.isChecked(),
        )
        self._say_area()

    def _area_ends(self) -> tuple[float, float]:
        """Decimal logarithms of the least and the greatest area."""
        ends: Any = self.area_slider.value()
        return float(ends[0]), float(ends[1])

    def _choose_region(self, _: int) -> None:
        self._controller.region = self.region_combo.currentData()

    # What there is to see

    def refresh(self) -> None:
        """Show what the controller says."""
        self._list_regions()
        controller = self._controller
        session, running, accepting = controller.session, controller.finding, controller.accepting
        self._list_planes()
        self.run_button.setEnabled(session is not None and session.plane is not None and not running)
        grid = self.asking_combo.currentData() == "grid"
        self.points_box.setVisible(grid)
        for part in (self.points_box, self.scope_combo, self.region_combo, self.asking_combo):
            part.setEnabled(not running)
        self.running.setVisible(running)
        done, total = controller.everything_progress
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        sieve, everywhere = controller.everything, self.is_for_all_planes
        planes = len(controller.planes_found) if everywhere else 0
        shown = sieve is not None or planes > 0
        if shown and self.filters.isHidden():
            self.grown.emit()
        self.filters.setVisible(shown)
        if not shown:
            return
        self.linking.setVisible(everywhere and not controller.as_one)
        self.link_iou.setEnabled(self.link_box.isChecked())
        self.filters.setEnabled(not accepting)
        self._show_filter(controller.wanted)
        count = controller.number_found
        self.accept_button.setEnabled(not (everywhere and running) and (planes > 0 or count > 0))
        what = "1 plane" if planes == 1 else f"{planes:,} planes"
        if not everywhere:
            what = (
                "as one object" if controller.as_one else "1 object" if count == 1 else f"{count:,} objects"
            )
        self.accept_button.setText(f"Accept {what}")

    def _list_planes(self) -> None:
        count = self._controller.stack_length
        self.run_form.setRowVisible(self.scope_combo, count > 1)
        texts = ["this plane"] + ([f"all {count:,} planes"] if count > 1 else [])
        if [self.scope_combo.itemText(i) for i in range(self.scope_combo.count())] != texts:
            chosen = self.scope_combo.currentIndex()
            with quiet(self.scope_combo):
                self.scope_combo.clear()
                self.scope_combo.addItems(texts)
                self.scope_combo.setCurrentIndex(min(max(chosen, 0), len(texts) - 1))

    def _on_loaded(self, loaded: Loaded) -> None:
        """Offer what some models see by themselves; its centres are what they are best asked about."""
        offered = self.asking_combo.findData("centres") >= 0
        if loaded.finds_centres and not offered:
            self.asking_combo.insertItem(0, "the centres it sees", "centres")
            self.asking_combo.addItem("nothing: all at a glance", "none")
            self.asking_combo.setCurrentIndex(0)
        elif offered and not loaded.finds_centres:
            for what in ("centres", "none"):
                self.asking_combo.removeItem(self.asking_combo.findData(what))
        self.refresh()

    def _show_filter(self, wanted: Filter) -> None:
        sieve = self._controller.everything
        most = 10**6 if sieve is None else int(np.prod(sieve.candidates.shape))
        top = float(np.log10(max(most, 10)))
        low = float(np.log10(max(wanted.min_area, 1)))
        high = top if wanted.max_area is None else float(np.log10(max(wanted.max_area, 1)))
        parts = (self.iou_slider, self.stability_slider, self.overlap_slider, self.area_slider)
        blockers = [QSignalBlocker(part) for part in parts]
        for slider, value in zip(
            parts, (wanted.min_predicted_iou, wanted.min_stability, wanted.max_overlap), strict=False
        ):
            if abs(slider.value() - value) > 1e-6:
                slider.setValue(value)  # type: ignore[arg-type]
        if self.area_slider.maximum() != top:
            self.area_slider.setRange(0, top)
        if np.abs(np.subtract(self._area_ends(), (low, high))).max() > 0.01:
            self.area_slider.setValue((low, high))
        del blockers
        self._say_area()

    def _say_area(self) -> None:
        wanted, image = self._controller.wanted, self._controller.image
        if wanted.min_area <= 1 and wanted.max_area is None:
            self.area_label.setText("any size")
            return
        text = f"{_span(wanted, 1, ',')} pixels"
        if image is not None and (pixel := self._pixel(image)) is not None:
            size, unit = pixel
            text = f"{text} ({_span(wanted, size, '.3g')} {unit}²)"
        self.area_label.setText(text)

    def _pixel(self, image: Image) -> tuple[float, str] | None:
        """The area of a pixel of the displayed plane and the unit of length, if the image has units."""
        session = self._controller.session
        return None if session is None or session.plane is None else pixel_area(image, session.plane.axes)

    def _list_regions(self) -> None:
        controller = self._controller
        layers = [one for one in controller.viewer.layers if isinstance(one, Shapes)]
        layers = [one for one in layers if not controller.owns(one)]
        listed = [(layer.name, layer) for layer in layers]
        if listed == self._listed:
            return
        self._listed = listed
        with quiet(self.region_combo):
            self.region_combo.clear()
            self.region_combo.addItem(_EVERYWHERE, None)
            for name, layer in listed:
                self.region_combo.addItem(name, layer)
            chosen = controller.region
            self.region_combo.setCurrentIndex(layers.index(chosen) + 1 if chosen in layers else 0)
        if chosen is not None and chosen not in layers:
            controller.region = None


def _span(wanted: Filter, size: float, form: str) -> str:
    """The areas that count, each times the size of a pixel."""
    low = f"{wanted.min_area * size:{form}}"
    if wanted.max_area is None:
        return f"at least {low}"
    high = f"{wanted.max_area * size:{form}}"
    return f"up to {high}" if wanted.min_area <= 1 else f"{low} to {high}"
