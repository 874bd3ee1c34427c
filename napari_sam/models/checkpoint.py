"""Reading and writing weights; never anything that could run code."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_sam.atomic import replacing
from napari_sam.errors import ModelError, reason_of

__all__ = ["load_into", "read_metadata", "read_state", "save_state", "unwrap", "writing"]

_WRAPPERS = ("model_state", "model", "state_dict", "model_state_dict")
"""Where training checkpoints keep the state dict: torch-em and micro-sam, SAM 2, Lightning, ..."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.")
"""What data parallelism, ``torch.compile`` and trainers put before each name."""
_DEEPEST = 4
_SMALL = 4096
"""Tensors of so many numbers are read to see whether they are numbers."""
_DATA_MODULES = {
    "argparse",
    "collections",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "pathlib",
    "uuid",
}
# commands: what subprocess is called in pickles that Python 2 can read, as those of torch.save are
_STANDARD_LIBRARY = sys.stdlib_module_names | {"commands"}
# getattr: how a method of an object is pickled
_DATA_BUILTINS = {
    "bytes",
    "dict",
    "float",
    "frozenset",
    "getattr",
    "int",
    "list",
    "object",
    "range",
    "slice",
    "tuple",
}


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Parameters by name from a checkpoint, whatever they are wrapped in.

    Safetensors, or a file of ``torch.save``: a state dict, or one inside a training checkpoint, with the
    parameter names of the network itself. Large files are mapped, not read.

    Nothing in a file is ever run: PyTorch files are read with ``weights_only=True``. What a training
    checkpoint holds beside weights (settings, paths, data sets) becomes an empty stand-in, and is dropped.

    Raises
    ------
    ModelError
        If the file is missing, is no checkpoint, refers to code beyond what describes data, or has weights
        that are no finite real numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no checkpoint {path}; give a model name or the path of an existing file.")
    try:
        content = load_file(path) if _is_safetensors(path) else _load_without_code(path)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        if not _is_pickled(path):
            raise ModelError(
                f"{path} is not a readable checkpoint (neither PyTorch nor safetensors wrote it); "
                "download or copy it again, or choose another file."
            ) from error
        raise ModelError(
            f"{path} holds more than weights and was not loaded; save its state_dict alone."
        ) from error
    except Exception as error:  # what damaged files raise has no common base
        raise ModelError(
            f"{path} is not a readable checkpoint ({reason_of(error)}); download or copy it again."
        ) from error
    state = unwrap(content)
    if not state:
        raise ModelError(f"{path} holds no weights by name; save the model's state_dict.")
    _check_numbers(state, path)
    return state


def _check_numbers(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that cannot give masks; large tensors are not read for it."""
    for name, tensor in state.items():
        if tensor.is_complex():
            raise ModelError(
                f"{path} has complex weights ({name}); save the model's weights as real numbers."
            )
        # Where training diverged, biases and norms are NaN, too.
        small = tensor.is_floating_point() and tensor.numel() <= _SMALL
        if small and not tensor.float().isfinite().all():
            raise ModelError(
                f"{path} has weights that are not finite ({name}); take one from before that happened."
            )


def _is_safetensors(path: Path) -> bool:
    """Whether a file is named so, or begins so: with the length of a JSON object, and the object."""
    if path.suffix.lower() == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


def _is_pickled(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` do, whose pickles are of protocol 2 or later."""
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO or zipfile.is_zipfile(path)


class _Ignored:
    """Stands for an object that is not weights: takes whatever made that object, and keeps nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


def _ignored_dict(*_: object) -> dict[object, object]:
    """Stands for a dict of another kind: the unpickler fills nothing but real ones."""
    return {}


def _load_without_code(path: Path) -> object:
    mapped = zipfile.is_zipfile(path)  # files from before PyTorch 1.6 are not, and cannot be mapped
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if mapped else []
    suspicious = sorted(name for name in foreign if not _describes_data(name))
    if suspicious:
        raise ModelError(
            f"{path} refers to code ({', '.join(suspicious[:3])}) and was not loaded; "
            "ask where it came from, or save its state_dict alone."
        )
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_ignored_dict if name == "collections.defaultdict" else _Ignored, name) for name in foreign
    ]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _describes_data(name: str) -> bool:
    """Whether an object of that name is plausible in a training checkpoint.

    All of them become stand-ins. Standard library functions that do things are refused nevertheless: a file
    that asks for them was made to do harm, and its weights are not to be trusted either.
    """
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package == "builtins":
        return attribute in _DATA_BUILTINS
    return package in _DATA_MODULES or package not in _STANDARD_LIBRARY


def unwrap(content: object) -> dict[str, Tensor]:
    """The state dict inside a checkpoint; empty if there is none.

    Examples
    --------
    >>> weights = torch.zeros(1)
    >>> list(unwrap({"model_state": {"sam.mask_decoder.iou_token.weight": weights}, "epoch": 3}))
    ['mask_decoder.iou_token.weight']
    """
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    assert isinstance(content, Mapping)
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    while prefix := next((p for p in _PREFIXES if state and all(k.startswith(p) for k in state)), None):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
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


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What is written in a safetensors file beside its weights; nothing for other files.

    Examples
    --------
    >>> read_metadata("no such file.safetensors")
    {}
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def save_state(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    half: bool = True,
    metadata: Mapping[str, str] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the weights as safetensors, atomically; floating-point parameters as float16 if ``half``.

    Buffers (normalisation statistics, frequencies) keep their precision: running variances overflow float16.

    Parameters
    ----------
    model : torch.nn.Module
    path : path
    half : bool, default True
    metadata : mapping of str to str, optional
        Written beside the weights; see :func:`read_metadata`.
    state : mapping of str to Tensor, optional
        Parameters and buffers to write, if not those that the model's ``state_dict`` gives.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    buffers = {name for name, _ in model.named_buffers()}
    state = {
        name: (t.half() if half and name not in buffers and t.is_floating_point() else t)
        .detach()
        .cpu()
        .contiguous()
        for name, t in (model.state_dict() if state is None else state).items()
    }
    with writing(Path(path)) as part:
        save_file(state, part, metadata=dict(metadata) if metadata else None)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A file to write weights into, which takes the place of `path` when all went well.

    Raises
    ------
    ModelError
        If it cannot be written: what writes weights raises errors of many kinds where a disk is full.
    """
    try:
        with replacing(path) as part:
            yield part
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{path} cannot be written ({reason_of(error)}): make room there, or choose another place."
        ) from error
