"""The sentence that says what is going on and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image

if TYPE_CHECKING:
    from napari_sam.ui.controller import Controller

__all__ = ["NOTHING_FOUND", "describe"]

NOTHING_FOUND = "The model finds nothing here: move the point, add another one, or draw a box."


def _left(controller: Controller) -> str:
    """Of which images there are unsaved annotations."""
    names = list(dict.fromkeys(f"“{name}”" for name in controller.left_behind))
    if not names:
        return ""
    listed = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    return f" There are unsaved annotations of {listed}: open the image to go on with it."


def describe(controller: Controller) -> str:
    """One or two sentences for the widget's status line."""
    session = controller.session
    if session is None:
        if controller.notice:
            return controller.notice
        if any(isinstance(layer, Image) for layer in controller.viewer.layers):
            return "Choose an image to begin."
        return f"Open an image to begin: drop a file on the canvas, or take the sample.{_left(controller)}"
    if session.plane is None:
        return session.plane_problem
    if session.is_full:
        return "The labels layer's type cannot hold another id: choose “New labels layer” under “Objects to”."
    if controller.notice:
        return controller.notice
    current, plane = session.document.current, session.plane
    if (download := controller.models.download) is not None and not controller.models.ready:
        return f"{download.name} is being downloaded. You can click already: the masks come when it is there."
    if controller.encoding:
        return f"{controller.doing or 'Starting'}… You can click already."
    if controller.busy:
        return f"{controller.doing or f'Segmenting object {current.id}'}…"
    if (answer := current.answer(plane)) is not None:
        if not current.masks and not answer.mask.is_empty:
            return (
                f"Object {current.id} has no pixels of its own, since another object is there: double click "
                "to open that one, or switch Overwrite on."
            )
        mask = current.masks.get(plane, answer.mask)
        score = "" if answer.score is None else f", predicted IoU {answer.score:.2f}"
        if session.document.opened is not None:
            return (
                f"Object {current.id} is open again: {mask.area:,} pixels{score}. Correct it, then accept; "
                "Reject leaves it as it was."
            )
        return (
            f"Object {current.id}: {mask.area:,} pixels{score}. "
            "Correct it with more points (Ctrl-click: background), or accept it."
        )
    if plane in current.masks:
        area = current.masks[plane].area
        return f"Object {current.id}: {area:,} pixels, painted by hand. Click to go on, or accept it."
    if plane in current.prompts:
        return "Points on the background alone select nothing: add one on the object, or a box."
    if current.prompts:
        return f"Object {current.id} has no prompts on this plane: click to continue it here, or accept it."
    again = " Double click one that is there to correct it." if len(session.document) else ""
    return f"Click an object, or draw a box around it.{again}"
