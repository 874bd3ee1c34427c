"""How the command line fails: one sentence on standard error, and exit code 2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import typer

from napari_sam.errors import NapariSamError

__all__ = ["one_sentence_errors"]


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print expected errors to stderr as one sentence and exit with code 2."""
    try:
        yield
    except NapariSamError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")


_IN_PYTHON = ("say that it is to be replaced", "replace it by overwrite=True")


def _fail(sentence: str) -> NoReturn:
    for words in _IN_PYTHON:  # what the shell has an option for
        sentence = sentence.replace(words, "use --force to replace it")
    typer.echo(f"napari-sam: {sentence}", err=True)
    raise typer.Exit(2)
