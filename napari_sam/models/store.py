"""Where weights are kept on this computer, and which files there are what they should be.

Two folders: the folder of models, which downloads go to, and optionally a folder of hand-copied files, for
computers without a network. Nothing here opens a connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_sam.errors import DownloadCancelled, ModelError
from napari_sam.folders import folder_for
from napari_sam.models.zoo import ZOO, ModelInfo, lookup

__all__ = [
    "FOLDER_VARIABLE",
    "OFFLINE_VARIABLE",
    "find",
    "is_published",
    "model_folder",
    "offline_folder",
    "part_path",
    "remember",
    "remove",
    "set_model_folder",
]

FOLDER_VARIABLE = "NAPARI_SAM_MODELS"
"""Environment variable with the folder of models; it wins over :func:`set_model_folder`."""
OFFLINE_VARIABLE = "NAPARI_SAM_OFFLINE_MODELS"
"""Environment variable with a folder of hand-copied files; it may be read-only."""

_ENDINGS = (".pth", ".pt", "")  # micro-sam keeps its models without one
_CHUNK = 4 * 2**20
_RECORD = "verified.json"
_chosen: Path | None = None
_session: dict[str, dict[str, Any]] = {}


def model_folder() -> Path:
    """The folder that downloads go to; it need not exist yet.

    The environment variable ``NAPARI_SAM_MODELS``, else what :func:`set_model_folder` was given, else the
    operating system's folder for files that can be had again.
    """
    return folder_for("models", FOLDER_VARIABLE, _chosen)


def set_model_folder(path: str | os.PathLike[str] | None) -> None:
    """Choose the folder of models for this process; None or an empty string is the default again."""
    global _chosen  # noqa: PLW0603  # one folder a process, as with the environment variable
    _chosen = Path(path).expanduser() if path and os.fspath(path) else None


def offline_folder() -> Path | None:
    """The folder of hand-copied files, if ``NAPARI_SAM_OFFLINE_MODELS`` names one."""
    variable = os.environ.get(OFFLINE_VARIABLE)
    return Path(variable).expanduser() if variable else None


def part_path(info: ModelInfo) -> Path:
    """Where the beginning of a file waits while it is downloaded."""
    return model_folder() / f"{info.file_name}.part"


def find(name: str) -> Path | None:
    """The file with the weights of a model, if it is on disk.

    Looks into the folder of models first, then into the folder of hand-copied files. A file may have the name
    that it was published under or that of the model. A file of another size is passed over; one
    whose name does not say which model it is (``vit_b.pt``) is recognised by its checksum, which is
    remembered. That the content is right is for :func:`is_published` to say.

    Raises
    ------
    ModelError
        If there is no model of that name.
    """
    info = lookup(name)
    if info.url is None:
        return Path(__file__).parent / "weights" / info.file_name
    for path, certain in _candidates(info):
        try:
            status = path.stat()
        except OSError:
            continue
        size = status.st_size
        if not stat.S_ISREG(status.st_mode) or not size or (info.nbytes is not None and size != info.nbytes):
            continue
        if certain or _is_readable_and_published(info, path):
            return path
    return None


def _is_readable_and_published(info: ModelInfo, path: Path) -> bool:
    try:
        return is_published(info, path)
    except ModelError:
        return False


def _candidates(info: ModelInfo) -> Iterator[tuple[Path, bool]]:
    """Paths that may hold the weights, and whether the name alone says so."""
    shared = {other.published_name for other in ZOO.values() if other is not info}
    names = dict.fromkeys([info.file_name, info.published_name, *(info.name + end for end in _ENDINGS)])
    for folder in filter(None, (model_folder(), offline_folder())):
        for file_name in names:
            # What is downloaded is named by us; whatever else is there may be of another model.
            ours = folder == model_folder() and file_name == info.file_name
            yield folder / file_name, ours or file_name not in shared


def is_published(info: ModelInfo, path: Path, *, cancelled: threading.Event | None = None) -> bool:
    """Whether a file is, byte for byte, the one that was published: computed once, then remembered.

    A file that has the size and the modification time that it had when its checksum was computed is not
    read again.

    Raises
    ------
    ModelError
        If the file cannot be read.
    DownloadCancelled
        If ``cancelled`` was set meanwhile.
    """
    if info.digest is None:
        return True
    algorithm, _, expected = info.digest.partition(":")
    try:
        known = _known(path, algorithm)
        if known is None:
            known = _digest(path, algorithm, cancelled)
            remember(path, f"{algorithm}:{known}")
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    return known == expected


def _digest(path: Path, algorithm: str, cancelled: threading.Event | None) -> str:
    import xxhash

    state = xxhash.xxh128() if algorithm == "xxh128" else hashlib.new(algorithm)
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if cancelled is not None and cancelled.is_set():
                raise DownloadCancelled(f"Checking {path.name} was cancelled.")
            state.update(buffer[:count])
    return state.hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _known(path: Path, algorithm: str) -> str | None:
    entry = {**_read_record(), **_session}.get(str(path.absolute()))
    if not isinstance(entry, dict) or entry.get("stamp") != _stamp(path):
        return None
    digest = entry.get("digest")
    if not isinstance(digest, str) or not digest.startswith(f"{algorithm}:"):
        return None
    return digest.partition(":")[2]


def remember(path: Path, digest: str) -> None:
    """Note the checksum of a file; for this process only if the folder of models cannot be written."""
    _session[str(path.absolute())] = {"stamp": _stamp(path), "digest": digest}
    entries = {key: value for key, value in {**_read_record(), **_session}.items() if Path(key).exists()}
    folder = model_folder()
    temporary = folder / f".{_RECORD}.{os.getpid()}"
    # A folder that cannot be written costs the checksums again in the next session, and nothing else.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entries, indent=1))
        temporary.replace(folder / _RECORD)


def _read_record() -> dict[str, Any]:
    try:
        entries = json.loads((model_folder() / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def remove(name: str) -> list[Path]:
    """Delete a downloaded model and the beginning of an interrupted download; return what was deleted.

    Files in the folder of hand-copied files are left alone.

    Raises
    ------
    ModelError
        If there is no model of that name, it is part of the package, or a file cannot be deleted.
    """
    info = lookup(name)
    if info.url is None:
        raise ModelError(f"{info.name} is part of the package; there is nothing to remove.")
    part = part_path(info)
    removed = []
    for path in (model_folder() / info.file_name, part, part.with_name(f"{part.name}.json")):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelError(
                f"{path} cannot be deleted ({error.strerror}); check its permissions."
            ) from error
        removed.append(path)
    return removed
