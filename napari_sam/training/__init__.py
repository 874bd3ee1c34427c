"""Training: a user's own model from images and labels (:func:`fit`), and how the embedded model was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazily import getter

if TYPE_CHECKING:
    from napari_sam.training.fitting import fit
    from napari_sam.training.progress import FitResult, Progress

__all__ = ["FitResult", "Progress", "fit"]

_HOMES = {"FitResult": "progress", "Progress": "progress", "fit": "fitting"}

__getattr__ = getter(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
