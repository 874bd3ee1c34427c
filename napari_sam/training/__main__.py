"""``python -m napari_sam.training``: how ``nano`` was made, from nothing or from other weights of it.

For models of one's own there is ``napari-sam train``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_sam.models.checkpoint import read_state
from napari_sam.training.data import load_index
from napari_sam.training.loop import Settings, train

WEIGHTS = {
    "dsb2018/fluo_small": 19.0,
    "dsb2018/fluo_large": 9.0,
    # Few, and unlike the others: blurred, and with labels that reach beyond what is seen.
    "dsb2018/fluo_large/256x256": 10.0,
    "dsb2018/fluo_large/512x640": 3.0,
    "dsb2018/purple_he": 10.0,
    "dsb2018/purple_on_white": 6.0,
    "dsb2018/brightfield_gray": 5.0,
    "bbbc039": 6.0,
    "usiigaci_phase": 12.0,
    "axon_sem": 5.0,
    "axon_tem": 5.0,
    "ampis_powder_sem": 5.0,
    "fib25_em3d": 6.0,
    "imagegrains_pebbles": 7.0,
    "colicoords_ecoli": 4.0,
    "omnipose_bacteria": 3.0,
    "drosophila_eggchambers": 3.0,
    "gonuclear_3d": 5.0,
    "qcanet_embryo_3d": 3.0,
}
"""How often each data set of the embedded model's training is drawn."""


def main() -> None:
    """Parse the command line and train."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m napari_sam.training", description=__doc__)
    parser.add_argument("--index", type=Path, required=True, help="folder that holds index.csv")
    parser.add_argument("--output", "-o", type=Path, required=True, help="weights to write (.safetensors)")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--encoder-minutes", type=float, default=defaults.encoder_minutes)
    parser.add_argument("--windows", type=int, default=defaults.windows)
    parser.add_argument("--objects", type=int, default=defaults.objects)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--only", default=defaults.only, help="how the names of what learns begin")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, help="CPU threads; all if not given")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    items = load_index(args.index)
    print(f"{len(items)} planes from {len({item.group for item in items})} groups", flush=True)
    settings = Settings(
        minutes=args.minutes,
        encoder_minutes=args.encoder_minutes,
        windows=args.windows,
        objects=args.objects,
        learning_rate=args.learning_rate,
        only=args.only,
        seed=args.seed,
    )
    initial = read_state(args.init) if args.init else None
    args.output.parent.mkdir(parents=True, exist_ok=True)
    train(items, args.output, weights=WEIGHTS, settings=settings, device=args.device, initial=initial)


if __name__ == "__main__":
    main()
