"""Measurements that are commands of their own: ``python -m napari_sam.evaluation.NAME``."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from napari_sam.errors import NapariSamError

__all__ = ["run_alone"]


def run_alone(command: Callable[..., None], name: str) -> None:
    """Run a command on the arguments of the process; what is wrong is one sentence, and the status 2.

    Parameters
    ----------
    command : callable
        Its parameters are annotated for typer.
    name : str
        Of its module in this package.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        app(prog_name=f"python -m napari_sam.evaluation.{name}")
    except NapariSamError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
