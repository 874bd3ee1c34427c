"""Many objects at once: prompts for each from points, boxes or masks, and one pass of the decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from numpy.typing import ArrayLike

from napari_sam.annotation.asking import to_answer
from napari_sam.annotation.document import Document
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Look, SamObject, Source
from napari_sam.errors import PromptError
from napari_sam.inference.checks import numbers
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

if TYPE_CHECKING:
    from napari_sam.models.base import Embedding, PromptableModel

__all__ = [
    "Checked",
    "prompts_of_boxes",
    "prompts_of_masks",
    "prompts_of_points",
    "segment_many",
    "with_pixels",
]


class Checked(NamedTuple):
    """Prompts of many objects.

    Attributes
    ----------
    prompts : list of Prompts
        Of those that make sense for the image, in the given order.
    skipped : str
        A sentence about the others; empty if there are none.
    """

    prompts: list[Prompts]
    skipped: str


def prompts_of_points(xy: ArrayLike, size: tuple[int, int]) -> Checked:
    """One object for each point.

    Parameters
    ----------
    xy : array_like, shape (N, 2)
    size : tuple of int
        Height and width of the plane, in pixels.

    Raises
    ------
    PromptError
        If the array has another shape, or is not one of numbers.

    Examples
    --------
    >>> prompts_of_points([[3, 4], [9, 4]], (6, 6)).skipped
    '1 of 2 points was skipped: the point (9, 4) lies outside the image, which is 6 pixels wide and 6 high.'
    """
    points = numbers(xy, "Point coordinates")
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise PromptError(f"Points must have the shape (N, 2), one x and one y each, not {points.shape}.")
    return _checked("points", [partial(Prompts.create, size, points=[point]) for point in points])


def prompts_of_boxes(boxes: ArrayLike, size: tuple[int, int]) -> Checked:
    """One object for each box.

    Parameters
    ----------
    boxes : array_like, shape (N, 4)
        Two opposite corners each, x0, y0, x1, y1.
    size : tuple of int
        Height and width of the plane, in pixels.

    Raises
    ------
    PromptError
        If the array has another shape, or is not one of numbers.
    """
    corners = numbers(boxes, "Box coordinates")
    if corners.size and (corners.ndim != 2 or corners.shape[1] != 4):
        raise PromptError(f"Boxes must have the shape (N, 4), x0, y0, x1, y1 each, not {corners.shape}.")
    return _checked("boxes", [partial(Prompts.create, size, box=box) for box in corners])


def prompts_of_masks(masks: Iterable[Mask]) -> Checked:
    """One object for each mask, which is to be refined; empty ones are skipped."""
    return _checked("masks", [partial(Prompts.create, mask.shape, mask=mask) for mask in masks])


def _checked(what: str, asked: Sequence[Callable[[], Prompts]]) -> Checked:
    prompts: list[Prompts] = []
    reason = ""
    for create in asked:
        try:
            prompts.append(create())
        except PromptError as error:
            reason = reason or str(error)
    if not reason:
        return Checked(prompts, "")
    count = len(asked) - len(prompts)
    were = "was" if count == 1 else "were"
    return Checked(prompts, f"{count} of {len(asked)} {what} {were} skipped: {reason[0].lower()}{reason[1:]}")


def segment_many(
    model: PromptableModel,
    embedding: Embedding,
    prompts: Sequence[Prompts],
    plane: Plane,
    look: Look | None = None,
    *,
    source: Source = Source.CLICKED,
    class_id: int = 0,
) -> list[SamObject]:
    """Segment many objects of one plane.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
        Of this model and the plane.
    prompts : sequence of Prompts
        One per object.
    plane : Plane
    look : Look, optional
        How the plane was displayed when it was encoded.
    source : Source
    class_id : int

    Returns
    -------
    list of SamObject
        With prompts and answers, for :meth:`~napari_sam.annotation.Document.add_objects`. Those for which the
        model finds nothing are left out, so that there may be fewer than prompts.

    Raises
    ------
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    from napari_sam.inference.engine import segment_all

    return [
        SamObject(
            uid=0,
            id=0,
            class_id=class_id,
            source=source,
            prompts={plane: asked},
            answers={plane: to_answer(segment, asked, model, look)},
        )
        for segment, asked in zip(segment_all(model, embedding, prompts), prompts, strict=True)
        if not segment.mask.is_empty
    ]


def with_pixels(document: Document, drafts: Sequence[SamObject]) -> list[SamObject]:
    """Those of some drafts that will get a pixel, of what other objects and the other drafts leave.

    Parameters
    ----------
    document : Document
        Is not changed.
    drafts : sequence of SamObject
        For :meth:`~napari_sam.annotation.Document.add_objects`.
    """
    trial = Document.of(document.snapshot)
    trial.overwrite = document.overwrite
    return [draft for draft, item in zip(drafts, trial.add_objects(drafts), strict=True) if item.masks]
