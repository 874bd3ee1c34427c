"""What formats say of losses and of errors, where a user of napari sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

from napari.utils.notifications import show_error, show_warning

from napari_sam.errors import AnnotationError, FormatError
from napari_sam.formats.telling import warnings_to

__all__ = ["opening", "saving", "warnings_shown"]


def warnings_shown() -> AbstractContextManager[None]:
    """Show at once what a format cannot hold or leaves out: napari drops warnings while it saves."""
    return warnings_to(show_warning)


@contextlib.contextmanager
def opening(path: str) -> Iterator[None]:
    """Show what is wrong with a file, too: napari itself says of a dropped file only that there was an error.

    Raises
    ------
    FormatError, AnnotationError
        As it came, or in place of an error of the operating system.
    """
    try:
        with warnings_shown():
            yield
    except (FormatError, AnnotationError) as error:
        show_error(str(error))
        raise
    except OSError as error:
        sentence = f"{path} cannot be read: {error.strerror or error}."
        show_error(sentence)
        raise FormatError(sentence) from error


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Raise what is wrong as napari does, to which a ValueError means that the plugin is not the right one.

    Raises
    ------
    OSError
        In place of every FormatError and AnnotationError, with the same sentence.
    """
    try:
        with warnings_shown():
            yield
    except (FormatError, AnnotationError) as error:
        raise OSError(str(error)) from error
