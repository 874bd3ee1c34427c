"""Errors and warnings while a file is read or written, as sentences."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_sam.errors import AnnotationError, FormatError, FormatWarning

__all__ = ["naming", "tell_left_out", "warnings_to", "writing"]


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


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make errors of the operating system errors of a file that is written.

    Raises
    ------
    FormatError
        In place of every OSError and MemoryError; its sentence has the path.
    """
    try:
        yield
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error.strerror or error}.") from error
    except MemoryError:
        raise FormatError(f"{path} needs more memory to be written than there is.") from None


@contextlib.contextmanager
def warnings_to(show: Callable[[str], object]) -> Iterator[None]:
    """Give what is said of losses to a function, every time; other warnings go where they always go.

    Parameters
    ----------
    show : callable
        Takes the sentence of a FormatWarning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", FormatWarning)
        usual = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FormatWarning):
                show(str(message))
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = shown
        yield


def tell_left_out(path: Path, count: int, why: str) -> None:
    """Warn of objects of a file that could not be taken over."""
    if count:
        many = "1 object" if count == 1 else f"{count} objects"
        warnings.warn(f"{many} of {path} left out: {why}.", FormatWarning, stacklevel=2)
