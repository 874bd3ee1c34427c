"""``python -m benchmarks.formats``: how long many objects take to be written to a file, and to be read again.

10,000 ragged discs in an image of 4096 x 4096 pixels, in each format that is named; JSON is printed. Tables
(``csv``, ``parquet``) are written only: what that takes is measuring.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from napari_sam.errors import FormatWarning
from napari_sam.formats import FORMATS, Segmentation, read, write

__all__ = ["main", "many_objects"]


def many_objects(along: int = 100, side: int = 4096, seed: int = 0) -> Segmentation:
    """Discs with single pixels missing, as many along the columns as along the rows."""
    rng = np.random.default_rng(seed)
    tile = side // along
    y, x = np.indices((tile, tile)) - (tile - 1) / 2
    labels = np.zeros((side, side), dtype=np.int32)
    for number in range(along**2):
        row, column = (tile * at for at in divmod(number, along))
        stretch, radius = rng.uniform(0.7, 1), rng.uniform(tile / 4, tile / 2 - 1)
        inside = ((y / stretch) ** 2 + x**2 < radius**2) & (rng.random((tile, tile)) > 0.01)
        labels[row : row + tile, column : column + tile][inside] = number + 1
    return Segmentation.of_labels(labels)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Formats; by default those with outlines.")
    ] = None,
    along: Annotated[int, typer.Option(help="Objects along each side.")] = 100,
    side: Annotated[int, typer.Option(help="Pixels along each side.")] = 4096,
) -> None:
    """Measure, and print JSON: seconds of wall clock and of CPU, and MiB."""
    found = many_objects(along, side)
    result: dict[str, dict[str, float]] = {}
    warnings.simplefilter("ignore", FormatWarning)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or ["coco", "coco-polygons", "sa1b", "yolo", "geojson", "imagej-roi"]:
            path = Path(folder) / f"objects{FORMATS[name].suffixes[0]}"
            clocks = [(time.perf_counter(), time.process_time())]
            write(path, found, name, overwrite=True)
            clocks.append((time.perf_counter(), time.process_time()))
            again = [found] if FORMATS[name].read is None else read(path, name, shape=found.shape)
            count = sum(len(one.items) for one in again)
            clocks.append((time.perf_counter(), time.process_time()))
            (write_s, write_cpu_s), (read_s, read_cpu_s) = np.diff(clocks, axis=0).tolist()
            result[name] = {
                "objects": count,
                "mib": sum(one.stat().st_size for one in [path, *path.rglob("*")]) / 2**20,
                "write_s": write_s,
                "write_cpu_s": write_cpu_s,
                "read_s": read_s,
                "read_cpu_s": read_cpu_s,
            }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
