"""How many threads a network takes where another thread needs a core, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

__all__ = ["leaving_a_core"]


@contextmanager
def leaving_a_core() -> Iterator[None]:
    """Compute on all cores but one, in the calling thread.

    The threads of one operation wait for each other. If something else has one of the cores, such as a GUI
    that draws, all of them wait for it, hundreds of times in a network: fewer threads are faster then.

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> with leaving_a_core():
    ...     fewer = torch.get_num_threads()
    >>> 1 <= fewer <= before == torch.get_num_threads()
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, _cores() - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    """Those that this process may use, where the system says it."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
