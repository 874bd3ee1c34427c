"""The real model on a device that throws what real devices throw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

import napari_sam
from napari_sam.models.base import Embedding, MaskLogits, PromptBatch
from napari_sam.models.nano import Nano, NanoEmbedding

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError("Unable to allocate 2.00 GiB for an array"),
]
FAILED = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")


class Unreliable(Nano):
    """The real network on a device beside the CPU that may throw an error at each call.

    The device is the CPU by another name, so that it computes; a model that is prepared again is off it.
    """

    def __init__(self, fails: Callable[[int], Exception | None], dtype: str = "float32") -> None:
        super().__init__()
        ready = napari_sam.load_model("nano", device="cpu", dtype=dtype)
        for name, module in ready.named_children():
            setattr(self, name, module)
        self.name = "nano"
        self.fails = fails
        self.calls: list[int] = []
        self.where = torch.device("cpu:0")

    @property
    def device(self) -> torch.device:
        return self.where

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Self:
        self.where = device
        return super().prepare(device, dtype)

    def encode(self, pixels: Tensor) -> NanoEmbedding:
        self._perhaps_fail(0)
        return super().encode(pixels)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        self._perhaps_fail(len(prompts))
        return super().decode(embedding, prompts, multimask=multimask)

    def _perhaps_fail(self, size: int) -> None:
        self.calls.append(size)
        error = self.fails(size)
        if error is not None and self.where == torch.device("cpu:0"):
            raise error


def first(count: int, error: Exception) -> Callable[[int], Exception | None]:
    """Fails so many times."""
    left = iter([error] * count)
    return lambda _: next(left, None)
