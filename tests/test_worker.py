from __future__ import annotations

import gc
import logging
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from napari_sam.inference.worker import Worker

WAIT = 60.0
"""Seconds after which a test that hangs fails; no test needs them."""


class Gate:
    """A function for the worker that says when it has started and ends when it is let."""

    def __init__(self, result: object = None) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.result = result

    def __call__(self) -> object:
        self.started.set()
        assert self.release.wait(WAIT)
        return self.result


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test-worker")
    yield worker
    assert worker.close(WAIT)
    assert not [t for t in threading.enumerate() if t.name == "test-worker"]


def test_results_and_errors_come_from_the_worker_thread(worker: Worker) -> None:
    got: queue.Queue[tuple[object, str]] = queue.Queue()

    def keep(value: object) -> None:
        got.put((value, threading.current_thread().name))

    worker.submit("a", lambda: 42, keep)
    assert got.get(timeout=WAIT) == (42, "test-worker")
    worker.submit("a", lambda: 1 / 0, keep, keep)
    error, thread = got.get(timeout=WAIT)
    assert isinstance(error, ZeroDivisionError)
    assert thread == "test-worker"
    worker.submit("a", lambda: 43, keep)
    assert got.get(timeout=WAIT)[0] == 43


def test_only_the_newest_waiting_request_of_a_kind_runs(worker: Worker) -> None:
    gate, got = Gate("first"), []
    worker.submit("decode", gate, got.append)
    assert gate.started.wait(WAIT)
    for number in range(50):
        worker.submit("decode", lambda n=number: n, got.append)
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == ["first", 49]


def test_different_kinds_keep_their_order(worker: Worker) -> None:
    gate, got = Gate("gate"), []
    worker.submit("gate", gate, got.append)
    assert gate.started.wait(WAIT)
    worker.submit("encode", lambda: "old encode", got.append)
    worker.submit("decode", lambda: "decode", got.append)
    worker.submit("encode", lambda: "new encode", got.append)
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == ["gate", "new encode", "decode"]


def test_what_is_to_be_first_does_not_wait(worker: Worker) -> None:
    gate, got = Gate("gate"), []
    worker.submit("gate", gate, got.append)
    assert gate.started.wait(WAIT)
    worker.submit("encode", lambda: "encode", got.append)
    worker.submit("load", lambda: "old load", got.append)
    worker.submit("load", lambda: "new load", got.append, first=True)
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == ["gate", "new load", "encode"]


def test_cancelled_requests_are_not_heard_of_again(worker: Worker) -> None:
    gate, got = Gate("cancelled while running"), []
    worker.submit("a", gate, got.append, got.append)
    worker.submit("b", lambda: "cancelled while waiting", got.append)
    worker.submit("c", lambda: "kept", got.append)
    assert gate.started.wait(WAIT)
    worker.cancel("a")
    worker.cancel("b")
    worker.cancel("never there")
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == ["kept"]


def test_a_request_after_a_cancel_is_heard(worker: Worker) -> None:
    gate, got = Gate("old"), []
    worker.submit("a", gate, got.append)
    assert gate.started.wait(WAIT)
    worker.cancel("a")
    worker.submit("a", lambda: "new", got.append)
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == ["new"]


def test_a_long_request_gives_way_to_others(worker: Worker) -> None:
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def long() -> str:
        begun.set()
        go.wait()
        assert worker.give_way()
        assert not worker.give_way()
        done.append("the rest")
        return "long"

    worker.submit("long", long, done.append)
    assert begun.wait(10)
    for name in ("a", "b"):
        worker.submit(name, lambda name=name: name, done.append)
    go.set()
    assert worker.wait_idle(10)
    assert done == ["a", "b", "the rest", "long"]


def test_who_gave_way_can_be_cancelled_meanwhile_and_begins_nothing_more(worker: Worker) -> None:
    done: list[str] = []
    stop = threading.Event()

    def long() -> str:
        while "short" not in done:
            worker.give_way(unless=stop.is_set)
        worker.submit("late", lambda: "late", done.append)
        assert not worker.give_way(unless=stop.is_set)
        done.append("the rest")
        return "long"

    def short() -> str:
        worker.cancel("long")
        stop.set()
        return "short"

    worker.submit("long", long, done.append)
    worker.submit("short", short, done.append)
    assert worker.wait_idle(10)
    assert done == ["short", "the rest", "late"]


def test_cancel_all(worker: Worker) -> None:
    gate, got = Gate(), []
    worker.submit("a", gate, got.append)
    worker.submit("b", lambda: 1, got.append)
    assert gate.started.wait(WAIT)
    worker.cancel_all()
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert got == []


def test_running_until_idle(worker: Worker) -> None:
    assert not worker.running
    assert worker.wait_idle(0)
    gate = Gate()
    worker.submit("a", gate, lambda _: None)
    assert worker.running
    assert not worker.wait_idle(0)
    gate.release.set()
    assert worker.wait_idle(WAIT)
    assert not worker.running


def test_failing_callbacks_and_unheard_errors_are_logged(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("callback")

    got: list[int] = []
    with caplog.at_level(logging.ERROR):
        worker.submit("a", lambda: 1, fail)
        worker.submit("b", lambda: 1 / 0, got.append)
        worker.submit("c", lambda: 3, got.append)
        assert worker.wait_idle(WAIT)
    assert got == [3]
    assert [record.message for record in caplog.records] == ["A callback failed.", "A request failed."]


def test_callbacks_may_submit(worker: Worker) -> None:
    got: list[int] = []
    finished = threading.Event()

    def again(value: int) -> None:
        got.append(value)
        if value < 5:
            worker.submit("a", lambda: value + 1, again)
        else:
            finished.set()

    worker.submit("a", lambda: 0, again)
    assert finished.wait(WAIT)
    assert got == [0, 1, 2, 3, 4, 5]


def test_closing_forgets_what_waits_and_joins() -> None:
    worker, gate, got = Worker(), Gate("running"), []
    worker.submit("a", gate, got.append)
    worker.submit("b", lambda: "waiting", got.append)
    assert gate.started.wait(WAIT)
    assert not worker.close(0)
    gate.release.set()
    assert worker.close(WAIT)
    assert worker.close()
    assert got == []
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit("a", lambda: 1, got.append)


def test_closing_from_a_callback_and_before_any_request() -> None:
    worker = Worker()
    done = threading.Event()
    worker.submit("a", lambda: 1, lambda _: (worker.close(), done.set()))
    assert done.wait(WAIT)
    assert worker.close(WAIT)
    assert Worker().close()


def test_a_forgotten_worker_ends_its_thread() -> None:
    worker = Worker("forgotten")
    worker.submit("a", lambda: 1, lambda _: None)
    assert worker.wait_idle(WAIT)
    (thread,) = [t for t in threading.enumerate() if t.name == "forgotten"]
    del worker
    gc.collect()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_nothing_is_kept_alive_while_idle(worker: Worker) -> None:
    class Big:
        pass

    seen: list[weakref.ref[Big]] = []
    worker.submit("a", Big, lambda big: seen.append(weakref.ref(big)))
    assert worker.wait_idle(WAIT)
    gc.collect()
    assert seen[0]() is None


def test_the_program_waits_for_a_request_that_is_running() -> None:
    """Native code that is caught by the end of the interpreter would abort the process."""
    script = """
from napari_sam.inference.worker import Worker
import threading, time
started = threading.Event()
def load():
    started.set()
    time.sleep(0.5)
    print("finished")
worker = Worker()
worker.submit("load", load, lambda _: print("delivered"))
worker.submit("next", lambda: print("begun"), lambda _: print("delivered"))
started.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr
