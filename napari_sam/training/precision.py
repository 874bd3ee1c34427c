"""In which precision training computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from napari_sam.models.device import pick_dtype

__all__ = ["reduced_precision"]


def reduced_precision(
    device: torch.device, *, prefers_float32_on_cpu: bool = False
) -> AbstractContextManager[object]:
    """Inside, bfloat16 for what can bear it, where the device multiplies in it; elsewhere nothing changes.

    Weights and their gradients stay in float32. float16 is not used: gradients underflow in it.

    Parameters
    ----------
    device : torch.device
    prefers_float32_on_cpu : bool, default False
        As for :func:`~napari_sam.models.device.pick_dtype`.
    """
    dtype = pick_dtype("auto", device, prefers_float32_on_cpu=prefers_float32_on_cpu)
    return torch.autocast(device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
