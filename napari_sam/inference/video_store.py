"""Tensors of a video in memory as long as there is room, then in a temporary folder."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_sam.errors import DeviceError

__all__ = ["STORE_BYTES", "Held", "TensorStore"]

STORE_BYTES = 512 * 2**20
"""Memory for what is remembered of frames: 512 MiB. What was not used for the longest time goes to disk."""


class Held:
    """A tensor that a :class:`TensorStore` keeps, until this is forgotten."""

    __slots__ = ("__weakref__", "_key", "_store")

    def __init__(self, store: TensorStore, key: int) -> None:
        self._store = store
        self._key = key

    def on(self, device: torch.device) -> Tensor:
        """The tensor, on a device."""
        return self._store.get(self._key).to(device)


class TensorStore:
    """Keeps tensors whose number is not known beforehand. Not thread-safe.

    Parameters
    ----------
    limit : int
        Bytes that they may take in memory; the newest stays there whatever it needs.

    Attributes
    ----------
    nbytes : int
        Taken in memory.

    Examples
    --------
    >>> store = TensorStore(limit=100)
    >>> kept = [store.hold(torch.full((16,), float(value))) for value in range(3)]
    >>> store.nbytes, kept[0].on(torch.device("cpu"))[0].item()
    (64, 0.0)
    """

    def __init__(self, limit: int = STORE_BYTES) -> None:
        self.limit = limit
        self.nbytes = 0
        self._tensors: OrderedDict[int, Tensor] = OrderedDict()
        self._on_disk: dict[int, torch.dtype] = {}
        self._folder: Path | None = None
        self._count = 0

    def hold(self, tensor: Tensor) -> Held:
        """Keep a tensor, which must not be changed any more.

        Raises
        ------
        DeviceError
            If the temporary folder is full.
        """
        key = self._count
        self._count += 1
        # A view would keep all that it is a view of.
        self._tensors[key] = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        self.nbytes += tensor.nbytes
        held = Held(self, key)
        weakref.finalize(held, self._forget, key).atexit = False
        while self.nbytes > self.limit and len(self._tensors) > 1:
            self._spill(next(iter(self._tensors)))
        return held

    def get(self, key: int) -> Tensor:
        """A tensor by the key of its :class:`Held`."""
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        dtype = self._on_disk[key]
        tensor = torch.from_numpy(np.load(self._path(key), allow_pickle=False))
        return tensor.view(dtype)

    def _spill(self, key: int) -> None:
        """Write a tensor to disk and let it go."""
        tensor = self._tensors[key]
        # NumPy has no bfloat16.
        bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        try:
            np.save(self._path(key), bits.cpu().numpy())
        except OSError as error:
            raise DeviceError(
                f"The temporary folder has no room for what is remembered of the video ({error.strerror}): "
                "free some, or set TMPDIR to a larger one."
            ) from error
        self._on_disk[key] = tensor.dtype
        self.nbytes -= self._tensors.pop(key).nbytes

    def _path(self, key: int) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="napari-sam-video-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / f"{key}.npy"

    def _forget(self, key: int) -> None:
        tensor = self._tensors.pop(key, None)
        if tensor is not None:
            self.nbytes -= tensor.nbytes
        elif self._on_disk.pop(key, None) is not None:
            with contextlib.suppress(OSError):
                self._path(key).unlink()
