"""One annotation in an SQLite file: each step is one transaction, so that a crash finds a whole one."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from napari_sam.annotation.candidate_table import arrays_of, entry_of, read_candidates, write_array
from napari_sam.annotation.fields import Field
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.schema import VERSION, from_json
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError, reason_of
from napari_sam.inference.candidates import MaskCandidates

__all__ = ["SUFFIX", "Journal", "Kept", "lock_of", "read_journal", "siblings"]

SUFFIX = ".sqlite"


def lock_of(path: Path) -> FileLock:
    """The lock that the writer of a file holds as long as it lives."""
    return FileLock(_beside(path, ".lock"), timeout=0, thread_local=False)


def siblings(path: Path) -> list[Path]:
    """Files that belong to one: what was written last, or is to be taken back, may be in another one."""
    return [path, _beside(path, "-wal"), _beside(path, "-journal")]


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
            self._connection.execute(
                "CREATE TABLE candidates (plane TEXT PRIMARY KEY, data BLOB, masks BLOB, bits BLOB)"
            )
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
        data = {uid: None if row is None else _packed(row) for uid, row in rows.items()}
        gone = [(uid,) for uid, row in data.items() if row is None]
        kept = [(uid, row) for uid, row in data.items() if row is not None]
        with self._transaction() as connection:
            connection.execute("DELETE FROM document")
            connection.execute("INSERT INTO document VALUES (?, ?, ?)", (name, time, _packed(document)))
            connection.executemany("DELETE FROM objects WHERE uid = ?", gone)
            connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?)", kept)

    def keep(self, plane: Plane, found: MaskCandidates | None) -> None:
        """Write what an automatic run found on a plane; None: take it away.

        Raises
        ------
        sqlite3.Error
            If it cannot be written; what was there before still is.
        """
        row = None if found is None else _packed_found(plane, found)
        with self._transaction() as connection:
            connection.execute("DELETE FROM candidates WHERE plane = ?", (str(plane),))
            if row is not None:
                connection.execute("INSERT INTO candidates VALUES (?, ?, ?, ?)", row)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done meanwhile, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
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
        Without the objects and what automatic runs found, if only the rest was asked for.
    identity : ImageIdentity or None
    planes : int
        On which there is what an automatic run found.
    """

    name: str
    time: datetime
    count: int
    snapshot: Snapshot
    identity: ImageIdentity | None
    planes: int


def read_journal(path: Path, *, objects: bool = True) -> Kept | None:
    """Read a file that nobody writes to, without changing it, but for what was written by half.

    Parameters
    ----------
    path : Path
    objects : bool
        False: all but the objects and what automatic runs found.

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
        # Its program may have been ended before SQLite could keep changes in a second file: then these are in
        # the file itself by half, and are taken back.
        mode = "rw" if _beside(path, "-journal").exists() else "ro"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
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
        raise AnnotationError(
            f"{path} cannot be read ({reason_of(error)}): the file is kept as it is."
        ) from error


def _read(connection: sqlite3.Connection, path: Path, objects: bool) -> Kept | None:
    def rows(question: str) -> list[Any]:
        return connection.execute(question).fetchall()

    ((version,),) = rows("PRAGMA user_version")
    if version > VERSION:
        raise AnnotationError(
            f"{path} is of version {version} of the format, and this napari-sam knows up to "
            f"version {VERSION}: update napari-sam to recover it."
        )
    tables = {table for (table,) in rows("SELECT name FROM sqlite_master")}
    if not tables:
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
    planes = 0
    # Files of older versions have no such table.
    if "candidates" in tables:
        ((planes,),) = rows("SELECT count(*) FROM candidates")
    if objects and planes:
        found = rows("SELECT data, masks, bits FROM candidates")
        snapshot = replace(snapshot, candidates=_unpacked_found(found, snapshot.shape, str(path)))
    return Kept(str(name), datetime.fromtimestamp(time, UTC), count, snapshot, identity, planes)


def _packed(data: Any) -> bytes:
    return zlib.compress(json.dumps(data, allow_nan=False, separators=(",", ":")).encode(), 1)


def _unpacked(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))


def _packed_found(plane: Plane, found: MaskCandidates) -> tuple[str, bytes, bytes, bytes]:
    """A row of the table of candidates."""
    files = []
    for array in arrays_of(found):
        file = io.BytesIO()
        write_array(file, array)
        files.append(zlib.compress(file.getbuffer(), 1))
    return str(plane), _packed(entry_of(plane, found, 0)), files[0], files[1]


def _unpacked_found(
    rows: Sequence[tuple[bytes, bytes, bytes]], shape: tuple[int, ...], name: str
) -> Mapping[Plane, MaskCandidates]:
    """What automatic runs found, out of the rows of the table."""
    import psutil

    entries, files = [], {}
    for number, (data, masks, bits) in enumerate(rows):
        entry = {**_unpacked(data), "table": f"{number} masks", "bits": f"{number} bits"}
        entries.append(entry)
        files[entry["table"]], files[entry["bits"]] = masks, bits
    # Checking them takes as much again.
    free = psutil.virtual_memory().available // 2

    def read(file: str) -> bytes:
        # Each is decompressed when its turn comes.
        nonlocal free
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(files[file], max(free, 1))
        if not unpacker.eof:
            raise ValueError("automatic masks that are cut off, or do not fit into memory")
        free -= len(data)
        return data

    return read_candidates(Field(entries, "candidates", name), shape, read)
