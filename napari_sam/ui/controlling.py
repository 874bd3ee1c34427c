"""What the parts of a controller have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from psygnal import SignalInstance

    from napari_sam.annotation import Document
    from napari_sam.ui.session import Session
    from napari_sam.ui.work import Work

__all__ = ["Controlling"]


class Controlling:
    """A part of a controller; the controller itself gives it all of this.

    Attributes
    ----------
    viewer : napari.components.ViewerModel
    session : Session or None
        The work on the image that is chosen.
    changed : psygnal.SignalInstance
        Anything that a view shows.
    """

    viewer: ViewerModel
    session: Session | None
    changed: SignalInstance
    _work: Work
    # A sentence for the user about what was done last.
    _notice: str
    # Lets the document know what is drawn.
    _catch_up: Callable[[], None]
    # Warns the user.
    _tell: Callable[[str], None]
    _on_failed: Callable[[Exception], None]
    # What is computed plane by plane must not come on top of what is undone in a document.
    _stop_for_history: Callable[[Document | None], None]

    def _say(self, document: Document, sentence: str) -> None:
        """Say what became of a document, unless it is not that which is shown any more."""
        if self.session is not None and self.session.document is document:
            self._notice = sentence
