"""The weights of a model, from disk if they are there, else from where they are published."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam.errors import DownloadCancelled, ModelError
from napari_sam.models.store import FOLDER_VARIABLE, find, is_published, model_folder, part_path, remember
from napari_sam.models.transfer import PATIENT, Policy, Report, forget, transfer
from napari_sam.models.zoo import ModelInfo, lookup

__all__ = ["fetch", "terminal_progress"]

_POLL = 0.1
_GRACE = 0.5


def fetch(
    name: str,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancelled: threading.Event | None = None,
    policy: Policy = PATIENT,
) -> Path:
    """The path of a model's weights, downloaded if they are not on disk.

    The file is there under its name only once it is complete and its checksum is right. A download that was
    interrupted, in whatever way, is gone on with. A second process that wants the same file waits for the
    first.

    Parameters
    ----------
    name : str
        A name of the zoo.
    progress : callable, optional
        Called about ten times a second, in the calling thread, with the bytes that have arrived and the bytes
        there will be, or None where the server does not say.
    cancelled : threading.Event, optional
        Set it from another thread, or in ``progress``, to stop within a second.
    policy : Policy, optional
        How long to wait for a server and how often to try again.

    Raises
    ------
    ModelError
        If there is no such model, it cannot be downloaded, or what was downloaded is not what was published.
    DownloadCancelled
        If ``cancelled`` was set.
    """
    info = lookup(name)
    path = _on_disk(info, cancelled)
    if path is not None:
        return path
    job = _Job(info, policy)
    job.start()
    try:
        while not job.finished.wait(_POLL):
            if cancelled is not None and cancelled.is_set():
                break
            if progress is not None and job.state is not None:
                progress(*job.state)
    finally:
        job.stop.set()
    # A server that hangs is not waited for: the thread ends by itself when the connection times out.
    if not job.finished.wait(_GRACE):
        raise DownloadCancelled(f"The download of {info.name} was cancelled.")
    path = job.result()
    if progress is not None:
        size = path.stat().st_size
        progress(size, size)
    return path


def _on_disk(info: ModelInfo, cancelled: threading.Event | None) -> Path | None:
    path = find(info.name)
    if path is None or is_published(info, path, cancelled=cancelled):
        return path
    if path.parent == model_folder():
        return None  # downloaded again, over it
    raise ModelError(
        f"{path} is not the published file of {info.name} (its checksum differs); "
        "copy it again or take it away."
    )


class _Job(threading.Thread):
    """One download in a thread of its own, so that whoever waits for it is never caught in a system call."""

    def __init__(self, info: ModelInfo, policy: Policy) -> None:
        super().__init__(name=f"download of {info.name}", daemon=True)
        self.state: tuple[int, int | None] | None = None
        self.stop = threading.Event()
        self.finished = threading.Event()
        self._info = info
        self._policy = policy
        self._path: Path | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._path = self._download()
        except OSError as error:
            self._error = self._disk_error(error)
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error
        finally:
            self.finished.set()

    def result(self) -> Path:
        if self._error is not None:
            raise self._error
        assert self._path is not None
        return self._path

    def _report(self, done: int, total: int | None) -> None:
        self.state = (done, total)

    def _download(self) -> Path:
        folder = model_folder()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / self._info.file_name
        part = part_path(self._info)
        with self._only_one(target, part):
            path = _on_disk(self._info, self.stop)  # another process may have been faster
            if path is not None:
                return path
            self._transfer_and_check(part)
            part.replace(target)
            forget(part)
            if self._info.digest is not None:
                remember(target, self._info.digest)
        return target

    @contextmanager
    def _only_one(self, target: Path, part: Path) -> Iterator[None]:
        """One process or thread at a time downloads a file; the lock goes with the process that holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(target.with_name(f".{target.name}.lock"))
        while True:
            try:
                lock.acquire(timeout=_POLL)
                break
            except Timeout:
                if self.stop.is_set():
                    raise DownloadCancelled(f"The download of {self._info.name} was cancelled.") from None
                if part.exists():
                    self._report(part.stat().st_size, self._info.nbytes)
        try:
            yield
        finally:
            lock.release()

    def _transfer_and_check(self, part: Path) -> None:
        # Pieces may not have belonged together: then once more from the start. A server that never sends the
        # whole file at once would send pieces for ever.
        for _ in range(2):
            pieces = self._transfer(part)
            if is_published(self._info, part, cancelled=self.stop):
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                return
            forget(part)
            if not pieces:
                break
        raise ModelError(
            f"What was downloaded as {self._info.name} is not what was published (its checksum differs); "
            "try again later, or copy the file by hand, as the how-to about models says."
        )

    def _transfer(self, part: Path) -> bool:
        assert self._info.url is not None
        return transfer(
            self._info.url,
            part,
            expected=self._info.nbytes,
            stop=self.stop,
            report=self._report,
            policy=self._policy,
        )

    def _disk_error(self, error: OSError) -> ModelError:
        folder = model_folder()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            wrong, todo = "is full", "make room"
        else:
            wrong, todo = f"cannot be written ({error.strerror or error})", "check its permissions"
        return ModelError(
            f"{folder} {wrong}; {todo}, or choose another folder with the environment variable "
            f"{FOLDER_VARIABLE}."
        )


@contextmanager
def terminal_progress(name: str) -> Iterator[Report]:
    """A progress bar on standard error, which appears with the first report."""
    import sys

    from tqdm import tqdm

    # Programs started without a terminal may have no standard error.
    with tqdm(
        desc=name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        delay=0.01,
        disable=sys.stderr is None,
    ) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
