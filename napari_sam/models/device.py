"""Which device and which precision to compute with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from napari_sam.errors import DeviceError

__all__ = ["available_devices", "free_memory", "pick_device", "pick_dtype"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_POSSIBLE = {*_DTYPES.values(), torch.float64}


def available_devices() -> list[str]:
    """Devices that this machine can compute on, the fastest first.

    Examples
    --------
    >>> available_devices()[-1]
    'cpu'
    """
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``"auto"`` is the fastest there is.

    Raises
    ------
    DeviceError
        If this machine has no such device.
    """
    if str(device) == "auto":
        return torch.device(available_devices()[0])
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"{device!r} is not a device; use 'auto' or one of {available_devices()}."
        ) from error
    if wanted.type not in {name.split(":")[0] for name in available_devices()} or (
        wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()
    ):
        raise DeviceError(
            f"Device {device!s} is not available here; use 'auto' or one of {available_devices()}."
        )
    return wanted


def pick_dtype(
    dtype: str | torch.dtype, device: torch.device, *, prefers_float32_on_cpu: bool = False
) -> torch.dtype:
    """The precision of that name; ``"auto"`` is the fastest that the device computes in without emulation.

    ``"auto"`` is bfloat16 on CUDA devices that have it, else float16; bfloat16 on CPUs that multiply
    in it (AMX or AVX512-BF16), else float32; and float32 on MPS.

    Parameters
    ----------
    dtype : str or torch.dtype
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device : torch.device
    prefers_float32_on_cpu : bool, default False
        ``"auto"`` is float32 on every CPU; what
        :attr:`~napari_sam.models.base.PromptableModel.prefers_float32_on_cpu` of a model says.

    Raises
    ------
    DeviceError
        If the name is unknown, or it is a type that networks cannot compute in.

    Examples
    --------
    >>> pick_dtype("auto", torch.device("cpu"), prefers_float32_on_cpu=True)
    torch.float32
    >>> pick_dtype("bfloat16", torch.device("cpu"))
    torch.bfloat16
    """
    if isinstance(dtype, torch.dtype):
        if dtype not in _POSSIBLE:
            raise DeviceError(f"{dtype} is not a precision; use 'auto' or one of {sorted(_DTYPES)}.")
        return dtype
    if dtype == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if _gpu_has_bfloat16(device) else torch.float16
        if device.type == "cpu" and not prefers_float32_on_cpu and _cpu_has_bfloat16():
            return torch.bfloat16
        # MPS, too: it has bfloat16 from macOS 14 on only, and overflows in float16 show as empty masks.
        return torch.float32
    if dtype not in _DTYPES:
        raise DeviceError(f"{dtype!r} is not a precision; use 'auto' or one of {sorted(_DTYPES)}.")
    return _DTYPES[dtype]


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, or None where it does not say.

    Examples
    --------
    >>> free_memory(torch.device("cpu")) > 0
    True
    """
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _gpu_has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 and torch makes use of it."""
    # torch tells of the CPU's features since 2.11; before that, through private names only.
    features: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    found = features()
    return torch.backends.mkldnn.is_available() and bool(found.get("amx_bf16") or found.get("avx512_bf16"))
