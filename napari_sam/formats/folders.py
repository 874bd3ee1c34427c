"""What is in folders, before one takes the place of another."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["holds_only"]

# What systems leave in every folder that somebody looks at.
_LEFT_BY_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def holds_only(folder: Path, names: str = "") -> bool:
    r"""Whether there is nothing in a folder but files with certain names.

    Parameters
    ----------
    folder : Path
    names : str
        A regular expression of paths as they are seen from the folder, with ``/`` between their parts and at
        the end of empty folders. If it is left out, no name is one of them.

    Returns
    -------
    bool
        True for an empty folder. False for one with a link, whatever that is called: no format writes links.

    Raises
    ------
    OSError
        If one cannot look into a folder: anything could be in it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> holds_only(folder)
    True
    >>> (folder / "a.txt").touch()
    >>> holds_only(folder), holds_only(folder, r".*\.txt")
    (False, True)
    """
    known = re.compile(names)
    for where, folders, files in os.walk(folder, onerror=_fail):
        place = Path(where)
        inside = place.relative_to(folder)
        if any((place / name).is_symlink() for name in (*folders, *files)):
            return False
        found = [(inside / name).as_posix() for name in files if name not in _LEFT_BY_SYSTEMS]
        if place != folder and not folders and not files:
            found = [f"{inside.as_posix()}/"]
        if not all(known.fullmatch(name) for name in found):
            return False
    return True


def _fail(error: OSError) -> None:
    raise error
