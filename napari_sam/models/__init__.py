"""Networks, the model zoo and checkpoints.

Importing this package imports no torch: the names below import what they need when they are first used,
so that the table of models and downloads are at hand at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.models.device import available_devices
    from napari_sam.models.registry import available_models, load_model, sam_model_registry

__all__ = ["available_devices", "available_models", "load_model", "sam_model_registry"]

_HOMES = {
    "available_devices": "device",
    "available_models": "registry",
    "load_model": "registry",
    "sam_model_registry": "registry",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
