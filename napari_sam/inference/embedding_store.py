"""Image embeddings on disk: what a large model has seen once, on any day, it need not encode again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.atomic import open_atomic
from napari_sam.folders import folder_for
from napari_sam.inference.image import distinct_channels

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sam.models.base import Embedding, PromptableModel

__all__ = [
    "FOLDER_VARIABLE",
    "LIMIT_VARIABLE",
    "STORE_BYTES",
    "EmbeddingStore",
    "embedding_folder",
    "encode",
    "set_embedding_limit",
    "usual_store",
]

FOLDER_VARIABLE = "NAPARI_SAM_EMBEDDINGS"
"""Environment variable with the folder that embeddings are written to."""
LIMIT_VARIABLE = "NAPARI_SAM_EMBEDDINGS_GIB"
"""Environment variable with how much they may take there, in GiB; 0 for none."""
STORE_BYTES = 4 * 2**30
"""What embeddings may take on disk: 4 GiB. Those not used for the longest time go first."""

_FREE = 2 * 2**30
"""So many bytes are left free for others."""
_SUFFIX = ".safetensors"
_VERSION = 1
"""Counts up when what models keep, or what they make of it, changes."""
_chosen: int | None = None


def embedding_folder() -> Path:
    """The folder for embeddings; it need not exist.

    The environment variable ``NAPARI_SAM_EMBEDDINGS``, else the operating system's folder for caches.
    """
    return folder_for("embeddings", FOLDER_VARIABLE)


def set_embedding_limit(gib: float | None) -> None:
    """Choose what embeddings may take on disk, for this process; 0 for none, None for what is usual."""
    global _chosen  # noqa: PLW0603  # one limit a process, as with the environment variable
    _chosen = None if gib is None else _bytes_of(gib)


def usual_store() -> EmbeddingStore:
    """The store in the usual folder, with the limit that is set.

    The environment variable ``NAPARI_SAM_EMBEDDINGS_GIB``, else what :func:`set_embedding_limit` was given,
    else :data:`STORE_BYTES`.
    """
    limit = STORE_BYTES if _chosen is None else _chosen
    with contextlib.suppress(KeyError, ValueError):
        limit = _bytes_of(float(os.environ[LIMIT_VARIABLE]))
    return EmbeddingStore(embedding_folder(), limit)


def encode(model: PromptableModel, plane: NDArray[Any]) -> Embedding:
    """The image embedding of one plane, as :func:`napari_sam.inference.engine.encode`, or from disk."""
    return usual_store().encode(model, plane)


class EmbeddingStore:
    """Keeps embeddings in a folder, found again by the pixels and the weights that they were computed from.

    A model says what of its embeddings is worth keeping; that of ``nano`` is computed as fast as it is read.
    Several programs may use one folder. What cannot be written or read is computed instead: nothing depends
    on the folder, and it may be deleted at any time.

    Parameters
    ----------
    folder : Path
        Made when it is needed.
    limit : int
        Bytes that they may take; 0 for no store at all.
    """

    def __init__(self, folder: Path, limit: int = STORE_BYTES) -> None:
        self.folder = folder
        self.limit = limit

    @property
    def nbytes(self) -> int:
        """Taken on disk, in bytes."""
        return sum(size for _, size, _ in self._files())

    def encode(self, model: PromptableModel, plane: NDArray[Any]) -> Embedding:
        """The image embedding of one plane, computed if it is not there.

        Parameters
        ----------
        model : PromptableModel
        plane : ndarray, shape (H, W, 3), uint8 or float32
            As :func:`napari_sam.inference.image.as_rgb` returns it.

        Raises
        ------
        ImageError, DeviceError
            As :func:`napari_sam.inference.engine.encode`.
        """
        from napari_sam.inference import engine

        weights = _identity(model) if self.limit > 0 and model.keeps_embeddings else ""
        if not weights:
            return engine.encode(model, plane)
        pixels = _digest(plane)
        if (found := self._read(self._path(model, weights, pixels), model, plane)) is not None:
            return found
        embedding = engine.encode(model, plane)
        if kept := model.kept(embedding):
            # The model may have left a device that failed, and with it a precision.
            self._write(self._path(model, weights, pixels), kept)
        return embedding

    def _path(self, model: PromptableModel, weights: str, pixels: str) -> Path:
        """Where the embedding of a plane is or would be."""
        import xxhash

        key = json.dumps([_VERSION, weights, str(model.dtype), model.device.type, pixels])
        return self.folder / f"{xxhash.xxh3_128(key.encode()).hexdigest()}{_SUFFIX}"

    def _read(self, path: Path, model: PromptableModel, plane: NDArray[Any]) -> Embedding | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from napari_sam.inference.fallback import on_some_device

        try:
            kept = load_file(path)
            # The newest is what was used last.
            os.utime(path)
        except (OSError, SafetensorError):
            return None

        def attempt() -> Embedding:
            return model.restored({name: one.to(model.device) for name, one in kept.items()}, plane.shape[:2])

        try:
            return on_some_device(model, attempt)
        except (KeyError, ValueError):  # of a file that is whole, but not what it should be
            return None

    def _write(self, path: Path, kept: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save

        nbytes = sum(one.nbytes for one in kept.values())
        # The work goes on without it.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if nbytes > self.limit or shutil.disk_usage(self.folder).free < nbytes + _FREE:
                return
            self._make_room(nbytes)
            with open_atomic(path) as file:
                file.write(save({name: one.cpu().contiguous() for name, one in kept.items()}))

    def _make_room(self, nbytes: int) -> None:
        """Delete those not used for the longest time until there is room for so many bytes."""
        files = sorted(self._files())
        taken = sum(size for _, size, _ in files)
        for _, size, path in files:
            if taken + nbytes <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            taken -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each file was used last, how large it is, and where: also what was left half written."""
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):
                    if entry.name.endswith((_SUFFIX, ".part")):
                        status = entry.stat()
                        found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return found


def _digest(plane: NDArray[Any]) -> str:
    """Of pixels, their shape and type."""
    import xxhash

    channels = distinct_channels(plane)
    header = json.dumps([plane.shape, channels.shape[-1:], plane.dtype.str])
    digest = xxhash.xxh3_128(header.encode())
    digest.update(np.ascontiguousarray(channels).data)
    return digest.hexdigest()


def _identity(model: PromptableModel) -> str:
    """Which weights a model has, without reading a large file; empty if nobody can say."""
    if model.source is None:
        return ""
    if known := model.known_digest:
        return known
    try:
        status = model.source.stat()
    except OSError:
        return ""
    return f"{model.source.absolute()} {status.st_size} {status.st_mtime_ns}"


def _bytes_of(gib: float) -> int:
    return max(0, int(gib * 2**30))
