"""Shapes and intensities of objects, measured in the background as long as they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sam.annotation import Changes, Document, Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.ui.layers import TRANSFORM
from napari_sam.ui.object_columns import Measured
from napari_sam.ui.object_facts import Facts, measured
from napari_sam.ui.plane import finest

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.ui.work import Work

__all__ = ["Measuring"]

_PAUSE_MS = 500
"""So long nothing has to change before it is measured again."""

_AT_ONCE = 1000
"""Objects; it takes about a second, for which files have to wait."""

_TILE = 2048
"""Objects are measured together if they begin in the same tile of so many pixels: that bounds memory."""

_KEY = "measure"

_Masks = Mapping[Plane, Mask]


class Measuring:
    """Measures objects that are new or have changed, once nothing changes for half a second.

    Off to begin with, when it costs nothing. What is measured is pixels as they are in the layer, of the
    finest level. An object is measured again only if its own pixels, the image or its place have changed.
    After an error, nothing is measured until the image changes or it is switched on again.

    Parameters
    ----------
    work : Work
        Has the thread for files, where it is done: some objects at a time, other requests in between.

    Attributes
    ----------
    names : tuple of str
        What is measured, as :func:`napari_sam.formats.measure` calls it.
    values : dict of int to sequence of (float or None)
        Of objects, by their uids; as many as there are names.
    outdated : set of int
        The uids of those that have changed since.
    unmeasured : set of str
        The names that no object has a number for.
    """

    changed = Signal()
    """Something was measured, or is not up to date any more."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._on = False
        self._image: Image | None = None
        self._document: Document | None = None
        self._heard: tuple[Image, Document] | None = None
        self._masks: dict[int, _Masks] = {}
        self._revision = 0
        self._failed = False
        self.names: tuple[str, ...] = ()
        self.values: dict[int, Measured] = {}
        self.outdated: set[int] = set()
        self.unmeasured: set[str] = set()
        self._pause = QTimer()
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._measure)

    @property
    def on(self) -> bool:
        """Whether objects are measured."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            self._begin()

    def follow(self, image: Image | None, document: Document | None) -> None:
        """Measure the objects of another image, or of none."""
        if image is not self._image or document is not self._document:
            self._image, self._document = image, document
            self._begin()

    def close(self) -> None:
        """Stop."""
        self._on = False
        self._begin()

    def _begin(self) -> None:
        self._listen()
        self._forget()
        if not self._on:
            self.names, self.unmeasured = (), set()
        self._measure()
        self.changed.emit()

    def _listen(self) -> None:
        """Hear of changes as long as they matter."""
        image, document = self._image, self._document
        wanted = (image, document) if self._on and image is not None and document is not None else None
        if wanted == self._heard:
            return
        for pair, what in ((self._heard, "disconnect"), (wanted, "connect")):
            if pair is not None:
                getattr(pair[1].changed, what)(self._on_document)
                for name in ("data", *TRANSFORM):
                    getattr(getattr(pair[0].events, name), what)(self._on_image)
        self._heard = wanted

    def _forget(self) -> None:
        """Nothing is known any more; what is being measured is of no use."""
        self._revision += 1
        self._failed = False
        self._pause.stop()
        self._work.files.cancel(_KEY)
        for known in (self._masks, self.values, self.outdated):
            known.clear()

    def _on_image(self) -> None:
        self._forget()
        self._pause.start()
        self.changed.emit()

    def _on_document(self, changes: Changes) -> None:
        before = len(self.values), self.outdated.copy()
        for uid in changes.before:
            self._compare(uid)
        if changes.before:
            self._pause.start()
        if (len(self.values), self.outdated) != before:
            self.changed.emit()

    def _compare(self, uid: int) -> None:
        """Find out whether what is known of an object is of what it is now."""
        item = None if self._document is None else self._document.get(uid)
        self.outdated.discard(uid)
        if item is None or not item.masks:
            self._masks.pop(uid, None)
            self.values.pop(uid, None)
        elif uid in self._masks and self._masks[uid] is not item.masks:
            self.outdated.add(uid)

    def _measure(self) -> None:
        """Measure some of what is to be measured."""
        files = self._work.files
        if self._heard is None or self._failed or files.closed or files.pending(_KEY):
            return
        image, document = self._heard
        items = self._next(document)
        if not items:
            return
        files.submit(
            _KEY,
            f"Measuring {len(items)} objects" if len(items) > 1 else f"Measuring object {items[0].id}",
            partial(measured, items, document.shape, finest(image), coloured=image.rgb, place=_place(image)),
            partial(self._on_measured, self._revision, {item.uid: item.masks for item in items}),
            partial(self._on_failed, self._revision),
        )

    def _next(self, document: Document) -> list[SamObject]:
        """Objects of one tile that are not known as they are."""
        items = [
            item for item in document.objects if item.masks and self._masks.get(item.uid) is not item.masks
        ]
        return [item for item in items if _tile(item) == _tile(items[0])][:_AT_ONCE]

    def _on_measured(self, revision: int, asked: Mapping[int, _Masks], facts: Facts) -> None:
        if revision != self._revision:
            return
        if facts.names != self.names:
            self.names, self.unmeasured = facts.names, set(facts.names)
        for uid, values in facts.values.items():
            self._masks[uid], self.values[uid] = asked[uid], values
            self._compare(uid)
        told = zip(*facts.values.values(), strict=True)
        self.unmeasured -= {
            name
            for name, column in zip(facts.names, told, strict=True)
            if any(value is not None for value in column)
        }
        self.changed.emit()
        if not self._pause.isActive():
            self._measure()

    def _on_failed(self, revision: int, error: Exception) -> None:
        if revision == self._revision:
            self._failed = True
            self._work.failed.emit(error)


def _tile(item: SamObject) -> tuple[int, int]:
    row, column = next(iter(item.masks.values())).origin
    return row // _TILE, column // _TILE


def _place(image: Image) -> dict[str, Any]:
    """Where an image is in the world."""
    place = {name: getattr(image, name) for name in TRANSFORM}
    return place | {"affine": image.affine.affine_matrix}
