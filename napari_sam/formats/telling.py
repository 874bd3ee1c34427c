"""Errors while a file is read, as one sentence that names the file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from napari_sam.errors import AnnotationError, FormatError, FormatWarning

__all__ = ["naming", "tell_left_out"]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make what is wrong with values of a file an error of that file.

    Raises
    ------
    FormatError
        In place of every FormatError and AnnotationError; its sentence has the path.
    """
    try:
        yield
    except (FormatError, AnnotationError) as error:
        told = str(error)
        raise FormatError(told if str(path) in told else f"{path} cannot be read: {told}") from error


def tell_left_out(path: Path, count: int, why: str) -> None:
    """Warn of objects of a file that could not be taken over."""
    if count:
        many = "1 object" if count == 1 else f"{count} objects"
        warnings.warn(f"{many} of {path} left out: {why}.", FormatWarning, stacklevel=2)
