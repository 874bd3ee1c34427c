"""Stopping a network in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["Abandoned", "abandonable"]


class Abandoned(Exception):
    """Nobody waits for the result any more."""


@contextmanager
def abandonable(model: nn.Module, abandoned: threading.Event) -> Iterator[None]:
    """Let another thread stop what the model computes inside the block.

    The network looks before each of its layers: a large encoder on a CPU ends after a fraction of a second
    instead of many seconds. What other threads compute with the same model goes on.

    Parameters
    ----------
    model : torch.nn.Module
    abandoned : threading.Event
        Set it to stop.

    Raises
    ------
    Abandoned
        If it was stopped.
    """
    # Hooks are the model's: all threads that use it come by.
    owner = threading.get_ident()

    def look(*_: Any) -> None:
        if abandoned.is_set() and threading.get_ident() == owner:
            raise Abandoned

    handles = [module.register_forward_pre_hook(look) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
