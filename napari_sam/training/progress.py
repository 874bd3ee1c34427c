"""What a run of training tells while it goes on, and in the end; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["FitResult", "Measured", "Progress", "Quality", "run_path"]


class Quality(NamedTuple):
    """Means over objects.

    Attributes
    ----------
    point : float
        IoU after one point at the object's centre, the farthest from its outline.
    box : float
        IoU after its tight box.
    """

    point: float
    box: float

    @property
    def score(self) -> float:
        """What the best weights are best in: the mean of both.

        Examples
        --------
        >>> Quality(point=0.5, box=0.75).score
        0.625
        """
        return (self.point + self.box) / 2


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement: after how many steps and seconds, and what came out."""

    step: int
    seconds: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    doing : {"downloading", "measuring", "training"}
    share : float
        Of the run, or of the download, that is done, from 0 to 1.
    step : int
    seconds : float
        Spent on it in all, over interruptions.
    losses : sequence of (int, float)
        A step, and the mean loss of a round of prompts since the one before; at most 512, whatever the length
        of the run.
    measured : sequence of Measured
        Steps, seconds and quality on the images for validation; the first one is the model as it was.
    """

    doing: str
    share: float
    step: int
    seconds: float
    losses: Sequence[tuple[int, float]]
    measured: Sequence[Measured]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came out of a run.

    Attributes
    ----------
    output : Path
        The weights that were best on the images for validation.
    step, seconds : int, float
        How many steps, and how long, in all.
    before, best : Measured
        The quality of the model as it was, and of the one in `output`.
    measured : list of Measured
    losses : list of (int, float)
    stopped : bool
        Whether it was stopped before its end; then it can go on.
    """

    output: Path
    step: int
    seconds: float
    before: Measured
    best: Measured
    measured: list[Measured]
    losses: list[tuple[int, float]]
    stopped: bool


def run_path(output: Path) -> Path:
    """Where an interrupted run is kept: beside its output, with the suffix ``.run``."""
    return output.with_suffix(".run")
