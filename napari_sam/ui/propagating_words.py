"""What is said of objects that are, or cannot be, carried on to other planes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from napari_sam.annotation import SamObject

__all__ = ["named", "nothing_to_do", "them"]


def named(items: Iterable[SamObject]) -> str:
    """How a sentence about objects begins."""
    ids = [item.id for item in items]
    return f"Object {ids[0]}" if len(ids) == 1 else f"{len(ids)} objects"


def them(items: Collection[SamObject]) -> str:
    """How it goes on."""
    return "it" if len(items) == 1 else "them"


def nothing_to_do(items: list[SamObject], missing: list[SamObject], absent: bool) -> str:
    """Why there is nothing to carry on.

    Parameters
    ----------
    items : list of SamObject
        That were to be carried on.
    missing : list of SamObject
        Those of them without a mask to start from.
    absent : bool
        Whether none of the others is on the plane that was to be gone on from.
    """
    if not items:
        return "The objects that were to be propagated do not exist any more."
    if len(missing) == len(items):
        verb = "has" if len(items) == 1 else "have"
        return (
            f"{named(items)} {verb} no mask to start from: click {them(items)} on one of these planes first."
        )
    if absent:
        verb = "is" if len(items) == 1 else "are"
        return (
            f"{named(items)} {verb} not on this plane: go to one with {them(items)}, or choose to begin on "
            "“all annotated planes”."
        )
    return f"There is no plane to fill: {named(items).lower()} can only go on to planes without annotations."
