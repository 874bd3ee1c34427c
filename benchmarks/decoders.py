"""``python -m benchmarks.decoders``: decoding of ours and of the official packages, side by side.

Many points in one batch are decoded to low-resolution logits; one point goes all the way through `predict`.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.compare import SIDES, image, predictor, report, take_turns, write_checkpoint
from napari_sam.inference.engine import encode
from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.base import Embedding, PromptBatch

__all__ = ["main"]


def main(
    model: Annotated[list[str] | None, typer.Option(help="vit_b, hiera_tiny, ...; repeated.")] = None,
    points: Annotated[int, typer.Option(help="Points in a batch.")] = 64,
    rounds: Annotated[int, typer.Option(help="Turns that count.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Compare decoding."""
    torch.set_num_threads(threads)
    pixels = image(1024, 1024)
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1023, (points, 1, 2)).astype(np.float32)
    for name in model or ["vit_b", "hiera_tiny"]:
        with tempfile.TemporaryDirectory() as folder:
            path = write_checkpoint(name, Path(folder))
            sides = {which: predictor(which, name, path, device) for which in SIDES}
        embeddings = {}
        for which, side in sides.items():
            side.set_image(pixels)
            if isinstance(side, SamPredictor):
                embeddings[which] = encode(side.model, pixels)
        batch = {which: partial(_decode, side, embeddings.get(which), xy) for which, side in sides.items()}
        report(f"{name}: {points} points, per point, {device}", take_turns(batch, rounds, device), per=points)
        one = {which: partial(side.predict, xy[0], np.ones(1)) for which, side in sides.items()}
        report(f"{name}: one point, predict, {device}", take_turns(one, 3 * rounds, device))


@torch.inference_mode()
def _decode(side: Any, embedding: Embedding | None, xy: NDArray[np.float32]) -> object:
    """Low-resolution logits of one point per object, three candidates each."""
    device = side.device
    points = torch.from_numpy(xy).to(device)
    labels = torch.ones(points.shape[:2], dtype=torch.int64, device=device)
    if embedding is not None:
        return side.model.decode(embedding, PromptBatch(points, labels), multimask=True)
    if hasattr(side.model, "sam_mask_decoder"):
        encoder, decoder, features = (
            side.model.sam_prompt_encoder,
            side.model.sam_mask_decoder,
            side._features,  # noqa: SLF001 - the official class has no other access
        )
        sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
        return decoder(
            image_embeddings=features["image_embed"],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=True,
            high_res_features=features["high_res_feats"],
        )
    encoder = side.model.prompt_encoder
    sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
    return side.model.mask_decoder(
        image_embeddings=side.features,
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


if __name__ == "__main__":
    typer.run(main)
