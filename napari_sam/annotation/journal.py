"""One annotation in an SQLite file: each step is one transaction, so that a crash finds a whole one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.schema import VERSION, from_json
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError

__all__ = ["SUFFIX", "Journal", "Kept", "lock_of", "read_journal", "siblings"]

SUFFIX = ".sqlite"


def lock_of(path: Path) -> FileLock:
    """The lock that the writer of a file holds as long as it lives."""
    return FileLock(_beside(path, ".lock"), timeout=0, thread_local=False)


def siblings(path: Path) -> list[Path]:
    """Files that belong to one: what was written last may be in a second one."""
    return [path, _beside(path, "-wal")]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


class Journal:
    """A file that an annotation is written to. To be used by one thread at a time.

    Parameters
    ----------
    path : Path
        Of a file that is not there yet.

    Raises
    ------
    OSError, sqlite3.Error
        If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = lock_of(path)
        self._lock.acquire()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error:
            self._lock.release()
            raise
        try:
            # Nobody else has this file: no memory is shared, which network folders could not.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last steps, but never the file.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("CREATE TABLE document (name TEXT, time REAL, data BLOB)")
            self._connection.execute("CREATE TABLE objects (uid INTEGER PRIMARY KEY, data BLOB)")
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self.remove()
            raise

    def write(self, name: str, time: float, document: Any, rows: Mapping[int, Any]) -> None:
        """Write one step, all of it or nothing.

        Parameters
        ----------
        name : str
            Of the image.
        time : float
            Seconds since 1970.
        document : object
            JSON of everything but the objects.
        rows : mapping of int to object
            JSON of objects that are new or changed, None for those that are gone, by uid.

        Raises
        ------
        sqlite3.Error
            If it cannot be written; what was there before still is.
        """
        run = self._connection.execute
        data = {uid: None if row is None else _packed(row) for uid, row in rows.items()}
        run("BEGIN IMMEDIATE")
        try:
            run("DELETE FROM document")
            run("INSERT INTO document VALUES (?, ?, ?)", (name, time, _packed(document)))
            gone = [(uid,) for uid, row in data.items() if row is None]
            kept = [(uid, row) for uid, row in data.items() if row is not None]
            self._connection.executemany("DELETE FROM objects WHERE uid = ?", gone)
            self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?)", kept)
            run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                run("ROLLBACK")
            raise

    @property
    def exists(self) -> bool:
        """Whether the file is still there: somebody may have emptied the folder."""
        return self.path.exists()

    def close(self) -> None:
        """Leave the file to be recovered."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._lock.release()

    def remove(self) -> None:
        """Close the file and delete it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        for file in siblings(self.path):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        self._lock.release()
        with contextlib.suppress(OSError):
            _beside(self.path, ".lock").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds.

    Attributes
    ----------
    name : str
        Of the image.
    time : datetime
        When it was last written, in UTC.
    count : int
        Of the objects.
    snapshot : Snapshot
        Without the objects, if only the rest was asked for.
    identity : ImageIdentity or None
    """

    name: str
    time: datetime
    count: int
    snapshot: Snapshot
    identity: ImageIdentity | None


def read_journal(path: Path, *, objects: bool = True) -> Kept | None:
    """Read a file that nobody writes to, without changing it.

    Parameters
    ----------
    path : Path
    objects : bool
        False: all but the objects.

    Returns
    -------
    Kept or None
        None if nothing was written yet.

    Raises
    ------
    AnnotationError
        If it cannot be read, or was written by a newer version.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return _read(connection, path, objects)
        finally:
            connection.close()
            # What SQLite itself leaves beside a file that is only read.
            with contextlib.suppress(OSError):
                _beside(path, "-shm").unlink(missing_ok=True)
                if not (wal := _beside(path, "-wal")).stat().st_size:
                    wal.unlink()
    except AnnotationError:
        raise
    # Anything can be in a damaged file.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise AnnotationError(f"{path} cannot be read ({reason}): the file is kept as it is.") from error


def _read(connection: sqlite3.Connection, path: Path, objects: bool) -> Kept | None:
    def rows(question: str) -> list[Any]:
        return connection.execute(question).fetchall()

    ((version,),) = rows("PRAGMA user_version")
    if version > VERSION:
        raise AnnotationError(
            f"{path} is of version {version} of the format, and this napari-sam knows up to "
            f"version {VERSION}: update napari-sam to recover it."
        )
    if not rows("SELECT name FROM sqlite_master"):
        return None
    ((verdict,), *_) = rows("PRAGMA quick_check(1)")
    if verdict != "ok":
        raise ValueError(verdict)
    found = rows("SELECT name, time, data FROM document")
    if not found:
        return None
    ((name, time, data),) = found
    ((count,),) = rows("SELECT count(*) FROM objects")
    packed = rows("SELECT data FROM objects ORDER BY uid") if objects else []
    snapshot, identity, _ = from_json(_unpacked(data), [_unpacked(row) for (row,) in packed], name=str(path))
    return Kept(str(name), datetime.fromtimestamp(time, UTC), count, snapshot, identity)


def _packed(data: Any) -> bytes:
    return zlib.compress(json.dumps(data, allow_nan=False, separators=(",", ":")).encode(), 1)


def _unpacked(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))
