"""What an annotation is made of: values that are never changed, only replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

__all__ = ["GREATEST_ID", "Answer", "HandEdit", "Look", "ObjectClass", "SamObject", "Source", "held_apart"]

SMALL = 256
"""Arrays of prompts up to so many bytes are not counted one by one: a few points, a short line."""
GREATEST_ID = 2**62 - 1
"""Of an object. Arrays of ids are signed and have 64 bits, and there is always one more."""


class Source(StrEnum):
    """Where an object came from."""

    CLICKED = "clicked"
    AUTOMATIC = "automatic"
    PROPAGATED = "propagated"
    IMPORTED = "imported"
    PAINTED = "painted"


@dataclass(frozen=True, slots=True)
class Look:
    """How a plane was displayed when a model saw it.

    Attributes
    ----------
    contrast_limits : tuple of float, or None
        None for those that :func:`napari_sam.inference.image.as_rgb` chooses.
    gamma : float
    """

    contrast_limits: tuple[float, float] | None = None
    gamma: float = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A mask of one plane, as a model or another program gave it.

    Attributes
    ----------
    candidates : tuple of (Mask, float or None)
        What there is to choose from, each with its predicted IoU if a model gave one; at least one.
    chosen : int
        Which of them counts.
    prompts : Prompts or None
        What was asked; None for a mask that nobody prompted.
    model, digest : str
        Which model answered, and the checksum of its weights; empty for other programs.
    look : Look
        How the plane was displayed.
    stability : float or None
        Of the mask, if it was measured: the IoU of what a higher and a lower threshold would give.
    propagated : bool
        Whether it was carried over from another plane, and may be replaced when that is done again.
    """

    candidates: tuple[tuple[Mask, float | None], ...]
    chosen: int = 0
    prompts: Prompts | None = None
    model: str = ""
    digest: str = ""
    look: Look = Look()
    stability: float | None = None
    propagated: bool = False

    @property
    def mask(self) -> Mask:
        """The mask that counts."""
        return self.candidates[self.chosen][0]

    @property
    def score(self) -> float | None:
        """Its predicted IoU."""
        return self.candidates[self.chosen][1]

    @property
    def nbytes(self) -> int:
        """Memory of the masks, in bytes."""
        return sum(mask.nbytes for mask, _ in self.candidates)


@dataclass(frozen=True, slots=True)
class HandEdit:
    """What a brush did to one object on one plane; it holds whatever a model says.

    Attributes
    ----------
    added, removed : Mask
    """

    added: Mask
    removed: Mask

    @classmethod
    def none(cls, shape: tuple[int, int]) -> HandEdit:
        """Nothing was painted on a plane of `shape` (height, width)."""
        return cls(Mask.empty(shape), Mask.empty(shape))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was painted."""
        return self.added.is_empty and self.removed.is_empty

    @property
    def nbytes(self) -> int:
        """Memory of the masks, in bytes."""
        return self.added.nbytes + self.removed.nbytes


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """A kind of object.

    Attributes
    ----------
    id : int
        Its value in a layer of classes; 0 is no class.
    name : str
    colour : str
        As ``#rrggbb``.
    """

    id: int
    name: str
    colour: str


@dataclass(frozen=True)
class SamObject:
    """One thing being annotated.

    Attributes
    ----------
    uid : int
        Never given out twice in one document, whatever is undone.
    id : int
        Its value in the Labels layer.
    class_id : int
        0 for none.
    source : Source
    accepted : bool
    prompts : mapping of Plane to Prompts
        What the user drew.
    answers : mapping of Plane to Answer
        What the model said to prompts; may lag behind `prompts`.
    base : mapping of Plane to Answer
        Masks that did not come from prompts: imported, automatic, propagated.
    hand : mapping of Plane to HandEdit
        What was painted and erased by hand, on planes of the last two axes.
    masks : mapping of Plane to Mask
        The pixels that are the object's in the Labels layer: what the answers and the brush say without what
        belongs to other objects. Always on planes of the image's last two axes; never empty.
    taken : mapping of Plane to (mapping of int to Mask)
        Pixels that were other objects', by their uids, and go back to them if this object shrinks before it
        is accepted.
    parent : int
        Uid of the object that it came from when that one divided; 0 for none. One that is not there any more
        counts as none.
    """

    uid: int
    id: int
    class_id: int = 0
    source: Source = Source.CLICKED
    accepted: bool = False
    prompts: Mapping[Plane, Prompts] = field(default_factory=dict)
    answers: Mapping[Plane, Answer] = field(default_factory=dict)
    base: Mapping[Plane, Answer] = field(default_factory=dict)
    hand: Mapping[Plane, HandEdit] = field(default_factory=dict)
    masks: Mapping[Plane, Mask] = field(default_factory=dict)
    taken: Mapping[Plane, Mapping[int, Mask]] = field(default_factory=dict)
    parent: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a prompt nor a mask."""
        return not (self.prompts or self.masks or self.base)

    @property
    def area(self) -> int:
        """Pixels in the Labels layer, over all planes."""
        return sum(mask.area for mask in self.masks.values())

    @property
    def score(self) -> float | None:
        """The mean predicted IoU over the planes that have one."""
        answers = {**self.base, **self.answers}.values()
        scores = [answer.score for answer in answers if answer.score is not None]
        return sum(scores) / len(scores) if scores else None

    def answer(self, plane: Plane) -> Answer | None:
        """The answer that counts on a plane, if there is one."""
        return self.answers.get(plane) or self.base.get(plane)

    def is_stale(self, plane: Plane) -> bool:
        """Whether the prompts on a plane wait for their answer."""
        answer = self.answers.get(plane)
        prompts = self.prompts.get(plane)
        return (
            prompts is not None
            and prompts.selects_something
            and (answer is None or answer.prompts != prompts)
        )


def held_apart(
    one: SamObject | None, other: SamObject | None, planes: Collection[Plane] | None = None
) -> int:
    """Bytes of the masks and logits that one of two objects holds and the other does not, at most.

    The time is for what differs: an object on hundreds of planes often changes on one. If it is known that
    the two differ on some planes only, these are all that is looked at.
    """
    records = [[] if item is None else _records(item, planes) for item in (one, other)]
    shared = set(map(id, records[0])).intersection(map(id, records[1]))
    held, theirs = (
        {id(p): p.nbytes for record in each if id(record) not in shared for p in _large(record)}
        for each in records
    )
    for address, nbytes in theirs.items():
        if held.pop(address, None) is None:
            held[address] = nbytes
    return sum(held.values())


def _records(item: SamObject, planes: Collection[Plane] | None) -> list[Any]:
    """All that an object is made of, or what there is of it on some planes."""
    values: tuple[Mapping[Plane, Any], ...] = (
        item.masks,
        item.hand,
        item.taken,
        item.prompts,
        item.base,
        item.answers,
    )
    if planes is None:
        return [record for mapping in values for record in mapping.values()]
    return [mapping[plane] for mapping in values for plane in planes if plane in mapping]


def _large(record: Any) -> Iterator[Any]:
    """What takes memory: masks, and of prompts logits and what has many vertices."""
    if isinstance(record, Mask):
        yield record
    elif isinstance(record, HandEdit):
        yield from (record.added, record.removed)
    elif isinstance(record, Prompts):
        parts = (record.mask, record.mask_input, record.points, record.lasso)
        drawn = (*parts, *(scribble.path for scribble in record.scribbles))
        yield from (part for part in drawn if part is not None and part.nbytes > SMALL)
    elif isinstance(record, Answer):
        yield from (mask for mask, _ in record.candidates)
        if record.prompts is not None:
            yield from _large(record.prompts)
    else:
        yield from record.values()
