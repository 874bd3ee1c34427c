"""Objects out of JSON. Whatever is not as an object has to be is an :class:`AnnotationError`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.fields import Field
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, HandEdit, Look, SamObject, Source
from napari_sam.annotation.territory import is_canonical
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import Scribble

__all__ = ["AS_DRAWN", "Reader", "planes_of", "read_limits"]

AS_DRAWN = "as drawn"
"""Instead of an answer's prompts: they are those that the object has on that plane."""
_LOGITS = (256, 256)


def planes_of(items: Field, shape: tuple[int, ...], *, canonical: bool = False) -> dict[Plane, Field]:
    """The items of a list by the planes that they name.

    Parameters
    ----------
    items : Field
    shape : tuple of int
        Of the image, without colours.
    canonical : bool, default False
        Only planes of the last two axes are allowed.

    Raises
    ------
    AnnotationError
        If one of them is not a plane of the image, or there twice.
    """
    result: dict[Plane, Field] = {}
    for item in items:
        where = item["plane"]
        index = tuple(None if one.value is None else one.whole(0) for one in where)
        inside = len(index) == len(shape) and all(
            at is None or at < length for at, length in zip(index, shape, strict=True)
        )
        if not inside or sum(at is None for at in index) != 2:
            where.fail(f"not a plane of an image of shape {shape}")
        plane = Plane(index)
        if canonical and not is_canonical(plane):
            where.fail("not a plane of the last two axes")
        if plane in result:
            where.fail("there twice")
        result[plane] = item
    return result


class Reader:
    """Reads objects whose masks are in one table.

    Parameters
    ----------
    shape : tuple of int
        Of the image, without colours.
    masks : sequence of Mask
        By number.
    """

    def __init__(self, shape: tuple[int, ...], masks: Sequence[Mask]) -> None:
        self.shape = shape
        self.masks = masks

    def object(self, item: Field) -> SamObject:
        """An object.

        Raises
        ------
        AnnotationError
            If it is none.
        """
        shape = self.shape
        prompts = {p: self._prompts(f, p) for p, f in planes_of(item["prompts"], shape).items()}
        answers = {p: self._answer(f, p, prompts) for p, f in planes_of(item["answers"], shape).items()}
        base = {p: self._answer(f, p, prompts) for p, f in planes_of(item["base"], shape).items()}
        hand = planes_of(item["hand"], shape, canonical=True)
        masks = planes_of(item["masks"], shape, canonical=True)
        taken = planes_of(item["taken"], shape, canonical=True)
        try:
            source = Source(item["source"].text())
        except ValueError:
            item["source"].fail("an unknown source")
        number, parent = item["id"].whole(), item.get("parent")
        if number == 0:
            item["id"].fail("0 is background")
        return SamObject(
            uid=item["uid"].whole(0),
            id=number,
            class_id=item["class"].whole(0),
            source=source,
            accepted=item["accepted"].flag(),
            prompts=prompts,
            answers=answers,
            base=base,
            hand={
                p: HandEdit(self._mask(f["added"], p), self._mask(f["removed"], p)) for p, f in hand.items()
            },
            masks={p: self._mask(f["mask"], p, some=True) for p, f in masks.items()},
            taken={p: self._lent(f["from"], p) for p, f in taken.items()},
            parent=0 if parent is None else parent.whole(0),
        )

    def _mask(self, item: Field, plane: Plane, *, some: bool = False) -> Mask:
        mask = self.masks[item.whole(0, len(self.masks) - 1)]
        if mask.shape != plane.size_in(self.shape):
            item.fail(f"a mask of another size than plane {plane}")
        if some and mask.is_empty:
            item.fail("an empty mask")
        return mask

    def _lent(self, items: Field, plane: Plane) -> Mapping[int, Mask]:
        return {item["uid"].whole(0): self._mask(item["mask"], plane, some=True) for item in items}

    def _prompts(self, item: Field, plane: Plane) -> Prompts:
        points, labels = item["points"].array(-1, 2), item["labels"].array(-1)
        if len(points) != len(labels) or not np.isin(labels, (0, 1)).all():
            item["labels"].fail("not 0 or 1 for each point")
        box, logits, mask, lasso, scribbles = map(item.get, ("box", "logits", "mask", "lasso", "scribbles"))
        prompts = Prompts(
            points=points,
            labels=labels.astype(np.int64),
            box=None if box is None else _box(box),
            mask_input=None if logits is None else _logits(logits),
            mask=None if mask is None else self._mask(mask, plane, some=True),
            scribbles=() if scribbles is None else tuple(_scribble(one) for one in scribbles),
            lasso=None if lasso is None else _path(lasso, 3),
        )
        if not len(points) and not prompts.scribbles and prompts.has_points_alone:
            item.fail("prompts without anything")
        return prompts

    def _answer(self, item: Field, plane: Plane, drawn: Mapping[Plane, Prompts]) -> Answer:
        candidates = []
        for one in item["candidates"]:
            score = one.get("score")
            candidates.append(
                (self._mask(one["mask"], plane), None if score is None else score.number(finite=False))
            )
        if not candidates:
            item["candidates"].fail("none")
        asked, limits = item.get("prompts"), item.get("contrast_limits")
        stability, propagated = item.get("stability"), item.get("propagated")
        prompts = None
        if asked is not None:
            prompts = drawn.get(plane) if asked.value == AS_DRAWN else self._prompts(asked, plane)
            if prompts is None:
                asked.fail("nothing is drawn there")
        look = Look(None if limits is None else read_limits(limits), item["gamma"].number(finite=False))
        return Answer(
            candidates=tuple(candidates),
            chosen=item["chosen"].whole(0, len(candidates) - 1),
            prompts=prompts,
            model=item["model"].text(),
            digest=item["digest"].text(),
            look=look,
            stability=None if stability is None else stability.number(finite=False),
            propagated=propagated is not None and propagated.flag(),
        )


def _box(item: Field) -> NDArray[np.float64]:
    box = item.array(4)
    if box[0] >= box[2] or box[1] >= box[3]:
        item.fail("not x0, y0, x1, y1 in rising order")
    return box


def _path(item: Field, least: int) -> NDArray[np.float64]:
    path = item.array(-1, 2)
    if len(path) < least:
        item.fail("too few vertices")
    return path


def _scribble(item: Field) -> Scribble:
    return Scribble(_path(item["path"], 1), item["label"].whole(0, 1))


def _logits(item: Field) -> NDArray[np.float32]:
    try:
        data = base64.b64decode(item.text(), validate=True)
    except (ValueError, binascii.Error):
        item.fail("not base64")
    if len(data) != 4 * _LOGITS[0] * _LOGITS[1]:
        item.fail(f"not {_LOGITS[0]} x {_LOGITS[1]} float32")
    logits = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(_LOGITS)
    if not np.isfinite(logits).all():
        item.fail("not finite numbers")
    return logits


def read_limits(item: Field) -> tuple[float, float]:
    """Two numbers, finite or not."""
    values = [one.number(finite=False) for one in item]
    if len(values) != 2:
        item.fail("not two numbers")
    return values[0], values[1]
