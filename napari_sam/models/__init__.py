"""Networks and checkpoints."""

from __future__ import annotations

from napari_sam.models.device import available_devices
from napari_sam.models.registry import available_models, load_model

__all__ = ["available_devices", "available_models", "load_model"]
