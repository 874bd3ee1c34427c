"""Training a model of the zoo on a user's own images and labels."""

from __future__ import annotations

import copy
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from napari_sam.errors import ImageError, ModelError
from napari_sam.models.base import PromptableModel
from napari_sam.models.device import pick_device
from napari_sam.models.nano import Nano
from napari_sam.models.registry import read_model
from napari_sam.models.sam import Sam
from napari_sam.models.sam2 import Sam2
from napari_sam.training.batches import Batches
from napari_sam.training.progress import FitResult, Progress, run_path
from napari_sam.training.run_file import forget
from napari_sam.training.running import Limits, Run
from napari_sam.training.sources import Images, Shelf, Source, hold_out, pair
from napari_sam.training.trainee import PARTS, AnyTrainee, Part
from napari_sam.training.trainee_nano import NanoTrainee
from napari_sam.training.trainee_sam import Sam2Trainee, SamTrainee
from napari_sam.training.validation import Validation

__all__ = ["fit"]


def fit(
    model: str | os.PathLike[str] | PromptableModel,
    images: Images | Sequence[Source],
    labels: Images | None = None,
    *,
    output: str | os.PathLike[str],
    val: float | tuple[Images, Images] | Sequence[Source] = 0.2,
    part: Part = "all",
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    partial: bool = False,
    learning_rate: float | None = None,
    windows: int | None = None,
    objects: int | None = None,
    rank: int = 8,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> FitResult:
    """Train a model on one's own images, as SAM was trained: with simulated prompts and corrections.

    The weights that are best on the images for validation are written to `output` each time they get better,
    beginning with the model as it is, so that there is a model to use whenever the run ends; it loads
    wherever the name of a model does. What the run needs to go on is kept beside it, in a file with the
    suffix ``.run``, which is deleted when the run is done.

    Memory, beyond the network with its gradients: at most 1 GiB of images that were read, at most 1 GiB of
    embeddings in float16 if only the decoder of SAM or SAM 2 is trained (each image is then encoded a few
    times in all), and what `windows` and `objects` take. What the gradients of an encoder need is computed
    again, block by block, and not kept.

    Parameters
    ----------
    model : str, path or PromptableModel
        A name of :func:`~napari_sam.models.available_models`, a checkpoint, or a model that was loaded: that
        one stays as it is.
    images : path, array, or sequence of paths and arrays
        A folder, or images; planes of stacks are used one by one. Or what
        :func:`~napari_sam.training.sources.from_index` gives, without labels.
    labels : the same
        A folder with files of the same names, or labels of each image: 1, 2, ... on the objects, 0 elsewhere.
    output : path
        The weights to write, ``.safetensors``.
    val : float, pair of images and labels, or sequence of Source
        Images to measure on, or the share of the images that is kept for that: of several files some, of one
        stack its last planes, of one plane an end.
    part : {"all", "decoder", "lora"}
        Every weight; all but the image encoder; or all but the image encoder, whose attentions are given
        low-rank corrections (Hu et al. 2021), which are added to its weights in `output`.
    minutes, steps : float, int, optional
        How long to train in all, interruptions not counted; what comes first ends it. 30 minutes if none is
        given.
    resume : bool, default False
        Go on with the run that was interrupted, if there is one.
    overwrite : bool, default False
        Replace an existing `output`, and forget an interrupted run.
    partial : bool, default False
        Objects may lack a label: background then teaches nothing but where a prompted object ends.
    learning_rate : float, optional
        Of AdamW, after a warm-up; it falls as a cosine. What suits the model and the part if not given.
    windows, objects : int, optional
        Parts of images in a step, and most objects of each. What suits the model if not given.
    rank : int, default 8
        Of the corrections.
    seed : int, default 0
    device : str or torch.device, default "auto"
    progress : callable, optional
        Called with a :class:`Progress` after each step, and before and after each measurement.
    stop : threading.Event, optional
        Set it to end the run: the step it is at is given up, and what has been learnt is measured and kept.

    Raises
    ------
    ImageError
        If there are no labels, sizes differ, or there are too few objects.
    ModelError
        If the model, the part, the learning rate or the output is not possible, the interrupted run is
        another one, or a file cannot be written.
    DownloadCancelled
        If it was stopped while the model was downloaded.
    DeviceError
        If the device is not there or has too little memory.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from napari_sam.training.synthetic import synthetic_sample
    >>> image, labels = synthetic_sample(np.random.default_rng(1), size=96, kind="nuclei")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = fit("nano", image, labels, output=f"{folder}/my_nano.safetensors", part="decoder",
    ...                  steps=1, windows=1, objects=1, val=0.5, device="cpu")
    >>> result.step, result.stopped, len(result.measured)
    (1, False, 2)
    """
    path = _checked_output(Path(output).expanduser(), resume=resume, overwrite=overwrite)
    if part not in PARTS:
        raise ModelError(f"There is no part {part!r} to train: choose one of {', '.join(PARTS)}.")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise ModelError(f"A learning rate is a number above 0, not {learning_rate:g}.")
    limits = Limits(minutes, steps)
    shelf = Shelf(partial=partial)
    train, held = _split(images, labels, val, seed)
    validation = Validation(held, shelf)
    where = pick_device(device)
    stop = threading.Event() if stop is None else stop
    base = _readable(model, progress, stop)
    replaced = base.source is not None and base.source.resolve() == path.resolve()
    if replaced and part == "lora":
        raise ModelError(f"Corrections are added to {path}, which is needed to go on: give another output.")
    trainee = _trainee(base, part, rank, seed)
    trainee.model.to(where)
    batches = Batches(trainee, train, shelf, windows or trainee.windows, objects or trainee.objects, seed)
    name = trainee.model.name or type(trainee.model).__name__
    signature: dict[str, str | int] = {"model": name, "part": part, "rank": rank, "seed": seed}
    if not replaced:
        # What does not learn is read again from the model, which must be the same then.
        signature["weights"] = base.digest
    rate = trainee.rates[part] if learning_rate is None else learning_rate
    run = Run(trainee, batches, validation, path, signature, limits, rate, progress, stop)
    if resume and run_path(path).is_file():
        run.take_up()
    else:
        forget(run_path(path))
    return run.go()


def _split(
    images: Images | Sequence[Source],
    labels: Images | None,
    val: float | tuple[Images, Images] | Sequence[Source],
    seed: int,
) -> tuple[list[Source], list[Source]]:
    """Sources to train on, and to measure on."""
    sources = _sources(images, labels)
    if isinstance(val, (int, float)):
        if not 0 < val < 1:
            raise ImageError(f"The share for validation is between 0 and 1, not {val:g}.")
        return hold_out(sources, val, seed)
    if isinstance(val, tuple) and len(val) == 2 and not isinstance(val[0], Source):
        return sources, pair(val[0], val[1])
    return sources, _sources(val, None)


def _sources(images: Any, labels: Images | None) -> list[Source]:
    if isinstance(images, Sequence) and not isinstance(images, str):
        found = [one for one in images if isinstance(one, Source)]
        if found and len(found) == len(images):
            return found
    if labels is None:
        raise ImageError("Training needs labels of the images: give them after the images.")
    return pair(images, labels)


def _checked_output(path: Path, *, resume: bool, overwrite: bool) -> Path:
    if path.suffix.lower() != ".safetensors":
        raise ModelError(
            f"{path.name} does not end in .safetensors, which is what is written: give it that end."
        )
    if not path.parent.is_dir():
        raise ModelError(f"The folder {path.parent} does not exist: make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ModelError(f"{path} cannot be written: choose another folder or name.")
    interrupted = run_path(path).exists()
    if overwrite:
        return path
    if interrupted and not resume:
        raise ModelError(
            f"There is an interrupted run beside {path}: go on with it (--resume, resume=True), or replace "
            "it (--force, overwrite=True)."
        )
    if path.exists() and not interrupted:
        raise ModelError(f"{path} exists: choose another name, or replace it (--force, overwrite=True).")
    return path


def _readable(
    model: str | os.PathLike[str] | PromptableModel,
    progress: Callable[[Progress], None] | None,
    stop: threading.Event,
) -> PromptableModel:
    """A model of our own, with all its parameters."""

    def arrived(done: int, total: int | None) -> None:
        if progress is not None:
            progress(Progress("downloading", done / total if total else 0.0, 0, 0.0, (), ()))

    if not isinstance(model, PromptableModel):
        return read_model(model, progress=None if progress is None else arrived, cancelled=stop)
    if model.source is not None:
        again = read_model(model.source)
        again.name = model.name
        return again
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("This model was made ready for inference: give its name or its file instead.")
    return copy.deepcopy(model)


def _trainee(model: PromptableModel, part: Part, rank: int, seed: int) -> AnyTrainee:
    if isinstance(model, Nano):
        return NanoTrainee(model, part, rank, seed)
    if isinstance(model, Sam):
        return SamTrainee(model, part, rank, seed)
    if isinstance(model, Sam2):
        return Sam2Trainee(model, part, rank, seed)
    raise ModelError(f"{type(model).__name__} cannot be trained: choose nano, or a model of SAM or SAM 2.")
