"""``python -m napari_sam.evaluation.automatic``: automatic masks on folders of labelled images."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from napari_sam.errors import NapariSamError
from napari_sam.evaluation.datasets import PLANE_STEP, read_folders, read_index
from napari_sam.evaluation.instances import (
    IOU_THRESHOLDS,
    Match,
    average_precision,
    match_labels,
    segmentation_accuracy,
)
from napari_sam.evaluation.watershed import watershed_baseline
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.inference.mask_files import label_image

__all__ = ["Line", "evaluate", "main", "summarise_automatic"]

ALL = "all"
BASELINE = "watershed"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes
    ----------
    group : str
        Data set and modality.
    method : str
        The model's name, or "watershed".
    images, objects : int
    ap50, ap75, ap : float
        Average precision over all objects, at IoU 0.5, 0.75, and its mean from 0.5 to 0.95.
    sa50, msa : float
        Segmentation accuracy at 0.5, and its mean from 0.5 to 0.95: means over images.
    seconds : float
        The median image takes.
    """

    group: str
    method: str
    images: int
    objects: int
    ap50: float
    ap75: float
    ap: float
    sa50: float
    msa: float
    seconds: float


def summarise_automatic(results: Mapping[tuple[str, str], Sequence[tuple[Match, float]]]) -> list[Line]:
    """A line for each group and method, and for each method over all groups if there are several.

    Parameters
    ----------
    results : mapping of (str, str) to sequence of (Match, float)
        What was found in each image and how many seconds it took, by group and method.
    """
    lines = [_line(*key, found) for key, found in results.items()]
    methods = dict.fromkeys(method for _, method in results)
    if len(lines) > len(methods):
        for method in methods:
            together = [one for (_, of), found in results.items() if of == method for one in found]
            lines.append(_line(ALL, method, together))
    return lines


def _line(group: str, method: str, found: Sequence[tuple[Match, float]]) -> Line:
    matches = [match for match, _ in found]
    precision = [average_precision(matches, threshold) for threshold in IOU_THRESHOLDS]
    accuracy = [[segmentation_accuracy(match, t) for t in IOU_THRESHOLDS] for match in matches]
    return Line(
        group,
        method,
        images=len(found),
        objects=sum(match.iou.shape[1] for match in matches),
        ap50=precision[0],
        ap75=precision[IOU_THRESHOLDS.index(0.75)],
        ap=float(np.mean(precision)),
        sa50=float(np.mean([one[0] for one in accuracy])),
        msa=float(np.mean(accuracy)),
        seconds=float(np.median([seconds for _, seconds in found])),
    )


def format_lines(lines: Sequence[Line]) -> str:
    """A table in Markdown."""
    header = ["data", "method", "images", "objects", "AP50", "AP75", "AP", "SA50", "mSA", "seconds"]
    rows = [
        [
            *(one.group, one.method, str(one.images), str(one.objects)),
            *(f"{value:.3f}" for value in (one.ap50, one.ap75, one.ap, one.sa50, one.msa)),
            f"{one.seconds:.2f}",
        ]
        for one in lines
    ]
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def evaluate(
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    index: Annotated[Path | None, typer.Option(help="Folder with an index.csv.")] = None,
    split: Annotated[str, typer.Option(help="Split of the index.")] = "val",
    datasets: Annotated[list[str] | None, typer.Option(help="Only this data set. Repeatable.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images, instead of an index.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of label images of the same names.")] = None,
    plane_step: Annotated[int, typer.Option(min=1, help="Take every such plane of a volume.")] = PLANE_STEP,
    prompts: Annotated[str, typer.Option(help="auto, grid, centres.")] = "auto",
    points_per_side: Annotated[int, typer.Option(min=1, help="Of the grid.")] = 32,
    baseline: Annotated[bool, typer.Option(help="Measure threshold and watershed, too.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that torch may use.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table to this file.")] = None,
) -> None:
    """Measure automatic masks: average precision and segmentation accuracy, beside a classical method."""
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
    network = load_model(model, device=device)
    generator = SamAutomaticMaskGenerator(network, points_per_side, prompts=prompts)
    results: dict[tuple[str, str], list[tuple[Match, float]]] = defaultdict(list)
    for sample in samples:
        group = f"{sample.dataset}, {sample.modality}" if sample.modality else sample.dataset
        ways = [(model, generator)] + ([(BASELINE, None)] if baseline else [])
        for method, made_by in ways:
            began = time.perf_counter()
            found, scores = _segmented(sample.image, made_by)
            seconds = time.perf_counter() - began
            results[group, method].append((match_labels(found, sample.labels, scores), seconds))
        if sys.stderr.isatty():
            typer.echo(f"\r{sum(map(len, results.values()))} results", nl=False, err=True)
    lines = summarise_automatic(results)
    typer.echo(format_lines(lines))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(line) for line in lines], indent=2) + "\n")


def _segmented(
    image: NDArray[Any], generator: SamAutomaticMaskGenerator | None
) -> tuple[NDArray[np.integer], NDArray[np.float64] | None]:
    """Labels as ``napari-sam auto`` writes them, and the score of each label."""
    if generator is None:
        return watershed_baseline(image), None
    masks = generator.masks(image)
    return label_image(masks), np.concatenate([[0.0], masks.predicted_iou])


def main() -> None:
    """Run :func:`evaluate` on the arguments of the process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(evaluate)
    try:
        app(prog_name="python -m napari_sam.evaluation.automatic")
    except NapariSamError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
