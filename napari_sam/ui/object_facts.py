"""What is known of objects, for a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from napari_sam.annotation import SamObject
from napari_sam.inference.mask import box_around
from napari_sam.ui.object_columns import Row

__all__ = ["row_of"]


def row_of(
    item: SamObject,
    class_names: Mapping[int, str],
    colour_of: Callable[[int], tuple[float, float, float, float]],
    current: int,
    pixel: float | None = None,
) -> Row:
    """What the table says of an object.

    Parameters
    ----------
    item : SamObject
    class_names : mapping of int to str
    colour_of : callable
        Gives the colour of an id: red, green, blue and opacity, from 0 to 1.
    current : int
        The uid of the object that is being worked on.
    pixel : float, optional
        The area of a pixel in physical units.
    """
    rows, columns = box_around(*item.masks.values())
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    area = item.area
    return Row(
        uid=item.uid,
        id=item.id,
        class_name=class_names.get(item.class_id, ""),
        colour=colour_of(item.id),
        area=area,
        score=item.score,
        source=str(item.source),
        state="accepted" if item.accepted else ("current" if item.uid == current else "open"),
        size=None if pixel is None else area * pixel,
        box=box if item.masks else None,
        planes=len(item.masks),
        stability=_stability(item),
    )


def _stability(item: SamObject) -> float | None:
    """The mean over the planes where it was measured."""
    answers = {**item.base, **item.answers}.values()
    known = [answer.stability for answer in answers if answer.stability is not None]
    return sum(known) / len(known) if known else None
