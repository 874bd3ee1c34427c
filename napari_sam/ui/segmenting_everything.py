"""Everything on a plane or a stack: found once, filtered as often as one likes, accepted in one step."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_sam.annotation import Document, Plane, SamObject, Snapshot
from napari_sam.annotation.automatic import accept_candidates, add_drafts, drafts_of_stack, occupied
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.ui.automatic_layer import AutomaticLayer
from napari_sam.ui.finding import Finding
from napari_sam.ui.layers import unwrap
from napari_sam.ui.region import Region
from napari_sam.ui.sieves import usual_filter

if TYPE_CHECKING:
    from napari_sam.inference.candidates import MaskCandidates
    from napari_sam.ui.segmenter import Everything
    from napari_sam.ui.session import Session

__all__ = ["SegmentingEverything"]


class SegmentingEverything(Finding):
    """The part of a controller for automatic masks.

    What a run found is kept in the document until it is discarded or another run replaces it. Objects come of
    it when it is accepted; until then it is shown in a layer of its own.
    """

    def _begin_everything(self) -> None:
        """Set up, once."""
        self._begin_finding()
        self._wanted = Filter()
        self._wanted_for = "", True
        self._as_one = False
        self._region: Shapes | None = None
        self._kept = 0
        self._taken: tuple[Plane, NDArray[np.bool_]] | None = None
        self._automatic: AutomaticLayer | None = None
        self._accepting = False
        # A slider that is dragged says more than can be shown.
        self._everything_soon = QTimer()
        self._everything_soon.setSingleShot(True)
        self._everything_soon.setInterval(0)
        self._everything_soon.timeout.connect(self.show_everything)

    def _on_found(self, document: Document, plane: Plane, found: Everything) -> None:
        self._suit(found.sieve.candidates, found.wanted)
        session = self.session
        here = session is not None and session.document is document and session.plane == plane
        if here:
            self.show_everything()
        if session is not None and session.document is document and not self.finding:
            self._notice = self._summary()
        self.everything_changed.emit()
        self.changed.emit()

    def _suit(self, found: MaskCandidates, usual: Filter) -> None:
        """Move the sliders to where they usually are for what a model found, if they were for another one.

        Scores of different models mean different things, and so do those of what was not prompted.
        """
        if (found.model, found.prompted) == self._wanted_for:
            return
        self._wanted_for = found.model, found.prompted
        self._wanted = replace(
            self._wanted,
            min_predicted_iou=usual.min_predicted_iou,
            min_stability=usual.min_stability,
            min_area=usual.min_area,
        )

    def _summary(self) -> str:
        sieve = self.everything
        if sieve is None or not len(sieve.candidates):
            return "The model found nothing on this plane: try more points, or click objects one by one."
        if not self._kept:
            return f"None of {len(sieve.candidates):,} masks passes the filter: move the sliders."
        return "Move the sliders until the right objects are shown, then accept them."

    # Filtering

    @property
    def everything(self) -> Sieve | None:
        """What was found on the displayed plane, if anything was looked for."""
        session = self.session
        if session is None or session.plane is None:
            return None
        return session.result.sieves.get(session.plane)

    @property
    def planes_found(self) -> list[Plane]:
        """The planes that lie as the displayed one and on which something was found."""
        session = self.session
        if session is None or session.plane is None:
            return []
        return [plane for plane in session.document.candidates if plane.axes == session.plane.axes]

    @property
    def wanted(self) -> Filter:
        """What is an object, on all planes."""
        return self._wanted

    @wanted.setter
    def wanted(self, value: Filter) -> None:
        self._wanted = value
        self._filter_again()

    @property
    def as_one(self) -> bool:
        """Whether all that is shown becomes one object, of the class of new objects."""
        return self._as_one

    @as_one.setter
    def as_one(self, value: bool) -> None:
        self._as_one = value
        self._everything_soon.start()

    @property
    def region(self) -> Shapes | None:
        """Only what is inside the shapes of this layer is looked for, and shown; None for all."""
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
        if (session := self.session) is not None and session.result.sieves.accepted:
            session.result.sieves.accepted.clear()
        if self._notice and self.everything is not None:
            # Said of the filter before.
            self._notice = ""
            self.changed.emit()
        self._everything_soon.start()

    def _drawn(self) -> Region | None:
        """The region as it is now."""
        session = self.session
        if self._region is None or session is None or session.plane is None:
            return None
        return Region(self._region, session, session.plane.axes)

    @property
    def number_found(self) -> int:
        """How many objects there would be on the displayed plane."""
        return self._kept

    def show_everything(self) -> None:
        """Show what the filter lets through on the displayed plane, where nothing else is."""
        self._everything_soon.stop()
        session, layer, sieve = self.session, self._automatic, self.everything
        if session is None or layer is None or session.plane is None or self._accepting:
            return
        self._kept = 0
        plane = session.plane
        if sieve is None or session.result.sieves.is_accepted(plane):
            layer.clear()
            self._make_sieve(session, plane)
        else:
            if self._taken is None or self._taken[0] != plane:
                self._taken = plane, occupied(session.document, plane)
            kept = sieve.select(self._wanted, _among(self._drawn(), plane, sieve))
            painted = sieve.paint(kept, self._wanted, self._taken[1])
            self._kept = len(painted.kept)
            layer.show_labels(np.sign(painted.labels) if self._as_one else painted.labels, plane)
        self.everything_changed.emit()

    def _make_sieve(self, session: Session, plane: Plane) -> None:
        """What came with a file is made ready in the background."""
        found = session.result.sieves.missing(plane)
        if found is None:
            return

        def made(sieve: Sieve) -> None:
            if session.result.sieves.missing(plane) is found:
                session.result.sieves.hold(plane, sieve)
                self._suit(found, usual_filter(found))
                self._everything_soon.start()

        self._work.keep(("sieve", plane), "Preparing automatic masks", lambda _: Sieve(found), made)

    # Deciding

    def accept_everything(self, *, all_planes: bool = False, link: float | None = None) -> None:
        """Make objects of what the filter lets through, in one step; no object that is there changes.

        Parameters
        ----------
        all_planes : bool, default False
            On all planes where something was found, in the background; else on the displayed plane.
        link : float, optional
            What overlaps by at least this IoU on neighbouring planes is one object.
        """
        self._catch_up()
        self.show_everything()
        session, sieve = self.session, self.everything
        if session is None or session.plane is None or self._accepting:
            return
        if all_planes:
            self._accept_stack(session, link)
        elif sieve is not None and self._kept:
            plane = session.plane
            among = _among(self._drawn(), plane, sieve)
            added = accept_candidates(
                session.document, sieve, self._wanted, plane, among, as_one=self._as_one
            )
            session.result.sieves.accepted[plane] = frozenset(item.uid for item in added)
            self._say_added(session.document, added)

    def _accept_stack(self, session: Session, link: float | None) -> None:
        document, sieves = session.document, session.result.sieves
        # Of those that were accepted already, only slivers are left.
        planes = [plane for plane in self.planes_found if not sieves.is_accepted(plane)]
        snapshot, wanted, region = document.snapshot, self._wanted, self._drawn()
        how = {"link": link, "as_one": self._as_one, "class_id": document.new_class}
        make = sieves.make(planes)
        # Sieves are for one thread at a time.
        self._accepting = True

        def added(drafts: list[SamObject]) -> None:
            self._accepting = False
            made = add_drafts(document, drafts)
            uids = frozenset(item.uid for item in made)
            sieves.accepted.update(dict.fromkeys(planes, uids))
            self._say_added(document, made)

        def failed(error: Exception) -> None:
            self._accepting = False
            self._everything_soon.start()
            self._on_failed(error)

        self._work.files.submit(
            "accept",
            f"Making objects of {len(planes)} planes",
            lambda: _drafts(snapshot, make(), wanted, region, **how),
            added,
            failed,
        )
        self.everything_changed.emit()

    def _say_added(self, document: Document, added: list[SamObject]) -> None:
        shown = [item for item in added if item.masks]
        one = "1 object was" if len(shown) == 1 else f"{len(shown):,} objects were"
        said = f"{one} added. Double-click one to correct it." if shown else "There is nothing to add."
        self._say(document, said)
        self.show_everything()
        self.changed.emit()

    def discard_everything(self, *, all_planes: bool = False) -> None:
        """Forget what was found on the displayed plane, or on all that lie as it."""
        session = self.session
        if session is not None and session.plane is not None and not self._accepting:
            for plane in self.planes_found if all_planes else [session.plane]:
                session.result.sieves.forget(plane)
            self._notice = ""
            self.show_everything()
            if self._automatic is not None:
                self._automatic.remove()
            self.changed.emit()

    @property
    def accepting(self) -> bool:
        """Whether objects are being made of what was found on many planes."""
        return self._accepting

    # What the rest of the controller tells

    def _open_everything(self, session: Session) -> None:
        self._automatic = AutomaticLayer(
            session.viewer, session.image, lambda: (session.prompts.shapes, session.prompts.points)
        )
        self._taken = None
        session.document.candidates_changed.connect(self._on_candidates)
        self._everything_soon.start()

    def _close_everything(self, *, keep_layer: bool = False) -> None:
        with suppress(RuntimeError):  # where Qt went before us, at the end of the program
            self._everything_soon.stop()
        self._kept = 0
        if self.session is not None:
            self.session.document.candidates_changed.disconnect(self._on_candidates)
        if self._automatic is not None:
            self._automatic.close(keep_layer)
            self._automatic = None

    def _on_candidates(self, plane: Plane) -> None:
        if self.session is not None and plane == self.session.plane:
            self._everything_soon.start()

    def _everything_moved(self, *, document: bool = False) -> None:
        """Another plane is displayed, or objects changed."""
        if document:
            self._taken = None
        if self.session is not None and self.session.document.candidates:
            self._everything_soon.start()

    def _shows_everything(self, layer: object) -> bool:
        return self._automatic is not None and self._automatic.owns(layer)


def _among(region: Region | None, plane: Plane, sieve: Sieve) -> NDArray[np.bool_] | None:
    """Which of the masks have their centre inside a region."""
    return None if region is None else region.inside(plane, sieve.centres)


def _drafts(
    snapshot: Snapshot, runs: dict[Plane, Sieve], wanted: Filter, region: Region | None, **how: Any
) -> list[SamObject]:
    """The objects of a stack, found out on a copy of the document: any thread can do that."""
    among = None
    if region is not None:
        among = {plane: region.inside(plane, sieve.centres) for plane, sieve in runs.items()}
    return drafts_of_stack(Document.of(snapshot), runs, wanted, among, **how)
