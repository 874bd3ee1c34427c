"""``python -m benchmarks.stored_embeddings``: an image that was seen before, encoded again or read from disk.

Weights are random, which costs the same time as trained ones. What is read was written a moment before, so
that it is in the system's memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.compare import image, report, take_turns, write_checkpoint
from napari_sam.inference import engine
from napari_sam.inference.embedding_store import EmbeddingStore
from napari_sam.models import load_model
from napari_sam.models.base import PromptableModel

__all__ = ["main"]


def main(
    model: Annotated[list[str] | None, typer.Option(help="vit_b, hiera_tiny, ...; repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns that count.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    side: Annotated[int, typer.Option(help="Side of the image, in pixels.")] = 1024,
) -> None:
    """Compare computing an embedding, computing and writing it, and reading it."""
    torch.set_num_threads(threads)
    pixels = image(side, side)
    for name in model or ["vit_b", "hiera_tiny"]:
        with tempfile.TemporaryDirectory() as folder:
            network = load_model(write_checkpoint(name, Path(folder)), device=device)
            store, anew = EmbeddingStore(Path(folder) / "kept"), EmbeddingStore(Path(folder) / "anew")
            actions: dict[str, Callable[[], object]] = {
                "computed": partial(engine.encode, network, pixels),
                "and written": partial(_encode_anew, anew, network, pixels),
                "read": partial(store.encode, network, pixels),
            }
            report(f"{name}: embedding of {side} x {side}, {device}", take_turns(actions, rounds, device))
            print(f"  {store.nbytes / 2**20:.1f} MiB on disk", flush=True)


def _encode_anew(store: EmbeddingStore, network: PromptableModel, pixels: NDArray[np.uint8]) -> None:
    for path in store.folder.glob("*"):
        path.unlink()
    store.encode(network, pixels)


if __name__ == "__main__":
    typer.run(main)
