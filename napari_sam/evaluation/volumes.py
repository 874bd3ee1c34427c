"""``python -m napari_sam.evaluation.volumes``: objects carried through volumes and films."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from napari_sam.atomic import open_atomic
from napari_sam.errors import ImageError, NapariSamError
from napari_sam.evaluation.command import run_alone
from napari_sam.evaluation.datasets import LabelledFile, list_index
from napari_sam.evaluation.moving_cells import moving_cells
from napari_sam.evaluation.propagated import (
    Solid,
    StackResult,
    evaluate_stack,
    every_nth,
    first,
    middle,
    solids,
)
from napari_sam.evaluation.report import markdown_table
from napari_sam.evaluation.scores import Level
from napari_sam.evaluation.tracks import id_switches
from napari_sam.inference.files import read_image
from napari_sam.inference.video_frames import VideoFrames, open_video

if TYPE_CHECKING:
    from napari_sam.models.base import PromptableModel

__all__ = ["Line", "evaluate", "format_lines", "main", "summarise_stacks"]

FILMS = "moving cells"
_STACKS = (".tif", ".tiff", ".npy")
_DIVISIONS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes
    ----------
    dataset : str
    clicks : str
        Which planes were clicked at.
    stacks, objects : int
    iou : float
        Over all planes of a stack, the mean over objects.
    within : float
        The same without the planes beyond the ends of the true object.
    copied : float
        The same for the masks of the clicks, copied to all planes of the true object.
    clicked : float
        The same on the planes with a click alone.
    switches : int
        Of tracks from one object to another, in all films.
    seconds : float
        For all of it.
    """

    dataset: str
    clicks: str
    stacks: int
    objects: int
    iou: float
    within: float
    copied: float
    clicked: float
    switches: int
    seconds: float


def summarise_stacks(results: Mapping[tuple[str, str], Sequence[tuple[StackResult, int]]]) -> list[Line]:
    """A line for each data set and way to click, and their unweighted means for each way.

    Parameters
    ----------
    results : mapping of (str, str) to sequence of (StackResult, int)
        By data set and clicks, of each stack what was found and the switches. Films are not in the means.
    """
    lines = [_line(*key, found) for key, found in results.items()]
    for clicks in dict.fromkeys(line.clicks for line in lines if line.dataset != FILMS):
        same = [line for line in lines if line.clicks == clicks and line.dataset != FILMS]
        if len(same) > 1:
            lines.append(
                Line(
                    Level.MEAN.value,
                    clicks,
                    stacks=sum(line.stacks for line in same),
                    objects=sum(line.objects for line in same),
                    iou=float(np.mean([line.iou for line in same])),
                    within=float(np.mean([line.within for line in same])),
                    copied=float(np.mean([line.copied for line in same])),
                    clicked=float(np.mean([line.clicked for line in same])),
                    switches=0,
                    seconds=sum(line.seconds for line in same),
                )
            )
    return lines


def _line(dataset: str, clicks: str, found: Sequence[tuple[StackResult, int]]) -> Line:
    objects = [result for stack, _ in found for result in stack.objects]
    return Line(
        dataset,
        clicks,
        stacks=len(found),
        objects=len(objects),
        iou=float(np.mean([result.iou for result in objects])),
        within=float(np.mean([result.within for result in objects])),
        copied=float(np.mean([result.copied for result in objects])),
        clicked=float(np.mean([result.clicked for result in objects])),
        switches=sum(switches for _, switches in found),
        seconds=sum(stack.seconds for stack, _ in found),
    )


def format_lines(lines: Sequence[Line]) -> str:
    """A table in Markdown."""
    header = ["data", "one click on", "objects", "IoU", "within its ends", "copied", "on clicked planes"]
    header += ["switches", "seconds"]
    rows = [
        [
            *(line.dataset, line.clicks, str(line.objects)),
            *(f"{value:.3f}" for value in (line.iou, line.within, line.copied, line.clicked)),
            str(line.switches) if line.dataset == FILMS else "",
            f"{line.seconds:.0f}",
        ]
        for line in lines
    ]
    return markdown_table(header, rows)


def evaluate(
    index: Annotated[Path | None, typer.Option(help="Folder with an index.csv.")] = None,
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    split: Annotated[str, typer.Option(help="Split of the index.")] = "train",
    datasets: Annotated[list[str] | None, typer.Option(help="Only this data set. Repeatable.")] = None,
    objects: Annotated[int, typer.Option(min=1, help="Objects per volume, at most.")] = 40,
    every: Annotated[int, typer.Option(min=2, help="Click on every such plane, as the second way.")] = 10,
    films: Annotated[int, typer.Option(min=0, help="Synthetic films of moving cells.")] = 3,
    seed: Annotated[int, typer.Option(help="Which objects are taken, and which films are made.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that torch may use.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all results to this file.")] = None,
) -> None:
    """Measure propagation: the IoU of objects in volumes and films after one click, and after a few."""
    import torch

    from napari_sam.models import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    network = load_model(model, device=device, dtype=dtype)
    results: dict[tuple[str, str], list[tuple[StackResult, int]]] = defaultdict(list)
    volumes = [] if index is None else list_index(index, split, datasets)
    for file, image, labels in _volumes(volumes):
        sample = solids(labels, objects, seed=seed)
        for name, positions in (("the middle plane", middle), (f"every {every}th plane", every_nth(every))):
            found = evaluate_stack(network, _frames(image), sample, positions)
            results[file.dataset, name].append((found, 0))
            _tell(results)
    for number in range(films):
        movie = moving_cells(divisions=_DIVISIONS, seed=seed + number)
        for name, found, switches in _film(network, movie.image, movie.labels, every):
            results[FILMS, name].append((found, switches))
            _tell(results)
    if not results:
        raise NapariSamError("There is nothing to measure: give --index with volumes, or --films.")
    lines = summarise_stacks(results)
    typer.echo(format_lines(lines))
    if json_file is not None:
        table = {
            "lines": [asdict(line) for line in lines],
            "objects": [
                {"dataset": dataset, "clicks": clicks, "stack": number} | asdict(result)
                for (dataset, clicks), stacks in results.items()
                for number, (stack, _) in enumerate(stacks)
                for result in stack.objects
            ],
        }
        with open_atomic(json_file) as opened:
            opened.write((json.dumps(table, indent=2) + "\n").encode())


def _volumes(
    files: Sequence[LabelledFile],
) -> Iterator[tuple[LabelledFile, NDArray[Any], NDArray[np.integer[Any]]]]:
    """Those of the files that are volumes, read."""
    for file in files:
        if file.labels is None or file.labels.suffix.lower() not in _STACKS:
            continue
        labels, _ = read_image(file.labels, palette=False)
        if labels.ndim != 3:
            continue
        image, _ = read_image(file.image)
        if image.shape[:3] != labels.shape:
            raise ImageError(
                f"{file.image.name} has the shape {image.shape} and its labels {labels.shape}: "
                "they must be of the same size."
            )
        yield file, image, labels


def _frames(image: NDArray[Any]) -> VideoFrames:
    """Planes between the limits of the whole volume."""
    limits = None if image.dtype == np.uint8 else (float(image.min()), float(image.max()))
    return open_video(image, contrast_limits=limits)


def _film(
    model: PromptableModel, image: NDArray[Any], labels: NDArray[np.integer[Any]], every: int
) -> Iterator[tuple[str, StackResult, int]]:
    """Tracks from a click on their first frame, and from one on every so many; divisions end them."""
    cells = solids(labels)
    truth = {cell.label: cell.masks for cell in cells}
    ways: list[tuple[str, Callable[[Solid], list[int]]]] = [
        ("the first frame", first),
        (f"every {every}th frame", every_nth(every)),
    ]
    for name, positions in ways:
        found = evaluate_stack(model, _frames(image), cells, positions, reach=lambda cell: cell.span)
        yield name, found, id_switches(truth, found.masks)


def _tell(results: Mapping[tuple[str, str], Sequence[object]]) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{sum(map(len, results.values()))} results", nl=False, err=True)


def main() -> None:
    """Run :func:`evaluate` on the arguments of the process."""
    run_alone(evaluate, "volumes")


if __name__ == "__main__":
    main()
