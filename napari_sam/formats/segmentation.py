"""What is exchanged with other programs: the objects of one image, without how they came about."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.annotation.document import Document
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import GREATEST_ID, Answer, ObjectClass, SamObject, Source
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError, FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.memory import check_free
from napari_sam.inference.mask import Mask

__all__ = ["MOST_PLANES", "Index", "Item", "Segmentation"]

MOST_PLANES = 2**17
"""Formats of stacks tell of each, also of empty ones, and a few bytes can claim any number."""

Index = tuple[int, ...]
"""A plane of the last two axes: its position along each axis before them; () in an image of one plane."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object.

    Attributes
    ----------
    id : int
        Its value in a label image; never 0, which is background.
    masks : mapping of Index to Mask
        Its pixels, by plane. Never empty ones. Masks of different items may overlap.
    class_name : str
        Empty for none.
    score : float or None
        How sure the model was: its predicted IoU.
    source : str
        Where it came from: one of :class:`~napari_sam.annotation.records.Source`, or empty.
    attributes : mapping of str to (number, str, list or dict)
        What else a file says of it, and what formats with room for it keep: ``stability_score``,
        ``parent`` (the id of the object that it came from when that one divided), ...
    """

    id: int
    masks: Mapping[Index, Mask]
    class_name: str = ""
    score: float | None = None
    source: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def area(self) -> int:
        """Pixels, over all planes."""
        return sum(mask.area for mask in self.masks.values())

    @property
    def parent(self) -> int:
        """Id of the object that it came from when that one divided; 0 for none.

        It is the attribute of this name, which in a file of others may mean anything else.
        """
        parent = self.attributes.get("parent")
        if not isinstance(parent, int | float) or isinstance(parent, bool) or not abs(parent) <= GREATEST_ID:
            return 0
        # Columns with gaps are of floats.
        return int(parent) if int(parent) == parent else 0


@dataclass(frozen=True)
class Segmentation:
    """The objects of one image: what every format is written from and read to.

    Parameters
    ----------
    shape : tuple of int
        Of the image, in pixels, without colours: (..., H, W).
    items : sequence of Item
    classes : sequence of ObjectClass
        Names, ids and colours; every class that an item has is among them.
    calibration : Calibration, optional
        Plain pixels, if not given.
    name : str
        File name of the image, if known.

    Raises
    ------
    FormatError
        If ids are 0, too large or there twice, a mask does not fit the image, or there are more than
        131,072 planes.

    Examples
    --------
    >>> labels = np.array([[0, 5, 5], [9, 0, 5]])
    >>> found = Segmentation.of_labels(labels)
    >>> [(item.id, item.area) for item in found.items]
    [(5, 3), (9, 1)]
    >>> bool((found.to_labels() == labels).all()), found.to_labels().dtype
    (True, dtype('uint8'))
    """

    shape: tuple[int, ...]
    items: Sequence[Item] = ()
    classes: Sequence[ObjectClass] = ()
    calibration: Calibration = None  # type: ignore[assignment]  # set below
    name: str = ""

    def __post_init__(self) -> None:
        shape = tuple(int(side) for side in self.shape)
        if len(shape) < 2 or min(shape) < 0:
            raise FormatError(f"An image has at least two axes, not the shape {shape}.")
        if math.prod(shape[:-2]) > MOST_PLANES:
            raise FormatError(
                f"An image of the shape {shape} has more than {MOST_PLANES:,} planes: split it into several."
            )
        given: Calibration | None = self.calibration
        calibration = Calibration.plain(len(shape)) if given is None else given
        if len(calibration.axes) != len(shape):
            raise FormatError(f"The axes {calibration.axes!r} do not fit an image of the shape {shape}.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "calibration", calibration)
        object.__setattr__(self, "items", tuple(self.items))
        names = [one.name for one in self.classes]
        new = [name for name in dict.fromkeys(item.class_name for item in self.items) if name]
        object.__setattr__(self, "classes", (*self.classes, *_more(self.classes, set(new) - set(names), new)))
        self._check()

    def _check(self) -> None:
        seen: set[int] = set()
        for item in self.items:
            if item.id == 0 or abs(item.id) > GREATEST_ID:
                raise FormatError(f"The id {item.id} cannot be used: ids are whole numbers other than 0.")
            if item.id in seen:
                raise FormatError(f"The id {item.id} is there twice: give every object its own.")
            seen.add(item.id)
            for index, mask in item.masks.items():
                inside = len(index) == len(self.shape) - 2 and all(
                    0 <= at < side for at, side in zip(index, self.shape, strict=False)
                )
                if not inside or mask.shape != self.shape[-2:]:
                    raise FormatError(
                        f"Object {item.id} has a mask of the shape {mask.shape} on plane {index}, "
                        f"which does not fit an image of the shape {self.shape}."
                    )

    @classmethod
    def of_labels(cls, labels: Any, calibration: Calibration | None = None, name: str = "") -> Segmentation:
        """The objects of a label image, read plane by plane.

        Parameters
        ----------
        labels : array_like of int or bool, shape (..., H, W)
            0 is background. NumPy, dask, zarr, ...
        calibration : Calibration, optional
        name : str

        Raises
        ------
        AnnotationError
            If it is not an array of integers with at least two axes.
        """
        items = [
            Item(draft.id, {_index(plane): answer.mask for plane, answer in draft.base.items()})
            for draft in drafts_of_labels(labels)
        ]
        shape = tuple(np.shape(labels))
        return cls(shape, items, (), calibration or Calibration.plain(len(shape)), name)

    @classmethod
    def of_snapshot(
        cls, snapshot: Snapshot, calibration: Calibration | None = None, name: str = ""
    ) -> Segmentation:
        """The objects of an annotation, with the pixels that they have in its Labels layer."""
        names = {one.id: one.name for one in snapshot.classes}
        ids = {item.uid: item.id for item in snapshot.objects if item.masks}
        items = [
            Item(
                item.id,
                {
                    _index(plane): mask
                    for plane, mask in sorted(item.masks.items(), key=lambda p: _index(p[0]))
                },
                names.get(item.class_id, ""),
                item.score,
                item.source.value,
                {**_stability(item), **({"parent": ids[item.parent]} if item.parent in ids else {})},
            )
            for item in snapshot.objects
            if item.masks
        ]
        pixels = calibration or Calibration.plain(len(snapshot.shape))
        return cls(snapshot.shape, items, snapshot.classes, pixels, name)

    def to_labels(self, dtype: DTypeLike | None = None) -> NDArray[np.integer]:
        """A label image.

        A pixel that several objects have goes to the one with the highest score, or to the first of equals.

        Parameters
        ----------
        dtype : dtype, optional
            The smallest that holds the ids, if not given.

        Returns
        -------
        ndarray of int, of the image's shape

        Raises
        ------
        FormatError
            If the type cannot hold an id, or the image does not fit into memory.
        """
        kind = self.label_type
        if dtype is not None:
            ids = [item.id for item in self.items] or [0]
            kind, limits = np.dtype(dtype), np.iinfo(np.dtype(dtype))
            if not limits.min <= min(ids) <= max(ids) <= limits.max:
                raise FormatError(
                    f"The type {kind} cannot hold the ids {min(ids)} to {max(ids)}: choose a larger type."
                )
        what = f"A label image of the shape {self.shape}"
        check_free(math.prod(self.shape) * kind.itemsize, what, "cut it, or choose a format of outlines")
        labels = np.zeros(self.shape, dtype=kind)
        for index in self.planes:
            self.paint(index, labels[index])
        return labels

    @property
    def label_type(self) -> np.dtype[Any]:
        """The smallest type of whole numbers that holds all ids and 0; signed if there are ids below 0."""
        ids = [0, *(item.id for item in self.items)]
        low, high = min(ids), max(ids)
        kind = np.min_scalar_type(high if low >= 0 else min(low, -high - 1))
        return np.dtype(kind.str)  # of C's two types of 64 bits, the one that Zarr knows

    def paint(self, index: Index, labels: NDArray[np.integer]) -> None:
        """Write the ids of the objects on a plane into an array, as :meth:`to_labels` does.

        Parameters
        ----------
        index : tuple of int
            Which plane.
        labels : ndarray, shape (H, W), int
            Its type holds the ids; it is changed where there are objects.
        """
        on_plane = self.planes.get(index, [])
        scored = sorted(on_plane, key=lambda one: math.inf if one[0].score is None else -one[0].score)
        for item, mask in reversed(scored):  # the last one is on top
            labels[mask.slices][mask.bits] = item.id

    def to_document(self) -> Document:
        """An annotation with these objects, imported; where they overlap, the first keep their pixels.

        Who came from whom is taken over from attributes ``parent`` that make sense.

        Raises
        ------
        AnnotationError
            If an id cannot be kept.
        """
        document = Document(self.shape)
        numbers: dict[str, int] = {}
        if self.classes:
            document.set_classes(self.classes)
            numbers = {one.name: one.id for one in self.classes}
        known = {source.value: source for source in Source}
        drafts = [
            SamObject(
                0,
                item.id,
                class_id=numbers.get(item.class_name, 0),
                source=known.get(item.source, Source.IMPORTED),
                base={
                    Plane((*index, None, None)): Answer(
                        ((mask, item.score),), stability=_number(item.attributes.get("stability_score"))
                    )
                    for index, mask in item.masks.items()
                },
            )
            for item in self.items
        ]
        with document.step("Import objects"):
            document.add_objects(drafts, "Import objects", keep_ids=True)
            for item in self.items:
                _set_parent(document, item)
        return document

    @cached_property
    def planes(self) -> dict[Index, list[tuple[Item, Mask]]]:
        """What is on each plane that something is on, in order of the planes."""
        found: dict[Index, list[tuple[Item, Mask]]] = {}
        for item, index, mask in self.masks():
            found.setdefault(index, []).append((item, mask))
        return dict(sorted(found.items()))

    def masks(self) -> Iterator[tuple[Item, Index, Mask]]:
        """Every mask with its object and plane."""
        for item in self.items:
            for index, mask in item.masks.items():
                yield item, index, mask


def _index(plane: Plane) -> Index:
    """Where a plane of the last two axes is along the others."""
    return tuple(at for at in plane.index if at is not None)


def _set_parent(document: Document, item: Item) -> None:
    """Take over who an object came from, if both are there."""
    child, mother = document.with_id(item.id), document.with_id(item.parent)
    if child is not None and mother is not None:
        # Nobody descends from itself.
        with contextlib.suppress(AnnotationError):
            document.set_parent([child.uid], mother.uid)


def _number(value: Any) -> float | None:
    """What a file says if that is a number: attributes are whatever others put there."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _stability(item: SamObject) -> dict[str, Any]:
    known = [a.stability for a in (*item.base.values(), *item.answers.values()) if a.stability is not None]
    return {"stability_score": min(known)} if known else {}


def _more(classes: Sequence[ObjectClass], missing: set[str], order: Sequence[str]) -> list[ObjectClass]:
    """Classes that items have and nobody has described, in order of their appearance."""
    from napari_sam.annotation.classes import new_class

    found = list(classes)
    for name in order:
        if name in missing:
            found.append(new_class(found, name))
    return found[len(classes) :]
