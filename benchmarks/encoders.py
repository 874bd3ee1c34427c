"""``python -m benchmarks.encoders``: `set_image` of ours and of the official packages, side by side.

Weights are random, which costs the same time as trained ones. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.compare import (
    SIDES,
    image,
    peak_memory_of,
    predictor,
    report,
    take_turns,
    write_checkpoint,
)
from benchmarks.interactive import peak_memory

__all__ = ["main"]


def main(
    model: Annotated[list[str] | None, typer.Option(help="vit_b, hiera_tiny, ...; repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns that count.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    side: Annotated[int, typer.Option(help="Side of the image, in pixels.")] = 1024,
    memory: Annotated[bool, typer.Option(help="Measure peak memory on the CPU, too.")] = True,
    alone: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compare `set_image`."""
    torch.set_num_threads(threads)
    pixels = image(side, side)
    if alone:
        which, name, checkpoint = alone.split(",", 2)
        predictor(which, name, Path(checkpoint), device).set_image(pixels)
        print(peak_memory())
        return
    for name in model or ["vit_b", "hiera_tiny"]:
        with tempfile.TemporaryDirectory() as folder:
            path = write_checkpoint(name, Path(folder))
            actions = {
                which: partial(predictor(which, name, path, device).set_image, pixels) for which in SIDES
            }
            report(f"{name}: set_image, {side} x {side}, {device}", take_turns(actions, rounds, device))
            del actions
            for which in SIDES if memory and device == "cpu" else ():
                common = ("--threads", str(threads), "--side", str(side))
                peak = peak_memory_of("benchmarks.encoders", *common, "--alone", f"{which},{name},{path}")
                print(f"  {which:<12}{peak:10.0f} MiB peak", flush=True)


if __name__ == "__main__":
    typer.run(main)
