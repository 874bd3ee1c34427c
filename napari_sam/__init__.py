"""Segment Anything for scientific images, in napari, from Python and from the shell.

Importing the package is cheap: torch, napari and Qt are imported by the names that need them, when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.annotation.annotation import Annotation
    from napari_sam.inference.automatic import SamAutomaticMaskGenerator
    from napari_sam.inference.predictor import SamPredictor
    from napari_sam.inference.video_predictor import SamVideoPredictor
    from napari_sam.models import load_model, sam_model_registry
    from napari_sam.ui.scripting import annotate

__version__ = "0.1.0"

__all__ = [
    "Annotation",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "SamVideoPredictor",
    "__version__",
    "annotate",
    "load_model",
    "sam_model_registry",
]

_HOMES = {
    "Annotation": "napari_sam.annotation.annotation",
    "SamAutomaticMaskGenerator": "napari_sam.inference.automatic",
    "SamPredictor": "napari_sam.inference.predictor",
    "SamVideoPredictor": "napari_sam.inference.video_predictor",
    "annotate": "napari_sam.ui.scripting",
    "load_model": "napari_sam.models",
    "sam_model_registry": "napari_sam.models",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
