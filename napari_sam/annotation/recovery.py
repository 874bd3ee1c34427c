"""What was left behind by programs that ended without saving."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.journal import SUFFIX, lock_of, read_journal, siblings
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError

__all__ = ["DISCARDED", "KEPT", "Recoverable", "find_recoverable", "short_digest"]

DISCARDED = "discarded"
"""The subfolder that files go to which nobody wants back."""
KEPT = 20
"""How many of these are kept, the newest."""


@dataclass(frozen=True, slots=True)
class Recoverable:
    """An annotation that can be had back.

    Attributes
    ----------
    path : Path
    time : datetime
        When it was last written, in UTC.
    name : str
        Of its image.
    objects : int
        How many there are.
    shape : tuple of int
        Of the image, without colours; empty if there is a problem.
    identity : ImageIdentity or None
        Of the image.
    problem : str
        Why it cannot be had back, in a sentence; empty if it can.
    planes : int
        On how many planes there is what an automatic run found.
    """

    path: Path
    time: datetime
    name: str = ""
    objects: int = 0
    shape: tuple[int, ...] = ()
    identity: ImageIdentity | None = None
    problem: str = ""
    planes: int = 0

    def load(self) -> Snapshot:
        """The annotation. The file stays: discard it when what it holds is in a safe place.

        Raises
        ------
        AnnotationError
            If the file is damaged, gone, written by a newer version, or in use by another program.
        """
        if not self.path.is_file():
            raise AnnotationError(f"{self.path} is not there any more: it may have been recovered already.")
        with _held(self.path):
            kept = read_journal(self.path)
        if kept is None:
            raise AnnotationError(f"{self.path} is empty: there is nothing to recover.")
        return kept.snapshot

    def discard(self) -> None:
        """Move the file out of the way, to where the newest twenty discarded ones are kept.

        Raises
        ------
        AnnotationError
            If it cannot be moved, or is in use by another program.
        """
        try:
            with _held(self.path):
                _move_away(self.path)
        except OSError as error:
            raise AnnotationError(
                f"{self.path} cannot be moved ({error.strerror or error}): check the permissions of its "
                "folder."
            ) from error


def find_recoverable(folder: Path, identity: ImageIdentity | None = None) -> list[Recoverable]:
    """Annotations in a folder that no living program writes to, the newest first.

    Parameters
    ----------
    folder : Path
        It need not exist.
    identity : ImageIdentity, optional
        Of an image, to find only its annotations.
    """
    paths: list[Path] = []
    with contextlib.suppress(OSError):
        paths = list(folder.glob(f"*{SUFFIX}"))
    found = [entry for path in paths if (entry := _look_at(path)) is not None]
    if identity is not None:
        # What cannot be read says by its name which image it belongs to.
        begin = short_digest(identity)
        found = [e for e in found if (e.path.name.startswith(begin) if e.problem else e.identity == identity)]
    return sorted(found, key=lambda entry: entry.time, reverse=True)


def short_digest(identity: ImageIdentity | None) -> str:
    """How the names of an image's files begin."""
    return "unknown" if identity is None else identity.digest.rpartition(":")[2][:16]


def _look_at(path: Path) -> Recoverable | None:
    changed = datetime.now(UTC)
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        with _held(path):
            kept = read_journal(path, objects=False)
            if kept is None or not (kept.count or kept.planes):
                # Its program was ended before there was anything, or after all of it was deleted.
                with contextlib.suppress(OSError):
                    _move_away(path)
                return None
    except (_InUse, FileNotFoundError):
        return None
    except OSError as error:
        return Recoverable(path, changed, problem=f"{path} cannot be read ({error.strerror or error}).")
    except AnnotationError as error:
        return Recoverable(path, changed, problem=str(error))
    return Recoverable(
        path, kept.time, kept.name, kept.count, kept.snapshot.shape, kept.identity, planes=kept.planes
    )


class _InUse(AnnotationError):
    pass


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = lock_of(path)
    try:
        lock.acquire()
    except Timeout:
        raise _InUse(f"{path} is in use by another program: close the image there first.") from None
    try:
        yield
    finally:
        lock.release()
        if not path.exists():
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)


def _move_away(path: Path) -> None:
    folder = path.parent / DISCARDED
    folder.mkdir(exist_ok=True)
    now = time.time()
    for file in reversed(siblings(path)):
        with contextlib.suppress(FileNotFoundError):
            file.replace(folder / file.name)
            os.utime(folder / file.name, (now, now))
    old = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for unwanted in old[KEPT:]:
        for file in siblings(unwanted):
            file.unlink(missing_ok=True)
