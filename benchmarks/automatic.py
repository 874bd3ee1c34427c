"""``python -m benchmarks.automatic``: automatic masks of ours and of the official packages, side by side.

Random weights, for which no default threshold fits: predicted IoUs above their median are kept, whatever the
stability, and no duplicates are dropped, so that both sides have many masks to bring to full size.
"""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.compare import SIDES, image, peak_memory_of, predictor, report, take_turns, write_checkpoint
from benchmarks.interactive import peak_memory
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.models import load_model

__all__ = ["main"]


def main(
    model: Annotated[list[str] | None, typer.Option(help="vit_b, hiera_tiny, ...; repeated.")] = None,
    points: Annotated[int, typer.Option(help="Along a side of the grid.")] = 8,
    side: Annotated[int, typer.Option(help="Of the image, in pixels.")] = 1024,
    rounds: Annotated[int, typer.Option(help="Turns that count.")] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    nano: Annotated[bool, typer.Option(help="Measure nano, too, with 32 points a side.")] = True,
    memory_of: Annotated[str, typer.Option(help="Only one side, and print its peak memory in MiB.")] = "",
    checkpoint: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compare whole calls of `generate`."""
    torch.set_num_threads(threads)
    pixels = image(side, side)
    if memory_of:
        if not model or checkpoint is None:
            raise typer.BadParameter("--memory-of needs --model and --checkpoint")
        _generator(memory_of, model[0], checkpoint, device, points, 0.0).generate(pixels)
        print(peak_memory())
        return
    for name in model or ["vit_b", "hiera_tiny"]:
        with tempfile.TemporaryDirectory() as folder:
            path = write_checkpoint(name, Path(folder))
            threshold = _median(path, device, points, pixels)
            sides = {which: _generator(which, name, path, device, points, threshold) for which in SIDES}
            actions = {which: partial(one.generate, pixels) for which, one in sides.items()}
            report(
                f"{name}: {points} x {points} points, {side} x {side} pixels, {device}",
                take_turns(actions, rounds, device),
            )
            counts = {which: len(one.generate(pixels)) for which, one in sides.items()}
            print(f"  masks: {counts}")
            for which in SIDES[:2]:
                options = ["--model", name, "--points", str(points), "--checkpoint", str(path)]
                options += ["--side", str(side), "--threads", str(threads), "--device", device]
                peak = peak_memory_of("benchmarks.automatic", "--memory-of", which, *options)
                print(f"  peak memory, {which}: {peak:.0f} MiB", flush=True)
    if nano:
        generator = SamAutomaticMaskGenerator(load_model("nano", device=device))
        seconds = take_turns({"generate": partial(generator.generate, pixels)}, rounds, device)
        report(f"nano: 32 x 32 points, {side} x {side} pixels, {device}", seconds)


def _median(path: Path, device: str, points: int, pixels: NDArray[np.uint8]) -> float:
    """Half of the masks have a predicted IoU above it."""
    generator = SamAutomaticMaskGenerator(load_model(path, device=device, dtype="float32"), points)
    return float(np.median(generator.candidates(pixels).predicted_iou))


def _generator(which: str, name: str, path: Path, device: str, points: int, threshold: float) -> Any:
    options: dict[str, Any] = {
        "points_per_side": points,
        # Not above 0 would be no threshold.
        "pred_iou_thresh": max(threshold, 1e-9),
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
    }
    side = predictor(which, name, path, device)
    if which != "official":
        return SamAutomaticMaskGenerator(side.model, **options)
    if name.startswith("vit"):
        from segment_anything import SamAutomaticMaskGenerator as Official

        return Official(side.model, **options)
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SAM2AutomaticMaskGenerator(side.model, **options)


if __name__ == "__main__":
    typer.run(main)
