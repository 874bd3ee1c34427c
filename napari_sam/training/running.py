"""One run of training: steps, measurements, what is written and when."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_sam.errors import DeviceError, ModelError
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.models.checkpoint import save_state
from napari_sam.training.batches import Batches
from napari_sam.training.lora import merged_state
from napari_sam.training.progress import FitResult, Measured, Progress, Quality, run_path
from napari_sam.training.rounds import follow_prompts, repeated
from napari_sam.training.run_file import RunState, forget, read_run, write_run
from napari_sam.training.trainee import AnyTrainee
from napari_sam.training.validation import Validation

__all__ = ["Limits", "Run"]

_MINUTES = 30.0
_MEASUREMENTS = 10
"""How often a run is measured, but for the first time."""
_RATHER_TRAIN = 4
"""Times as long as measuring takes is trained in between, at least: short runs are measured less often."""
_MEASURE_SECONDS = 300.0
"""It is measured after so long at the latest, unless measuring takes more than a tenth of that."""
_SAVE_SECONDS = 120.0
_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory|bad_alloc")
"""What PyTorch says when there is none left; not always by an exception of its own."""
_WARM_UP = 60
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Limits:
    """How long a run is; what comes first ends it, and 30 minutes if none is given.

    Raises
    ------
    ModelError
        If that is no time at all.
    """

    minutes: float | None
    steps: int | None

    def __post_init__(self) -> None:
        if (self.minutes is not None and not self.minutes > 0) or (self.steps is not None and self.steps < 1):
            raise ModelError("Training takes some time: give minutes above 0, or at least one step.")

    def share(self, state: RunState) -> float:
        """How much of it is done."""
        minutes = _MINUTES if self.minutes is None and self.steps is None else self.minutes
        by_time = 0.0 if minutes is None else state.seconds / (60 * minutes)
        by_steps = 0.0 if self.steps is None else state.step / self.steps
        return min(1.0, max(by_time, by_steps))


class Run:
    """One run, from where it is to its end.

    Parameters
    ----------
    trainee : Trainee
    batches : Batches
    validation : Validation
    output : Path
        The best weights.
    signature : dict of str to str or int
        What a run that is taken up must have in common with this one; with a seed.
    limits : Limits
    rate : float
        Highest learning rate.
    progress : callable, optional
    stop : threading.Event
    """

    def __init__(
        self,
        trainee: AnyTrainee,
        batches: Batches,
        validation: Validation,
        output: Path,
        signature: dict[str, str | int],
        limits: Limits,
        rate: float,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self.trainee, self.batches, self.validation = trainee, batches, validation
        self.output, self.signature, self.limits, self.rate = output, signature, limits, rate
        self.progress, self.stop = progress, stop
        learning = [p for p in trainee.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in learning if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
                {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=rate,
        )
        self.state = RunState()
        self.clock = time.monotonic()
        self.saved = 0.0

    def take_up(self) -> None:
        """Go on with the run that was interrupted."""
        self.state = read_run(run_path(self.output), self.trainee.model, self.optimizer, self.signature)
        self.saved = self.state.seconds

    def go(self) -> FitResult:
        """Train to the end, or until it is stopped."""
        self.clock = time.monotonic()
        if not self.state.measured:
            self.measure()
            self.save()  # wherever there is an output there is a run, however it ends
        while self.share < 1 and not self.stop.is_set():
            try:
                with abandonable(self.trainee.model, self.stop):
                    self.step()
            except Abandoned:
                break
            except (RuntimeError, MemoryError) as error:
                raise _explained(error, self.trainee.model.device) from error
            self.tick()
            self.report("training")
            if self.due():
                self.measure()
                self.save()
            elif self.state.seconds - self.saved > _SAVE_SECONDS:
                self.save()
        # What was learnt since the last measurement is not lost, although it was stopped.
        if self.state.measured[-1].step != self.state.step:
            self.measure()
        stopped = self.share < 1
        if stopped:
            self.save()
        else:
            forget(run_path(self.output))
        state = self.state
        return FitResult(
            self.output,
            state.step,
            state.seconds,
            state.measured[0],
            state.best,
            list(state.measured),
            list(state.losses),
            stopped,
        )

    @property
    def share(self) -> float:
        """How much of the run is done."""
        return self.limits.share(self.state)

    def step(self) -> None:
        """Learn from one batch."""
        trainee, state = self.trainee, self.state
        warm = min(1.0, max((state.step + 1) / _WARM_UP, self.share * _MEASUREMENTS))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * self.share)))
        batch = self.batches.draw(state.step)
        owned = tuple(repeated(part, batch.owner) for part in batch.features)
        device = batch.truth.device
        # A seed of its own for each step: a run that is taken up again prompts as it would have done.
        generator = torch.Generator(device).manual_seed((int(self.signature["seed"]) << 32) + state.step)
        loss, quality = follow_prompts(
            lambda prompts, logits: trainee.decode(owned, prompts, logits),
            trainee.loss,
            batch.truth,
            trainee.stride,
            generator=generator,
            jitter=trainee.jitter,
            most=trainee.most_jitter,
            second_looks=trainee.second_looks,
            owner=batch.owner,
        )
        shown = float(loss.detach()) / min(2, len(quality))  # as many rounds count
        dense = trainee.dense_loss(batch.features, batch.labels, batch.items)
        if dense is not None:
            loss = loss + dense
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        self.optimizer.step()
        state.step += 1
        state.add_loss(shown)

    def due(self) -> bool:
        """Whether to measure after this step."""
        since = self.state.seconds - self.state.measured[-1].seconds
        if int(self.share * _MEASUREMENTS) > self.measured_tenth:
            return self.share == 1 or since > _RATHER_TRAIN * self.measuring
        return since > max(_MEASURE_SECONDS, _MEASUREMENTS * self.measuring)

    measured_tenth = 0
    measuring = 0.0
    """Seconds that the last measurement took."""

    def measure(self) -> None:
        """Measure what has been learnt; write it if it is the best so far."""
        self.report("measuring")
        begun = time.monotonic()
        quality = self.validation.measure(self.trainee)
        assert quality is not None
        self.measuring = time.monotonic() - begun
        self.measured_tenth = int(self.share * _MEASUREMENTS)
        self.tick()
        self.state.measured.append(Measured(self.state.step, self.state.seconds, quality))
        if self.state.best is self.state.measured[-1]:
            self.write()
        self.report("training")

    def write(self) -> None:
        """Write the weights as they are."""
        trainee = self.trainee
        quality: Quality = self.state.measured[-1].quality
        metadata = {
            "napari-sam.family": trainee.family,
            "napari-sam.base": str(self.signature["model"]),
            "napari-sam.part": str(self.signature["part"]),
            "napari-sam.steps": str(self.state.step),
            "napari-sam.val_point_iou": f"{quality.point:.4f}",
            "napari-sam.val_box_iou": f"{quality.box:.4f}",
        }
        state = merged_state(trainee.model)
        save_state(trainee.model, self.output, half=trainee.half, metadata=metadata, state=state)

    def save(self) -> None:
        """Write what the run needs to go on."""
        self.saved = self.state.seconds
        write_run(run_path(self.output), self.state, self.trainee.model, self.optimizer, self.signature)

    def tick(self) -> None:
        """Count the time that has passed."""
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.clock = now

    def report(self, doing: str) -> None:
        """Tell how far it is."""
        if self.progress is not None:
            state = self.state
            self.progress(
                Progress(
                    doing, self.share, state.step, state.seconds, tuple(state.losses), tuple(state.measured)
                )
            )


def _explained(error: Exception, device: torch.device) -> Exception:
    """What to say if memory was short; else the error itself."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or _MEMORY.search(str(error)):
        return DeviceError(
            f"There is not enough memory on {device} for this: train with fewer objects or windows, or the "
            "decoder only."
        )
    return error
