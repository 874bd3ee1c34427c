"""Refusing what does not fit into memory before it is allocated: systems promise more than they have."""

from __future__ import annotations

from napari_sam.errors import FormatError

__all__ = ["check_free"]


def check_free(needed: int, what: str, instead: str) -> None:
    """Refuse what takes more memory than is free.

    Parameters
    ----------
    needed : int
        In bytes.
    what : str
        What needs it, as the beginning of a sentence.
    instead : str
        What to do, as the end of it.

    Raises
    ------
    FormatError
        If it does not fit.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    if needed > free:
        raise FormatError(
            f"{what} would take {needed / 2**30:.3g} GiB of memory, and {free / 2**30:.3g} GiB are free: "
            f"{instead}."
        )
