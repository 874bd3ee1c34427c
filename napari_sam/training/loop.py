"""How ``nano`` was made: its encoder first, then everything together, on many data sets and synthetic images.

A user's own images are for :mod:`napari_sam.training.fitting`; what objects are prompted with is the same.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from napari_sam.models.checkpoint import save_state, writing
from napari_sam.models.nano import Nano, normalise
from napari_sam.models.nano_encoder import FINE_STRIDE, NanoFeatures
from napari_sam.training.augment import turned, varied
from napari_sam.training.data import LabelledImage, dense_target, pick_objects, random_crop
from napari_sam.training.growing import load_grown
from napari_sam.training.losses import dense_loss, iou, prompt_loss
from napari_sam.training.muon import optimizers
from napari_sam.training.precision import reduced_precision
from napari_sam.training.rounds import follow_prompts, repeated
from napari_sam.training.synthetic import synthetic_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_sam.training.prompts import SimulatedPrompts

__all__ = ["DENSE_WEIGHT", "SECOND_LOOKS", "Settings", "Windows", "train"]

_NORM_BATCHES = 40
"""Batches from which normalisation statistics are computed."""
DENSE_WEIGHT = 4.0
"""Of the dense head's loss beside that of the prompts, which is noisier."""
SECOND_LOOKS = 0.6
"""How often simulated rounds are answered twice, as in use; the others are for masks that were prompted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is.

    Attributes
    ----------
    minutes : float
        Length of the whole run; a resumed run goes on where it was.
    encoder_minutes : float
        Of these, how many train the image encoder alone, on what it says of every pixel. Prompts teach little
        as long as the features are poor, and cost most of the time.
    windows : int
        Windows in a batch.
    objects : int
        Most objects prompted in a window.
    learning_rate, weight_decay : float
        Of both optimizers; see :mod:`napari_sam.training.muon`.
    ema_decay : float
        Of the exponential moving average of the weights, which is what is saved.
    synthetic : float
        Share of windows that are synthetic.
    plain : float
        Share of the other windows whose intensities stay as they are: where annotators draw the border of
        blurred objects is learned from these.
    save_minutes : float
        How often to save.
    only : str
        What the names of the parameters that learn begin with; nothing else changes.
    seed : int
    """

    minutes: float = 60.0
    encoder_minutes: float = 15.0
    windows: int = 6
    objects: int = 4
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    synthetic: float = 0.16
    plain: float = 0.5
    save_minutes: float = 5.0
    only: str = ""
    seed: int = 0


class Windows(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """An endless stream of pixels (3, H, W), masks (objects, H, W), their number, the dense target."""

    def __init__(
        self, items: Sequence[LabelledImage], weights: Mapping[str, float], settings: Settings
    ) -> None:
        self.items = items
        names = [_weighed(item.group, weights) for item in items]
        groups = sorted(set(names))
        self.members = [[i for i, name in enumerate(names) if name == group] for group in groups]
        share = np.array([weights.get(group, 1.0) for group in groups])
        self.share = share / share.sum()
        self.settings = settings

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        info = get_worker_info()
        rng = np.random.default_rng([self.settings.seed, info.id if info else 0, time.time_ns() % 2**32])
        while True:
            if rng.random() < self.settings.synthetic:
                image, ids = synthetic_sample(rng)
                plane = torch.from_numpy(np.ascontiguousarray(image))
                pixels = normalise(plane.permute(2, 0, 1).float() / 255)
                labels = torch.from_numpy(ids).long()
                group = "synthetic"
            else:
                item = self.items[rng.choice(self.members[rng.choice(len(self.members), p=self.share)])]
                pixels, labels = random_crop(item, rng)
                group = item.group
            pixels, labels = turned(pixels, labels, rng)
            if group == "synthetic" or rng.random() >= self.settings.plain:
                pixels = varied(pixels, rng)
            chosen = pick_objects(labels, self.settings.objects, rng)
            if not len(chosen):
                continue
            masks = torch.zeros(self.settings.objects, *labels.shape, dtype=torch.bool)
            masks[: len(chosen)] = labels == torch.from_numpy(chosen)[:, None, None]
            yield pixels, masks, torch.tensor(len(chosen)), dense_target(labels, group)


def _weighed(group: str, weights: Mapping[str, float]) -> str:
    """What of ``group`` has a weight, from all of it to its data set; all of it if nothing has."""
    parts = group.split("/")
    names = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in weights), group)


def train(
    items: Sequence[LabelledImage],
    output: Path,
    *,
    weights: Mapping[str, float] | None = None,
    settings: Settings | None = None,
    device: str = "cpu",
    initial: Mapping[str, Tensor] | None = None,
) -> None:
    """Train ``nano`` and write its averaged weights to ``output`` (safetensors), now and then and at the end.

    The state of the run is kept beside it in ``output`` with the suffix ``.run``; where that exists, the run
    goes on from there.

    Parameters
    ----------
    items : sequence of LabelledImage
    output : path
    weights : mapping of str to float, optional
        How often a group, or what of a data set begins with these names, is drawn; 1 where not given.
    settings : Settings, optional
    device : str, default "cpu"
    initial : mapping of str to Tensor, optional
        Weights to start from, instead of random ones; see :func:`~napari_sam.training.growing.load_grown`.
    """
    settings = settings or Settings()
    torch.manual_seed(settings.seed)
    where = torch.device(device)
    model = Nano()
    if initial is not None:
        load_grown(model, initial)
    model = model.to(where).to(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(settings.only))
    average = AveragedModel(model, multi_avg_fn=_moving_average(settings.ema_decay), use_buffers=True)
    steppers = optimizers(
        model,
        first=model.image_encoder.stem,
        last=[model.image_encoder.dense],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    run_file = output.with_suffix(".run")
    step, spent = 0, 0.0
    together: int | None = None  # the step at which prompts joined
    if run_file.exists():
        state: dict[str, Any] = torch.load(run_file, map_location=where, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, kept in zip(steppers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step, spent, together = state["step"], state["spent"], state["together"]

    def save() -> None:
        averaged = cast("Nano", average.module)
        if not settings.only:
            _recompute_norms(averaged, batches, _NORM_BATCHES)
        save_state(averaged, output)
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in steppers],
            "step": step,
            "spent": spent,
            "together": together,
            "settings": asdict(settings),
        }
        with writing(run_file) as part:
            torch.save(state, part)

    loader = DataLoader(
        Windows(items, weights or {}, settings),
        batch_size=settings.windows,
        num_workers=1,
        prefetch_factor=4,
    )
    batches = (_Batch(*(tensor.to(where) for tensor in batch)) for batch in loader)
    total, saved, shown = settings.minutes * 60, spent, np.zeros(3)
    clock = time.monotonic()
    while spent < total:
        batch = next(batches)
        alone = spent < settings.encoder_minutes * 60
        if not alone and together is None:
            together = step
        progress = (spent - settings.encoder_minutes * 60) / max(total - settings.encoder_minutes * 60, 1e-9)
        rate = settings.learning_rate * _schedule(max(0.0, progress), step - (together or 0))
        for optimizer in steppers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        model.train(not settings.only)  # normalises as it did where only a part learns
        loss, first, last = _step(model, steppers, batch, alone)
        average.update_parameters(model)
        step += 1
        now = time.monotonic()
        spent, clock = spent + now - clock, now
        latest = np.array([loss, first, last])
        shown = 0.98 * shown + 0.02 * latest if shown.any() else latest
        if step % 50 == 0:
            quality = f"loss {shown[0]:.3f}  IoU {shown[1]:.3f} -> {shown[2]:.3f}"
            print(f"{spent / 60:6.1f} min  step {step:6d}  {quality}", flush=True)
        if spent - saved > settings.save_minutes * 60:
            saved = spent
            save()
    save()


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average that forgets the random start: its decay rises towards ``decay``."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    return update


def _schedule(progress: float, step: int) -> float:
    """Share of the learning rate: warm-up over 60 steps, then a cosine to one hundredth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / 60) * (0.01 + 0.99 * cosine)


class _Batch(NamedTuple):
    """What :class:`Windows` yields, collated."""

    pixels: Tensor
    masks: Tensor
    counts: Tensor
    dense: Tensor


def _step(
    model: Nano, steppers: Sequence[torch.optim.Optimizer], batch: _Batch, alone: bool
) -> tuple[float, float, float]:
    """One update; returns the loss and the mean IoU of the first and of the last round.

    With ``alone``, of the encoder only; the IoU is then that of the foreground.
    """
    if alone:
        loss, quality = _encoder_alone(model, batch)
    else:
        loss, quality = _rounds(model, batch)
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in steppers:
        optimizer.step()
    return float(loss.detach()), quality[0], quality[-1]


def _encode(model: Nano, pixels: Tensor) -> NanoFeatures:
    with reduced_precision(pixels.device):
        features: NanoFeatures = model.image_encoder(pixels.contiguous(memory_format=torch.channels_last))
        return features


def _encoder_alone(model: Nano, batch: _Batch) -> tuple[Tensor, list[float]]:
    """The loss of the dense head and the IoU of its foreground."""
    dense = _encode(model, batch.pixels).dense
    found = dense.detach()[:, 0].masked_fill(batch.dense[:, 4] == 0, -1.0)
    return dense_loss(dense, batch.dense), [float(iou(found[:, None], batch.dense[:, 0]).mean())]


def _rounds(model: Nano, batch: _Batch) -> tuple[Tensor, list[float]]:
    """Prompt the objects of a batch, and correct some times; the loss and the mean IoU of each round."""
    pixels, masks, counts, dense = batch
    owner = torch.repeat_interleave(torch.arange(len(pixels), device=counts.device), counts)
    truth = masks[torch.arange(masks.shape[1], device=counts.device)[None] < counts[:, None]]
    features = _encode(model, pixels)
    owned = NanoFeatures(*(repeated(part, owner) for part in features))
    owned = owned._replace(dense=owned.dense.detach())

    def decode(prompts: SimulatedPrompts, logits: Tensor | None) -> tuple[Tensor, Tensor]:
        with reduced_precision(pixels.device):
            return model.decode_windows(owned, prompts.points, prompts.labels, prompts.boxes, logits)

    def criterion(found: Tensor, scores: Tensor, target: Tensor, _: SimulatedPrompts) -> Tensor:
        return prompt_loss(found, scores, target)

    loss, quality = follow_prompts(
        decode, criterion, truth, FINE_STRIDE, second_looks=SECOND_LOOKS, owner=owner
    )
    return loss + DENSE_WEIGHT * dense_loss(features.dense, dense), quality


@torch.no_grad()
def _recompute_norms(model: Nano, batches: Iterator[_Batch], count: int) -> None:
    """Give averaged weights the normalisation statistics that belong to them.

    Averages of statistics do not fit averages of weights (Izmailov et al. 2018, Averaging Weights Leads to
    Wider Optima, section 3.2).
    """
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches to come
    model.train()
    for batch in itertools.islice(batches, count):
        _rounds(model, batch)
