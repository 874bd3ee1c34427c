"""``python -m benchmarks.interactive``: time and memory of loading, `set_image` and clicks.

Everything is measured in fresh processes: imports, the model without a GUI, and the plugin in a real viewer.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

__all__ = ["Measurement", "coins", "headless", "main", "peak_memory"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the report: what, how much (median and worst), in which unit, of how many."""

    what: str
    median: float
    worst: float
    unit: str
    count: int = 1

    @classmethod
    def of(cls, what: str, values: list[float], unit: str = "ms") -> Measurement:
        """Summarise repeated measurements."""
        return cls(what, statistics.median(values), max(values), unit, len(values))

    def __str__(self) -> str:
        spread = f"  (worst {self.worst:.1f}, n={self.count})" if self.count > 1 else ""
        return f"{self.what:<58} {self.median:9.1f} {self.unit}{spread}"


def coins(side: int) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]]]:
    """A square photograph of many coins, and the boxes x0, y0, x1, y1 of those in its upper left part."""
    from scipy import ndimage
    from skimage import data, filters

    photograph = np.asarray(data.coins())
    found, _ = ndimage.label(
        ndimage.binary_opening(photograph > filters.threshold_otsu(photograph), iterations=3)
    )
    boxes = [
        (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
        for rows, columns in ndimage.find_objects(found)
        if rows.stop - rows.start > 25 and columns.stop - columns.start > 25
    ]
    repeats = [-(-side // length) for length in photograph.shape]
    return np.ascontiguousarray(np.tile(photograph, repeats)[:side, :side]), boxes


def _timed(action: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds that an action takes."""
    started = time.perf_counter()
    action(*arguments)
    return (time.perf_counter() - started) * 1e3


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `getrusage` says includes the process that this one was forked from.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def headless(model: str, device: str, threads: int, repeats: int) -> list[Measurement]:
    """Loading, embedding and clicks through the engine, without a GUI."""
    started = time.perf_counter()
    import torch

    from napari_sam.inference import engine
    from napari_sam.inference.image import as_rgb
    from napari_sam.inference.prompts import Prompts
    from napari_sam.models import load_model

    torch.set_num_threads(threads)
    imported = time.perf_counter()
    network = load_model(model, device=device)
    loaded = time.perf_counter()
    results = [
        Measurement.of("import torch and the engine", [(imported - started) * 1e3]),
        Measurement.of("load_model", [(loaded - imported) * 1e3]),
    ]
    for side in (1024, 2048):
        image, boxes = coins(side)
        plane = as_rgb(image)
        results.append(
            Measurement.of(f"set_image {side} x {side}, first", [_timed(engine.encode, network, plane)])
        )
        times = [_timed(engine.encode, network, plane) for _ in range(repeats)]
        results.append(Measurement.of(f"set_image {side} x {side}", times))
        embedding = engine.encode(network, plane)
        results.append(Measurement.of(f"embedding of {side} x {side}", [embedding.nbytes / 2**20], "MiB"))
        size = (side, side)
        middles = [[(x0 + x1) / 2, (y0 + y1) / 2] for x0, y0, x1, y1 in boxes]
        kinds = {
            "a point": [Prompts.create(size, points=[middle]) for middle in middles],
            "a box": [Prompts.create(size, box=box) for box in boxes],
            "5 points": [
                Prompts.create(size, points=[[x + 4 * n, y] for n in range(5)], labels=[1, 1, 1, 1, 0])
                for x, y in middles
            ],
        }
        for kind, prompts in kinds.items():
            engine.segment(network, embedding, prompts[0])
            times = [_timed(engine.segment, network, embedding, prompt) for prompt in prompts]
            results.append(Measurement.of(f"one click, {kind}, {side} x {side}", times))
    return [*results, Measurement.of("peak resident memory, no GUI", [peak_memory()], "MiB")]


_IMPORT = """
import sys, time
started = time.perf_counter()
import napari_sam
print((time.perf_counter() - started) * 1e3)
heavy = {"torch", "napari", "qtpy"} & set(sys.modules)
assert not heavy, f"import napari_sam imports {heavy}"
"""


def _python(*arguments: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _measured_elsewhere(*arguments: str) -> list[Measurement]:
    """The measurements that a benchmark prints as the last line of JSON, in a process of its own."""
    return [Measurement(**row) for row in json.loads(_python(*arguments).splitlines()[-1])]


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def main(
    model: Annotated[str, typer.Option(help="A model's name or a checkpoint.")] = "nano",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, auto")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch may use.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of set_image.")] = 5,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks in the viewer.")] = 100,
    gui: Annotated[bool, typer.Option(help="Measure in a napari viewer, too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the measurements there.")] = None,
    only_headless: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print how long things take and how much memory they need."""
    if only_headless:
        print(json.dumps([asdict(m) for m in headless(model, device, threads, repeats)]))
        return
    options = ["--model", model, "--device", device, "--threads", str(threads)]
    measurements: list[Measurement] = []

    def report(found: list[Measurement]) -> None:
        measurements.extend(found)
        for measurement in found:
            print(measurement, flush=True)

    report([Measurement.of("import napari_sam", [float(_python("-c", _IMPORT)) for _ in range(5)])])
    repeated = ["--repeats", str(repeats), "--only-headless"]
    report(_measured_elsewhere("-m", "benchmarks.interactive", *options, *repeated))
    if not gui:
        print("The viewer was left out (--no-gui).")
    elif not has_display():
        print("The viewer was left out: there is no display (on Linux, run this under xvfb-run).")
    else:
        report(_measured_elsewhere("-m", "benchmarks.gui", *options, "--clicks", str(clicks)))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(m) for m in measurements], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
