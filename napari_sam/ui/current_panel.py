"""The part of the widget for the object that is being worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QWidget,
)

from napari_sam.ui.actions import ACCEPT, BOX, CANDIDATE, LASSO, POLARITY, REDO, REJECT, SCRIBBLE, UNDO, keys
from napari_sam.ui.candidate_row import CandidateRow
from napari_sam.ui.class_combo import ClassCombo
from napari_sam.ui.layers import NEGATIVE, POSITIVE
from napari_sam.ui.parts import button, panel, row, tool_button

if TYPE_CHECKING:
    from napari_sam.ui.controller import Controller

__all__ = ["CurrentPanel"]

_OTHER = "Ctrl-click or right-click does the opposite."


class CurrentPanel(QWidget):
    """Tools, candidates, class, and what to do with the object.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.positive_button = tool_button("Object", "+")
        self.negative_button = tool_button("Background", "-")
        self.box_button = tool_button("Box", "box")
        self.scribble_button = tool_button("Scribble", "scribble")
        self.lasso_button = tool_button("Lasso", "lasso")
        self._tools = {
            POSITIVE: self.positive_button,
            NEGATIVE: self.negative_button,
            "box": self.box_button,
            "scribble": self.scribble_button,
            "lasso": self.lasso_button,
        }
        self._tool_group = QButtonGroup(self)
        tools = row(*self._tools.values())
        tools.setSpacing(2)
        for place, made in enumerate(self._tools.values()):
            # As wide as their names need.
            tools.setStretch(place, len(made.accessibleName()) + 3)
        for tool, made in self._tools.items():
            self._tool_group.addButton(made)
            made.clicked.connect(lambda _=False, tool=tool: controller.set_tool(tool))
        self.candidates = CandidateRow()
        self.candidates.picked.connect(controller.choose)
        self.class_combo = ClassCombo(controller)
        self.accept_button = button("Accept")
        self.reject_button = button("Reject")
        self.accept_button.clicked.connect(controller.accept)
        self.reject_button.clicked.connect(controller.reject)
        decide = row()
        decide.addWidget(self.accept_button, 3)
        decide.addWidget(self.reject_button, 2)
        self.undo_button = button("Undo")
        self.redo_button = button("Redo")
        self.undo_button.clicked.connect(controller.undo)
        self.redo_button.clicked.connect(controller.redo)
        self.refine_button = button(
            "Refine",
            "Ask the model for a better mask on this plane, beginning with the one that is there.",
        )
        self.refine_button.clicked.connect(controller.refine)
        self.preview_box = QCheckBox("Preview")
        self.preview_box.setToolTip("Show, under the mouse, the mask that a click would give.")
        self.preview_box.setChecked(controller.preview)
        self.preview_box.toggled.connect(self._set_preview)
        self.overwrite_box = QCheckBox("Overwrite")
        self.overwrite_box.setToolTip(
            "Let objects take pixels from those that are there; what was painted by hand stays in any case."
        )
        self.overwrite_box.toggled.connect(controller.set_overwrite)
        for box in (self.preview_box, self.overwrite_box):
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.status_label = QLabel()
        self.status_label.setWordWrap(True)
        self.status_label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        # Room for the longer sentences, so that nothing jumps when the text changes.
        self.status_label.setMinimumHeight(3 * self.fontMetrics().lineSpacing())
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)

        layout = panel(self, "Current object")
        layout.addLayout(tools)
        layout.addWidget(self.status_label)
        layout.addWidget(self.progress)
        layout.addWidget(self.candidates)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Class", self.class_combo)
        layout.addLayout(form)
        layout.addLayout(decide)
        layout.addLayout(row(self.undo_button, self.redo_button))
        layout.addLayout(row(self.refine_button, self.preview_box, self.overwrite_box))

    def _set_preview(self, on: bool) -> None:
        self._controller.preview = on

    def refresh(self) -> None:
        """Show what the controller says."""
        controller, session = self._controller, self._controller.session
        document = None if session is None else session.document
        self._tool_group.setExclusive(False)
        for tool, made in self._tools.items():
            made.setEnabled(session is not None)
            made.setChecked(tool == controller.tool)
        self._tool_group.setExclusive(bool(controller.tool))
        started = document is not None and not document.current.is_empty
        self.accept_button.setEnabled(started)
        self.reject_button.setEnabled(started)
        undo, redo = ("", "") if document is None else (document.undo_text, document.redo_text)
        for one, name, text in ((self.undo_button, "Undo", undo), (self.redo_button, "Redo", redo)):
            one.setEnabled(bool(text))
            one.setText(f"{name}: {text[0].lower()}{text[1:]}" if text else name)
        plane = None if session is None else session.plane
        current = None if document is None else document.current
        answer = None if current is None or plane is None else current.answers.get(plane)
        self.candidates.show_candidates(
            [] if answer is None else [(mask, score or 0.0) for mask, score in answer.candidates],
            0 if answer is None else answer.chosen,
        )
        self.refine_button.setEnabled(
            current is not None
            and plane is not None
            and (plane in current.masks or current.answer(plane) is not None)
        )
        self.overwrite_box.setEnabled(document is not None)
        if document is not None:
            blocked = self.overwrite_box.blockSignals(True)
            self.overwrite_box.setChecked(document.overwrite)
            self.overwrite_box.blockSignals(blocked)
        self.preview_box.setChecked(controller.preview)
        self.class_combo.refresh()
        # A propagation has a bar of its own, which stands still between two planes: drawing takes time.
        self.progress.setVisible(controller.busy and not controller.propagating)
        self.status_label.setText(controller.status)

    def refresh_keys(self) -> None:
        """Say which keys there are."""
        for part, name, tip in (
            (self.accept_button, ACCEPT, "Keep the object and go on to the next."),
            (
                self.reject_button,
                REJECT,
                "Clear the object, or what was done to it since it was opened again.",
            ),
            (self.positive_button, POLARITY, f"Clicks mark the object. {_OTHER}"),
            (self.negative_button, POLARITY, f"Clicks mark background. {_OTHER}"),
            (self.box_button, BOX, "Drag a rectangle around the object."),
            (
                self.scribble_button,
                SCRIBBLE,
                "Draw a line through the object; with Ctrl or the right button, through background.",
            ),
            (self.lasso_button, LASSO, "Draw roughly around the object."),
            (self.undo_button, UNDO, "Take back what was done last."),
            (self.redo_button, REDO, "Do again what was undone."),
            (
                self.candidates,
                CANDIDATE,
                "What the click may mean, with the predicted IoU: choose one.",
            ),
        ):
            key = keys.text(name)
            part.setToolTip(f"{tip} Key: {key}. Change it in Preferences > Shortcuts." if key else tip)
        accept_key = keys.text(ACCEPT).partition(" or ")[0]
        self.accept_button.setText(f"Accept  ({accept_key})" if accept_key else "Accept")
