"""``python -m benchmarks.video``: objects in a video by ours and by the official package, frames in turns.

Random weights, JPEG frames. What counts are frames that attend to all the memories that there can be: the
prompted frame and six others.
"""

from __future__ import annotations

import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.compare import SIDES, image, peak_memory_of, report, write_checkpoint
from benchmarks.interactive import peak_memory
from napari_sam.inference.video_predictor import SamVideoPredictor
from napari_sam.inference.video_state import VideoState
from napari_sam.models import load_model
from napari_sam.models.memory_steps import MEMORIES
from napari_sam.models.sam2 import build_sam2

__all__ = ["main"]

_STACK_SIDE = 256
"""Of the square that a long stack is tracked on; frames and memories are 16 times smaller than real ones."""


def main(
    model: Annotated[str, typer.Option(help="hiera_tiny, hiera_small, ...")] = "hiera_tiny",
    objects: Annotated[list[int] | None, typer.Option(help="How many; repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Frames that count.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    side: Annotated[list[str] | None, typer.Option(help="official, float32, auto; repeated.")] = None,
    stack: Annotated[
        list[int] | None, typer.Option(help="Frames of long stacks, for memory; 0: none.")
    ] = None,
    stack_of: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Compare seconds a frame, and measure memory over long stacks."""
    torch.set_num_threads(threads)
    if stack_of:
        _track_stack(model, stack_of)
        print(peak_memory())
        return
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the official code uses what PyTorch has deprecated
        checkpoint = write_checkpoint(model, Path(folder))
        frames = Path(folder) / "frames"
        _write_frames(frames, MEMORIES + rounds)
        for count in objects or [1, 5]:
            _compare(side or list(SIDES), model, checkpoint, frames, count, device)
    for length in stack or [100, 500]:
        if length:
            peak = peak_memory_of("benchmarks.video", "--stack-of", str(length), "--threads", str(threads))
            print(f"{length} frames of 256 x 256, 3 objects: {peak:.0f} MiB peak", flush=True)


def _compare(sides: list[str], model: str, checkpoint: Path, frames: Path, count: int, device: str) -> None:
    """Seconds a frame of each, wall and CPU."""
    videos = {which: _tracking(which, model, checkpoint, frames, count, device) for which in sides}
    wall: dict[str, list[float]] = {which: [] for which in sides}
    busy: dict[str, list[float]] = {which: [] for which in sides}
    for _ in range(len(list(frames.iterdir()))):
        for which, video in videos.items():
            started, before = time.perf_counter(), time.process_time()
            next(video)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            wall[which].append(time.perf_counter() - started)
            busy[which].append(time.process_time() - before)
    for title, seconds in (("wall", wall), ("CPU", busy)):
        report(
            f"{model}, {count} objects, a frame, {device}, {title} time",
            {which: values[MEMORIES:] for which, values in seconds.items()},
        )


def _tracking(
    which: str, model: str, checkpoint: Path, frames: Path, count: int, device: str
) -> Iterator[object]:
    """One of :data:`SIDES` on its way through the video."""
    predictor: Any
    if which == "official":
        from sam2.build_sam import build_sam2_video_predictor

        short = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}[model.removeprefix("hiera_")]
        predictor = build_sam2_video_predictor(
            f"configs/sam2.1/sam2.1_hiera_{short}.yaml", str(checkpoint), device=device
        )
    else:
        predictor = SamVideoPredictor(load_model(checkpoint, device=device, dtype=which))
    state = predictor.init_state(video_path=str(frames))
    for number in range(count):
        corner = 60 * number
        predictor.add_new_points_or_box(state, 0, number, box=[corner, 40, corner + 150, 220])
    found: Iterator[object] = predictor.propagate_in_video(state)
    return found


def _write_frames(folder: Path, count: int) -> None:
    """A camera that moves over a photograph."""
    folder.mkdir()
    for index in range(count):
        picture = image(480 + 4 * index, 640 + 6 * index)[4 * index :, 6 * index :]
        Image.fromarray(picture).save(folder / f"{index:05}.jpg")


def _track_stack(model: str, length: int) -> None:
    """Three objects on so many frames, with as little room for each as at full size."""
    torch.manual_seed(0)
    network = build_sam2(model, image_size=_STACK_SIDE).prepare(torch.device("cpu"), torch.float32)
    predictor = SamVideoPredictor(network)
    frames = predictor.init_state(np.broadcast_to(image(256, 256)[..., 0], (length, 256, 256))).frames
    state = VideoState(frames, cache_bytes=32 * 2**20, store_bytes=32 * 2**20)
    for number in range(3):
        predictor.add_new_points_or_box(state, 0, number, box=[60 * number, 40, 60 * number + 90, 220])
    for found in predictor.propagate(state):
        if found.frame_idx == 50:
            print(f"after 50: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
