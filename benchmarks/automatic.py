"""``python -m benchmarks.automatic``: automatic masks of ours and of the official packages, side by side.

Random weights, for which no default threshold fits: predicted IoUs above their median are kept, whatever the
stability, and no duplicates are dropped, so that both sides have many masks to bring to full size.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from skimage.filters import gaussian

from benchmarks.compare import SIDES, image, peak_memory_of, predictor, report, take_turns, write_checkpoint
from benchmarks.interactive import peak_memory
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.models import load_model

__all__ = ["main"]

LARGE = 6144
"""The side of a square of nearly 40 megapixels."""


def main(
    model: Annotated[list[str] | None, typer.Option(help="vit_b, hiera_tiny, ...; repeated.")] = None,
    points: Annotated[int, typer.Option(help="Along a side of the grid.")] = 8,
    side: Annotated[int, typer.Option(help="Of the image, in pixels.")] = 1024,
    rounds: Annotated[int, typer.Option(help="Turns that count.")] = 3,
    warm_up: Annotated[bool, typer.Option(help="Begin with a turn that does not count.")] = True,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    nano: Annotated[bool, typer.Option(help="Measure nano, too, on an image of 300 nuclei.")] = True,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, too, in processes of its own.")] = True,
    memory_of: Annotated[str, typer.Option(help="Only one side, and print its peak memory in MiB.")] = "",
    checkpoint: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compare whole calls of `generate`."""
    torch.set_num_threads(threads)
    if memory_of == "nano":
        cells = nuclei(1024, 300)
        repeats = -(-side // len(cells))
        network = load_model("nano", device=device)
        SamAutomaticMaskGenerator(network, prompts="centres").masks(np.tile(cells, (repeats, repeats)))
        print(peak_memory())
        return
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
            masks: dict[str, int] = {}

            def generate(which: str, one: Any, masks: dict[str, int] = masks) -> None:
                masks[which] = len(one.generate(pixels))

            actions = {which: partial(generate, which, one) for which, one in sides.items()}
            report(
                f"{name}: {points} x {points} points, {side} x {side} pixels, {device}",
                take_turns(actions, rounds, device, warm_up=warm_up),
            )
            print(f"  masks: {masks}", flush=True)
            for which in SIDES[:2] if memory else ():
                options = ["--model", name, "--points", str(points), "--checkpoint", str(path)]
                options += ["--side", str(side), "--threads", str(threads), "--device", device]
                peak = peak_memory_of("benchmarks.automatic", "--memory-of", which, *options)
                print(f"  peak memory, {which}: {peak:.0f} MiB", flush=True)
    if nano:
        network, cells = load_model("nano", device=device), nuclei(1024, 300)
        hows = ("grid", "centres", "none")
        generators = {how: SamAutomaticMaskGenerator(network, prompts=how) for how in hows}
        runs = {how: partial(one.masks, cells) for how, one in generators.items()}
        report(
            f"nano: 300 nuclei, 1024 x 1024 pixels, {device}",
            take_turns(runs, rounds, device, warm_up=warm_up),
        )
        print(f"  masks: { {how: len(run()) for how, run in runs.items()} }", flush=True)
        for large in (1024, LARGE) if memory else ():
            options = ["--side", str(large), "--threads", str(threads), "--device", device]
            peak = peak_memory_of("benchmarks.automatic", "--memory-of", "nano", *options)
            print(f"  peak memory, {large} x {large} pixels: {peak:.0f} MiB", flush=True)


def nuclei(side: int, count: int) -> NDArray[np.uint8]:
    """Bright ellipses on a dark ground, out of focus and with noise, that do not touch."""
    rng = np.random.default_rng(0)
    cells = math.isqrt(count - 1) + 1
    step = side / cells
    places = rng.permutation(cells**2)[:count]
    centres = (np.stack(np.divmod(places, cells), 1) + 0.5 + rng.uniform(-0.12, 0.12, (count, 2))) * step
    y, x = np.indices((side, side))
    light = np.zeros((side, side))
    for (row, column), angle, light_of in zip(
        centres, rng.uniform(0, np.pi, count), rng.uniform(0.4, 1, count), strict=True
    ):
        long, short = step * rng.uniform(0.26, 0.34), step * rng.uniform(0.18, 0.26)
        down, right = y - row, x - column
        along = (np.cos(angle) * right + np.sin(angle) * down) / long
        across = (np.cos(angle) * down - np.sin(angle) * right) / short
        light[along**2 + across**2 <= 1] = light_of
    light = gaussian(light, 1.5) + rng.normal(0.1, 0.02, light.shape)
    return np.asarray(np.clip(light, 0, 1.2) / 1.2 * 255, dtype=np.uint8)


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
