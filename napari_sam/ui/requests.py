"""What the GUI asks of the worker, and what it still waits for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, TypeVar

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sam.inference.worker import Worker
from napari_sam.ui._bridge import Bridge

__all__ = ["Requests"]

T = TypeVar("T")


class Requests:
    """Sends work to one thread and delivers the results in the GUI's thread.

    Requests with the same key replace each other while they wait, as in
    :class:`~napari_sam.inference.worker.Worker`. Nothing starts before the event loop turns: importing torch
    would slow down whoever is building a window.
    """

    changed = Signal()
    """Something else is being done, or nothing any more."""

    def __init__(self) -> None:
        self._worker = Worker("napari-sam widget")
        self._bridge = Bridge()
        self._serials = count()
        self._pending: dict[Hashable, tuple[int, str]] = {}
        self._held: list[Callable[[], None]] | None = []
        QTimer.singleShot(0, self._start)
        self.doing = ""
        self.closed = False

    @property
    def busy(self) -> bool:
        """Whether results are still to come."""
        return bool(self._pending)

    def pending(self, key: Hashable) -> bool:
        """Whether the result for this key is still to come."""
        return key in self._pending

    def submit(
        self,
        key: Hashable,
        saying: str,
        function: Callable[[], T],
        on_done: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """Run `function` in the thread, then one of the callbacks in the GUI's.

        Meanwhile, `saying` says what is being done.
        """
        serial = next(self._serials)
        self._pending[key] = serial, saying

        def run() -> T:
            self._bridge.call(lambda: self._say(saying))
            return function()

        def deliver(callback: Callable[[Any], Any], result: Any) -> None:
            if self._pending.get(key, (None,))[0] == serial:
                del self._pending[key]
            if not self._pending:
                self.doing = ""
            callback(result)
            self.changed.emit()

        def send() -> None:
            self._worker.submit(
                key,
                run,
                lambda result: self._bridge.call(lambda: deliver(on_done, result)),
                lambda error: self._bridge.call(lambda: deliver(on_error, error)),
            )

        if self._held is None:
            send()
        else:
            self._held.append(send)
        self.changed.emit()

    def cancel(self, key: Hashable) -> None:
        """Forget a request."""
        self._worker.cancel(key)
        if self._pending.pop(key, None) is not None:
            self.changed.emit()

    def close(self) -> None:
        """Forget everything; the thread ends as soon as what it is doing is done."""
        self.closed = True
        self._pending.clear()
        self._worker.close(timeout=0)
        self._bridge.close()

    def _start(self) -> None:
        held, self._held = self._held or [], None
        if not self.closed:
            for send in held:
                send()

    def _say(self, saying: str) -> None:
        self.doing = saying
        self.changed.emit()
