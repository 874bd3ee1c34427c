"""The part of a document for objects on many planes: what was carried over, and who came from whom."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from napari_sam.annotation.dividing import followed_parts
from napari_sam.annotation.editing import closed, from_masks
from napari_sam.annotation.lineage import ancestors
from napari_sam.annotation.placing import Placing
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.propagating import carried_over, is_annotated
from napari_sam.annotation.records import Answer, HandEdit, SamObject
from napari_sam.annotation.series import Series
from napari_sam.annotation.state import Key
from napari_sam.annotation.timeline import named
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask

__all__ = ["Tracking"]

_Value = TypeVar("_Value")


class Tracking(Placing):
    """Objects that reach through many planes; the parameters are those of a timeline."""

    def put_propagated(
        self,
        masks: Mapping[int, Mapping[Plane, Answer | None]],
        text: str = "Propagate",
        gesture: Hashable = None,
    ) -> None:
        """Give objects masks that were carried over from other planes of theirs.

        Where an object is annotated by now (see :class:`~napari_sam.annotation.propagating.PlaneState`), it
        is left alone. Objects that are gone are skipped; those that are accepted remain so. Of pixels that
        several of them claim on a plane, the first gets them; others keep theirs unless `overwrite` is on.

        Parameters
        ----------
        masks : mapping of int to (mapping of Plane to (Answer or None))
            By uid. None: the object is not there, and what was carried over there earlier is taken away.
        text : str
        gesture : hashable, optional
            Joined to the step before if that was of the same gesture: all planes of one propagation.

        Examples
        --------
        >>> import numpy as np
        >>> from napari_sam.annotation import Document
        >>> dot = Answer(((Mask((1, 1), np.ones((1, 1), dtype=bool), (4, 4)), 0.9),))
        >>> planes = [Plane((z, None, None)) for z in range(3)]
        >>> document = Document((3, 4, 4))
        >>> (item,) = document.add_objects([SamObject(0, 0, base={planes[0]: dot})])
        >>> document.put_propagated({item.uid: {planes[1]: dot, planes[2]: dot}})
        >>> document.get(item.uid).area, document.undo(), document.get(item.uid).area
        (3, 'Propagate', 1)
        """
        wanted = {}
        for uid, on in masks.items():
            item = self._state.objects.get(uid)
            if item is None:
                continue
            new = {p: _propagated(answer) for p, answer in on.items() if not is_annotated(item, p)}
            new = {p: answer for p, answer in new.items() if answer != item.base.get(p)}
            if new:
                wanted[uid] = item, new
        if not wanted:
            return
        with self.step(text, gesture):
            if len(wanted) > 1:
                # What was carried over earlier is in nobody's way.
                for uid, (_, new) in wanted.items():
                    item = self._state.objects[uid]
                    old = new.keys() & item.base.keys()
                    self._change(_with_base(item, dict.fromkeys(old)), old, nothing_else=True)
            # Who takes pixels from others has them in the end: the first comes last.
            order = reversed(wanted.items()) if self.overwrite else wanted.items()
            for uid, (before, new) in order:
                # It may have had nothing else.
                item = self._state.objects.get(uid) or replace(before, masks={}, taken={})
                self._change(_with_base(item, new), new, nothing_else=True)

    def divide(self, uid: int, plane: Plane, axis: int | None = None) -> list[SamObject]:
        """End an object where it has divided: each of its parts there goes on as an object, its child.

        As if a hand had erased them, the object is said not to be there any more, and its children not to
        be there yet: that is where a propagation of them ends.

        Parameters
        ----------
        uid : int
        plane : Plane
            The first one on which there are several parts; its place along the axis counts. What the object
            is before that remains. See :func:`~napari_sam.annotation.dividing.followed_parts` for how parts
            are followed.
        axis : int, optional
            Of the image, usually time; see :meth:`~napari_sam.annotation.series.Series.through`.

        Returns
        -------
        list of SamObject
            The children, the largest first. They are accepted, and so is the object.

        Raises
        ------
        AnnotationError
            If there is no such object, it is one part only there, or not there or not before that, or
            planes do not follow each other along the axis.
        """
        item = self._closed(uid)
        series = Series.through(plane, self.shape, axis)
        axis = series.axis
        if axis >= len(self.shape) - 2:
            raise AnnotationError("Objects divide along the axes before the last two: choose one of these.")
        begin = plane.index[axis]
        assert begin is not None
        where = f"plane {begin} along axis {axis}"
        after = {p: m for p, m in item.masks.items() if _along(p, axis) >= begin}
        before = {p: m for p, m in item.masks.items() if p not in after}
        if not any(_along(p, axis) == begin for p in after):
            raise AnnotationError(f"Object {item.id} is not on {where}: go to where it has several parts.")
        if not before:
            raise AnnotationError(f"Object {item.id} begins on {where}: split it instead.")
        parts = followed_parts(after, axis)
        if len(parts) < 2:
            raise AnnotationError(
                f"Object {item.id} has one part only on {where}: go to where it has several."
            )
        with self.step(f"Divide object {item.id}"):
            ended = _ended(item, before, axis, begin)
            first = {p: m for p, m in after.items() if _along(p, axis) == begin}
            gone = _erased({**before, **first}, axis, begin)
            self._put(uid, replace(ended, hand={**ended.hand, **gone}))
            self._raise_next_id(item.id)
            painted = {p: edit.added for p, edit in item.hand.items()}
            end = max(_along(p, axis) for p in before)
            last = {p: m for p, m in before.items() if _along(p, axis) == end}
            # What the user has looked at is annotated.
            known = {p for p in carried_over(item) if p in after and _along(p, axis) > begin}
            children = []
            for number, masks in enumerate(parts, self._free_id):
                child = replace(item, uid=self._new_uid(), id=number, accepted=True, parent=uid)
                child = from_masks(child, masks, painted, known)
                child = replace(child, hand={**child.hand, **_erased({**masks, **last}, axis, end)})
                self._put(child.uid, child)
                children.append(child)
            self._raise_next_id(children[-1].id)
            if uid == self._state.values[Key.CURRENT]:
                self._start()
        return children

    def set_parent(self, uids: Iterable[int], parent: int) -> None:
        """Say which object others came from.

        Parameters
        ----------
        uids : iterable of int
        parent : int
            Its uid; 0 for none.

        Raises
        ------
        AnnotationError
            If one of them does not exist, or would descend from itself.
        """
        mother = None if parent == 0 else self._found(parent)
        items = [item for uid in dict.fromkeys(uids) if (item := self._found(uid)).parent != parent]
        if not items:
            return
        line = {parent, *ancestors(self._state.objects, parent)}
        for item in items:
            if item.uid in line and mother is not None:
                raise AnnotationError(
                    f"Object {mother.id} is object {item.id} or descends from it, and cannot be its parent."
                )
        with self.step(f"{named('Parent of', items)}: {'none' if mother is None else mother.id}"):
            for item in items:
                self._descend(item, parent)

    def parent_of(self, uid: int) -> SamObject | None:
        """The object that another one came from; None if there is none, or it is gone.

        Raises
        ------
        AnnotationError
            If there is no object with this uid.
        """
        return self._state.objects.get(self._found(uid).parent)

    def children_of(self, uid: int) -> list[SamObject]:
        """The objects that came from another one, in order of their ids.

        Raises
        ------
        AnnotationError
            If there is no object with this uid.
        """
        uid = self._found(uid).uid
        return [item for item in self.objects if item.parent == uid]

    def _adopt(self, uid: int, gone: Collection[int]) -> None:
        """Let the children of objects that are gone be those of another one."""
        for item in [one for one in self._state.objects.values() if one.parent in gone]:
            self._descend(item, uid)

    def _closed(self, uid: int) -> SamObject:
        """An object as it is when nobody works on it any more."""
        item, opened = self._found(uid), self.opened
        return closed(item, opened) if opened is not None and opened.uid == uid else item

    def _descend(self, item: SamObject, parent: int) -> None:
        self._put(item.uid, replace(item, parent=parent))
        # Who came from whom is not what is rejected when work on an object is.
        if self.opened is not None and self.opened.uid == item.uid:
            self._put(Key.OPENED, replace(self.opened, parent=parent))


def _propagated(answer: Answer | None) -> Answer | None:
    if answer is None or answer.mask.is_empty:
        return None
    return replace(answer, prompts=None, propagated=True)


def _with_base(item: SamObject, new: Mapping[Plane, Answer | None]) -> SamObject:
    # The other planes, hundreds of them, are copied without being looked at.
    base = dict(item.base)
    for plane, answer in new.items():
        if answer is None:
            base.pop(plane, None)
        else:
            base[plane] = answer
    return replace(item, base=base)


def _along(plane: Plane, axis: int) -> int:
    at = plane.index[axis]
    assert at is not None
    return at


def _erased(masks: Mapping[Plane, Mask], axis: int, at: int) -> dict[Plane, HandEdit]:
    """What a hand did that erased an object at a position along an axis, on all planes that lead there.

    Where it has no pixels at that position, those of the nearest one stand for them: a propagation from there
    is to end, too.
    """
    nearest: dict[Plane, Mask] = {}
    for plane in sorted(masks, key=lambda p: abs(_along(p, axis) - at), reverse=True):
        nearest[Plane((*plane.index[:axis], at, *plane.index[axis + 1 :]))] = masks[plane]
    return {p: HandEdit(Mask.empty(mask.shape), mask) for p, mask in nearest.items()}


def _ended(item: SamObject, masks: Mapping[Plane, Mask], axis: int, end: int) -> SamObject:
    """An object that is there before a position only, with its masks before that."""
    planes = item.prompts.keys() | item.answers.keys() | item.base.keys()
    if any(plane.index[axis] is None for plane in planes):
        # What is on such planes cannot be cut.
        painted = {p: edit.added for p, edit in item.hand.items()}
        return replace(from_masks(item, masks, painted, carried_over(item)), accepted=True)

    def kept(values: Mapping[Plane, _Value]) -> dict[Plane, _Value]:
        return {p: value for p, value in values.items() if _along(p, axis) < end}

    return replace(
        item,
        accepted=True,
        prompts=kept(item.prompts),
        answers=kept(item.answers),
        base=kept(item.base),
        hand=kept(item.hand),
        masks=masks,
        taken={},
    )
