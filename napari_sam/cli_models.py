"""``napari-sam models``: what models there are, what is on disk, downloading and removing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli_errors import one_sentence_errors

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.models.zoo import ModelInfo

__all__ = ["app"]

app = typer.Typer(
    help="List the models; with a command, say more about one, download or remove it.",
    rich_markup_mode=None,
)

Name = Annotated[
    str, typer.Argument(help="Name of a model, as `napari-sam models` lists them.", show_default=False)
]


@app.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the models and what is on disk."""
    if context.invoked_subcommand is not None:
        return
    with one_sentence_errors():
        from napari_sam.models.store import find
        from napari_sam.models.zoo import ZOO

        entries = [(info, find(info.name)) for info in ZOO.values()]
        if as_json:
            typer.echo(json.dumps([_record(info, path) for info, path in entries], indent=1))
            return
        rows = [("name", "on disk", "size", "good for")]
        rows += [
            (info.name, "yes" if path else "no", _file_size(info, path), info.domain)
            for info, path in entries
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def info(name: Name) -> None:
    """Print parameters, input size, memory, licence and citation of a model."""
    with one_sentence_errors():
        from napari_sam.models.store import find
        from napari_sam.models.zoo import lookup

        model = lookup(name)
        path = find(model.name)
        lines = {
            "name": model.name,
            "family": " ".join(filter(None, ({"sam2": "SAM 2", "sam": "SAM"}.get(model.family, model.family),
                                             model.version))),
            "encoder": model.encoder,
            "good for": model.domain,
            "parameters": f"{model.parameters / 1e6:.1f} million",
            "input": model.input_size,
            "memory": f"{_size(model.weights_nbytes)} for the weights in float32, half of it in bfloat16; "
            f"about {_size(model.working_nbytes)} more while an image is encoded on a CPU",
            "file": _file_size(model, path),
            "address": model.url or "part of the package",
            "checksum": model.digest,
            "licence": model.licence,
            "record": model.record,
            "to cite": model.citation,
            "on disk": path or "no",
        }  # fmt: skip
        for what, said in lines.items():
            if said:
                typer.echo(f"{what + ':':<12}{said}")


@app.command()
def download(name: Name) -> None:
    """Download a model, or go on with a download that was interrupted, and print the path of its file."""
    with one_sentence_errors():
        from napari_sam.models.download import fetch, terminal_progress
        from napari_sam.models.zoo import lookup

        model = lookup(name)
        with terminal_progress(model.name) as progress:
            path = fetch(model.name, progress=progress)
        typer.echo(path)


@app.command()
def path(
    name: Annotated[str | None, typer.Argument(help="Name of a model.", show_default=False)] = None,
) -> None:
    """Print where a model's file is; without a name, the folder that downloads go to."""
    with one_sentence_errors():
        from napari_sam.errors import ModelError
        from napari_sam.models.store import find, model_folder
        from napari_sam.models.zoo import lookup

        if name is None:
            typer.echo(model_folder())
            return
        model = lookup(name)
        found = find(model.name)
        if found is None:
            raise ModelError(
                f"{model.name} is not on disk; get it with: napari-sam models download {model.name}."
            )
        typer.echo(found)


@app.command()
def remove(name: Name) -> None:
    """Delete a downloaded model, and what an interrupted download of it has left."""
    with one_sentence_errors():
        from napari_sam.errors import ModelError
        from napari_sam.models.store import find
        from napari_sam.models.store import remove as delete
        from napari_sam.models.zoo import lookup

        removed = delete(name)
        if not removed:
            elsewhere = find(name)
            where = f"; the copy at {elsewhere} is yours to delete" if elsewhere else ""
            raise ModelError(f"{lookup(name).name} was not downloaded{where}.")
        for file in removed:
            typer.echo(f"removed {file}")


def _nbytes(model: ModelInfo, path: Path | None) -> int | None:
    return model.nbytes if path is None else path.stat().st_size


def _file_size(model: ModelInfo, path: Path | None) -> str:
    nbytes = _nbytes(model, path)
    # where the publisher does not say, the parameters do: checkpoints are in float32
    return f"about {_size(model.weights_nbytes)}" if nbytes is None else _size(nbytes)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def _record(model: ModelInfo, path: Path | None) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "encoder": model.encoder,
        "version": model.version,
        "parameters": model.parameters,
        "nbytes": _nbytes(model, path),
        "digest": model.digest,
        "url": model.url,
        "licence": model.licence,
        "domain": model.domain,
        "citation": model.citation,
        "record": model.record,
        "path": None if path is None else str(path),
    }
