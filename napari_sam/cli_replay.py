"""``napari-sam replay``: segment again what a saved annotation holds, and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_images import calibration_of_image, opened, tiff_of

if TYPE_CHECKING:
    from napari_sam.annotation.replay import Recomputed, Replay

__all__ = ["replay"]


def replay(
    file: Annotated[Path, typer.Argument(help="Annotation: .napari-sam.zip.", show_default=False)],
    image: Annotated[Path, typer.Argument(help="The image that it was made on.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Label image to write: .tif, .png or .npy.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Name or checkpoint of a model instead of the saved ones.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with another image, and replace an existing output file.")
    ] = False,
) -> None:
    """Segment again what an annotation holds, and compare.

    The saved prompts are asked again, of the saved model, on planes that look as they did; the IoU of each
    mask with the saved one is printed. Imported and hand-painted objects stay as they are.
    """
    with one_sentence_errors():
        from napari_sam.inference.files import check_apart, check_output, write_labels

        if output is not None:
            check_apart(output, image)
            check_output(output, force=force)
        whole = opened(image, palette=False)

        from napari_sam.annotation.replay import replay as ask_again

        found = ask_again(file, whole.pixels, model=model, device=device, force=force)
        for doubt in found.doubts:
            typer.echo(f"napari-sam: {doubt}", err=True)
        if output is not None:
            labels = found.document.to_labels("int64")
            calibration = calibration_of_image(image, whole)
            if calibration is not None and len(calibration.axes) != labels.ndim:
                calibration = None
            write_labels(output, labels, force=force, tiff=tiff_of(calibration))
        if as_json:
            typer.echo(json.dumps(_record(found), indent=1))
        else:
            _print_table(found)


def _record(found: Replay) -> dict[str, Any]:
    return {
        "objects": [
            {
                "id": result.id,
                "plane": result.plane.index,
                "model": result.answer.model,
                "iou": result.iou,
                "score": result.answer.score,
                "saved_score": result.saved.score,
                "area": result.answer.mask.area,
                "saved_area": result.saved.mask.area,
            }
            for result in found.results
        ],
        "mean_iou": found.mean_iou,
        "identical": found.identical,
        "without_prompts": found.unprompted,
        "doubts": found.doubts,
    }


def _print_table(found: Replay) -> None:
    rows: list[tuple[str, ...]] = [("id", "plane", "IoU", "score", "saved", "pixels", "saved")]
    rows += [_row(result) for result in found.results]
    if found.results:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    count = len(found.results)
    mean = "" if found.mean_iou is None else f", mean IoU {found.mean_iou:.4f}"
    typer.echo(f"{found.identical} of {count} {'mask is' if count == 1 else 'masks are'} identical{mean}.")
    if found.unprompted:
        typer.echo(f"{found.unprompted} without prompts stayed as saved.")


def _row(result: Recomputed) -> tuple[str, ...]:
    scores = (result.answer.score, result.saved.score)
    return (
        str(result.id),
        str(result.plane),
        f"{result.iou:.4f}",
        *("" if score is None else f"{score:.2f}" for score in scores),
        str(result.answer.mask.area),
        str(result.saved.mask.area),
    )
