"""Training: a user's own model from images and labels (:func:`fit`), and how the embedded model was made."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.training.fitting import fit
    from napari_sam.training.progress import FitResult, Progress

__all__ = ["FitResult", "Progress", "fit"]

_HOMES = {"FitResult": "progress", "Progress": "progress", "fit": "fitting"}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
