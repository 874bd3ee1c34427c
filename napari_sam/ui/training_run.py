"""A model that trains in a process of its own, and what the GUI learns of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.errors import NapariSamError
from napari_sam.models.store import model_folder
from napari_sam.training.child import parse
from napari_sam.training.progress import FitResult, Progress
from napari_sam.ui._bridge import Bridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LayerPair", "TrainingRun", "Wanted"]


@dataclass(frozen=True, eq=False)
class LayerPair:
    """An image as it is displayed, and its labels.

    Attributes
    ----------
    name : str
    image : array-like
        All of it; only planes with labels are read.
    labels : array-like
        Read plane by plane when training begins.
    limits : tuple of float
    gamma : float
    """

    name: str
    image: Any
    labels: Any
    limits: tuple[float, float]
    gamma: float


@dataclass(frozen=True)
class Wanted:
    """What is to be trained, on what, and for how long.

    Attributes
    ----------
    pairs : sequence of LayerPair
        Layers; if there are none, the folders count.
    images, labels : str
        Folders.
    model, device, part : str
    minutes : float
    partial : bool
    output : Path
    resume : bool
    """

    pairs: Sequence[LayerPair]
    images: str
    labels: str
    model: str
    device: str
    part: str
    minutes: float
    partial: bool
    output: Path
    resume: bool


class TrainingRun:
    """One run at a time.

    The process ends by itself, with the best written, when it is told to stop or when this program ends. It
    is a process since the compilers that PyTorch loads for training crash beside those of some OpenGL
    drivers (both bring an LLVM of their own), and so that no click waits for the interpreter.
    """

    progressed = Signal(Progress)
    """Where it is now; not every step is told where steps are short."""

    finished = Signal(FitResult)
    """It came to its end, or was stopped."""

    failed = Signal(Exception)
    """It could not begin, or go on."""

    def __init__(self) -> None:
        self._bridge = Bridge()
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it has not told its end yet."""
        return self._thread is not None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self.running and self._stopped

    def start(self, wanted: Wanted) -> None:
        """Begin, unless one is running."""
        if self.running:
            return
        self._stopped = False
        self._thread = threading.Thread(
            target=self._follow, args=(wanted,), name="napari-sam training", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End soon, keeping the best."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError, ValueError):  # where it has ended by itself
                    self._process.stdin.close()

    def close(self) -> None:
        """Stop, and tell nothing any more."""
        self.stop()
        self._bridge.close()

    def _follow(self, wanted: Wanted) -> None:
        """Run the process and tell what it tells; in a thread that only waits."""
        scratch = Path(tempfile.mkdtemp(prefix="napari-sam-training-"))
        outcome: object = None
        try:
            order = _order(wanted, scratch)
            process = self._begun(order)
            if process is None:
                raise NapariSamError("Training was stopped before it began.")
            assert process.stdout is not None
            with process:
                for line in process.stdout:
                    told = parse(line)
                    if isinstance(told, Progress):
                        self._bridge.call(partial(self.progressed.emit, told))
                    elif told is not None:
                        outcome = told
            if outcome is None:
                outcome = NapariSamError(
                    f"Training ended unexpectedly, with code {process.returncode}: the best model so far is "
                    "kept."
                )
        except Exception as error:  # noqa: BLE001  # whatever it is, the user is to know
            outcome = error.with_traceback(None)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._bridge.call(lambda: self._end(outcome))

    def _begun(self, order: dict[str, Any]) -> subprocess.Popen[str] | None:
        """The process, unless it is not wanted any more."""
        with self._lock:
            if self._stopped:
                return None
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "napari_sam.training.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # what ends this program ends it by its input, not by a signal
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        return process

    def _end(self, outcome: object) -> None:
        self._thread = self._process = None
        if isinstance(outcome, FitResult):
            self.finished.emit(outcome)
        else:
            self.failed.emit(outcome)


def _order(wanted: Wanted, scratch: Path) -> dict[str, Any]:
    """What the process is told; layers are written to a folder, only planes with labels of them."""
    layers = []
    for number, one in enumerate(wanted.pairs):
        image, labels = _labelled_planes(one)
        paths = [scratch / f"{number}-{what}.npy" for what in ("image", "labels")]
        for path, array in zip(paths, (image, labels), strict=True):
            np.save(path, array, allow_pickle=False)
        layers.append(
            {
                "name": one.name,
                "image": str(paths[0]),
                "labels": str(paths[1]),
                "limits": one.limits,
                "gamma": one.gamma,
            }
        )
    return {
        "layers": layers,
        "images": wanted.images,
        "labels": wanted.labels,
        "model": wanted.model,
        "device": wanted.device,
        "part": wanted.part,
        "minutes": wanted.minutes,
        "partial": wanted.partial,
        "output": str(wanted.output),
        "resume": wanted.resume,
        "scratch": str(scratch),
        "model_folder": str(model_folder()),
    }


def _labelled_planes(one: LayerPair) -> tuple[NDArray[Any], NDArray[Any]]:
    """Those planes that have labels, one after another."""
    if len(one.labels.shape) == 2:
        return np.asarray(one.image), np.asarray(one.labels)
    at = list(np.ndindex(*one.labels.shape[:-2]))
    found = [(index, ids) for index in at if (ids := np.asarray(one.labels[index])).any()]
    if not found:
        return np.asarray(one.image[at[0]]), np.asarray(one.labels[at[0]])
    images = [np.asarray(one.image[index]) for index, _ in found]
    return np.stack(images), np.stack([ids for _, ids in found])
