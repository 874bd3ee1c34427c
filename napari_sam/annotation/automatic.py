"""Objects from an automatic run, and the pixels of a plane that are not to be had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.document import Document
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, Look, SamObject, Source

if TYPE_CHECKING:
    from napari_sam.inference.filtering import Filter, Sieve

__all__ = ["accept_candidates", "drafts_of_candidates", "occupied"]


def drafts_of_candidates(
    sieve: Sieve, kept: Iterable[int], wanted: Filter, plane: Plane, *, class_id: int = 0
) -> list[SamObject]:
    """An object for each of some masks of an automatic run.

    Parameters
    ----------
    sieve : Sieve
    kept : iterable of int
        Which of its candidates; the first gets its pixels first.
    wanted : Filter
        Says which holes are filled.
    plane : Plane
        That the masks are of.
    class_id : int

    Returns
    -------
    list of SamObject
        For :meth:`~napari_sam.annotation.Document.add_objects`.
    """
    found = sieve.candidates
    look = Look(found.contrast_limits, found.gamma)
    return [
        SamObject(
            uid=0,
            id=0,
            class_id=class_id,
            source=Source.AUTOMATIC,
            base={
                plane: Answer(
                    ((sieve.mask(index, wanted), float(found.predicted_iou[index])),),
                    model=found.model,
                    digest=found.digest,
                    look=look,
                    stability=float(found.stability[index]),
                )
            },
        )
        for index in map(int, kept)
    ]


def accept_candidates(
    document: Document, sieve: Sieve, wanted: Filter, plane: Plane, among: NDArray[np.bool_] | None = None
) -> list[SamObject]:
    """Make objects of what a filter lets through, in one step; no object that is there loses a pixel.

    A mask of which more than the filter allows belongs to others is left out.

    Parameters
    ----------
    document : Document
    sieve : Sieve
    wanted : Filter
    plane : Plane
        That the masks are of.
    among : ndarray, shape (N,), bool, optional
        Only these candidates count.

    Returns
    -------
    list of SamObject
    """
    painted = sieve.paint(sieve.select(wanted, among), wanted, occupied(document, plane))
    if not len(painted.kept):
        return []
    drafts = drafts_of_candidates(sieve, painted.kept, wanted, plane, class_id=document.new_class)
    before, document.overwrite = document.overwrite, False
    try:
        return document.add_objects(drafts, "Segment everything")
    finally:
        document.overwrite = before


def occupied(document: Document, plane: Plane) -> NDArray[np.bool_]:
    """The pixels of any plane that belong to objects: shape (height, width), bool."""
    result = np.zeros(plane.size_in(document.shape), dtype=bool)
    # Rows and columns of the planes that objects are on, as far as `plane` goes through them.
    ends = [
        slice(0, length) if at is None else slice(at, at + 1)
        for at, length in zip(plane.index[-2:], document.shape[-2:], strict=True)
    ]
    for on in document.planes:
        if any(
            a is not None and b is not None and a != b for a, b in zip(plane.index, on.index, strict=True)
        ):
            continue
        part = document.labels_in(on, (ends[0], ends[1])) != 0
        part = part[tuple(slice(None) if at is None else 0 for at in plane.index[-2:])]
        at = [on.index[axis] for axis in plane.axes]
        result[tuple(slice(None) if i is None else i for i in at)] = part
    return result
