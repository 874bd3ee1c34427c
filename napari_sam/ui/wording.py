"""What was done, in words for the buttons that undo it."""

from __future__ import annotations

from collections.abc import Mapping

from napari_sam.annotation import Plane
from napari_sam.inference.prompts import Prompts

__all__ = ["what_changed"]


def what_changed(before: Mapping[Plane, Prompts], after: Mapping[Plane, Prompts]) -> str:
    """The difference between what was drawn before and after, in words.

    Examples
    --------
    >>> plane = Plane((None, None))
    >>> what_changed({}, {plane: Prompts.create((9, 9), points=[[1, 2]])})
    'Add point'
    """
    old, new = _counts(before), _counts(after)
    for kind in old:
        if new[kind] != old[kind]:
            more = new[kind] > old[kind]
            number = abs(new[kind] - old[kind])
            return f"{'Add' if more else 'Delete'} {kind if number == 1 else f'{number} {_PLURALS[kind]}'}"
    moved = [kind for kind in old if _drawn(before, kind) != _drawn(after, kind)]
    return f"Move {moved[0]}" if len(moved) == 1 else "Change prompts"


_PLURALS = {"point": "points", "box": "boxes", "scribble": "scribbles", "lasso": "lassos"}


def _counts(prompts: Mapping[Plane, Prompts]) -> dict[str, int]:
    return {kind: sum(len(part) for part in _drawn(prompts, kind)) for kind in _PLURALS}


def _drawn(prompts: Mapping[Plane, Prompts], kind: str) -> list[list[object]]:
    """Everything of one kind, comparable."""
    found: list[list[object]] = []
    for plane in sorted(prompts, key=str):
        one = prompts[plane]
        if kind == "point":
            found.append(
                [(*xy, label) for xy, label in zip(one.points.tolist(), one.labels.tolist(), strict=True)]
            )
        elif kind == "scribble":
            found.append(list(one.scribbles))
        else:
            shape = one.box if kind == "box" else one.lasso
            found.append([] if shape is None else [shape.tolist()])
    return [part for part in found if part]
