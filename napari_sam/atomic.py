"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["open_atomic", "replacing"]

# Letters of a name, with all suffixes that a writer looks at.
_KEPT = 24


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, with the same suffix, whose file or folder takes the place of `path` at the end.

    Of the name of `path` it has the end only: a name as long as a file system takes it has no room for more.

    If anything goes wrong, what was at `path` is there as it was, and nothing else.

    Parameters
    ----------
    path : Path
        In a folder that exists. If it is a link, what it points to is replaced.
    """
    path = path.resolve()
    token = secrets.token_hex(4)
    end = path.name[-_KEPT:]
    new, old = path.with_name(f".{token}.{end}"), path.with_name(f".{token}.old.{end}")
    try:
        yield new
        if new.is_dir():
            # A folder cannot be replaced in one step: the old one waits aside until the new one is there.
            if path.exists():
                path.rename(old)
            try:
                new.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
        else:
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.replace(path)
    finally:
        for left in (new, old):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing, and put it in the place of `path` when all went well."""
    with replacing(path) as new, new.open("xb") as file:
        yield file
