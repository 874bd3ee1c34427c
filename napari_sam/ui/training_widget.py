"""The dock widget in which a model is trained."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Annotations of the constructor are read by napari, so this import is needed at run time.
import napari
from qtpy.QtCore import QEvent, QSize
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QLabel,
    QLineEdit,
    QProgressBar,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import NapariSamError
from napari_sam.models.store import find
from napari_sam.models.zoo import ZOO
from napari_sam.training.progress import FitResult, Measured, Progress, run_path
from napari_sam.ui import preferences
from napari_sam.ui._bridge import Bridge
from napari_sam.ui.curves import Curve, Curves
from napari_sam.ui.layers import unwrap
from napari_sam.ui.model_combo import ModelCombo
from napari_sam.ui.parts import button, combo, panel, row
from napari_sam.ui.segmenter import ModelChoice
from napari_sam.ui.training_images import TrainingImages
from napari_sam.ui.training_run import TrainingRun, Wanted

__all__ = ["TrainingWidget"]

_PARTS = {
    "all": "all of it",
    "decoder": "the mask decoder only",
    "lora": "decoder and LoRA on the encoder",
}
_SUFFIX = ".safetensors"
_LOSS, _POINT, _BOX = "#8d99ae", "#2fbf4f", "#3a86ff"


class TrainingWidget(QScrollArea):
    """Train a model on one's own images; *Plugins > Train a model* makes one.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(napari_viewer)
        self._closed = False
        self._trained: Path | None = None
        self._best_step = 0
        self._complete = False
        self._running_output = Path()
        self.run = TrainingRun()
        self.images = TrainingImages(self._viewer)
        self._make_options()
        self._make_progress()
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(self.images)
        layout.addWidget(self._options)
        layout.addWidget(self._course, 1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.images.changed.connect(self._refresh)
        self.run.progressed.connect(self._on_progress)
        self.run.finished.connect(self._on_finished)
        self.run.failed.connect(self._on_failed)
        # A window that is destroyed does not tell its inner widgets in any other way.
        self.destroyed.connect(self.run.close)
        self._bridge = Bridge()
        preferences.apply()
        threading.Thread(target=self._look_on_disk, name="napari-sam looking", daemon=True).start()
        self._refresh()

    def _look_on_disk(self) -> None:
        """Find out which models need no download; that may read large files."""
        there = frozenset(name for name in ZOO if find(name) is not None)
        self._bridge.call(partial(self.model_combo.mark_on_disk, there))

    def _make_options(self) -> None:
        self.model_combo = ModelCombo()
        self.model_combo.setMinimumContentsLength(12)
        self.model_combo.select("nano")
        self.model_combo.picked.connect(self._choose_model)
        self.part_combo = combo(
            "All of it suits nano; the others learn fast enough on a GPU only, unless their decoder alone "
            "learns. LoRA adds small corrections to the attention of their encoder."
        )
        for name, words in _PARTS.items():
            self.part_combo.addItem(words, name)
        self.minutes_box = QDoubleSpinBox()
        self.minutes_box.setRange(0.1, 10_000)
        self.minutes_box.setDecimals(1)
        self.minutes_box.setValue(20)
        self.minutes_box.setSuffix(" minutes")
        self.minutes_box.setToolTip("How long to train, in all: pauses are not counted.")
        self.partial_box = QCheckBox("Some objects have no label")
        self.partial_box.setToolTip(
            "Background then teaches nothing by itself, but only where a prompted object ends."
        )
        self.output_edit = QLineEdit(str(_free(Path.home() / f"my_nano{_SUFFIX}")))
        self.output_edit.setToolTip("The trained model; it loads wherever a model is chosen.")
        self.output_edit.textChanged.connect(self._refresh)
        choose = button("…", "Choose where the trained model is saved.")
        choose.setFixedWidth(32)
        choose.clicked.connect(self._ask_output)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Begin with", self.model_combo)
        form.addRow("Train", self.part_combo)
        form.addRow("For", self.minutes_box)
        form.addRow("Save as", row(self.output_edit, choose))
        form.addRow("", self.partial_box)
        self._options = QWidget()
        panel(self._options, "Model").addLayout(form)

    def _make_progress(self) -> None:
        self.start_button = button("Start")
        self.start_button.clicked.connect(self._on_start)
        self.use_button = button(
            "Use this model now", "Segment with the best model so far; while it trains, with a copy of it."
        )
        self.use_button.clicked.connect(self.use_model)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.quality_curves = Curves("IoU on images it does not learn from", (0.9, 1.0))
        self.loss_curves = Curves("Loss", (0.0, 0.0))
        self._course = QWidget()
        layout = panel(self._course, "Training")
        layout.addLayout(row(self.start_button, self.use_button))
        layout.addWidget(self.bar)
        layout.addWidget(self.said)
        layout.addWidget(self.quality_curves, 1)
        layout.addWidget(self.loss_curves, 1)
        layout.addStretch()
        self._draw((), ())

    # From the user

    @property
    def output(self) -> Path:
        """Where the trained model goes; no name as long as that cannot be told."""
        try:
            return Path(self.output_edit.text().strip()).expanduser()
        except RuntimeError:  # of a user whom nobody knows, or whose name is still being typed
            return Path()

    @property
    def _goes_on(self) -> bool:
        """Whether there is an interrupted run, as far as the disk can tell."""
        try:
            return bool(self.output.name) and run_path(self.output).is_file()
        except (OSError, ValueError):  # a name that no file can have; it may still be being typed
            return False

    def start(self) -> None:
        """Train as is chosen; go on where there is an interrupted run."""
        if self.run.running or self._closed or not self.output.name:
            return
        pairs = [] if self.images.folders else self.images.pairs()
        preferences.apply()
        self.run.start(
            Wanted(
                pairs,
                self.images.images_edit.text().strip(),
                self.images.labels_edit.text().strip(),
                self.model_combo.currentData() or "nano",
                preferences.first_choice().device,
                str(self.part_combo.currentData()),
                self.minutes_box.value(),
                self.partial_box.isChecked(),
                self.output,
                resume=self._goes_on,
            )
        )
        self._running_output = self.output
        self._say("Reading images and the model…")
        self._refresh()

    def stop(self) -> None:
        """End the run, keeping the best."""
        if self.run.running:
            self.run.stop()
            self._say("Stopping: what was learnt is measured and saved…")
            self._refresh()

    def use_model(self) -> None:
        """Segment with the best model so far, in this viewer's widget; one is opened if there is none."""
        if self._trained is None:
            return
        try:
            path = self._kept()
        except OSError as error:
            self._say(f"{error.filename} cannot be written ({error.strerror}).", wrong=True)
            return
        from napari_sam.ui.widget import SegmentWidget

        docked = getattr(self._viewer.window, "dock_widgets", {}).values()
        found = [widget for widget in docked if isinstance(widget, SegmentWidget)]
        if not found:
            widget = SegmentWidget(self._viewer, model=str(path))
            self._viewer.window.add_dock_widget(
                widget, name="Segment (napari-sam)", area="right", tabify=True
            )
            return
        controller = found[-1].controller
        controller.set_model(ModelChoice(str(path), controller.models.choice.device))

    def _kept(self) -> Path:
        """The trained model; as long as it may get better, a copy: what is in use is not to change."""
        assert self._trained is not None
        if self._complete:
            return self._trained
        copy = self._trained.with_name(f"{self._trained.stem}_step_{self._best_step}{_SUFFIX}")
        if not copy.exists():
            part = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(self._trained, part)
            part.replace(copy)
        return copy

    def _on_start(self) -> None:
        if self.run.running:
            self.stop()
        else:
            self.start()

    def _choose_model(self, name: str) -> None:
        self.model_combo.select(name)
        if self.output.name.startswith("my_") and not self._goes_on:
            label = name if name in ZOO else Path(name).stem
            self.output_edit.setText(
                str(_free(self.output.with_name(f"my_{label.removeprefix('my_')}{_SUFFIX}")))
            )
        self._refresh()

    def _ask_output(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the trained model as", self.output_edit.text(), f"Weights (*{_SUFFIX})"
        )
        if path:
            self.output_edit.setText(path if path.endswith(_SUFFIX) else f"{path}{_SUFFIX}")

    # To the user

    def _on_progress(self, now: Progress) -> None:
        if self._closed:
            return
        self.bar.setValue(round(now.share * 1000))
        self._draw(now.losses, now.measured)
        if now.measured:
            self._trained, self._complete = self._running_output, False
            self._best_step = _best(now.measured).step
        if not self.run.stopping:
            self._say(_words(now))
        self._refresh()

    def _on_finished(self, result: FitResult) -> None:
        if self._closed:
            return
        self._draw(result.losses, result.measured)
        self._trained, self._best_step, self._complete = result.output, result.best.step, not result.stopped
        best, before = result.best, result.before
        what = "Stopped; Continue goes on. " if result.stopped else "Done. "
        if best is before:
            self._say(f"{what}Nothing was better than the model as it was.")
        else:
            self._say(
                f"{what}IoU {before.quality.point:.2f} → {best.quality.point:.2f} after a point, "
                f"{before.quality.box:.2f} → {best.quality.box:.2f} after a box (step {best.step:,})."
            )
        if not result.stopped:
            self.bar.setValue(1000)
            self.output_edit.setText(str(_free(result.output)))
        self._refresh()

    def _on_failed(self, error: Exception) -> None:
        if self._closed:
            return
        if isinstance(error, NapariSamError):
            self._say(str(error), wrong=True)
        else:
            self._say(f"Something unexpected failed: {type(error).__name__}: {error}", wrong=True)
        self.bar.setValue(0)
        self._refresh()

    def _draw(self, losses: Any, measured: Any) -> None:
        self.loss_curves.show_curves([Curve("", _LOSS, losses)])
        self.quality_curves.show_curves(
            [
                Curve(
                    "after a point", _POINT, [(one.step, one.quality.point) for one in measured], marked=True
                ),
                Curve("after a box", _BOX, [(one.step, one.quality.box) for one in measured], marked=True),
            ]
        )

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self.said.setText(text)
        self.said.setStyleSheet("color: #e5383b" if wrong else "")

    def _refresh(self) -> None:
        """Offer what is possible."""
        if self._closed:
            return
        running = self.run.running
        for part in (self.images, self._options):
            part.setEnabled(not running)
        self.start_button.setText("Stop" if running else ("Continue" if self._goes_on else "Start"))
        self.start_button.setToolTip(
            "End training; the best model is kept, and training can go on later."
            if running
            else "Train the model in the background; you can go on working."
        )
        # nano has no attention in its encoder.
        lora, possible = self.part_combo.findData("lora"), self.model_combo.currentData() != "nano"
        if possible and lora < 0:
            self.part_combo.addItem(_PARTS["lora"], "lora")
        elif not possible and lora >= 0:
            self.part_combo.removeItem(lora)
        complete = self.images.complete and bool(self.output.name)
        self.start_button.setEnabled(not self.run.stopping and (running or complete))
        self.use_button.setEnabled(self._trained is not None)

    # Closing

    def close_training(self) -> None:
        """Stop training; the best model and what it takes to go on are on disk."""
        if not self._closed:
            self._closed = True
            self._bridge.close()
            self.run.close()
            self.images.close_panel()
            self.setEnabled(False)

    def event(self, event: QEvent | None) -> bool:
        """Close with the dock widget: napari then takes the widget out of its parent."""
        orphaned = event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None
        if orphaned and hasattr(self, "_course"):
            self.close_training()
        return super().event(event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Close when used as a window of its own."""
        self.close_training()
        super().closeEvent(event)

    def sizeHint(self) -> QSize:
        """As wide as the widget that segments."""
        return QSize(360, super().sizeHint().height())


def _words(now: Progress) -> str:
    """How far a run is, in one sentence."""
    if now.doing == "downloading":
        return f"Downloading the model: {now.share:.0%}."
    if now.doing == "measuring" and not now.measured:
        return "Measuring the model as it is…"
    spent = f"{now.seconds / 60:.1f} minutes" if now.seconds >= 60 else f"{now.seconds:.0f} seconds"
    best = _best(now.measured)
    doing = "Measuring" if now.doing == "measuring" else "Training"
    return (
        f"{doing}: step {now.step:,}, {spent}. Best so far: IoU {best.quality.point:.2f} after a point, "
        f"{best.quality.box:.2f} after a box."
    )


def _best(measured: Sequence[Measured]) -> Measured:
    return max(measured, key=lambda one: one.quality.score)


def _free(path: Path) -> Path:
    """The path, or with the first number behind its name that is not taken."""
    stem = path.stem.rstrip("0123456789").removesuffix("_") if path.exists() else path.stem
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{stem}_{number}{path.suffix}")
    return found
