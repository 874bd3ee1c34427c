"""The one thread of a process that writes annotations."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Protocol

__all__ = ["Work", "Writer"]

AT_EXIT = 5.0
"""Seconds that the end of the program waits for what is not written yet."""


class Work(Protocol):
    """What the thread does."""

    def work(self) -> bool:
        """Write what is new; returns whether more can come. Must not raise."""


class Writer:
    """A thread that lives as long as there is something that may have to be written.

    Attributes
    ----------
    process : int
        Whose it is.
    """

    _only: Writer | None = None

    def __init__(self) -> None:
        self.process = os.getpid()
        self._changed = threading.Condition()
        self._due: dict[Work, float] = {}
        self._attached: set[Work] = set()
        self._thread: threading.Thread | None = None
        atexit.register(self.finish)

    @classmethod
    def of_this_process(cls) -> Writer:
        """The writer of this process; one that was forked off has its own."""
        if cls._only is None or cls._only.process != os.getpid():
            cls._only = cls()
        return cls._only

    def add(self, work: Work) -> None:
        """There may be something to do from now on."""
        with self._changed:
            self._attached.add(work)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="napari-sam autosave", daemon=True)
                self._thread.start()

    def ask(self, work: Work, delay: float) -> bool:
        """There is something to do, in at most so many seconds; returns whether it will be done."""
        if self.process != os.getpid():
            return False  # a process that was forked off must not write to the files of this one
        when = time.monotonic() + delay
        with self._changed:
            if work not in self._attached:
                return False
            if when < self._due.get(work, float("inf")):
                self._due[work] = when
                self._changed.notify()
            return True

    def finish(self, timeout: float = AT_EXIT) -> None:
        """Do everything that is to be done now."""
        if self.process != os.getpid():
            return
        with self._changed:
            self._due = dict.fromkeys(self._due, 0.0)
            self._attached.clear()
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                more = work.work()
            # It must not, but others are waiting: this is told as if the thread had ended, and it goes on.
            except Exception:  # noqa: BLE001
                more = True
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            if not more:
                with self._changed:
                    self._attached.discard(work)
                    self._due.pop(work, None)

    def _next(self) -> Work | None:
        with self._changed:
            while True:
                if not self._due:
                    if not self._attached:
                        self._thread = None
                        return None
                    self._changed.wait()
                    continue
                work = min(self._due, key=self._due.__getitem__)
                wait = self._due[work] - time.monotonic()
                if wait <= 0:
                    del self._due[work]
                    return work
                self._changed.wait(wait)
