"""All objects of one image, and the one that is being worked on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from psygnal import Signal, SignalGroup

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

__all__ = ["Annotation", "AnnotationEvents", "SamObject"]


@dataclass(eq=False)
class SamObject:
    """One thing being annotated. Change it through the :class:`Annotation` that holds it.

    Attributes
    ----------
    id : int
        Its value in the Labels layer.
    prompts : dict of Plane to Prompts
    masks : dict of Plane to Mask
    scores : dict of Plane to float
        The predicted IoU of each mask.
    accepted : bool
    """

    id: int
    prompts: dict[Plane, Prompts] = field(default_factory=dict)
    masks: dict[Plane, Mask] = field(default_factory=dict)
    scores: dict[Plane, float] = field(default_factory=dict)
    accepted: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a prompt nor a mask."""
        return not self.prompts and not self.masks


class AnnotationEvents(SignalGroup):
    """What an :class:`Annotation` tells those who show it."""

    mask_changed = Signal(SamObject, Plane)
    """The object's mask on the plane is another one, or gone."""

    current_changed = Signal(SamObject)
    """Work went on to this object."""


class Annotation:
    """The document: every change goes through a method, and is told by an event.

    Parameters
    ----------
    first_id : int, default 1
        Id of the first object; the following ones count up. Ids are never given out twice, except that a
        rejected object's id goes to the next one.

    Examples
    --------
    >>> import numpy as np
    >>> document = Annotation(first_id=8)
    >>> plane = Plane((None, None))
    >>> prompts = Prompts.create((4, 4), points=[[1, 2]])
    >>> document.set_prompts({plane: prompts})
    {Plane(index=(None, None))}
    >>> document.set_mask(document.current, plane, Mask.from_array(np.eye(4)), 0.9)
    True
    >>> document.accept().id, document.current.id
    (8, 9)
    """

    events_class: ClassVar[type[AnnotationEvents]] = AnnotationEvents

    def __init__(self, first_id: int = 1) -> None:
        self.events = self.events_class()
        self._accepted: list[SamObject] = []
        self._current = SamObject(first_id)

    @property
    def current(self) -> SamObject:
        """The object that is being worked on."""
        return self._current

    @property
    def objects(self) -> list[SamObject]:
        """The accepted objects in order of their ids, and the current one if it has prompts or masks."""
        return [*self._accepted, *([] if self._current.is_empty else [self._current])]

    def __contains__(self, item: object) -> bool:
        return item is self._current or any(item is one for one in self._accepted)

    def set_prompts(self, prompts: Mapping[Plane, Prompts]) -> set[Plane]:
        """Replace all prompts of the current object.

        Returns
        -------
        set of Plane
            The planes on which they are not what they were.
        """
        old, new = self._current.prompts, dict(prompts)
        self._current.prompts = new
        return {plane for plane in old.keys() | new.keys() if not _same(old.get(plane), new.get(plane))}

    def set_mask(self, item: SamObject, plane: Plane, mask: Mask | None, score: float = 0.0) -> bool:
        """Set an object's mask on one plane; None or an empty mask takes it away.

        Returns
        -------
        bool
            False if the object was rejected meanwhile, and nothing was done.
        """
        if item not in self:
            return False
        if mask is None or mask.is_empty:
            if item.masks.pop(plane, None) is None:
                return True
            item.scores.pop(plane)
        else:
            item.masks[plane], item.scores[plane] = mask, score
        self.events.mask_changed.emit(item, plane)
        return True

    def accept(self) -> SamObject:
        """Keep the current object and go on to the next; returns the one that was kept.

        Raises
        ------
        ValueError
            If the current object has neither prompts nor masks.
        """
        item = self._current
        if item.is_empty:
            raise ValueError("There is nothing to accept: prompt an object first.")
        item.accepted = True
        self._accepted.append(item)
        self._start(item.id + 1)
        return item

    def reject(self) -> None:
        """Forget the current object's masks and prompts; its id goes to the next one."""
        item = self._current
        for plane in list(item.masks):
            self.set_mask(item, plane, None)
        self._start(item.id)

    def _start(self, number: int) -> None:
        self._current = SamObject(number)
        self.events.current_changed.emit(self._current)


def _same(a: Prompts | None, b: Prompts | None) -> bool:
    """Whether two prompts ask for the same."""
    if a is None or b is None:
        return a is b
    return (
        np.array_equal(a.points, b.points)
        and np.array_equal(a.labels, b.labels)
        and (a.box is b.box or (a.box is not None and b.box is not None and np.array_equal(a.box, b.box)))
    )
