"""The line that offers what a program left behind that ended without saving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout

from napari_sam.ui.parts import button, row

if TYPE_CHECKING:
    from napari_sam.ui.controller import Controller

__all__ = ["RecoveryRow"]


class RecoveryRow(QFrame):
    """Hidden unless there is something to recover for the image.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.recover_button = button("Recover", "Open it as the annotation of this image.")
        self.dismiss_button = button(
            "Discard", "It goes to the folder of discarded annotations, where the newest twenty are kept."
        )
        self.recover_button.clicked.connect(controller.recover)
        self.dismiss_button.clicked.connect(controller.dismiss_offer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.label)
        layout.addLayout(row(self.recover_button, self.dismiss_button))
        self.hide()

    def refresh(self) -> None:
        """Show what the controller says."""
        offer = self._controller.offer
        self.setVisible(offer is not None)
        if offer is None:
            return
        when = offer.time.astimezone().strftime("%d %b %Y, %H:%M")
        if offer.problem:
            self.label.setText(f"An unsaved annotation of this image cannot be opened: {offer.problem}")
        else:
            objects = "1 object" if offer.objects == 1 else f"{offer.objects} objects"
            self.label.setText(f"There is an unsaved annotation of this image: {objects}, {when}.")
        self.recover_button.setEnabled(not offer.problem)
