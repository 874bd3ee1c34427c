"""A document in a Labels layer, and a brush in the document."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation import Changes, Document, Plane
from napari_sam.annotation.territory import Box, canonical_planes
from napari_sam.ui.actions import keys

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["Canvas", "take_over_all"]

_strokes = count()
_MANY_BOXES = 64
"""From so many boxes on, one around them all is painted."""


class Canvas:
    """Shows a document in a Labels layer, pixel by pixel as it changes.

    Pixels that differ from what the document said were changed by somebody else: they stay, and the document
    takes them over as painted by hand.

    Parameters
    ----------
    labels : napari.layers.Labels
        Of the document's shape.
    document : Document
        What it holds is in the layer already, unless `fill` is called.
    classes : bool, default False
        Show class ids instead of objects' ids; nobody paints there.
    """

    def __init__(self, labels: Labels, document: Document, *, classes: bool = False) -> None:
        self.labels, self.document = labels, document
        self._classes = classes
        self._writing = False
        # What napari remembers of our own last edit.
        self._written: list[Any] | None = None
        # Where something is about to be painted.
        self._painted: tuple[Hashable, list[tuple[Plane, Box]]] | None = None
        document.changed.connect(self._on_changed)
        labels.events.paint.connect(self._on_paint)
        if not classes:
            labels.events.labels_update.connect(self._on_drawn)
            labels.events.data.connect(self._on_data)
            # napari's undo knows nothing of objects; a layer's own keys come before those of the viewer.
            labels.bind_key("Control-Z", lambda _: keys.undo(document), overwrite=True)
            labels.bind_key("Control-Shift-Z", lambda _: keys.redo(document), overwrite=True)

    def close(self) -> None:
        """Follow neither the document nor the layer any more."""
        self.document.changed.disconnect(self._on_changed)
        self.labels.events.paint.disconnect(self._on_paint)
        if not self._classes:
            self.labels.events.labels_update.disconnect(self._on_drawn)
            self.labels.events.data.disconnect(self._on_data)
            for key in ("Control-Z", "Control-Shift-Z"):
                self.labels.bind_key(key, None, overwrite=True)

    @property
    def greatest_id(self) -> int:
        """The greatest label that the layer can hold."""
        return _greatest_in(self.labels.data)

    def fill(self) -> None:
        """Show all objects in a layer that is empty."""
        for plane in self.document.planes:
            values = self._shown(
                self.document.labels_in(plane, _all_of(self.document), classes=self._classes)
            )
            self.labels.data[plane.index[:-2]] = values.astype(self.labels.data.dtype)
        self.labels.refresh()

    def _shown(self, values: NDArray[np.integer]) -> NDArray[np.integer]:
        """What the layer shows of ids: background for those that it cannot hold."""
        return np.where(values <= self.greatest_id, values, 0)

    @property
    def _fits(self) -> bool:
        """Whether the layer still has the document's shape: a script may have put in another array."""
        return tuple(self.labels.data.shape) == self.document.shape

    def _on_changed(self, changes: Changes) -> None:
        if not self._fits:
            return
        foreign: list[tuple[Plane, Box]] = []
        for plane, boxes in changes.regions.items():
            for box in _few(boxes):
                before = self.document.labels_before(changes, plane, box, classes=self._classes)
                after = self.document.labels_in(plane, box, classes=self._classes)
                if self._write(plane, box, self._shown(before), self._shown(after)):
                    foreign.append((plane, box))
        if not self._classes:
            for plane, box in foreign:
                self._take_over(plane, box)

    def _write(self, plane: Plane, box: Box, before: NDArray[np.integer], after: NDArray[np.integer]) -> bool:
        """Put values into a box where it holds what it should; whether it holds anything else somewhere."""
        rows, columns = box
        present = _present(self.labels.data, plane, box)
        foreign = present != before
        rows_in, columns_in = np.nonzero((after != before) & ~foreign)
        if len(rows_in):
            values = after[rows_in, columns_in].astype(self.labels.data.dtype)
            index = [np.full(len(rows_in), at) for at in plane.index[:-2]]
            self._writing = True
            try:
                self.labels.data_setitem((*index, rows_in + rows.start, columns_in + columns.start), values)
            finally:
                self._writing = False
            self._forget_write()
        return bool((foreign & (present != after)).any())

    def _forget_write(self) -> None:
        """Take what was written just now out of the layer's own history.

        napari keeps the indices of the last hundred edits: of masks with a million pixels, that is 2 GB, for
        an undo that knows nothing of objects. No public way to write without it redraws a box alone. Without
        that attribute, it only takes the memory.
        """
        history = getattr(self.labels, "_undo_history", None)
        if self._written is not None and history and history[-1] is self._written:
            history.pop()
        self._written = None

    def _take_over(self, plane: Plane, box: Box, gesture: Hashable = None) -> bool:
        """Let the document have what is in a box; whether anything is new."""
        return _take_over(self.document, self.labels.data, plane, box, gesture)

    def _on_paint(self, event: Any) -> None:
        """A brush, a bucket or a polygon: take over the boxes it was in."""
        if self._writing:
            self._written = event.value
            return
        if self._classes or not self._fits:
            return
        self._painted = ("stroke", next(_strokes)), list(_boxes_of(event.value, self.document.shape))
        self._on_drawn()

    def _on_drawn(self) -> None:
        """Take over what was painted last.

        Of a stroke, napari tells when its pixels are there; of a polygon, or from a script, before they are,
        and draws afterwards.
        """
        if self._painted is not None and not self._writing:
            gesture, boxes = self._painted
            news = [self._take_over(plane, box, gesture) for plane, box in boxes]
            if any(news):
                self._painted = None

    def _on_data(self) -> None:
        """The layer got another array."""
        if self._fits:
            self.take_over_all()

    def take_over_all(self) -> None:
        """Take over whatever is in the layer."""
        take_over_all(self.document, self.labels.data)


def take_over_all(document: Document, data: Any) -> None:
    """Let a document have what is in an array, as painted by hand where it said something else.

    Parameters
    ----------
    document : Document
    data : array_like of int
        Of the document's shape.
    """
    gesture, box = ("stroke", next(_strokes)), _all_of(document)
    for plane in canonical_planes(document.shape):
        _take_over(document, data, plane, box, gesture)


def _take_over(document: Document, data: Any, plane: Plane, box: Box, gesture: Hashable) -> bool:
    """The same of a box; whether anything is new."""
    held = document.labels_in(plane, box)
    present = _present(data, plane, box)
    # An object that the array cannot hold is still there where it has nothing.
    values = np.where((held <= _greatest_in(data)) | (present != 0), present, held)
    return document.paint(plane, box, values, gesture)


def _present(data: Any, plane: Plane, box: Box) -> NDArray[Any]:
    return np.asarray(data[(*plane.index[:-2], *box)])


def _greatest_in(data: Any) -> int:
    """The greatest label that an array can hold."""
    dtype = np.dtype(data.dtype)
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _all_of(document: Document) -> Box:
    return slice(0, document.shape[-2]), slice(0, document.shape[-1])


def _few(boxes: list[Box]) -> list[Box]:
    """The same boxes, or one around them if they are many; none that is empty."""
    boxes = [box for box in boxes if box[0].stop > box[0].start]
    if len(boxes) < _MANY_BOXES:
        return list({_key(box): box for box in boxes}.values())
    edges = np.array([_key(box) for box in boxes])
    (top, left), (bottom, right) = edges[:, [0, 2]].min(axis=0), edges[:, [1, 3]].max(axis=0)
    return [(slice(int(top), int(bottom)), slice(int(left), int(right)))]


def _key(box: Box) -> tuple[int, int, int, int]:
    rows, columns = box
    return rows.start, rows.stop, columns.start, columns.stop


def _boxes_of(atoms: list[Any], shape: tuple[int, ...]) -> Iterator[tuple[Plane, Box]]:
    """Where a stroke was. An atom begins with what it indexed: slices, or arrays of indices."""
    extents = np.array(
        [[_extent(at, side) for at, side in zip(atom[0], shape, strict=True)] for atom in atoms]
    )
    low, high = extents[..., 0].min(axis=0), extents[..., 1].max(axis=0)
    box = slice(int(low[-2]), int(high[-2])), slice(int(low[-1]), int(high[-1]))
    for offset in np.ndindex(*(high[:-2] - low[:-2])):
        yield Plane((*(int(i) for i in np.add(low[:-2], offset)), None, None)), box


def _extent(at: slice | NDArray[np.integer], side: int) -> tuple[int, int]:
    if isinstance(at, slice):
        start, stop, _ = at.indices(side)
        return start, stop
    return int(np.min(at)), int(np.max(at)) + 1
