"""What the GUI asks of a worker, and what it still waits for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable
from contextlib import ContextDecorator
from itertools import count
from typing import Any, NamedTuple, TypeVar

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sam.inference.worker import Worker
from napari_sam.ui._bridge import Bridge

__all__ = ["Requests"]

T = TypeVar("T")

_SWITCH_SECONDS = 5e-4
"""How long one thread may keep the interpreter from another while something is computed."""


class _Turns(ContextDecorator):
    """Lets threads take turns more often than the interpreter does by itself.

    A network is hundreds of short operations. After each, its thread asks for the interpreter again, and
    would wait for 5 milliseconds whenever the GUI is busy: a click would take several times as long. The
    interval is one for the whole program: the last thread that is done sets it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SWITCH_SECONDS))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.setswitchinterval(self._before)


_turns = _Turns()


class _Held(NamedTuple):
    """A request that is still to be sent."""

    # Whether it need not wait for `release`.
    first: bool
    send: Callable[[], None]
    on_error: Callable[[Exception], Any]


class Requests:
    """Sends work to one thread and delivers the results in the GUI's thread.

    Requests with the same key replace each other while they wait, as in
    :class:`~napari_sam.inference.worker.Worker`. Nothing starts before the event loop turns: importing torch
    would slow down whoever is building a window.

    Parameters
    ----------
    name : str
        Of the thread.

    Attributes
    ----------
    doing : str
        What is being done at the moment.
    on_hold : bool
        Whether requests wait for `release`.
    closed : bool
    """

    changed = Signal()
    """Something else is being done, or nothing any more."""

    def __init__(self, name: str) -> None:
        self._worker = Worker(name)
        self._bridge = Bridge()
        self._serials = count()
        self._pending: dict[Hashable, int] = {}
        # In the order in which they are to be sent.
        self._held: dict[Hashable, _Held] = {}
        self._quiet: tuple[Hashable, Callable[[Any], Any]] | None = None
        self._started = self.on_hold = False
        QTimer.singleShot(0, self._start)
        self.doing = ""
        self.closed = False

    @property
    def busy(self) -> bool:
        """Whether results are still to come."""
        return bool(self._pending)

    def pending(self, *keys: Hashable) -> bool:
        """Whether the result for any of these keys is still to come."""
        return any(key in self._pending for key in keys)

    def pending_beside(self, key: Hashable) -> bool:
        """Whether the result for any other key is still to come."""
        return any(other != key for other in self._pending)

    def submit(
        self,
        key: Hashable,
        saying: str,
        function: Callable[[], T],
        on_done: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
        *,
        first: bool = False,
    ) -> None:
        """Run `function` in the thread, then one of the callbacks in the GUI's.

        Meanwhile, `saying` says what is being done. With `first`, it runs before all that is waiting, even
        while the others are on hold.
        """
        self._withdraw_quiet()
        serial = self._pending[key] = next(self._serials)

        @_turns
        def run() -> T:
            self.post(lambda: self._say(saying))
            return function()

        def deliver(callback: Callable[[Any], Any], result: Any) -> None:
            if key not in self._pending:
                # Cancelled while the result was on its way.
                return
            if self._pending[key] == serial:
                del self._pending[key]
            if not self._pending:
                self.doing = ""
            callback(result)
            self.changed.emit()

        def send() -> None:
            self._worker.submit(
                key,
                run,
                lambda result: self.post(lambda: deliver(on_done, result)),
                lambda error: self.post(lambda: deliver(on_error, error)),
                first=first,
            )

        self._held[key] = _Held(first, send, on_error)
        self._send_held()
        self.changed.emit()

    def submit_quietly(
        self, key: Hashable, function: Callable[[], T], on_done: Callable[[T | None], Any]
    ) -> None:
        """Run `function` if there is nothing better to do, then `on_done` in the GUI's thread in any case.

        It gets None if something else was asked for before the function began, or if it failed. Nobody is
        told that it runs.
        """
        self._withdraw_quiet()
        self._quiet = key, on_done
        self._worker.submit(
            key,
            _turns(function),
            lambda result: self.post(lambda: on_done(result)),
            lambda _: self.post(lambda: on_done(None)),
        )

    def give_way(self, saying: str, unless: Callable[[], bool]) -> None:
        """Let what waits go first: for a long request, which calls this in between, in the worker's thread.

        `saying` says again what is being done after that; once `unless` returns True, nothing more is begun.
        """
        if self._worker.give_way(unless):
            self.post(lambda: self._say(saying))

    def _withdraw_quiet(self) -> None:
        if self._quiet is not None:
            key, on_done = self._quiet
            if self._worker.withdraw(key):
                self.post(lambda: on_done(None))
            self._quiet = None

    def post(self, function: Callable[[], Any]) -> None:
        """Run a function in the GUI's thread, whichever thread asks for it."""
        self._bridge.call(function)

    def hold(self) -> None:
        """Let requests wait until `release`, except those that are first."""
        self.on_hold = True

    def release(self) -> None:
        """Send what was on hold."""
        self.on_hold = False
        self._send_held()

    def drop_held(self, error: Exception) -> None:
        """Let what is on hold fail: what it waits for will not come."""
        dropped = {key: held for key, held in self._held.items() if not held.first}
        for key in dropped:
            self.cancel(key)
        for held in dropped.values():
            held.on_error(error)

    def cancel(self, key: Hashable) -> None:
        """Forget a request."""
        self._held.pop(key, None)
        self._worker.cancel(key)
        if self._pending.pop(key, None) is not None:
            self.changed.emit()

    def close(self) -> None:
        """Forget everything; the thread ends as soon as what it is doing is done."""
        self.closed = True
        self._pending.clear()
        self._held.clear()
        self._quiet = None
        self._worker.close(timeout=0)
        self._bridge.close()

    def _start(self) -> None:
        self._started = True
        self._send_held()

    def _send_held(self) -> None:
        if self.closed or not self._started:
            return
        for key, held in list(self._held.items()):
            if held.first or not self.on_hold:
                del self._held[key]
                held.send()

    def _say(self, saying: str) -> None:
        self.doing = saying
        self.changed.emit()
