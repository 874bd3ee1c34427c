"""Which weights exactly: checksums of checkpoints, so that a segmentation can say what made it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from napari_sam.models.zoo import ZOO

__all__ = ["digest_of"]

_SMALL = 64 * 2**20
"""A file of up to so many bytes is read in a tenth of a second or so."""

_read: dict[tuple[str, int, int], str] = {}


def digest_of(name: str, source: Path | None, *, wait: bool = True) -> str:
    """The checksum of a model's weights: that of the model table, or ``"sha256:..."`` of the file.

    A file is read once in a session.

    Parameters
    ----------
    name : str
        Of the model.
    source : Path or None
        The file that it was loaded from.
    wait : bool, default True
        Read a large file if that was not done before: 2 GB take seconds.

    Returns
    -------
    str
        Empty if there is no file, or if it would have to be waited for.
    """
    if source is None:
        return ""
    # What has a name of the table was compared with it when it was loaded.
    published = ZOO[name].digest if name in ZOO else None
    if published is not None:
        return published
    try:
        status = source.stat()
        stamp = str(source.absolute()), status.st_size, status.st_mtime_ns
        if stamp not in _read and (wait or status.st_size <= _SMALL):
            with source.open("rb") as file:
                _read[stamp] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return ""
    return _read.get(stamp, "")
