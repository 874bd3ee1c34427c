"""The command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_sam import (
    __version__,
    cli_auto,
    cli_convert,
    cli_evaluate,
    cli_models,
    cli_propagate,
    cli_replay,
    cli_train,
)
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_images import calibration_of_image, opened, tiff_of
from napari_sam.errors import PromptError

__all__ = ["app", "main"]

app = typer.Typer(
    name="napari-sam",
    help="Segment Anything for scientific images.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_models.app, name="models")


def main() -> None:
    """Run the command line on the arguments of the process."""
    app(prog_name="napari-sam")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-sam {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    image: Annotated[Path, typer.Argument(help="Image file: TIFF, PNG, JPEG, NPY, ...", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Label image to write: .tif, .png or .npy.", show_default=False),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y[,LABEL]", help="A point; label 1 is on the object, 0 is not. Repeatable."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="X0,Y0,X1,Y1", help="A box around the object.")
    ] = None,
    mask_input: Annotated[
        Path | None, typer.Option(help="NPY file with 256 x 256 logits of an earlier prediction.")
    ] = None,
    plane: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX", help="Which plane of a stack, per axis: repeated, or as 3,0."),
    ] = None,
    channel_axis: Annotated[
        int | None,
        typer.Option(
            help="Which axis is channels; if it is the last, its planes are chosen as others.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model (see `napari-sam models`), or path of a checkpoint.")
    ] = "nano",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print score, box and area as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output file.")] = False,
) -> None:
    """Segment one object; all points and the box are prompts for it.

    The output has the value 1 on the object and 0 elsewhere.
    """
    with one_sentence_errors():
        points = [_point(text) for text in point or []]
        corners = [_numbers(text, "box", (4,), "X0,Y0,X1,Y1") for text in box or []]
        if len(corners) > 1:
            raise PromptError("One call segments one object: give --box once.")
        indices = [index for text in plane or [] for index in _indices(text)]

        # torch takes seconds to import: not before the arguments are known to be sound.
        from napari_sam.inference.files import check_apart, check_output, read_image, write_labels

        check_apart(output, image)
        check_output(output, force=force)
        whole = opened(image, channel_axis)
        pixels = whole.plane(indices)

        from napari_sam.inference.embedding_store import encode
        from napari_sam.inference.engine import segment
        from napari_sam.inference.image import as_rgb
        from napari_sam.inference.prompts import Prompts
        from napari_sam.models import load_model

        rgb = as_rgb(pixels)
        prompts = Prompts.create(
            (rgb.shape[0], rgb.shape[1]),
            points=[(x, y) for x, y, _ in points] or None,
            labels=[label for _, _, label in points] or None,
            box=corners[0] if corners else None,
            mask_input=None if mask_input is None else read_image(mask_input, palette=False)[0],
        )
        if not prompts.selects_something:
            raise PromptError(
                "Points with the label 0 select nothing by themselves: add a point on the object, or a box."
            )
        network = load_model(model, device=device)
        result = segment(network, encode(network, rgb), prompts)
        calibration = calibration_of_image(image, whole)
        tiff = tiff_of(None if calibration is None else calibration.plane)
        write_labels(output, result.mask.to_array().astype("uint8"), force=force, tiff=tiff)
        area, found = result.mask.area, result.mask.box_xyxy
        if as_json:
            typer.echo(json.dumps({"score": result.score, "box": found, "area": area}))
        else:
            typer.echo(f"{output}: {area} pixels, predicted IoU {result.score:.2f}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    show: Annotated[
        bool | None, typer.Option("--show/--no-show", help="Open napari; by default if there is a display.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of these names in a folder of yours.")
    ] = False,
) -> None:
    """Segment the coins of a sample image and write labels, an overlay and a table."""
    with one_sentence_errors():
        from napari_sam.demo import run

        run(out, show=show, force=force)


app.command()(cli_replay.replay)
app.command()(cli_auto.auto)
app.command()(cli_propagate.propagate)
app.command()(cli_train.train)
app.command()(cli_evaluate.evaluate)
app.command()(cli_convert.convert)
app.command()(cli_convert.formats)


def _numbers(text: str, what: str, counts: tuple[int, ...], form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        raise PromptError(f"{text!r} is not a {what}: write numbers as {form}.")
    return numbers


def _point(text: str) -> tuple[float, float, float]:
    x, y, *label = _numbers(text, "point", (2, 3), "X,Y or X,Y,LABEL")
    return x, y, label[0] if label else 1.0


def _indices(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PromptError(f"{text!r} is not a plane: write whole numbers as 3 or 3,0.") from None
