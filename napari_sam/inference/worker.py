"""One thread that runs the newest request."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EXIT_SECONDS = 30.0
"""How long the end of the program waits for a running request."""
_threads: weakref.WeakKeyDictionary[threading.Thread, _Queue] = weakref.WeakKeyDictionary()


@dataclass(slots=True, eq=False)
class _Job:
    key: Hashable
    run: Callable[[], Any]
    on_done: Callable[[Any], None]
    on_error: Callable[[Exception], None] | None
    cancelled: bool = False


@dataclass(slots=True)
class _Queue:
    """What the thread shares with the worker; it outlives the worker, so that the latter can be collected."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: dict[Hashable, _Job] = field(default_factory=dict)
    current: _Job | None = None
    interrupted: list[_Job] = field(default_factory=list)
    closed: bool = False

    @property
    def begun(self) -> list[_Job]:
        """What is running, and what made room for it."""
        return [*self.interrupted, *([] if self.current is None else [self.current])]

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.waiting.clear()
            for job in self.begun:
                job.cancelled = True
            self.changed.notify_all()


class Worker:
    """Runs functions one after another in a thread of its own; of each kind, only the newest waits.

    Requests have a key. A request replaces one with the same key that is still waiting, and takes its
    place in the queue; requests with different keys run in the order in which they came. A function that
    has started runs to its end and delivers its result even if a newer request with its key is waiting.

    Callbacks run in the worker's thread; whoever needs them in another thread (a GUI) passes them on. The
    thread starts with the first request, and ends with `close` or when the worker is garbage collected. The
    end of the program waits for a request that is running.

    Parameters
    ----------
    name : str
        Of the thread.

    Examples
    --------
    >>> with Worker() as worker:
    ...     worker.submit("sum", lambda: 1 + 1, print)
    ...     worker.wait_idle(10)
    2
    True
    """

    def __init__(self, name: str = "napari-sam") -> None:
        self._name = name
        self._queue = _Queue()
        self._thread: threading.Thread | None = None
        self._finalizer = weakref.finalize(self, self._queue.close)

    def submit(
        self,
        key: Hashable,
        fn: Callable[[], T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None] | None = None,
        *,
        first: bool = False,
    ) -> None:
        """Run `fn` in the thread, then `on_done` with its result.

        Parameters
        ----------
        key : hashable
            The kind of request.
        fn : callable
            Without arguments.
        on_done : callable
            Called in the worker's thread with what `fn` returned.
        on_error : callable, optional
            Called in the worker's thread with the exception that `fn` raised; by default it is logged.
        first : bool, default False
            Before all that is waiting.

        Raises
        ------
        RuntimeError
            If the worker was closed.
        """
        queue = self._queue
        with queue.changed:
            if queue.closed:
                raise RuntimeError("The worker is closed: make a new one.")
            job = _Job(key, fn, on_done, on_error)
            if first:
                queue.waiting = {key: job, **{k: j for k, j in queue.waiting.items() if k != key}}
            else:
                queue.waiting[key] = job
            if self._thread is None:
                self._thread = threading.Thread(target=_loop, args=(queue,), name=self._name, daemon=True)
                _threads[self._thread] = queue
                self._thread.start()
            queue.changed.notify_all()

    def cancel(self, key: Hashable) -> None:
        """Forget the request with this key: if it is running, its callbacks are not called."""
        queue = self._queue
        with queue.changed:
            queue.waiting.pop(key, None)
            for job in queue.begun:
                if job.key == key:
                    job.cancelled = True
            queue.changed.notify_all()

    def withdraw(self, key: Hashable) -> bool:
        """Forget the request with this key if it has not started yet; whether that was so."""
        queue = self._queue
        with queue.changed:
            withdrawn = queue.waiting.pop(key, None) is not None
            queue.changed.notify_all()
        return withdrawn

    def cancel_all(self) -> None:
        """Forget all requests: the callbacks of a running one are not called."""
        queue = self._queue
        with queue.changed:
            queue.waiting.clear()
            for job in queue.begun:
                job.cancelled = True
            queue.changed.notify_all()

    def give_way(self, unless: Callable[[], bool] = lambda: False) -> bool:
        """Run all that is waiting now: for a long request, which calls this in between, from inside.

        Parameters
        ----------
        unless : callable, optional
            Nothing more is begun once it returns True.

        Returns
        -------
        bool
            Whether anything ran.
        """
        queue, ran = self._queue, False
        while True:
            with queue.changed:
                if queue.closed or queue.current is None or not queue.waiting or unless():
                    return ran
                queue.interrupted.append(queue.current)
                queue.current = queue.waiting.pop(next(iter(queue.waiting)))
            _run(queue, queue.current)
            with queue.changed:
                queue.current = queue.interrupted.pop()
                queue.changed.notify_all()
            ran = True

    @property
    def running(self) -> bool:
        """Whether a request is running or waiting."""
        with self._queue.changed:
            return self._queue.current is not None or bool(self._queue.waiting)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs and nothing waits; False if `timeout` seconds passed before."""
        queue = self._queue
        with queue.changed:
            return queue.changed.wait_for(lambda: queue.current is None and not queue.waiting, timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Forget all requests and end the thread; closing twice is fine.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a running request; without end by default.

        Returns
        -------
        bool
            Whether the thread has ended. If not, it ends as soon as the running request does.
        """
        self._finalizer()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@atexit.register
def _finish() -> None:
    """End all threads before the interpreter ends: one caught in native code would abort the process."""
    running = list(_threads.items())
    for _, queue in running:
        queue.close()
    for thread, _ in running:
        thread.join(_EXIT_SECONDS)


def _loop(queue: _Queue) -> None:
    """Run requests until the queue is closed."""
    while True:
        with queue.changed:
            queue.changed.wait_for(lambda: queue.closed or queue.waiting)
            if queue.closed:
                return
            queue.current = queue.waiting.pop(next(iter(queue.waiting)))
        # In a function of its own, so that no result is kept alive while waiting for the next request.
        _run(queue, queue.current)
        with queue.changed:
            queue.current = None
            queue.changed.notify_all()


def _run(queue: _Queue, job: _Job) -> None:
    result: Any = None
    failure: Exception | None = None
    try:
        result = job.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives on
        failure = error
    with queue.changed:
        if job.cancelled:
            return
    try:
        if failure is None:
            job.on_done(result)
        elif job.on_error is not None:
            job.on_error(failure)
        else:
            logger.error("A request failed.", exc_info=failure)
    except Exception:
        logger.exception("A callback failed.")
