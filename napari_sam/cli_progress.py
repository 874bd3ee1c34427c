"""How the command line shows that it is busy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(title: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, which goes when its work is done; none if ``quiet``, or if it is no terminal.

    What it gives is called with how many are done and how many there are.
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, leave=False, disable=True if quiet else None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
