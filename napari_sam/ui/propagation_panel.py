"""The part of the widget for volumes and time: the planes of an object, and how it is carried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_sam.annotation.propagating import PlaneState
from napari_sam.ui.actions import BACKWARD, FORWARD, PROPAGATE, keys
from napari_sam.ui.folding import Folding
from napari_sam.ui.parts import button, combo, quiet, row
from napari_sam.ui.plane_strip import PlaneStrip
from napari_sam.ui.propagating import Reach

if TYPE_CHECKING:
    from napari_sam.annotation import SamObject
    from napari_sam.ui.controller import Controller

__all__ = ["PropagationPanel"]

_LISTED = 3


class PropagationPanel(Folding):
    """Carries objects on to other planes; there is something to see for images with more than one plane.

    Parameters
    ----------
    controller : Controller
    """

    grown = Signal()
    """More of it is to be seen than before."""

    def __init__(self, controller: Controller) -> None:
        super().__init__("Volume and time", "Propagate objects to other planes.")
        self.button.toggled.connect(self._on_toggled)
        self._controller = controller
        self.axis_combo = combo("The axis along which objects are propagated.")
        self.axis_combo.activated.connect(self._choose_axis)
        self.strip = PlaneStrip()
        self.strip.picked.connect(controller.go_to)
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.objects_combo = combo("Which objects are propagated: select others in the table.")
        self.objects_combo.addItems(["", ""])
        self.objects_combo.activated.connect(self._choose)
        self.from_combo = combo(
            "From all annotated planes, or only from the displayed one as far as to the next annotated one: "
            "what follows from a correction."
        )
        self.from_combo.addItems(["all annotated planes", "this plane"])
        self.from_combo.activated.connect(self._choose)
        self.stop_box = QCheckBox("Up to plane")
        self.stop_box.setToolTip("Go no further than to this plane.")
        self.stop_box.toggled.connect(self._choose)
        self.stop_number = QSpinBox()
        self.stop_number.setToolTip("The last plane, with the number that the slider of the viewer shows.")
        self.stop_number.valueChanged.connect(self._choose)
        self.backward_button = button("◀ Backward")
        self.both_button = button("Propagate")
        self.forward_button = button("Forward ▶")
        for made, direction in (
            (self.backward_button, "backward"),
            (self.both_button, "both"),
            (self.forward_button, "forward"),
        ):
            made.clicked.connect(lambda _=False, direction=direction: controller.propagate(direction))
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.progress_label = QLabel()
        self.cancel_button = button("Cancel", "Stop; planes that are done stay.")
        self.cancel_button.clicked.connect(lambda _: controller.stop_propagating())
        self.running = QWidget()
        self.divide_button = button(
            "Divide here",
            "The object is in several parts on this plane: it ends before it, and each part goes on as its "
            "daughter.",
        )
        self.divide_button.clicked.connect(lambda _: controller.divide())
        self.tracks_box = QCheckBox("Tracks")
        self.tracks_box.clicked.connect(self._show_tracks)
        self._lay_out()
        controller.propagation_changed.connect(self.refresh)

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setVerticalSpacing(4)
        self.form.addRow("Along", self.axis_combo)
        self.form.addRow("Objects", self.objects_combo)
        self.form.addRow("From", self.from_combo)
        stop = row(self.stop_box, self.stop_number)
        stop.addStretch()
        self.form.addRow("", stop)
        go = row()
        for made, share in ((self.backward_button, 3), (self.both_button, 4), (self.forward_button, 3)):
            go.addWidget(made, share)
        going = QVBoxLayout(self.running)
        going.setContentsMargins(0, 0, 0, 0)
        going.setSpacing(2)
        going.addWidget(self.progress)
        beside = row()
        beside.addWidget(self.progress_label, 1)
        beside.addWidget(self.cancel_button)
        going.addLayout(beside)
        layout = QVBoxLayout(self.inside)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.strip)
        layout.addWidget(self.said)
        layout.addLayout(self.form)
        layout.addLayout(go)
        layout.addWidget(self.running)
        last = row(self.divide_button, self.tracks_box)
        last.addStretch()
        layout.addLayout(last)

    def close_panel(self) -> None:
        """Stop listening."""
        self._controller.propagation_changed.disconnect(self.refresh)

    # What the user does

    def _on_toggled(self, shown: bool) -> None:
        if shown:
            self.refresh()
            self.grown.emit()

    def _choose_axis(self, _: int) -> None:
        self._controller.series_axis = self.axis_combo.currentData()

    def _choose(self, _: object = None) -> None:
        stop = self.stop_number.value() if self.stop_box.isChecked() else None
        self._controller.reach = Reach(
            self.objects_combo.currentIndex() == 1, self.from_combo.currentIndex() == 1, stop
        )
        self.refresh()

    def _show_tracks(self, shown: bool) -> None:
        self._controller.tracks_shown = shown

    # What there is to see

    def refresh_keys(self) -> None:
        """Say which keys do the same as the buttons."""
        for made, name, tip in (
            (self.backward_button, BACKWARD, "Propagate objects to lower planes"),
            (self.both_button, PROPAGATE, "Propagate objects in both directions"),
            (self.forward_button, FORWARD, "Propagate objects to higher planes"),
        ):
            text = keys.text(name)
            made.setToolTip(f"{tip} ({text})." if text else f"{tip}.")

    def refresh(self) -> None:
        """Show what the controller says."""
        controller = self._controller
        axes = controller.series_axes
        self.setVisible(bool(axes))
        if not axes or not self.is_open:
            return
        self._list_axes(axes)
        item, running, series = controller.in_focus, controller.propagating, controller.series
        states, axis = controller.states_of(item), controller.series_axis
        name = "" if axis is None else controller.axis_label(axis)
        whose = "no object" if item is None else f"object {item.id}"
        self.strip.show_planes(states, controller.series_position, name or "plane", whose)
        self.said.setText(_said(item, states, bool(controller.session and len(controller.session.document))))
        self._list_objects()
        here = series is not None and not running
        for made in (self.backward_button, self.both_button, self.forward_button):
            made.setEnabled(here and (bool(controller.targets) or controller.reach.all_objects))
        for part in (self.axis_combo, self.objects_combo, self.from_combo, self.stop_box):
            part.setEnabled(not running)
        self.stop_number.setEnabled(not running and self.stop_box.isChecked())
        if series is not None and self.stop_number.maximum() != len(series) - 1:
            self.stop_number.setRange(0, len(series) - 1)
            if not self.stop_box.isChecked():
                self.stop_number.setValue(len(series) - 1)
        self._show_progress(running)
        self.divide_button.setEnabled(here and item is not None)
        self.tracks_box.setChecked(controller.tracks_shown)
        can = controller.can_show_tracks
        self.tracks_box.setEnabled(can)
        self.tracks_box.setToolTip(
            "Show where all objects go, and from which they came, in a layer of its own."
            if can
            else "napari shows tracks through images of three and of four axes."
        )

    def _show_progress(self, running: bool) -> None:
        self.running.setVisible(running)
        done, total = self._controller.propagation_progress
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress_label.setText(
            f"plane {min(done + 1, total)} of {total}" if total else "waiting for masks"
        )

    def _list_axes(self, axes: list[int]) -> None:
        controller = self._controller
        self.form.setRowVisible(self.axis_combo, len(axes) > 1)
        listed = [(controller.axis_name(axis), axis) for axis in axes]
        box = self.axis_combo
        if [(box.itemText(i), box.itemData(i)) for i in range(box.count())] != listed:
            with quiet(box):
                box.clear()
                for text, axis in listed:
                    box.addItem(text, axis)
        with quiet(self.axis_combo):
            self.axis_combo.setCurrentIndex(self.axis_combo.findData(controller.series_axis))

    def _list_objects(self) -> None:
        """Say which objects are meant."""
        controller = self._controller
        ids = [item.id for item in controller.targets]
        number = 0 if controller.session is None else len(controller.session.document)
        some = f"objects {', '.join(map(str, ids))}" if len(ids) <= _LISTED else f"{len(ids):,} objects"
        texts = (
            "the current object" if not ids else f"object {ids[0]}" if len(ids) == 1 else some,
            "all objects" if number < 2 else f"all {number:,} objects",
        )
        with quiet(self.objects_combo):
            for index, text in enumerate(texts):
                self.objects_combo.setItemText(index, text)


def _said(item: SamObject | None, states: np.ndarray, others: bool) -> str:
    """What an object has on how many planes."""
    if item is None and others:
        return "Select an object in the table to see its planes, or click another one."
    if item is None:
        return "Click an object on one plane, then propagate it to the others."
    annotated = int((states == PlaneState.ANNOTATED).sum())
    propagated = int((states == PlaneState.PROPAGATED).sum())
    known = f"{annotated:,} annotated and {propagated:,} propagated"
    return f"Object {item.id}: {known} of {len(states):,} planes."
