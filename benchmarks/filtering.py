"""``python -m benchmarks.filtering``: how long it takes until a slider of the automatic masks has its effect.

1,000 masks on a plane of 1024 x 1024 pixels, of the sizes that Segment Anything finds: many small ones, some
large ones, each found several times. One thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.mask import Mask

__all__ = ["main", "many_masks"]

SIDE = 1024


def many_masks(count: int = 1000, side: int = SIDE, seed: int = 0) -> MaskCandidates:
    """Ragged ellipses with holes: diameters from 8 pixels to the whole plane, most of them small."""
    rng = np.random.default_rng(seed)
    masks: list[Mask] = []
    points: list[tuple[float, float]] = []
    y, x = np.indices((side, side), dtype=np.float32)
    texture = rng.random((side, side), dtype=np.float32)
    while len(masks) < count:
        middle = rng.uniform(0, side, 2)
        radii = np.exp(rng.normal(np.log(side / 40), 1, 2)).clip(4, side)
        # The same thing three times, from three points.
        for _ in range(3):
            row, column = middle + rng.normal(0, 1, 2)
            top, left = (max(0, int(at - radius)) for at, radius in zip((row, column), radii, strict=True))
            here = slice(top, int(row + radii[0]) + 1), slice(left, int(column + radii[1]) + 1)
            away = ((y[here] - row) / radii[0]) ** 2 + ((x[here] - column) / radii[1]) ** 2
            inside = (away < 1) & (texture[here] > 0.002)
            masks.append(Mask((top, left), inside, (side, side)))
            points.append((column, row))
    masks, points = masks[:count], points[:count]
    crops = [(0, 0, side, side)] * count
    scores = rng.random((2, count))
    return MaskCandidates.of(masks, scores[0], scores[1], points, crops, (side, side))


def _milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """The median of several runs."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        taken.append((time.perf_counter() - started) * 1e3)
    return float(np.median(taken))


def main(
    count: Annotated[int, typer.Option(help="Masks.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Runs of each filter.")] = 9,
) -> None:
    """Measure, and print JSON."""
    found = many_masks(count)
    sieve = Sieve(found)
    protected = np.zeros(found.shape, dtype=bool)
    protected[: SIDE // 3, : SIDE // 3] = True
    filters = {
        "all masks": Filter(max_overlap=1, min_visible=0),
        "no duplicates": Filter(),
        "holes filled": Filter(max_overlap=1, min_visible=0, fill_holes=100),
        "smaller on top": Filter(smaller_on_top=True, max_overlap=0.3),
        "strict": Filter(min_predicted_iou=0.5, min_stability=0.5, exclude_border=True),
    }
    result: dict[str, Any] = {
        "masks": len(found),
        "pixels_in_boxes": int(np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1).sum()),
        "pairs": len(sieve.overlaps),
        "candidates_mib": found.nbytes / 2**20,
        "prepared_mib": sieve.nbytes / 2**20,
        "prepare_ms": _milliseconds(lambda: Sieve(found), 1),
    }
    for name, wanted in filters.items():
        kept = sieve.select(wanted)
        fresh = Sieve(found)
        first = _milliseconds(lambda k=kept, w=wanted, s=fresh: s.paint(k, w, protected), 1)  # type: ignore[misc]
        result[name] = {
            "kept": len(kept),
            "seen": len(sieve.paint(kept, wanted, protected).kept),
            "first_paint_ms": first,
            "select_ms": _milliseconds(lambda w=wanted: sieve.select(w), repeats),  # type: ignore[misc]
            "paint_ms": _milliseconds(lambda k=kept, w=wanted: sieve.paint(k, w, protected), repeats),  # type: ignore[misc]
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
