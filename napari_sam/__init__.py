"""Segment Anything for scientific images, in napari, from Python and from the shell.

Importing the package is cheap: torch, napari and Qt are imported by the names that need them, when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazily import getter

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
    "Annotation": "annotation.annotation",
    "SamAutomaticMaskGenerator": "inference.automatic",
    "SamPredictor": "inference.predictor",
    "SamVideoPredictor": "inference.video_predictor",
    "annotate": "ui.scripting",
    "load_model": "models",
    "sam_model_registry": "models",
}

__getattr__ = getter(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
