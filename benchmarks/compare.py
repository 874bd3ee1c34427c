"""Comparing ours with the official packages: same weights, same process, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_sam.inference.predictor import SamPredictor
from napari_sam.models import load_model

__all__ = [
    "SIDES",
    "image",
    "peak_memory_of",
    "predictor",
    "report",
    "take_turns",
    "write_checkpoint",
]

SIDES = ("official", "float32", "auto")
"""The official code, and ours in either precision."""
_SAM2_CONFIG = "configs/sam2.1/sam2.1_hiera_{}.yaml"
_SAM2_SHORT = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


def write_checkpoint(name: str, folder: Path) -> Path:
    """A checkpoint with random weights in the official layout.

    Parameters
    ----------
    name : str
        ``"vit_b"``, ``"vit_l"``, ``"vit_h"``, or ``"hiera_tiny"``, ``"hiera_small"``, ... (SAM 2.1).
    folder : path
    """
    torch.manual_seed(0)
    network = _official_network(name, None, "cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            # Zeros would be no test of anything, and denormal products of theirs are slow.
            if not parameter.any():
                parameter.normal_(std=0.02)
    state = network.state_dict()
    path = folder / f"{name}.pt"
    torch.save(state if name.startswith("vit") else {"model": state}, path)
    return path


def predictor(side: str, name: str, checkpoint: Path, device: str) -> Any:
    """The predictor of one of :data:`SIDES`: official ``SamPredictor`` or ``SAM2ImagePredictor``, or ours."""
    if side != "official":
        return SamPredictor(load_model(checkpoint, device=device, dtype=side))
    network = _official_network(name, checkpoint, device)
    if name.startswith("vit"):
        from segment_anything import SamPredictor as OfficialPredictor

        return OfficialPredictor(network)
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    return SAM2ImagePredictor(network)


def _official_network(name: str, checkpoint: Path | None, device: str) -> nn.Module:
    path = None if checkpoint is None else str(checkpoint)
    network: nn.Module
    if name.startswith("vit"):
        from segment_anything import sam_model_registry

        network = sam_model_registry[name](checkpoint=path).to(device)
    else:
        from sam2.build_sam import build_sam2

        config = _SAM2_CONFIG.format(_SAM2_SHORT[name.removeprefix("hiera_")])
        network = build_sam2(config, path, device=device)
    return network.eval()


def image(height: int, width: int) -> NDArray[np.uint8]:
    """A colour photograph of that size, in pixels."""
    from skimage import data

    photograph = np.asarray(data.astronaut())
    rows, columns = -(-height // photograph.shape[0]), -(-width // photograph.shape[1])
    return np.ascontiguousarray(np.tile(photograph, (rows, columns, 1))[:height, :width])


def take_turns(
    actions: Mapping[str, Callable[[], object]], rounds: int, device: str, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each action in each round; the round of a warm-up does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, action in actions.items():
            _wait(device)
            started = time.perf_counter()
            action()
            _wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def report(title: str, seconds: Mapping[str, list[float]], per: int = 1) -> None:
    """Print medians and, against the first action, medians of the ratios of each round."""
    base = next(iter(seconds))
    print(title)
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds[base], values, strict=True)]
        gain = "" if name == base else f"{statistics.median(ratios):8.2f}x"
        print(f"  {name:<12}{statistics.median(values) / per * 1e3:10.1f} ms{gain}", flush=True)


def peak_memory_of(module: str, *arguments: str) -> float:
    """Peak resident memory, in MiB, that ``python -m module arguments`` prints last."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
