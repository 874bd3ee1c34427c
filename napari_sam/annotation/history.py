"""What was changed, in the order in which it was, so that it can be undone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from typing import Any, NamedTuple

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import held_apart

__all__ = ["CHANGE_BYTES", "Change", "History", "Step"]

HISTORY_BYTES = 256 * 2**20
"""Memory for masks that only the history still holds: 256 MiB. The oldest steps make room."""
CHANGE_BYTES = 1024
"""What a change takes without masks, about: prompts alone are to have an end, too."""


class Change(NamedTuple):
    """One value of the document became another.

    Attributes
    ----------
    key : hashable
        Which value.
    before, after : object
        None where there was or is none.
    planes : collection of Plane, or None
        Of an object: where it is different, if the rest need not be compared.
    """

    key: Hashable
    before: Any
    after: Any
    planes: Collection[Plane] | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the history keeps alive by this change, in bytes, at most but for prompts."""
        # What is kept under other keys than uids is small, or some object's, too.
        if not isinstance(self.key, int):
            return CHANGE_BYTES
        return CHANGE_BYTES + held_apart(self.before, self.after, self.planes)


class Step:
    """What one undo takes back.

    Parameters
    ----------
    text : str
        What was done, in words for a button.
    gesture : hashable, optional
        Steps of the same gesture are one step, named by its beginning: a drag is many changes and one undo.

    Attributes
    ----------
    nbytes : int
        Of its changes, at most: see :meth:`settle`.
    """

    __slots__ = ("_changes", "_is_settled", "gesture", "nbytes", "text")

    def __init__(self, text: str, gesture: Hashable = None) -> None:
        self.text, self.gesture = text, gesture
        self.nbytes = 0
        self._is_settled = True
        self._changes: dict[Hashable, Change] = {}

    @property
    def changes(self) -> list[Change]:
        """One for each value that is different, in the order in which they first changed."""
        return list(self._changes.values())

    def add(self, change: Change) -> None:
        """Add a change; of a value that changed before, what it was in between is forgotten.

        A stroke of the brush changes two large objects hundreds of times.
        """
        self.nbytes += change.nbytes
        self._keep(change)

    def join(self, step: Step) -> None:
        """Go on with what another step did: what that takes has been counted."""
        self.nbytes += step.nbytes
        self._is_settled = self._is_settled and step._is_settled
        for change in step.changes:
            self._keep(change)

    def _keep(self, change: Change) -> None:
        if (earlier := self._changes.get(change.key)) is not None:
            change = Change(change.key, earlier.before, change.after)
            self._is_settled = False
        self._changes[change.key] = change

    def settle(self) -> None:
        """Count again without what was forgotten.

        That takes the longer the more there is: a propagation changes objects on hundreds of planes.
        """
        if not self._is_settled:
            self.nbytes = sum(change.nbytes for change in self._changes.values())
            self._is_settled = True


class History:
    """A line of steps and a place on it.

    What happens to a document is one line in time: steps that users take, and changes that come by themselves
    (a model answers). The latter join the newest step, whichever it is: taken back in the order in which they
    came, changes always lead to states in which the document has been. Changes that come after an undo are
    kept apart, and taken back before the next redo.

    Parameters
    ----------
    limit : int
        Bytes; see :data:`HISTORY_BYTES`. The newest step is kept whatever it needs.
    """

    def __init__(self, limit: int = HISTORY_BYTES) -> None:
        self._limit = limit
        self._done: deque[Step] = deque()
        self._undone: list[Step] = []
        # Changes that came by themselves since the last undo.
        self._late = Step("")
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, at most."""
        self._settle()
        return self._nbytes + sum(step.nbytes for step in self._undone) + self._late.nbytes

    @property
    def gesture(self) -> Hashable:
        """What the newest step is part of; None if it stands alone."""
        return self._done[-1].gesture if self._done else None

    @property
    def undo_text(self) -> str:
        """What `undo` would take back; empty if there is nothing."""
        return self._done[-1].text if self._done else ""

    @property
    def redo_text(self) -> str:
        """What `redo` would do again; empty if there is nothing."""
        return self._undone[-1].text if self._undone else ""

    def __len__(self) -> int:
        """How many steps can be undone."""
        return len(self._done)

    def record(self, step: Step) -> None:
        """A user took a step; what was undone before is gone."""
        if not step.changes:
            return
        self._undone.clear()
        self._merge_late()
        last = self._done[-1] if self._done else None
        if last is not None and step.gesture is not None and step.gesture == last.gesture:
            self._join(step)
        else:
            self._done.append(step)
            self._nbytes += step.nbytes
        self._make_room()

    def record_late(self, changes: list[Change]) -> None:
        """Something changed by itself."""
        for change in changes:
            self._late.add(change)
        if not self._undone:
            self._merge_late()

    def undo(self) -> list[Change]:
        """Take back the newest step: the changes to be reversed, the first of them first."""
        if not self._done:
            return []
        step = self._done.pop()
        self._nbytes -= step.nbytes
        taken = _reversed(self._late) + _reversed(step)
        self._late = Step("")
        self._undone.append(step)
        return taken

    def redo(self) -> list[Change]:
        """Do again what was undone last: the changes to be made."""
        if not self._undone:
            return []
        step = self._undone.pop()
        taken = _reversed(self._late) + step.changes
        self._late = Step("")
        self._done.append(step)
        self._nbytes += step.nbytes
        return taken

    def clear(self) -> None:
        """Forget all steps."""
        self._done.clear()
        self._undone.clear()
        self._late = Step("")
        self._nbytes = 0

    def _merge_late(self) -> None:
        if self._done:
            self._join(self._late)
            self._make_room()
        self._late = Step("")

    def _join(self, step: Step) -> None:
        """Let the newest step go on with what another one did."""
        last = self._done[-1]
        self._nbytes -= last.nbytes
        last.join(step)
        self._nbytes += last.nbytes

    def _settle(self) -> None:
        """Count again what steps hold that were joined."""
        for step in self._done:
            self._nbytes -= step.nbytes
            step.settle()
            self._nbytes += step.nbytes

    def _make_room(self) -> None:
        # The newest step stays whatever it needs: a long propagation is not counted again with every plane.
        if len(self._done) > 1 and self._nbytes > self._limit:
            self._settle()
        while len(self._done) > 1 and self._nbytes > self._limit:
            self._nbytes -= self._done.popleft().nbytes


def _reversed(step: Step) -> list[Change]:
    return [Change(c.key, c.after, c.before) for c in reversed(step.changes)]
