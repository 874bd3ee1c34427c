"""Which device and which precision to compute with."""

from __future__ import annotations

import torch

from napari_sam.errors import DeviceError

__all__ = ["available_devices", "pick_device", "pick_dtype"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    except RuntimeError as error:
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


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of that name; ``"auto"`` is bfloat16 on CUDA, else float32.

    Raises
    ------
    DeviceError
        If the name is unknown.

    Examples
    --------
    >>> pick_dtype("auto", torch.device("cpu"))
    torch.float32
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise DeviceError(f"{dtype!r} is not a precision; use 'auto' or one of {sorted(_DTYPES)}.")
    return _DTYPES[dtype]
