"""From the results of single objects to a table of data sets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam.evaluation.interactive import ImageResult

__all__ = ["MEAN", "THRESHOLDS", "Summary", "format_table", "summarise", "write_objects"]

MEAN = "mean of data sets"
THRESHOLDS = (0.85, 0.90)
"""The IoU to reach in the number of clicks (NoC)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the table.

    Attributes
    ----------
    dataset : str
    images, objects : int
    box : float
        Mean IoU over objects after a box.
    clicks : tuple of float
        Mean IoU over objects after 1, 2, ... points.
    noc85, noc90 : float
        Mean number of clicks to an IoU of 0.85 and 0.90; an object that does not get there counts with all
        the clicks that were tried.
    encode_seconds, click_seconds : float
        Medians over images.
    seconds : float
        In total.
    """

    dataset: str
    images: int
    objects: int
    box: float
    clicks: tuple[float, ...]
    noc85: float
    noc90: float
    encode_seconds: float
    click_seconds: float
    seconds: float


def summarise(results: Mapping[str, Sequence[ImageResult]]) -> list[Summary]:
    """One summary for each data set and, if there are several, their unweighted mean.

    Parameters
    ----------
    results : mapping of str to sequence of ImageResult
        By data set. Data sets without any object are left out.
    """
    summaries = [
        _summary(dataset, images)
        for dataset, images in results.items()
        if any(image.objects for image in images)
    ]
    if len(summaries) < 2:
        return summaries

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return [
        *summaries,
        Summary(
            MEAN,
            images=sum(s.images for s in summaries),
            objects=sum(s.objects for s in summaries),
            box=mean(s.box for s in summaries),
            clicks=tuple(mean(step) for step in zip(*(s.clicks for s in summaries), strict=True)),
            noc85=mean(s.noc85 for s in summaries),
            noc90=mean(s.noc90 for s in summaries),
            encode_seconds=mean(s.encode_seconds for s in summaries),
            click_seconds=mean(s.click_seconds for s in summaries),
            seconds=sum(s.seconds for s in summaries),
        ),
    ]


def _summary(dataset: str, images: Sequence[ImageResult]) -> Summary:
    objects = [result for image in images for result in image.objects]
    to_085, to_090 = (
        float(np.mean([result.clicks_to(threshold) for result in objects])) for threshold in THRESHOLDS
    )
    return Summary(
        dataset,
        images=len(images),
        objects=len(objects),
        box=float(np.mean([result.box for result in objects])),
        clicks=tuple(np.mean([result.clicks for result in objects], axis=0).tolist()),
        noc85=to_085,
        noc90=to_090,
        encode_seconds=float(np.median([image.encode_seconds for image in images])),
        click_seconds=float(np.median([image.click_seconds for image in images if image.objects])),
        seconds=sum(image.seconds for image in images),
    )


def format_table(summaries: Sequence[Summary]) -> str:
    """A table in Markdown: IoU after 1 point, a box, and 3 and 5 clicks (as far as they were tried).

    Parameters
    ----------
    summaries : sequence of Summary
        At least one.
    """
    tried = len(summaries[0].clicks)
    steps = [step for step in (3, 5, 8) if step <= tried]
    header = ["data set", "images", "objects", "1 point", "box", *(f"{step} clicks" for step in steps)]
    header += ["NoC@85", "NoC@90", "set_image ms", "click ms", "seconds"]
    lines = [
        [
            s.dataset,
            str(s.images),
            str(s.objects),
            f"{s.clicks[0]:.3f}",
            f"{s.box:.3f}",
            *(f"{s.clicks[step - 1]:.3f}" for step in steps),
            f"{s.noc85:.2f}",
            f"{s.noc90:.2f}",
            f"{s.encode_seconds * 1e3:.0f}",
            f"{s.click_seconds * 1e3:.1f}",
            f"{s.seconds:.0f}",
        ]
        for s in summaries
    ]
    widths = [max(len(cell) for cell in column) for column in zip(header, *lines, strict=True)]

    def row(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = (
        "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
    )
    return "\n".join([row(header), rule, *(row(line) for line in lines)])


def write_objects(path: Path, results: Mapping[str, Sequence[tuple[str, ImageResult]]]) -> None:
    """Write one line per object: data set, image, label, area, IoU after a box and after each click.

    Parameters
    ----------
    path : path
        A CSV file.
    results : mapping of str to sequence of (str, ImageResult)
        Image names and their results, by data set.
    """
    clicks = max(
        (len(o.clicks) for found in results.values() for _, image in found for o in image.objects), default=0
    )
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["dataset", "image", "label", "area", "box", *(f"click_{n + 1}" for n in range(clicks))]
        )
        for dataset, found in results.items():
            for name, image in found:
                for o in image.objects:
                    ious = [f"{value:.4f}" for value in (o.box, *o.clicks)]
                    table.writerow([dataset, name, o.label, o.area, *ious])
