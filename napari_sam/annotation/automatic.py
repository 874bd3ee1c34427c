"""Objects from automatic runs, and the pixels of a plane that are not to be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.document import Document
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, Look, SamObject, Source
from napari_sam.inference.linking import LINK_IOU, Linker
from napari_sam.inference.mask import Mask

if TYPE_CHECKING:
    from napari_sam.inference.filtering import Filter, Painted, Sieve

__all__ = [
    "accept_candidates",
    "accept_stack",
    "add_drafts",
    "drafts_of_candidates",
    "drafts_of_stack",
    "occupied",
]

_TEXT = "Segment everything"


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
    return [
        _draft({plane: _answer(sieve, index, sieve.mask(index, wanted))}, class_id)
        for index in map(int, kept)
    ]


def _draft(base: Mapping[Plane, Answer], class_id: int) -> SamObject:
    return SamObject(uid=0, id=0, class_id=class_id, source=Source.AUTOMATIC, base=base)


def _answer(sieve: Sieve, index: int | None, mask: Mask) -> Answer:
    """A mask and what is known of the candidate it is of; None for a mask of many."""
    found = sieve.candidates
    return Answer(
        ((mask, None if index is None else float(found.predicted_iou[index])),),
        model=found.model,
        digest=found.digest,
        look=Look(found.contrast_limits, found.gamma),
        stability=None if index is None else float(found.stability[index]),
    )


def accept_candidates(
    document: Document,
    sieve: Sieve,
    wanted: Filter,
    plane: Plane,
    among: NDArray[np.bool_] | None = None,
    *,
    as_one: bool = False,
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
    as_one : bool, default False
        Make one object of all masks, for a segmentation into classes: it has the class of new objects.

    Returns
    -------
    list of SamObject
        Empty if nothing is left; then nothing was done.
    """
    painted = sieve.paint(sieve.select(wanted, among), wanted, occupied(document, plane))
    if not len(painted.kept):
        return []
    class_id = document.new_class
    if as_one:
        whole = _answer(sieve, None, Mask.from_array(painted.labels))
        return add_drafts(document, [_draft({plane: whole}, class_id)])
    return add_drafts(document, drafts_of_candidates(sieve, painted.kept, wanted, plane, class_id=class_id))


def accept_stack(
    document: Document,
    runs: Mapping[Plane, Sieve],
    wanted: Filter,
    among: Mapping[Plane, NDArray[np.bool_]] | None = None,
    *,
    link: float | None = LINK_IOU,
    as_one: bool = False,
) -> list[SamObject]:
    """Make objects of what a filter lets through on many planes, in one step.

    No object that is there loses a pixel. What the objects get on each plane is what
    :meth:`~napari_sam.inference.filtering.Sieve.paint` shows of it with the pixels of :func:`occupied`.

    Parameters
    ----------
    document : Document
    runs : mapping of Plane to Sieve
        One for each plane that was segmented, in any order.
    wanted : Filter
        For all planes.
    among : mapping of Plane to (ndarray, shape (N,), bool), optional
        Only these candidates count, on the planes that are in it.
    link : float or None, default 0.3
        Masks of neighbouring planes are one object if they overlap by at least this IoU, greater than 0, and
        match best: see :func:`~napari_sam.inference.linking.link_planes`. Neighbours differ by one in the
        last index. None: masks of different planes are different objects.
    as_one : bool, default False
        Make one object of all masks on all planes; it has the class of new objects.

    Returns
    -------
    list of SamObject
        In the order in which they appear from plane to plane. Empty if nothing is left.

    Raises
    ------
    ValueError
        If `link` is not greater than 0 and at most 1.

    Examples
    --------
    >>> from napari_sam.inference.candidates import MaskCandidates
    >>> from napari_sam.inference.filtering import Filter, Sieve
    >>> square = Mask((2, 2), np.ones((4, 4), dtype=bool), (8, 8))
    >>> found = MaskCandidates.of([square], [0.9], [1], [(3, 3)], [(0, 0, 8, 8)], (8, 8))
    >>> runs = {Plane((z, None, None)): Sieve(found) for z in range(3)}
    >>> document = Document((3, 8, 8))
    >>> [(item.id, item.area) for item in accept_stack(document, runs, Filter())]
    [(1, 48)]
    >>> document.undo()
    'Segment everything'
    """
    drafts = drafts_of_stack(
        document, runs, wanted, among, link=link, as_one=as_one, class_id=document.new_class
    )
    return add_drafts(document, drafts)


def drafts_of_stack(
    document: Document,
    runs: Mapping[Plane, Sieve],
    wanted: Filter,
    among: Mapping[Plane, NDArray[np.bool_]] | None = None,
    *,
    link: float | None = LINK_IOU,
    as_one: bool = False,
    class_id: int = 0,
) -> list[SamObject]:
    """The objects that :func:`accept_stack` adds, without changing the document.

    For those who do the work in another thread, on a document of their own (``Document.of(snapshot)``), and
    add the objects with :func:`add_drafts`.

    Parameters
    ----------
    document : Document
        Says which pixels are not to be had.
    runs, wanted, among, link, as_one
        As of :func:`accept_stack`.
    class_id : int, default 0
        Of the objects. The class of new objects is not part of a snapshot.

    Returns
    -------
    list of SamObject

    Raises
    ------
    ValueError
        If `link` is not greater than 0 and at most 1.
    """
    linker = None if link is None or as_one else Linker(link)
    objects: dict[int, dict[Plane, Answer]] = {}
    for plane, follows in _in_order(runs):
        sieve = runs[plane]
        kept = sieve.select(wanted, None if among is None else among.get(plane))
        painted = sieve.paint(kept, wanted, occupied(document, plane))
        if as_one:
            numbers = np.zeros(min(1, len(painted.kept)), dtype=np.int64)
            answers = [_answer(sieve, None, Mask.from_array(painted.labels)) for _ in numbers]
        else:
            # What is seen of each, since objects of many planes cannot be on top on one and below on another.
            seen = _seen(sieve, painted)
            answers = [_answer(sieve, *one) for one in zip(painted.kept.tolist(), seen, strict=True)]
            if linker is None:
                numbers = len(objects) + np.arange(len(seen))
            else:
                if not follows:
                    linker.skip()
                numbers = linker.add(seen)
        for number, answer in zip(numbers.tolist(), answers, strict=True):
            objects.setdefault(number, {})[plane] = answer
    return [_draft(base, class_id) for base in objects.values()]


def _seen(sieve: Sieve, painted: Painted) -> list[Mask]:
    """What is seen of each mask that was kept."""
    boxes = sieve.candidates.boxes[painted.kept].tolist()
    return [
        Mask((y0, x0), painted.labels[y0:y1, x0:x1] == index + 1, sieve.candidates.shape)
        for index, (x0, y0, x1, y1) in zip(painted.kept.tolist(), boxes, strict=True)
    ]


def _in_order(planes: Iterable[Plane]) -> Iterator[tuple[Plane, bool]]:
    """Planes along their last index, and whether each is the neighbour of the one before."""
    placed = {(plane.axes, tuple(i for i in plane.index if i is not None)): plane for plane in planes}
    before = None
    for place, plane in sorted(placed.items(), key=lambda one: one[0]):
        axes, at = place
        yield plane, bool(at) and before == (axes, (*at[:-1], at[-1] - 1))
        before = place


def add_drafts(document: Document, drafts: Sequence[SamObject]) -> list[SamObject]:
    """Add objects of an automatic run in one step, which takes no pixel from others even with `overwrite`.

    Parameters
    ----------
    document : Document
    drafts : sequence of SamObject
        As :func:`drafts_of_candidates` and :func:`drafts_of_stack` return them.

    Returns
    -------
    list of SamObject
        Empty without drafts; then nothing was done.
    """
    with document.protected():
        return document.add_objects(drafts, _TEXT)


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
