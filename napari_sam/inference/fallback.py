"""What happens when a device runs out of memory or fails: less at a time, then the CPU.

Each step is told in one sentence, as a Python warning, or to whoever listens with :func:`telling`. Where
nothing helps, a :class:`~napari_sam.errors.DeviceError` says so; whoever asked still has the prompts and the
masks.
"""

from __future__ import annotations

import dataclasses
import gc
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from napari_sam.errors import DeviceError, DeviceWarning
from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["in_chunks", "on_device_of", "on_some_device", "telling"]

T = TypeVar("T")
Item = TypeVar("Item")

_CPU = torch.device("cpu")

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|_ALLOC_FAILED|Invalid buffer size"
)
"""What allocators say that raise plain RuntimeErrors: CPU (Unix, Windows), C++, cuBLAS and cuDNN, MPS."""

_FAILURE = re.compile(
    r"(CUDA|HIP|cuDNN|MPS|XPU) (driver )?error|CUBLAS_STATUS|CUDNN_STATUS|for the MPS device|MPSGraph"
)
"""What devices say that fail, or that lack an operation."""

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def telling(listener: Callable[[str], None]) -> Iterator[None]:
    """Tell a function of each fallback, in one sentence, instead of raising Python warnings.

    Holds for what the same thread does inside the block.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def on_some_device(model: PromptableModel, attempt: Callable[[], T]) -> T:
    """Run something on the model's device, or on the CPU if it fails there.

    When memory is short, what the allocator holds in reserve is freed and the device gets a second chance.
    The model stays on the CPU, in float32, once it is there.

    Parameters
    ----------
    model : PromptableModel
    attempt : callable
        Reads `model.device` anew in each call.

    Raises
    ------
    DeviceError
        If the CPU fails, too.
    """
    found = _tried(attempt)
    if isinstance(found, _Problem) and found.is_memory and model.device != _CPU:
        _free()
        found = _tried(attempt)
    if isinstance(found, _Problem) and model.device != _CPU:
        _move_to_cpu(model, found)
        found = _tried(attempt)
    if isinstance(found, _Problem):
        raise found.on(model.device) from found.cause
    return found


def in_chunks(
    model: PromptableModel, items: Sequence[Item], size: int, attempt: Callable[[Sequence[Item]], list[T]]
) -> list[T]:
    """Run something on a few items at a time, on fewer if memory is short, at last on the CPU.

    Parameters
    ----------
    model : PromptableModel
    items : sequence
    size : int
        Of a chunk, at most.
    attempt : callable
        Takes a chunk, returns one result for each of its items; reads `model.device` anew in each call.

    Raises
    ------
    DeviceError
        If the CPU fails with a single item.
    """
    results: list[T] = []
    few = size
    while len(results) < len(items):
        chunk = items[len(results) : len(results) + few]
        device = model.device
        found = _tried(partial(attempt, chunk))
        if isinstance(found, _Problem) and found.is_memory and len(chunk) > 1:
            _free()
            if few == size:
                _tell(f"Memory on {_named(device)} is short: fewer objects are decoded at once.")
            few = len(chunk) // 2
            continue
        if isinstance(found, _Problem):
            found = on_some_device(model, partial(attempt, chunk))
        results += found
        if model.device != device:
            few = size
    return results


def on_device_of(model: PromptableModel, embedding: Embedding) -> Embedding:
    """The embedding where the model's weights are; the same object if it is there already.

    Features that were kept in half precision take the precision of the weights.
    """
    weight = next(model.parameters())
    held = embedding.tensors
    if all(t.device == weight.device and _precision(t, weight.dtype) == t.dtype for t in held):
        return embedding
    moved: Embedding = _moved(embedding, weight.device, weight.dtype)
    return moved


def _precision(tensor: Tensor, wanted: torch.dtype) -> torch.dtype:
    return wanted if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy of tensors in dataclasses and tuples."""
    if isinstance(value, Tensor):
        return value.to(device, _precision(value, dtype))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{k: _moved(v, device, dtype) for k, v in fields.items()})
    if isinstance(value, tuple | list):
        parts = [_moved(part, device, dtype) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Why something could not be computed on a device.

    Holds no traceback: the frames in it would keep the tensors alive that filled the memory.
    """

    cause: BaseException
    is_memory: bool

    def on(self, device: torch.device) -> DeviceError:
        """What is raised when nothing is left to try."""
        if self.is_memory:
            return DeviceError(
                f"{self.failure_of(device)} for this image: "
                "use a smaller image, a smaller model or another device."
            )
        return DeviceError(f"{self.failure_of(device)}: restart, or use another device.")

    def failure_of(self, device: torch.device) -> str:
        """How a sentence on it begins."""
        if self.is_memory:
            return f"There is not enough memory on {_named(device)}"
        said = next(iter(str(self.cause).splitlines()), "")
        named = _named(device)
        return f"{named[0].upper()}{named[1:]} failed ({said})"


def _tried(attempt: Callable[[], T]) -> T | _Problem:
    """What it returns, computed without gradients; the problem if it is the device's."""
    try:
        with torch.inference_mode():
            return attempt()
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        return _Problem(error.with_traceback(None), True)
    except RuntimeError as error:
        text = str(error)
        is_memory = _MEMORY.search(text) is not None
        if isinstance(error, DeviceError) or not (is_memory or _FAILURE.search(text)):
            raise
        return _Problem(error.with_traceback(None), is_memory)


def _move_to_cpu(model: PromptableModel, problem: _Problem) -> None:
    device, name = model.device, model.name or "The model"
    try:
        model.prepare(_CPU, torch.float32)
    except RuntimeError as error:
        # A device that failed may not even give the weights back.
        raise DeviceError(f"{problem.failure_of(device)}: use another device.") from error
    _free()
    _tell(f"{problem.failure_of(device)}: {name} goes on on the CPU, which is slower.")


def _named(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else f"the device {device}"


def _free() -> None:
    """Give memory back that nothing uses."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _tell(sentence: str) -> None:
    listener = _listener.get()
    if listener is None:
        warnings.warn(sentence, DeviceWarning, stacklevel=2)
    else:
        listener(sentence)
