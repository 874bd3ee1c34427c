"""Names of a package that import what they need when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["getter"]


def getter(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        By name, the module that it is in, as seen from the package.

    Examples
    --------
    >>> find = getter("napari_sam", {"Mask": "inference.mask"})
    >>> find("Mask").__name__
    'Mask'
    """

    def find(name: str) -> Any:
        try:
            home = homes[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        return getattr(importlib.import_module(f"{package}.{home}"), name)

    return find
