"""Every change of a document goes into a file, in the background, so that a crash costs a second at most."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_sam.annotation.background import Writer
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.journal import SUFFIX, Journal
from napari_sam.annotation.mask_table import MaskTable
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.annotation.recovery import Recoverable, find_recoverable, short_digest
from napari_sam.annotation.schema import object_to_json, to_json
from napari_sam.annotation.state import Changes, Snapshot
from napari_sam.annotation.timeline import Timeline
from napari_sam.errors import reason_of
from napari_sam.folders import folder_for
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask

__all__ = ["DELAY", "FOLDER_VARIABLE", "Autosave", "AutosaveFile", "annotation_folder"]

FOLDER_VARIABLE = "NAPARI_SAM_ANNOTATIONS"
"""Environment variable with the folder that annotations are written to."""
DELAY = 0.2
"""Seconds from a change until it is written; changes meanwhile are written with it."""
REST = 10
"""While a gesture goes on, nothing is written for so many times what the last time took of a processor."""
LONGEST_REST = 1.0
"""But not for longer, in seconds: a crash is not to cost more."""
RETRY = 5.0
"""Seconds after which what could not be written is tried again, if nothing changes before that."""


def annotation_folder() -> Path:
    """The folder for annotations that are not saved yet; it need not exist.

    The environment variable ``NAPARI_SAM_ANNOTATIONS``, else the operating system's folder for caches.
    """
    return folder_for("annotations", FOLDER_VARIABLE)


class Autosave:
    """Keeps what is not saved yet, and finds what was left behind.

    Parameters
    ----------
    folder : path, optional
        :func:`annotation_folder`, if not given.
    tell : callable, optional
        Told in a sentence, from another thread, when something cannot be written.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, tell: Callable[[str], object] | None = None
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._tell = tell

    @property
    def folder(self) -> Path:
        """Where files go."""
        return self._folder or annotation_folder()

    def attach(
        self,
        document: Timeline,
        identity: ImageIdentity | None = None,
        name: str = "",
        *,
        unsaved: bool = True,
    ) -> AutosaveFile:
        """Write a document from now on. It has to be closed in the end.

        Parameters
        ----------
        document : Document
        identity : ImageIdentity, optional
            Of its image.
        name : str
            Of its image, for people.
        unsaved : bool, default True
            False for a document that was just opened or saved: it is written from the next change on.
        """
        return AutosaveFile(self.folder, document, identity, name, unsaved=unsaved, tell=self._tell)

    def recoverable(self, identity: ImageIdentity | None = None) -> list[Recoverable]:
        """What programs left behind that ended without saving, the newest first; of one image, if given.

        Never fails: a file that cannot be read is in the list, with its problem.
        """
        return find_recoverable(self.folder, identity)


class AutosaveFile:
    """A document and the file that it is written to; made by :meth:`Autosave.attach`.

    The file appears with the first object, or with the first automatic run that is kept. Use it from the
    thread that changes the document.
    """

    def __init__(
        self,
        folder: Path,
        document: Timeline,
        identity: ImageIdentity | None,
        name: str,
        *,
        unsaved: bool,
        tell: Callable[[str], object] | None,
    ) -> None:
        self._folder, self._document, self._identity, self._name = folder, document, identity, name
        self._tell = tell
        snapshot = document.snapshot
        self._lock = threading.Condition()
        # What both threads touch, under the lock.
        self._pending: dict[int, SamObject | None] = {item.uid: item for item in snapshot.objects}
        self._pending_found: dict[Plane, MaskCandidates | None] = dict(snapshot.candidates)
        self._values = replace(snapshot, objects=(), candidates={})
        self._asked = self._done = 0
        self._ending = self._discarding = False
        self._dirty = unsaved and bool(snapshot.objects or snapshot.candidates)
        self._rest_until = 0.0
        # What only the thread that writes touches.
        self._journal: Journal | None = None
        self._objects: dict[int, SamObject] = {}
        self._unwritten: set[int] = set()
        self._found: dict[Plane, MaskCandidates] = {}
        self._unwritten_found: set[Plane] = set()
        self._encoded: dict[int, dict[int, tuple[Mask, dict[str, Any]]]] = {}
        self._failed = False
        document.changed.connect(self._on_changed)
        document.candidates_changed.connect(self._on_candidates)
        self._writer = Writer.of_this_process()
        self._writer.add(self)
        if self._dirty:
            self._ask(DELAY)

    @property
    def path(self) -> Path | None:
        """The file, once there is one."""
        journal = self._journal
        return None if journal is None else journal.path

    def flush(self, timeout: float = 5.0) -> bool:
        """Write now what is not written yet.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether everything is in the file.
        """
        number = self._ask(0)
        with self._lock:
            finished = self._lock.wait_for(lambda: self._done >= number, timeout)
            return finished and not self._failed

    def close(self, *, discard: bool = False, timeout: float = 5.0) -> None:
        """Write no longer.

        Parameters
        ----------
        discard : bool, default False
            Delete the file: what it holds was saved elsewhere, or is not wanted. Else it can be recovered,
            unless there is nothing in it.
        timeout : float
            Seconds to wait at most.
        """
        with self._lock:
            if self._ending:
                return
            self._discarding = discard
        self._document.changed.disconnect(self._on_changed)
        self._document.candidates_changed.disconnect(self._on_candidates)
        number = self._ask(0, ending=True)
        with self._lock:
            self._lock.wait_for(lambda: self._done >= number, timeout)

    def _on_changed(self, changes: Changes) -> None:
        document = self._document
        # What else may be new comes with one of the keys, or with an object that is new.
        values = None
        if changes.keys or max(changes.before, default=0) >= self._values.next_uid:
            values = replace(document.snapshot, objects=(), candidates={})
        with self._lock:
            for uid in changes.before:
                self._pending[uid] = document.get(uid)
            if values is not None:
                self._values = values
            self._dirty = True
            rest = self._rest_until - time.monotonic()
        # Each plane of a propagation changes objects that are written whole.
        self._ask(DELAY if document.history.gesture is None else max(DELAY, rest))

    def _on_candidates(self, plane: Plane) -> None:
        # Megabytes: written when there is a new run, not with each change of an object.
        with self._lock:
            self._pending_found[plane] = self._document.candidates.get(plane)
            self._dirty = True
        self._ask(DELAY)

    def _ask(self, delay: float, *, ending: bool = False) -> int:
        with self._lock:
            if self._ending:
                return self._asked
            self._ending = ending
            self._asked += 1
            number = self._asked
        self._writer.ask(self, delay)
        return number

    # In the thread that writes

    def work(self) -> bool:
        """Write what is new; the writer calls this. Returns whether more can come."""
        with self._lock:
            number, ending, discarding = self._asked, self._ending, self._discarding
            pending, self._pending = self._pending, {}
            found, self._pending_found = self._pending_found, {}
            values = self._values if self._dirty else None
        for uid, item in pending.items():
            if item is None:
                self._objects.pop(uid, None)
            else:
                self._objects[uid] = item
        self._unwritten.update(pending)
        for plane, one in found.items():
            if one is None:
                self._found.pop(plane, None)
            else:
                self._found[plane] = one
        self._unwritten_found.update(found)
        problem, more, begin = "", False, time.thread_time()
        # The first time takes long for other reasons, imports for example.
        rest = 0 if self._journal is None else REST
        if values is not None and not (ending and discarding):
            try:
                self._write(values)
                while self._unwritten_found and not more:
                    self._write_found()
                    # Changes of objects are not to wait for megabytes, but at the end.
                    more = bool(self._unwritten_found) and not ending and self._writer.ask(self, 0)
            # Whatever it is, work goes on.
            except Exception as error:  # noqa: BLE001
                problem = reason_of(error)
                damaged = isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.OperationalError)
                if damaged and self._journal is not None:
                    # The file is not what it should be: it stays, and a new one is begun.
                    self._journal.close()
                    self._journal = None
        if ending and self._journal is not None:
            if discarding or not (self._objects or self._found):
                self._journal.remove()
            else:
                self._journal.close()
            self._journal = None
        news = bool(problem) and not self._failed
        self._failed = bool(problem)
        with self._lock:
            self._rest_until = time.monotonic() + min(rest * (time.thread_time() - begin), LONGEST_REST)
            if not more:
                self._done = number
                self._lock.notify_all()
        if problem and not ending:
            self._writer.ask(self, RETRY)
        if news and self._tell is not None:
            # Who is told may be gone already, a window for example.
            with suppress(Exception):
                self._tell(
                    f"The annotation of {self._name or 'the image'} cannot be kept in {self._folder} "
                    f"({problem}): work goes on, but save it yourself."
                )
        return not ending

    def _write(self, values: Snapshot) -> None:
        if self._journal is not None and not self._journal.exists:
            self._journal.close()
            self._journal = None
        if self._journal is None:
            if not (self._objects or self._found):
                self._unwritten_found.clear()
                return
            self._unwritten, self._unwritten_found = set(self._objects), set(self._found)
        # What cannot be written at all is to leave no file behind.
        rows = {uid: self._row(uid) for uid in self._unwritten}
        data = to_json(values, self._identity)
        journal = self._journal
        if journal is None:
            stamp = f"{datetime.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
            journal = Journal(self._folder / f"{short_digest(self._identity)}-{stamp}{SUFFIX}")
        # Names of files need not be text.
        name = self._name.encode("utf-8", "backslashreplace").decode()
        try:
            journal.write(name, time.time(), data, rows)
        except BaseException:
            if self._journal is None:
                journal.remove()
            raise
        self._journal = journal
        self._unwritten.clear()

    def _write_found(self) -> None:
        """Write what automatic runs found, plane by plane, for a moment."""
        assert self._journal is not None
        end = time.monotonic() + DELAY
        while self._unwritten_found:
            plane = next(iter(self._unwritten_found))
            self._journal.keep(plane, self._found.get(plane))
            self._unwritten_found.discard(plane)
            if time.monotonic() > end:
                break

    def _row(self, uid: int) -> dict[str, Any] | None:
        item = self._objects.get(uid)
        if item is None:
            self._encoded.pop(uid, None)
            return None
        table = MaskTable(self._encoded.get(uid))
        row = object_to_json(item, table)
        self._encoded[uid] = table.encoded
        return row
