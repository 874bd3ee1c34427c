"""``python -m napari_sam.evaluation``: the interactive protocol on folders of labelled images."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from napari_sam.errors import NapariSamError
from napari_sam.evaluation.datasets import PLANE_STEP, read_folders, read_index
from napari_sam.evaluation.interactive import MAX_CLICKS, ImageResult, evaluate_image
from napari_sam.evaluation.report import format_table, summarise, write_objects

__all__ = ["evaluate", "main"]


def evaluate(
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    index: Annotated[Path | None, typer.Option(help="Folder with an index.csv.")] = None,
    split: Annotated[str, typer.Option(help="Split of the index.")] = "val",
    datasets: Annotated[list[str] | None, typer.Option(help="Only this data set. Repeatable.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images, instead of an index.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of label images of the same names.")] = None,
    plane_step: Annotated[int, typer.Option(min=1, help="Take every such plane of a volume.")] = PLANE_STEP,
    max_objects: Annotated[int | None, typer.Option(min=1, help="Objects per image at most.")] = None,
    clicks: Annotated[int, typer.Option(min=1, max=MAX_CLICKS, help="Points per object.")] = 5,
    feed_back: Annotated[bool, typer.Option(help="Give each click the logits of the one before.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that torch may use.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per object to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table to this file.")] = None,
) -> None:
    """Measure a model: IoU after one point, a box, and corrective clicks of a simulated user."""
    import torch

    from napari_sam.models import load_model

    if index is not None and images is None and labels is None:
        samples = read_index(index, split, datasets, plane_step)
    elif index is None and images is not None and labels is not None:
        samples = read_folders(images, labels, plane_step)
    else:
        raise typer.BadParameter("give either --index, or both --images and --labels")
    if threads is not None:
        torch.set_num_threads(threads)
    network = load_model(model, device=device, dtype=dtype)
    results: dict[str, list[tuple[str, ImageResult]]] = defaultdict(list)
    for sample in samples:
        result = evaluate_image(
            network,
            sample.image,
            sample.labels,
            clicks=clicks,
            max_objects=max_objects,
            feed_back=feed_back,
        )
        results[sample.dataset].append((sample.name, result))
        if sys.stderr.isatty():
            typer.echo(f"\r{sum(map(len, results.values()))} images", nl=False, err=True)
    summaries = summarise({dataset: [image for _, image in found] for dataset, found in results.items()})
    if not summaries:
        raise NapariSamError("None of the images has an object: check that the labels are the right files.")
    typer.echo(format_table(summaries))
    if csv is not None:
        write_objects(csv, results)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(summary) for summary in summaries], indent=2) + "\n")


def main() -> None:
    """Run :func:`evaluate` on the arguments of the process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(evaluate)
    try:
        app(prog_name="python -m napari_sam.evaluation")
    except NapariSamError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
