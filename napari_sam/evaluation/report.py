"""Results as tables on the screen and in files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_sam.atomic import open_atomic
from napari_sam.evaluation.scores import Automatic, Evaluation, Interactive, Level, Line

__all__ = ["automatic_table", "interactive_table", "markdown_table", "tables", "write_csv", "write_json"]

_STEPS = (2, 3, 4, 5, 6, 9, 12, 16, 20)
"""After how many clicks a table on the screen has a column, as far as they were tried."""
_ABOUT = ("level", "dataset", "modality", "image", "method", "images")


def tables(lines: Sequence[Line]) -> str:
    """The tables of both protocols, as far as they were measured, with headings, in Markdown.

    Parameters
    ----------
    lines : sequence of Line
    """
    parts = [
        f"{title}\n\n{table}"
        for title, table in (
            ("Interactive: mean IoU after points and a box", interactive_table(lines)),
            ("Automatic: everything in an image", automatic_table(lines)),
        )
        if table
    ]
    return "\n\n".join(parts)


def interactive_table(lines: Sequence[Line]) -> str:
    """IoU after a point, a box and more clicks, numbers of clicks, and times; empty if nothing was measured.

    Parameters
    ----------
    lines : sequence of Line
    """
    measured = [(line, line.interactive) for line in lines if line.interactive is not None]
    if not measured:
        return ""
    steps = [step for step in _STEPS if step <= len(measured[0][1].clicks)]
    header = ["data", "method", "images", "objects", "1 point", "box", *(f"{n} points" for n in steps)]
    rows = [
        [
            *(_title(line), line.method, str(line.images), str(one.objects)),
            *(f"{value:.3f}" for value in (one.clicks[0], one.box, *(one.clicks[n - 1] for n in steps))),
            *(f"{one.noc85:.2f}", f"{one.noc90:.2f}"),
            *(f"{one.encode_seconds * 1e3:.0f}", f"{one.click_seconds * 1e3:.0f}"),
        ]
        for line, one in measured
    ]
    return markdown_table([*header, "NoC@85", "NoC@90", "encode ms", "click ms"], rows)


def automatic_table(lines: Sequence[Line]) -> str:
    """Average precision, segmentation accuracy, SEG and times; empty if nothing was measured.

    Parameters
    ----------
    lines : sequence of Line
    """
    measured = [(line, line.automatic) for line in lines if line.automatic is not None]
    header = ["data", "method", "images", "objects", "found"]
    rows = [
        [
            *(_title(line), line.method, str(line.images), str(one.objects), str(one.found)),
            *(f"{value:.3f}" for value in (one.ap50, one.ap75, one.ap, one.sa50, one.msa, one.seg)),
            f"{one.seconds:.2f}",
        ]
        for line, one in measured
    ]
    return (
        markdown_table([*header, "AP50", "AP75", "AP", "SA50", "mSA", "SEG", "seconds"], rows) if rows else ""
    )


def write_csv(path: Path, found: Evaluation, *, modalities: bool = False) -> None:
    """Write a row for each image and method, then for each data set; the column ``level`` tells which it is.

    What was not measured is empty.

    Parameters
    ----------
    path : path
    found : Evaluation
    modalities : bool
        Rows for modalities, too.
    """
    records = [_flat(line) for line in (*found.per_image(), *found.per_dataset(modalities=modalities))]
    text = io.StringIO(newline="")
    # An image without objects has no numbers of clicks: others tell which columns there are.
    columns = dict.fromkeys(key for record in sorted(records, key=len, reverse=True) for key in record)
    table = csv.DictWriter(text, list(columns))
    table.writeheader()
    table.writerows(records)
    with open_atomic(path) as file:
        file.write(text.getvalue().encode())


def write_json(
    path: Path, found: Evaluation, *, modalities: bool = False, about: Mapping[str, Any] | None = None
) -> None:
    """Write all results: ``summary``, ``images`` with the IoUs of each object, and ``failures``.

    Parameters
    ----------
    path : path
    found : Evaluation
    modalities : bool
        Summaries of modalities, too.
    about : mapping, optional
        More to write beside them: how it was measured.
    """
    objects = {
        (one.dataset, one.name, method): [asdict(result) for result in measured.objects]
        for one in found.images
        for method, measured in one.interactive.items()
    }
    record = {
        **(about or {}),
        "summary": [asdict(line) for line in found.per_dataset(modalities=modalities)],
        "images": [
            {**asdict(line), "objects": objects.get((line.dataset, line.image, line.method), [])}
            for line in found.per_image()
        ],
        "failures": [asdict(failure) for failure in found.failures],
    }
    with open_atomic(path) as file:
        file.write((json.dumps(_known(record), indent=1, allow_nan=False) + "\n").encode())


def _title(line: Line) -> str:
    if line.level is Level.MEAN:
        return line.level.value
    return ", ".join(
        part
        for part in (line.dataset, line.modality if line.level is not Level.DATASET else "", line.image)
        if part
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: the first two columns on the left, numbers on the right, all of one width.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if place < 2 else "-" * (w + 1) + ":" for place, w in enumerate(widths))
    return "\n".join([row(header), f"|{rule}|", *map(row, rows)])


def _flat(line: Line) -> dict[str, Any]:
    """A line as one row of a table."""
    record = {key: getattr(line, key) for key in _ABOUT}
    record |= _numbers(line.interactive, {"objects": "clicked_objects"})
    return record | _numbers(line.automatic, {"seconds": "automatic_seconds"})


def _numbers(one: Interactive | Automatic | None, names: Mapping[str, str]) -> dict[str, Any]:
    if one is None:
        return {}
    record = asdict(one)
    clicks = record.pop("clicks", ())
    record |= {f"click_{n}": value for n, value in enumerate(clicks, 1)}
    return {
        names.get(key, key): round(value, 6) if isinstance(value, float) and not math.isnan(value) else value
        for key, value in record.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def _known(value: Any) -> Any:
    """As JSON has it: no NaN, and no more digits than mean anything."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value
