"""An interrupted run on disk: what has been learnt and measured so far."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.checkpoint import writing
from napari_sam.training.progress import Measured, Quality

__all__ = ["RunState", "forget", "read_run", "write_run"]

_MOST_LOSSES = 512


@dataclass(slots=True)
class RunState:
    """How far a run is.

    Attributes
    ----------
    step : int
    seconds : float
        Spent on it in all, over interruptions.
    measured : list of Measured
        The first one is the model that the run began with.
    losses : list of (int, float)
        Means of the loss over some steps each, and the last of these steps; at most 512.
    """

    step: int = 0
    seconds: float = 0.0
    measured: list[Measured] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    _sum: float = 0.0
    _count: int = 0
    _together: int = 1

    @property
    def best(self) -> Measured:
        """The best measurement, the first of these if several are."""
        return max(self.measured, key=lambda one: one.quality.score)

    def add_loss(self, loss: float) -> None:
        """Note the loss of the step that was done last."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count < self._together:
            return
        self.losses.append((self.step, self._sum / self._count))
        self._sum, self._count = 0.0, 0
        if len(self.losses) >= _MOST_LOSSES:
            # From now on, a point of the curve stands for twice as many steps.
            pairs = zip(self.losses[::2], self.losses[1::2], strict=False)
            self.losses = [(late, (first + second) / 2) for (_, first), (late, second) in pairs]
            self._together *= 2


def write_run(
    path: Path,
    state: RunState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    signature: Mapping[str, str | int],
) -> None:
    """Write what a run needs to go on, atomically: the weights that learn, and what the optimiser knows.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    content = {
        "signature": dict(signature),
        "step": state.step,
        "seconds": state.seconds,
        "measured": [(one.step, one.seconds, *one.quality) for one in state.measured],
        "losses": state.losses,
        "together": state._together,  # noqa: SLF001
        "weights": {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad},
        "optimizer": optimizer.state_dict(),
    }
    with writing(path) as part:
        torch.save(content, part)


def read_run(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, signature: Mapping[str, str | int]
) -> RunState:
    """Read what :func:`write_run` wrote, into a model and its optimiser.

    Raises
    ------
    ModelError
        If the file is damaged, or of a run with another model, part, rank or seed.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found, weights = content["signature"], content["weights"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is not a run that can go on; delete it to begin from the start.") from error
    other = [f"{name} {found.get(name)}" for name, value in signature.items() if found.get(name) != value]
    if other:
        raise ModelError(
            f"{path} is of a run with {', '.join(other)}: give the same again, or another output."
        )
    learning: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if learning.keys() != weights.keys() or any(learning[n].shape != w.shape for n, w in weights.items()):
        raise ModelError(f"{path} is of another model: give the model that the run began with.")
    with torch.no_grad():
        for name, weight in weights.items():
            learning[name].copy_(weight)
    optimizer.load_state_dict(content["optimizer"])
    measured = [Measured(step, seconds, Quality(*quality)) for step, seconds, *quality in content["measured"]]
    losses = [(step, loss) for step, loss in content["losses"]]
    return RunState(content["step"], content["seconds"], measured, losses, _together=content["together"])


def forget(path: Path) -> None:
    """Delete what is there of a run that is done."""
    path.unlink(missing_ok=True)
