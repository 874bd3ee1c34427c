"""``napari-sam train``: a model of one's own, from images and labels."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli_errors import one_sentence_errors
from napari_sam.errors import ImageError

if TYPE_CHECKING:
    from napari_sam.training.progress import FitResult, Measured, Progress
    from napari_sam.training.sources import Images, Source

__all__ = ["Part", "train"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Part(StrEnum):
    """What is trained."""

    ALL = "all"
    DECODER = "decoder"
    LORA = "lora"


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Weights to write: .safetensors.", show_default=False)
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; stacks are taken plane by plane.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder of label images of the same names: 1, 2, ... on objects, 0 elsewhere."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="Instead: folder with an index.csv, whose splits train and val are used."),
    ] = None,
    val: Annotated[
        float | None, typer.Option(help="Share of the images to measure on; 0.2 if none are given for it.")
    ] = None,
    val_images: Annotated[Path | None, typer.Option(help="Instead: folder of images to measure on.")] = None,
    val_labels: Annotated[Path | None, typer.Option(help="Their labels.")] = None,
    model: Annotated[
        str, typer.Option(help="Model to begin with (see `napari-sam models`), or path of a checkpoint.")
    ] = "nano",
    part: Annotated[
        Part, typer.Option(help="All weights; all but the image encoder; these, and LoRA on the encoder.")
    ] = Part.ALL,
    minutes: Annotated[
        float | None, typer.Option(help="How long to train; 30 without it and --steps.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="At most so many steps.", show_default=False)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was interrupted, if there is one.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Objects may lack a label: background proves nothing.")
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option(help="By default what suits the model and the part.", show_default=False)
    ] = None,
    windows: Annotated[
        int | None, typer.Option(min=1, help="Parts of images in a step.", show_default=False)
    ] = None,
    objects: Annotated[
        int | None, typer.Option(min=1, help="Most objects of each part.", show_default=False)
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn depends on it.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train a model on your own images.

    The best weights so far are in the output at any time; Ctrl-C ends training and keeps them. What training
    needs to go on with --resume is kept beside it, in a file that ends in .run. The exit code is
    0 when training has come to its end, and 130 if it was interrupted.
    """
    with one_sentence_errors():
        what, truth = _training_images(images, labels, index)
        held = _validation_images(val, val_images, val_labels, index)

        from napari_sam.training.fitting import fit

        with _stopped_by_signals() as (stop, received), _shown(quiet) as progress:
            result = fit(
                model,
                what,
                truth,
                output=output,
                val=held,
                part=part.value,
                minutes=minutes,
                steps=steps,
                resume=resume,
                overwrite=force,
                partial=partial,
                learning_rate=learning_rate,
                windows=windows,
                objects=objects,
                rank=rank,
                seed=seed,
                device=device,
                progress=progress,
                stop=stop,
            )
        typer.echo(_summary(result))
    if result.stopped:
        typer.echo("napari-sam: interrupted; --resume goes on from here.", err=True)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))


def _training_images(
    images: Path | None, labels: Path | None, index: Path | None
) -> tuple[Images | list[Source], Images | None]:
    if index is not None and images is None and labels is None:
        from napari_sam.training.sources import from_index

        return from_index(index), None
    if index is not None or images is None or labels is None:
        raise ImageError("Give either --images and --labels, or --index.")
    return images, labels


def _validation_images(
    val: float | None, images: Path | None, labels: Path | None, index: Path | None
) -> float | tuple[Images, Images] | list[Source]:
    if (images is None) != (labels is None) or (images is not None and val is not None):
        raise ImageError("To measure on, give either --val-images and --val-labels, or a share with --val.")
    if images is not None and labels is not None:
        return images, labels
    if index is not None and val is None:
        from napari_sam.training.sources import from_index

        return from_index(index, "val")
    return 0.2 if val is None else val


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event that Ctrl-C sets, and which signals came; the second one ends the process."""
    stop, received = threading.Event(), list[int]()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def on_signal(number: int, _: object) -> None:
        received.append(number)
        stop.set()
        for one, handler in before.items():
            signal.signal(one, handler)

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, on_signal)
    try:
        yield stop, received
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar, and a line for each measurement."""
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=1.0, bar_format=form, leave=False, disable=True if quiet else None) as bar:
        told = 0

        def progress(now: Progress) -> None:
            nonlocal told
            for one in now.measured[told:]:
                bar.write(_line(one, now.measured[0]))
            told = len(now.measured)
            bar.set_description(now.doing, refresh=False)
            loss: dict[str, Any] = {"loss": f"{now.losses[-1][1]:.3f}"} if now.losses else {}
            bar.set_postfix({"step": now.step, **loss}, refresh=False)
            bar.update(now.share - bar.n)

        yield progress


def _line(one: Measured, first: Measured) -> str:
    what = "as it was" if one is first else f"step {one.step}, {one.seconds / 60:.1f} min"
    return f"{what}: IoU {one.quality.point:.3f} after a point, {one.quality.box:.3f} after a box"


def _summary(result: FitResult) -> str:
    before, best = result.before.quality, result.best.quality
    return (
        f"{result.output}: IoU {before.point:.3f} -> {best.point:.3f} after a point, "
        f"{before.box:.3f} -> {best.box:.3f} after a box; step {result.best.step} of {result.step}"
    )
