"""Which object came from which, and the ways of all of them through the image."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sam.errors import AnnotationError
from napari_sam.ui.propagating import Propagating
from napari_sam.ui.tracks import first_axis
from napari_sam.ui.tracks_layer import TracksLayer

if TYPE_CHECKING:
    from napari_sam.annotation import Plane
    from napari_sam.ui.session import Session

__all__ = ["Lineage"]

_SOON_MS = 100
_SHARE = 4
"""Of the GUI's time, what shows tracks takes no more than one part in so many while objects change."""


class Lineage(Propagating):
    """The part of a controller for divisions and tracks."""

    def _begin_lineage(self) -> None:
        """Set up, once."""
        self._tracks: TracksLayer | None = None
        self._tracks_wanted = False
        self._tracks_soon = QTimer()
        self._tracks_soon.setSingleShot(True)
        self._tracks_soon.setInterval(_SOON_MS)
        self._tracks_soon.timeout.connect(self._show_tracks)

    # Divisions

    def divide(self, uid: int | None = None) -> None:
        """End an object at the displayed plane, where it has several parts: each goes on as its daughter.

        Parameters
        ----------
        uid : int, optional
            The one in focus if not given.
        """
        self._catch_up()
        session, axis = self.session, self.series_axis
        if session is None or session.plane is None or axis is None:
            return
        item = self.in_focus if uid is None else session.document.get(uid)
        if item is None:
            self._tell("There is no object to divide: click one, or select it in the table.")
            return
        try:
            made = session.document.divide(item.uid, session.plane, axis)
        except AnnotationError as error:
            self._tell(str(error))
            return
        listed = ", ".join(str(one.id) for one in made[:-1])
        self._notice = f"Object {item.id} divides here, into {listed} and {made[-1].id}."
        self.changed.emit()

    def set_parent(self, uids: Collection[int], parent: int) -> None:
        """Say which object others came from by division; 0 for none."""
        self._catch_up()
        if self.session is None:
            return
        self._notice = ""
        try:
            self.session.document.set_parent(uids, parent)
        except AnnotationError as error:
            self._tell(str(error))

    def relate(self, uids: Collection[int]) -> None:
        """Say that of several objects the one that is there first divided into the others."""
        session, axis = self.session, self.series_axis
        if session is None or axis is None:
            return
        items = [item for uid in uids if (item := session.document.get(uid)) is not None and item.masks]
        begins = {item.uid: min(_along(plane, axis) for plane in item.masks) for item in items}
        first = sorted(items, key=lambda item: begins[item.uid])[:2]
        if len(first) < 2 or begins[first[0].uid] == begins[first[1].uid]:
            self._tell("Select the object that divided, which is there first, and those that came from it.")
            return
        self.set_parent([uid for uid in begins if uid != first[0].uid], first[0].uid)

    # Tracks

    @property
    def can_show_tracks(self) -> bool:
        """Whether napari has a layer for tracks through such an image."""
        return self.session is not None and first_axis(self.session.shape) is not None

    @property
    def tracks_shown(self) -> bool:
        """Whether a layer shows where objects go."""
        return self._tracks_wanted

    @tracks_shown.setter
    def tracks_shown(self, value: bool) -> None:
        self._tracks_wanted = value
        self._show_tracks()
        self.changed.emit()

    def _show_tracks(self) -> None:
        self._tracks_soon.stop()
        session, layer = self.session, self._tracks
        if session is None or layer is None:
            return
        if not self._tracks_wanted:
            layer.clear()
        elif session.plane is not None:
            began = time.perf_counter()
            layer.show(session.document.objects, session.plane, self.series_axis)
            took = 1000 * (time.perf_counter() - began)
            self._tracks_soon.setInterval(max(_SOON_MS, round(_SHARE * took)))

    # What the rest of the controller tells

    def _open_tracks(self, session: Session) -> None:
        self._tracks = TracksLayer(
            session.viewer,
            session.image,
            session.shape,
            lambda: (session.prompts.shapes, session.prompts.points),
        )
        self._tracks_again()

    def _close_tracks(self, *, keep_layer: bool = False) -> None:
        with suppress(RuntimeError):  # where Qt went before us, at the end of the program
            self._tracks_soon.stop()
        if self._tracks is not None:
            self._tracks.close(keep_layer)
            self._tracks = None

    def _tracks_moved(self) -> None:
        """Another plane is displayed."""
        session, layer = self.session, self._tracks
        if session is None or session.plane is None or layer is None:
            return
        if not layer.is_of(session.plane, self.series_axis):
            self._tracks_again()

    def _tracks_again(self) -> None:
        """Objects changed, or others are to be shown."""
        if self._tracks_wanted and not self._tracks_soon.isActive():
            self._tracks_soon.start()

    def _is_tracks(self, layer: Any) -> bool:
        return self._tracks is not None and self._tracks.owns(layer)

    def _on_tracks_removed(self) -> None:
        """The user took the layer away: it was enough."""
        if self._tracks is not None and self._tracks.was_removed:
            self._tracks_wanted = False
            self._tracks.clear()
            self.changed.emit()


def _along(plane: Plane, axis: int) -> int:
    """Where a plane is along an axis; its beginning if that spans it."""
    return plane.index[axis] or 0
