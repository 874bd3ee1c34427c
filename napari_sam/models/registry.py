"""Models by name."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ModelError
from napari_sam.models.checkpoint import load_into, read_state
from napari_sam.models.device import pick_device, pick_dtype
from napari_sam.models.nano import Nano

if TYPE_CHECKING:
    import torch

    from napari_sam.models.base import PromptableModel

__all__ = ["available_models", "load_model"]


def available_models() -> list[str]:
    """Names that :func:`load_model` takes.

    Examples
    --------
    >>> available_models()
    ['nano']
    """
    return ["nano"]


def load_model(
    name_or_path: str | os.PathLike[str] = "nano",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> PromptableModel:
    """Load a model, ready for inference.

    Parameters
    ----------
    name_or_path : str or path, default "nano"
        A name of :func:`available_models`, or a checkpoint of the ``nano`` architecture (``.safetensors``,
        or a PyTorch file that holds nothing but a state dict).
    device : str or torch.device, default "auto"
        ``"auto"`` takes the fastest device there is; else ``"cpu"``, ``"cuda"``, ``"mps"``, ...
    dtype : str or torch.dtype, default "auto"
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or what suits the device.

    Raises
    ------
    ModelError
        If the name is unknown, the file is missing, or its weights do not fit.
    DeviceError
        If the device is not there.

    Examples
    --------
    >>> model = load_model("nano", device="cpu")
    >>> model.name
    'nano'
    """
    where = pick_device(device)
    precision = pick_dtype(dtype, where, prefers_float32_on_cpu=Nano.prefers_float32_on_cpu)
    name = os.fspath(name_or_path)
    if name in available_models():
        with resources.as_file(
            resources.files("napari_sam.models") / "weights" / f"{name}.safetensors"
        ) as path:
            state = read_state(path)
    elif Path(name).suffix:
        state = read_state(name)
    else:
        raise ModelError(
            f"There is no model {name!r}; choose one of {available_models()} or give a checkpoint's path."
        )
    model = Nano()
    load_into(model, state, name)
    model.name = name
    return model.prepare(where, precision)
