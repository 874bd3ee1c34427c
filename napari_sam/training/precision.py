"""In which precision training computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from napari_sam.models.device import pick_dtype

__all__ = ["fast_dtype", "reduced_precision"]


def fast_dtype(device: torch.device, *, prefers_float32_on_cpu: bool = False) -> torch.dtype:
    """bfloat16 where the device multiplies in it, else float32; never float16: gradients underflow in it.

    Parameters
    ----------
    device : torch.device
    prefers_float32_on_cpu : bool, default False
        As for :func:`~napari_sam.models.device.pick_dtype`.
    """
    dtype = pick_dtype("auto", device, prefers_float32_on_cpu=prefers_float32_on_cpu)
    return dtype if dtype == torch.bfloat16 else torch.float32


def reduced_precision(
    device: torch.device, *, prefers_float32_on_cpu: bool = False
) -> AbstractContextManager[object]:
    """Inside, bfloat16 for what can bear it, where the device multiplies in it; elsewhere nothing changes.

    Weights and their gradients stay in float32.

    Parameters
    ----------
    device : torch.device
    prefers_float32_on_cpu : bool, default False
        As for :func:`fast_dtype`.
    """
    dtype = fast_dtype(device, prefers_float32_on_cpu=prefers_float32_on_cpu)
    return torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext()
