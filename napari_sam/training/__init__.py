"""Training: a user's own model from images and labels (:func:`fit`), and how the embedded model was made."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.training.fitting import FitResult, Progress, fit

__all__ = ["FitResult", "Progress", "fit"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.fitting"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
