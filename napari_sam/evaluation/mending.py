"""``python -m napari_sam.evaluation.mending``: masks that are wrong in a known way, and one click.

Masks of other programs, and those of the plane before, are prompts that a user corrects. Here ground truth
is spoiled: half of an object is missing or a piece of it, the mask leaks, or holds a neighbour, too. The
click is that of the interactive protocol, at the centre of the largest error. A mask whose outline is too
wide is given without any click.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.evaluation.clicks import Bits, centre, iou, next_click
from napari_sam.evaluation.command import run_alone
from napari_sam.evaluation.datasets import list_index, some_of_each
from napari_sam.evaluation.interactive import Ask, Target, targets, with_model
from napari_sam.evaluation.report import markdown_table
from napari_sam.evaluation.scores import Level
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask, mask_iou, window_around
from napari_sam.inference.prompts import Prompts

__all__ = ["KINDS", "Mended", "evaluate", "main", "mend", "mending_table", "spoil"]

KINDS = ("half is missing", "a piece is missing", "a leak", "a neighbour with it", "too wide, no click")
"""In what ways masks are wrong."""
_HALF, _PIECE, _LEAK, _NEIGHBOUR, _WIDE = KINDS
_LEAST_AREA = 64
"""Of smaller objects no piece is large enough to be missing."""
_GAP = 3
"""Pixels between neighbours, at most."""


@dataclass(frozen=True, slots=True)
class Mended:
    """The quality of one object's masks.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    before : float
        IoU of the wrong mask.
    after : float
        IoU of what the model makes of it and the click.
    alone : float
        IoU after the same click and one in the middle of the object, without the mask.
    """

    kind: str
    before: float
    after: float
    alone: float


def spoil(truth: Bits, neighbour: Bits, rng: np.random.Generator) -> dict[str, Bits]:
    """Wrong masks of an object, by kind; those that would be right, or empty, are left out.

    Parameters
    ----------
    truth : ndarray, shape (h, w), bool
        The object, with as much around it as it is wide.
    neighbour : ndarray, shape (h, w), bool
        What touches it; empty if nothing does.
    rng : Generator
        Where a piece is missing, and where it leaks.
    """
    rows, columns = np.indices(truth.shape)
    y, x = ndimage.center_of_mass(truth)
    radius = math.sqrt(np.count_nonzero(truth) / math.pi)
    angle = rng.uniform(0, 2 * math.pi)
    along = (rows - y) * math.sin(angle) + (columns - x) * math.cos(angle)

    def disc(distance: float, size: float) -> Bits:
        """At a distance from the centre, both in radii of the object."""
        down, right = (distance * radius * part for part in (math.sin(angle), math.cos(angle)))
        inside: Bits = np.hypot(rows - y - down, columns - x - right) < size * radius
        return inside

    both = truth | neighbour
    closed = ndimage.binary_closing(np.pad(both, _GAP), iterations=_GAP)[_GAP:-_GAP, _GAP:-_GAP]
    wrong = {
        _HALF: truth & (along < rng.uniform(-0.3, 0.3) * radius),
        _PIECE: truth & ~disc(0.45, 0.5),
        _LEAK: truth | disc(1.1, 0.5),
        _NEIGHBOUR: both | closed if neighbour.any() else truth,
        _WIDE: ndimage.binary_dilation(truth, iterations=max(2, round(0.25 * radius))),
    }
    return {kind: mask for kind, mask in wrong.items() if mask.any() and (mask != truth).any()}


def mend(
    ask: Ask, labels: NDArray[np.integer[Any]], objects: Sequence[Target], *, seed: int = 0
) -> list[Mended]:
    """Spoil objects, and let a model mend them.

    Parameters
    ----------
    ask : callable
        Of the plane; see :func:`napari_sam.evaluation.interactive.with_model`.
    labels : ndarray, shape (H, W), integer
    objects : sequence of Target
        Of these labels. Those below 64 pixels are left out.
    seed : int
        In what direction masks are spoiled.
    """
    asked: list[tuple[str, float, Mask]] = []
    with_mask: list[Prompts] = []
    alone: list[Prompts] = []
    size = (labels.shape[0], labels.shape[1])
    for target in objects:
        if target.mask.area < _LEAST_AREA:
            continue
        # With as much around it as it is wide.
        rows, columns = window_around(target.mask, max(target.mask.bits.shape) + _GAP)
        origin = (rows.start, columns.start)
        part = labels[rows, columns]
        truth = part == target.label
        y, x = centre(truth)
        middle = (x + origin[1], y + origin[0])
        rng = np.random.default_rng([seed, *target.mask.origin])
        for kind, wrong in spoil(truth, _neighbour(part, truth), rng).items():
            click = None if kind == _WIDE else next_click(truth, wrong, origin)
            points = [] if click is None else [(click.x, click.y)]
            said = [] if click is None else [int(click.positive)]
            asked.append((kind, iou(truth, wrong), target.mask))
            with_mask.append(
                Prompts.create(size, points or None, said or None, mask=Mask(origin, wrong, size))
            )
            alone.append(Prompts.create(size, [*points, middle], [*said, 1]))
    return [
        Mended(kind, before, mask_iou(truth, after.mask), mask_iou(truth, without.mask))
        for (kind, before, truth), after, without in zip(asked, ask(with_mask), ask(alone), strict=True)
    ]


def _neighbour(part: NDArray[np.integer[Any]], truth: Bits) -> Bits:
    """What is seen of the largest object that touches another."""
    ring = ndimage.binary_dilation(truth, iterations=_GAP) & ~truth
    touching = np.unique(part[ring & (part != 0)])
    if not len(touching):
        return np.zeros_like(truth)
    areas = [np.count_nonzero(part == value) for value in touching]
    largest: Bits = part == touching[int(np.argmax(areas))]
    return largest


def mending_table(results: Mapping[str, Sequence[Mended]]) -> str:
    """For each data set and kind the mean over objects, and of these those over data sets, in Markdown."""
    means: dict[tuple[str, str], tuple[int, NDArray[np.float64]]] = {}
    for dataset, found in results.items():
        for kind in KINDS:
            same = [(one.before, one.after, one.alone) for one in found if one.kind == kind]
            if same:
                means[dataset, kind] = len(same), np.mean(same, axis=0)
    for kind in KINDS:
        every = [value for (_, other), value in means.items() if other == kind]
        if len(results) > 1 and every:
            objects = sum(count for count, _ in every)
            means[Level.MEAN.value, kind] = objects, np.mean([value for _, value in every], axis=0)
    rows = [
        [dataset, kind, str(count), *(f"{value:.3f}" for value in values)]
        for (dataset, kind), (count, values) in means.items()
    ]
    return markdown_table(["data", "mask", "objects", "IoU before", "after", "without the mask"], rows)


def evaluate(
    index: Annotated[Path, typer.Option(help="Folder with an index.csv.")],
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    split: Annotated[str, typer.Option(help="Split of the index.")] = "val",
    datasets: Annotated[list[str] | None, typer.Option(help="Only this data set. Repeatable.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Images of a data set, at most.")] = None,
    objects: Annotated[int, typer.Option(min=1, help="Objects of an image, at most.")] = 10,
    seed: Annotated[int, typer.Option(help="Which objects are taken, and where they are spoiled.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that torch may use.")] = None,
) -> None:
    """Measure how well one click mends a wrong mask."""
    import torch

    from napari_sam.models import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    begin = with_model(load_model(model, device=device))
    results: dict[str, list[Mended]] = defaultdict(list)
    for file in some_of_each(list_index(index, split, datasets), images, seed):
        for sample in file.planes():
            ask = begin(as_rgb(sample.image))
            some = targets(sample.labels, objects, seed, sample.name)
            results[sample.dataset] += mend(ask, sample.labels, some, seed=seed)
    typer.echo(mending_table(results))


def main() -> None:
    """Run :func:`evaluate` on the arguments of the process."""
    run_alone(evaluate, "mending")


if __name__ == "__main__":
    main()
