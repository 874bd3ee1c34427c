"""What a model said, as an annotation keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_sam.annotation.records import Answer, Look, SamObject
from napari_sam.annotation.state import Snapshot

if TYPE_CHECKING:
    from napari_sam.inference.engine import Segment
    from napari_sam.inference.prompts import Prompts
    from napari_sam.models.base import PromptableModel

__all__ = ["newest_answer", "to_answer", "with_digests"]


def to_answer(segment: Segment, prompts: Prompts, model: PromptableModel, look: Look | None = None) -> Answer:
    """A model's answer to prompts, with all its candidates.

    Parameters
    ----------
    segment : Segment
        As :func:`napari_sam.inference.engine.segment` returns it.
    prompts : Prompts
        What was asked.
    model : PromptableModel
        Whom. The checksum of its weights is part of the answer if it takes no time to say; see
        :func:`with_digests`.
    look : Look, optional
        How the plane was displayed.
    """
    from napari_sam.inference.engine import candidates

    return Answer(
        candidates(segment),
        chosen=segment.index,
        prompts=prompts,
        model=model.name,
        digest=model.known_digest,
        look=Look() if look is None else look,
    )


def with_digests(snapshot: Snapshot, model: PromptableModel) -> Snapshot:
    """The same with the checksum of a model's weights in those of its answers that lack it: before saving.

    It may have to be computed, which takes seconds for large checkpoints; this can be done in any thread.
    """

    def completed(item: SamObject) -> SamObject:
        lacking = {p: a for p, a in item.answers.items() if a.model == model.name and not a.digest}
        base = {p: a for p, a in item.base.items() if a.model == model.name and not a.digest}
        if not (lacking or base):
            return item
        digest = model.digest
        return replace(
            item,
            answers={**item.answers, **{p: replace(a, digest=digest) for p, a in lacking.items()}},
            base={**item.base, **{p: replace(a, digest=digest) for p, a in base.items()}},
        )

    opened = None if snapshot.opened is None else completed(snapshot.opened)
    return replace(snapshot, objects=tuple(completed(item) for item in snapshot.objects), opened=opened)


def newest_answer(snapshot: Snapshot) -> Answer | None:
    """The answer of a model that is likely to be the newest, if there is one: nothing says when they came.

    It is the last one of the current object, or if that has none, of the newest object that has one.
    """
    items = sorted(snapshot.objects, key=lambda item: (item.uid == snapshot.current, item.uid))
    answers = (answer for item in reversed(items) for answer in reversed([*item.answers.values()]))
    return next((answer for answer in answers if answer.model), None)
