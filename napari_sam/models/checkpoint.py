"""Reading and writing weights; never anything that could run code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_sam.errors import ModelError

__all__ = ["load_into", "read_state", "save_state"]


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file, or from a PyTorch file read with ``weights_only=True``.

    Raises
    ------
    ModelError
        If the file is missing or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no checkpoint {path}; give a model name or the path of an existing file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} is not a readable checkpoint ({error}); download or copy it again."
        ) from error
    except Exception as error:  # torch raises pickle errors of its own for anything that could run code
        raise ModelError(
            f"{path} holds more than weights and was not loaded; save its state_dict alone."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path} is not a plain state dict; save the model's state_dict alone.")
    return state


def load_into(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load strictly.

    Raises
    ------
    ModelError
        Naming the missing, the unexpected and the misshapen parameters.
    """
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape),
    }
    found = [
        f"{len(v)} {k} ({', '.join(v[:3])}{', ...' if len(v) > 3 else ''})" for k, v in problems.items() if v
    ]
    if found:
        raise ModelError(
            f"{source} does not fit the model: parameters {'; '.join(found)}; check the model's family."
        )
    model.load_state_dict(state)


def save_state(model: nn.Module, path: str | os.PathLike[str], *, half: bool = True) -> None:
    """Write the weights as safetensors, atomically; floating-point parameters as float16 if ``half``.

    Buffers (normalisation statistics, frequencies) keep their precision: running variances overflow float16.
    """
    parameters = {name for name, _ in model.named_parameters()}
    state = {
        name: (t.half() if half and name in parameters and t.is_floating_point() else t)
        .detach()
        .cpu()
        .contiguous()
        for name, t in model.state_dict().items()
    }
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(state, temporary)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
