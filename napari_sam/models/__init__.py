"""Networks, the model zoo and checkpoints.

Importing this package imports no torch: the names below import what they need when they are first used,
so that the table of models and downloads are at hand at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazily import getter

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

__getattr__ = getter(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
