"""Everything on a plane: found once, filtered as often as one likes, accepted in one step."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sam.annotation import Document, Plane
from napari_sam.annotation.automatic import accept_candidates, occupied
from napari_sam.errors import Cancelled
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.ui.automatic_layer import AutomaticLayer
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.layers import unwrap
from napari_sam.ui.region import inside

if TYPE_CHECKING:
    from napari_sam.ui.segmenter import Everything
    from napari_sam.ui.session import Session

__all__ = ["SegmentingEverything"]

KEY = "everything"


@dataclass
class _Found:
    """What a run found on a plane, and the objects that were made of it."""

    sieve: Sieve
    accepted: frozenset[int] = frozenset()


class SegmentingEverything(Controlling):
    """The part of a controller for automatic masks.

    What a run found is kept with the document and the plane until it is discarded or another run replaces
    it. The document hears of it when it is accepted; until then it is shown in a layer of its own.
    """

    everything_changed = Signal()
    """How far a run is, what it found, or what is shown of it."""

    def _begin_everything(self) -> None:
        """Set up, once."""
        self.everything_progress = (0, 0)
        self._found: WeakKeyDictionary[Document, dict[Plane, _Found]] = WeakKeyDictionary()
        self._wanted = Filter()
        self._wanted_for = ""
        self._region: Shapes | None = None
        self._kept = 0
        self._taken: tuple[Plane, NDArray[np.bool_]] | None = None
        self._automatic: AutomaticLayer | None = None
        # A slider that is dragged says more than can be shown.
        self._everything_soon = QTimer()
        self._everything_soon.setSingleShot(True)
        self._everything_soon.setInterval(0)
        self._everything_soon.timeout.connect(self.show_everything)

    # Finding

    @property
    def finding(self) -> bool:
        """Whether a run is going on."""
        return self._work.requests.pending(KEY)

    def find_everything(self, points_per_side: int = 32) -> None:
        """Find all objects on the displayed plane, in the background.

        Parameters
        ----------
        points_per_side : int
            Of the grid of points that the model is asked about.
        """
        session = self.session
        if session is None or self.finding:
            return
        if session.plane is None:
            self._tell(session.plane_problem)
            return
        document, plane = session.document, session.plane
        self._notice = ""
        self.everything_progress = (0, 0)

        def progress(done: int, total: int) -> None:
            self.everything_progress = done, total
            self.everything_changed.emit()

        def arrived(found: Everything) -> None:
            self._found.setdefault(document, {})[plane] = _Found(found.sieve)
            model = found.sieve.candidates.model
            if model != self._wanted_for:
                # Scores of different models mean different things.
                self._wanted_for = model
                self._wanted = replace(
                    self._wanted,
                    min_predicted_iou=found.wanted.min_predicted_iou,
                    min_stability=found.wanted.min_stability,
                )
            self.show_everything()
            if self.session is not None and self.session.document is document:
                self._notice = self._summary(found.sieve)
            self.changed.emit()

        def failed(error: Exception) -> None:
            if isinstance(error, Cancelled):
                self._notice = str(error)
                self.everything_changed.emit()
                self.changed.emit()
            else:
                self._on_failed(error)

        self._work.find_everything(session, plane, points_per_side, progress, arrived, failed)
        self.everything_changed.emit()
        self.changed.emit()

    def stop_finding(self) -> None:
        """Stop the run that is going on: within one batch of points."""
        self._work.stop_everything()

    def _summary(self, sieve: Sieve) -> str:
        if not len(sieve.candidates):
            return "The model found nothing on this plane: try more points, or click objects one by one."
        if not self._kept:
            return f"None of {len(sieve.candidates):,} masks passes the filter: move the sliders."
        return "Move the sliders until the right objects are shown, then accept them."

    # Filtering

    @property
    def everything(self) -> Sieve | None:
        """What was found on the displayed plane, if anything was looked for."""
        found = self._here()
        return None if found is None else found.sieve

    def _here(self) -> _Found | None:
        session = self.session
        if session is None or session.plane is None:
            return None
        return self._found.get(session.document, {}).get(session.plane)

    @property
    def wanted(self) -> Filter:
        """What is an object, on all planes."""
        return self._wanted

    @wanted.setter
    def wanted(self, value: Filter) -> None:
        self._wanted = value
        self._filter_again()

    @property
    def region(self) -> Shapes | None:
        """Only what has its centre inside one of the shapes of this layer counts; None for all."""
        return self._region

    @region.setter
    def region(self, layer: Shapes | None) -> None:
        if self._region is not None:
            self._region.events.data.disconnect(self._on_region)
        self._region = unwrap(layer)
        if self._region is not None:
            self._region.events.data.connect(self._on_region)
        self._filter_again()

    def _on_region(self) -> None:
        self._everything_soon.start()

    def _filter_again(self) -> None:
        if (found := self._here()) is not None:
            found.accepted = frozenset()
            if self._notice:
                # Said of the filter before.
                self._notice = ""
                self.changed.emit()
        self._everything_soon.start()

    def _among(self, found: _Found) -> NDArray[np.bool_] | None:
        session = self.session
        if self._region is None or session is None or session.plane is None:
            return None
        return inside(self._region, session, session.plane, found.sieve.centres)

    @property
    def number_found(self) -> int:
        """How many objects there would be."""
        return self._kept

    def show_everything(self) -> None:
        """Show what the filter lets through on the displayed plane, where nothing else is."""
        self._everything_soon.stop()
        session, layer, found = self.session, self._automatic, self._here()
        self._kept = 0
        if session is None or layer is None or session.plane is None:
            return
        if found is None or any(uid in session.document for uid in found.accepted):
            layer.clear()
        else:
            if self._taken is None or self._taken[0] != session.plane:
                self._taken = session.plane, occupied(session.document, session.plane)
            wanted, sieve = self._wanted, found.sieve
            painted = sieve.paint(sieve.select(wanted, self._among(found)), wanted, self._taken[1])
            self._kept = len(painted.kept)
            layer.show_labels(painted.labels, session.plane)
        self.everything_changed.emit()

    # Deciding

    def accept_everything(self) -> None:
        """Make objects of what is shown, in one step; no object that is there changes."""
        self._catch_up()
        self.show_everything()
        session, found = self.session, self._here()
        if session is None or session.plane is None or found is None or not self._kept:
            return
        added = accept_candidates(
            session.document, found.sieve, self._wanted, session.plane, self._among(found)
        )
        found.accepted = frozenset(item.uid for item in added)
        self._notice = f"{len(added):,} objects were added. Double-click one to correct it."
        self.show_everything()
        self.changed.emit()

    def discard_everything(self) -> None:
        """Forget what was found on the displayed plane."""
        session = self.session
        if session is not None and session.plane is not None:
            self._found.get(session.document, {}).pop(session.plane, None)
            self._notice = ""
            self.show_everything()
            if self._automatic is not None:
                self._automatic.remove()
            self.changed.emit()

    # What the rest of the controller tells

    def _open_everything(self, session: Session) -> None:
        self._automatic = AutomaticLayer(
            session.viewer, session.image, lambda: (session.prompts.shapes, session.prompts.points)
        )
        self._taken = None
        self._everything_soon.start()

    def _close_everything(self, *, keep_layer: bool = False) -> None:
        with suppress(RuntimeError):  # where Qt went before us, at the end of the program
            self._everything_soon.stop()
        self._kept = 0
        if self._automatic is not None:
            self._automatic.close(keep_layer)
            self._automatic = None

    def _everything_moved(self, *, document: bool = False) -> None:
        """Another plane is displayed, or objects changed."""
        if document:
            self._taken = None
        if self._found:
            self._everything_soon.start()

    def _shows_everything(self, layer: object) -> bool:
        return self._automatic is not None and self._automatic.owns(layer)
