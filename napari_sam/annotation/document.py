"""The document: all objects of one image, changed by commands that can be undone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation import editing
from napari_sam.annotation.correcting import mask_on
from napari_sam.annotation.history import Step
from napari_sam.annotation.lineage import parent_of_merged
from napari_sam.annotation.overlap import fitted
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.propagating import carried_over
from napari_sam.annotation.records import GREATEST_ID, Answer, SamObject, Source
from napari_sam.annotation.state import Key
from napari_sam.annotation.territory import Box
from napari_sam.annotation.timeline import named
from napari_sam.annotation.tracking import Tracking
from napari_sam.errors import AnnotationError
from napari_sam.inference.prompts import Prompts

__all__ = ["Document"]


class Document(Tracking):
    """Objects with their prompts and masks, classes, and the history. Knows neither images nor models.

    Every method that changes something is one step of the history, and says what changed through `changed`.
    One object is the *current* one: prompts go to it. It is part of the document from its first prompt
    on, is accepted at last, and can be opened again at any time.

    Not thread-safe: use it from one thread. What it holds is immutable, and can be read by others.

    Parameters
    ----------
    shape : sequence of int
        Of the image, in pixels, without colours.
    first_id : int, default 1
        Id of the first object; the following ones count up. Ids are never given out twice, except that a
        rejected object's id goes to the next one.
    history_bytes : int
        Memory for masks that only the history still holds.

    Attributes
    ----------
    overwrite : bool
        Whether objects take pixels from those that are there; False to begin with.
    new_class : int
        The class of objects that are begun from now on; 0 (none) to begin with.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.inference.mask import Mask
    >>> document = Document((4, 4), first_id=8)
    >>> plane = Plane((None, None))
    >>> prompts = Prompts.create((4, 4), points=[[1, 2]])
    >>> document.set_prompts({plane: prompts}, "Add point")
    {Plane(index=(None, None))}
    >>> document.answer(1, plane, Answer(((Mask.from_array(np.eye(4)), 0.9),), prompts=prompts))
    True
    >>> document.accept().id, document.current.id
    (8, 9)
    >>> document.undo(), document.current.id
    ('Accept object 8', 8)
    >>> document.undo(), document.objects
    ('Add point', [])
    """

    # Prompts and answers

    def set_prompts(
        self, prompts: Mapping[Plane, Prompts], text: str = "Change prompts", gesture: Hashable = None
    ) -> set[Plane]:
        """Replace what the user drew for the current object.

        Where the object has a mask that came from elsewhere, or is being refined, that mask stays part of the
        prompts.

        Returns
        -------
        set of Plane
            The planes on which the prompts are not what they were.
        """
        item = self.current
        new: dict[Plane, Prompts] = {}
        for plane in prompts.keys() | item.prompts.keys():
            drawn = editing.with_mask_prompt(item, plane, prompts.get(plane))
            if drawn is not None:
                new[plane] = editing.sharing(drawn, item.prompts.get(plane))
        changed = {p for p in new.keys() | item.prompts.keys() if new.get(p) != item.prompts.get(p)}
        if changed:
            with self.step(text, gesture):
                self._ask(item, new, changed)
        return changed

    def refine(self, plane: Plane, mask: Any = None, text: str = "Refine mask") -> bool:
        """Ask the model for a better mask than the current one on a plane: it becomes the only prompt.

        Parameters
        ----------
        plane : Plane
        mask : Mask, optional
            Another mask to begin with.

        Returns
        -------
        bool
            False if there is no mask to begin with.
        """
        item = self.current
        if mask is None:
            mask = item.masks.get(plane) or mask_on(item, plane)
        if mask is None or mask.is_empty:
            return False
        base, answers = dict(item.base), item.answers
        if plane in base:
            # The whole mask is in question now. What is there, corrections and all, stays until there is
            # something better.
            imported, shown = base.pop(plane), mask_on(item, plane)
            before = item.answers.get(plane, imported)
            assert shown is not None
            meanwhile = replace(before, candidates=((shown, before.score),), chosen=0, propagated=False)
            answers = {**item.answers, plane: meanwhile}
        with self.step(text):
            prompts = {**item.prompts, plane: Prompts.create(mask.shape, mask=mask)}
            self._ask(replace(item, base=base, answers=answers), prompts, {plane})
        return True

    def _ask(self, item: SamObject, prompts: Mapping[Plane, Prompts], changed: set[Plane]) -> None:
        answers = {
            p: a
            for p, a in item.answers.items()
            if p not in changed or (p in prompts and prompts[p].selects_something)
        }
        self._change(replace(item, prompts=prompts, answers=answers), item.answers.keys() - answers.keys())

    def answer(self, uid: int, plane: Plane, answer: Answer) -> bool:
        """Take the model's answer to prompts; it joins the newest step.

        Returns
        -------
        bool
            False if nobody waits for it any more, and nothing was done.
        """
        item = self._state.objects.get(uid)
        if item is None or plane not in item.prompts:
            return False
        if answer.prompts == item.prompts[plane]:
            answer = replace(answer, prompts=item.prompts[plane])
        elif not item.is_stale(plane):
            return False
        before = item.answers.get(plane)
        # Of a mask that came from elsewhere, an answer changes what is prompted: other prompts, other pixels.
        same = (
            before is not None
            and before.mask == answer.mask
            and (plane not in item.base or before.prompts == answer.prompts)
        )
        late = self._step is None
        if late:
            self._step = Step("")
        try:
            # The newest comes last.
            answers = {p: a for p, a in item.answers.items() if p != plane}
            self._change(replace(item, answers={**answers, plane: answer}), () if same else (plane,))
        finally:
            if late:
                assert self._step is not None
                changes, self._step = self._step.changes, None
                self._history.record_late(changes)
                self._tell()
        return True

    def choose(self, plane: Plane, index: int) -> None:
        """Take another candidate of the current object's answer on a plane.

        Raises
        ------
        AnnotationError
            If there is no such candidate.
        """
        item = self.current
        answer = item.answers.get(plane)
        if answer is None or not 0 <= index < len(answer.candidates):
            raise AnnotationError(f"Object {item.id} has no candidate {index + 1} on plane {plane}.")
        if index != answer.chosen:
            with self.step("Choose another candidate"):
                new = replace(answer, chosen=index)
                self._change(replace(item, answers={**item.answers, plane: new}), (plane,))

    # Deciding

    def accept(self) -> SamObject:
        """Keep the current object and go on to the next; returns the one that was kept.

        Raises
        ------
        AnnotationError
            If the current object has neither prompts nor masks.
        """
        item = self.current
        if item.is_empty:
            raise AnnotationError("There is nothing to accept: prompt an object first.")
        with self.step(f"Accept object {item.id}"):
            self._accept(item)
            self._start()
        return self._state.objects[item.uid]

    def _accept(self, item: SamObject) -> None:
        self._put(item.uid, replace(self._closed(item.uid), accepted=True, taken={}))
        self._raise_next_id(item.id)

    def reject(self) -> None:
        """Forget the current object, or what was done to it since it was opened again.

        The id of one that is forgotten goes to the next one.
        """
        item = self.current
        opened = self.opened
        if opened is None and item.uid not in self._state.objects:
            return
        with self.step(
            f"Reject object {item.id}" if opened is None else f"Reject changes of object {item.id}"
        ):
            self._withdraw(item)
            if opened is not None:
                # What it had is free now, unless somebody took it meanwhile.
                for one in fitted(self._state, replace(opened, masks={}), opened.masks, overwrite=False):
                    kept = replace(one, masks={p: m & opened.masks[p] for p, m in one.masks.items()})
                    kept = replace(kept, masks={p: m for p, m in kept.masks.items() if not m.is_empty})
                    self._put(one.uid, kept if one.uid == opened.uid else one)
            self._start()

    def _withdraw(self, item: SamObject) -> None:
        """Take an object away, and give back what it took."""
        bare = replace(item, prompts={}, answers={}, base={}, hand={})
        for one in fitted(self._state, bare, set(item.masks), overwrite=self.overwrite):
            if one.uid != item.uid:
                self._put(one.uid, one)
        if item.uid in self._state.objects:
            self._put(item.uid, None)

    def open(self, uid: int) -> SamObject:
        """Go back to an object: it becomes the current one. The current one before is accepted.

        Raises
        ------
        AnnotationError
            If there is no such object.
        """
        item = self._found(uid)
        if uid == self.current.uid:
            return item
        with self.step(f"Open object {item.id}"):
            if self.current.uid in self._state.objects:
                self._accept(self.current)
            self._put(Key.OPENED, item)
            self._put(Key.CURRENT, uid)
            self._put(uid, editing.reopened(item))
        return self._state.objects[uid]

    def delete(self, uids: Iterable[int]) -> None:
        """Delete objects.

        Raises
        ------
        AnnotationError
            If one of them does not exist.
        """
        items = [self._found(uid) for uid in dict.fromkeys(uids)]
        if not items:
            return
        with self.step(named("Delete", items)):
            for item in items:
                self._withdraw(item)
                self._raise_next_id(item.id)
                if item.uid == self._state.values[Key.CURRENT]:
                    self._start()

    def merge(self, uids: Iterable[int]) -> SamObject:
        """Make one object of several; it has the id of the first.

        Raises
        ------
        AnnotationError
            If there are fewer than two, one of them does not exist, or none has a pixel.
        """
        items = [self._closed(uid) for uid in dict.fromkeys(uids)]
        if len(items) < 2:
            raise AnnotationError("Choose at least two objects to merge.")
        merged = editing.with_lent(editing.merged(items), items, self.current)
        if merged.is_empty:
            raise AnnotationError("None of the objects has a pixel: choose some that have.")
        merged = replace(merged, parent=parent_of_merged(self._state.objects, items))
        with self.step(named("Merge", items)):
            for item in items[1:]:
                self._put(item.uid, None)
                self._raise_next_id(item.id)
            self._put(merged.uid, merged)
            gone = {item.uid for item in items[1:]}
            self._adopt(merged.uid, gone)
            if self.current.taken:
                self._put(self.current.uid, editing.owed_to(merged.uid, gone, self.current))
            if self._state.values[Key.CURRENT] in {item.uid for item in items}:
                self._raise_next_id(merged.id)
                self._start()
        return merged

    def split(self, uid: int) -> list[SamObject]:
        """Make an object of each of its separate parts; the largest keeps the id.

        Raises
        ------
        AnnotationError
            If there is no such object, or it has one part only.
        """
        item = self._closed(uid)
        parts = editing.parts(item)
        if len(parts) < 2:
            raise AnnotationError(f"Object {item.id} has one part only: there is nothing to split.")
        with self.step(f"Split object {item.id}"):
            number = self._free_id
            painted = {plane: edit.added for plane, edit in item.hand.items()}
            known = carried_over(item)
            whole = replace(editing.from_masks(item, parts[0], painted, known), accepted=True)
            whole = editing.with_lent(whole, [item], self.current)
            self._put(item.uid, whole)
            made = [whole]
            for masks in parts[1:]:
                part = replace(whole, uid=self._new_uid(), id=number)
                part = editing.from_masks(part, masks, painted, known)
                self._put(part.uid, part)
                made.append(part)
                number += 1
            self._raise_next_id(number - 1)
            if item.uid == self._state.values[Key.CURRENT]:
                self._start()
        return made

    # Many at once

    def add_objects(
        self,
        drafts: Sequence[SamObject],
        text: str = "Add objects",
        *,
        keep_ids: bool = False,
        class_name: str | None = None,
    ) -> list[SamObject]:
        """Add accepted objects with prompts and answers, or with masks that came from elsewhere, in one step.

        Parameters
        ----------
        drafts : sequence of SamObject
            Their class if there is such a one, source, prompts, answers, base count; uids and masks are given
            here. An object that comes earlier keeps the pixels that it shares with a later one, unless
            `overwrite` is on.
        text : str
        keep_ids : bool, default False
            Keep their ids; else they count up.
        class_name : str, optional
            The class of all of them, made if it is new.

        Raises
        ------
        AnnotationError
            If an id that is to be kept is taken, 0 or too large, or a class cannot have this name; nothing is
            changed then.
        """
        if not drafts:
            return []
        if keep_ids:
            taken = any(self._state.with_id(d.id) is not None for d in drafts)
            if taken or len({d.id for d in drafts}) < len(drafts):
                raise AnnotationError("Some of the ids are taken: let the objects get new ones.")
            if any(draft.id == 0 for draft in drafts):
                raise AnnotationError("The id 0 is background: let the objects get new ones.")
            if (greatest := max(draft.id for draft in drafts)) > GREATEST_ID:
                raise AnnotationError(f"The id {greatest} is too large: let the objects get new ones.")
        added: list[int] = []
        with self.step(text):
            class_id = None if class_name is None else self.class_named(class_name)
            known = {0, *(one.id for one in self.classes)}
            first = self._free_id
            ids = [draft.id for draft in drafts] if keep_ids else range(first, first + len(drafts))
            self._raise_next_id(max(ids))
            for number, draft in zip(ids, drafts, strict=True):
                wanted = draft.class_id if class_id is None else class_id
                item = replace(
                    draft,
                    uid=self._new_uid(),
                    id=number,
                    class_id=wanted if wanted in known else 0,
                    accepted=True,
                    hand={},
                    masks={},
                    taken={},
                    parent=0,
                )
                self._change(item, {**item.base, **item.answers})
                added.append(item.uid)
        return [self._state.objects[uid] for uid in added]

    def paint(self, plane: Plane, box: Box, values: NDArray[np.integer], gesture: Hashable = None) -> bool:
        """Take over what a hand painted: from now on, a box of pixels has these ids.

        Ids without an object become objects; what was painted or erased so holds whatever a model says.

        Parameters
        ----------
        plane : Plane
            Of the last two axes.
        box : tuple of slice
            Rows and columns.
        values : ndarray, shape of the box, int
            Ids, 0 for background.
        gesture : hashable, optional
            Joined to the step before if that was of the same gesture: a stroke.

        Returns
        -------
        bool
            Whether anything is different.
        """
        edits = editing.painted(self._state, self.current, plane, box, values)
        if not edits:
            return False
        erased = not values[values != self.labels_in(plane, box)].any()
        with self.step("Erase" if erased else "Paint", gesture):
            for item in edits:
                if item.uid == 0:
                    made = replace(item, uid=self._new_uid(), source=Source.PAINTED, accepted=True)
                    self._put(made.uid, made)
                    self._raise_next_id(made.id)
                else:
                    self._store(item)
        return True
