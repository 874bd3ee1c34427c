"""Models by name, or from a user's own checkpoint."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ModelError
from napari_sam.models.checkpoint import load_into, read_state
from napari_sam.models.device import pick_device, pick_dtype
from napari_sam.models.download import fetch, terminal_progress
from napari_sam.models.identify import Architecture, identify
from napari_sam.models.zoo import ALIASES, ZOO, lookup

if TYPE_CHECKING:
    import torch

    from napari_sam.models.base import PromptableModel

__all__ = ["available_models", "load_model", "read_model", "sam_model_registry"]

_SUFFIXES = {".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".pkl", ".tar"}


def available_models() -> list[str]:
    """Names that :func:`load_model` takes; all but the first are downloaded when they are first used.

    Examples
    --------
    >>> available_models()[:2]
    ['nano', 'vit_b']
    """
    return list(ZOO)


def load_model(
    name_or_path: str | os.PathLike[str] = "nano",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    progress: Callable[[int, int | None], None] | None = None,
    cancelled: threading.Event | None = None,
) -> PromptableModel:
    """Load a model, ready for inference.

    Parameters
    ----------
    name_or_path : str or path, default "nano"
        A name of :func:`available_models`, or a checkpoint: ``.safetensors``, or a PyTorch file with a state
        dict, also inside a training checkpoint. Which model it is of is seen from its parameters.
    device : str or torch.device, default "auto"
        ``"auto"`` takes the fastest device there is; else ``"cpu"``, ``"cuda"``, ``"mps"``, ...
    dtype : str or torch.dtype, default "auto"
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or what suits the device.
    progress : callable, optional
        Called with the bytes that have arrived and the bytes there will be (or None) while weights are
        downloaded; a progress bar on standard error if not given.
    cancelled : threading.Event, optional
        Set it to cancel the download.

    Raises
    ------
    ModelError
        If the name is unknown, the file is missing, it cannot be downloaded, or its weights do not fit.
    DownloadCancelled
        If ``cancelled`` was set.
    DeviceError
        If the device is not there.

    Examples
    --------
    >>> model = load_model("nano", device="cpu")
    >>> model.name
    'nano'
    """
    where = pick_device(device)
    pick_dtype(dtype, where)  # a wrong one is not found out after a download
    model = read_model(name_or_path, progress=progress, cancelled=cancelled)
    precision = pick_dtype(dtype, where, prefers_float32_on_cpu=model.prefers_float32_on_cpu)
    return model.prepare(where, precision)


def read_model(
    name_or_path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancelled: threading.Event | None = None,
) -> PromptableModel:
    """Read a model as it was saved, which can be trained: in float32, on the CPU, nothing folded.

    Parameters and errors are those of :func:`load_model`.

    Examples
    --------
    >>> all(parameter.requires_grad for parameter in read_model("nano").parameters())
    True
    """
    try:
        given = os.fspath(name_or_path)
    except TypeError:
        raise ModelError(
            f"A model is given by its name or the path of a checkpoint, not by {name_or_path!r}."
        ) from None
    if _is_path(name_or_path):
        name, path = _name_of(given), Path(given).expanduser()
    else:
        name = lookup(given).name
        path = _fetch(name, progress, cancelled)
    state = read_state(path)
    model = _build(identify(state, str(path)), state, str(path))
    model.name, model.source = name, path
    return model


def _is_path(given: str | os.PathLike[str]) -> bool:
    if isinstance(given, os.PathLike):
        return True
    if given in ZOO or given in ALIASES:
        return False
    path = Path(given)
    return path.suffix.lower() in _SUFFIXES or path.name != given or path.is_file()


def _name_of(path: str) -> str:
    """What a model from a file is called: never as one of the table, whose weights it may not have."""
    return f"{os.curdir}/{path}" if path in ZOO or path in ALIASES else path


def _fetch(
    name: str, progress: Callable[[int, int | None], None] | None, cancelled: threading.Event | None
) -> Path:
    with terminal_progress(name) if progress is None else nullcontext(progress) as report:
        return fetch(name, progress=report, cancelled=cancelled)


def _build(architecture: Architecture, state: Mapping[str, torch.Tensor], source: str) -> PromptableModel:
    model = architecture.build(initialise=False)
    load_into(model, state, source)
    return model


def _build_sam(encoder: str, checkpoint: str | os.PathLike[str] | None = None) -> PromptableModel:
    """SAM as the official builders make it: on the CPU, in float32, in evaluation mode.

    Raises
    ------
    ModelError
        If the checkpoint is not of this model.
    """
    wanted = Architecture("sam", encoder)
    if checkpoint is None:
        return wanted.build().eval()
    state = read_state(checkpoint)
    found = identify(state, os.fspath(checkpoint))
    if found != wanted:
        raise ModelError(
            f"{os.fspath(checkpoint)} is a checkpoint of {found.encoder}, not of {encoder}; "
            "load it with napari_sam.load_model, which sees for itself."
        )
    model = _build(found, state, os.fspath(checkpoint))
    model.name, model.source = _name_of(os.fspath(checkpoint)), Path(checkpoint)
    return model.eval()


sam_model_registry: Mapping[str, Callable[..., PromptableModel]] = {
    name: partial(_build_sam, encoder)
    for name, encoder in {
        "default": "vit_h",
        "vit_h": "vit_h",
        "vit_l": "vit_l",
        "vit_b": "vit_b",
        "vit_t": "vit_t",
    }.items()
}
"""Builders by name, called as ``sam_model_registry["vit_b"](checkpoint="sam_vit_b_01ec64.pth")``.

The mapping of the official package (and of MobileSAM, which adds ``vit_t``): without a checkpoint the weights
are random.
"""
