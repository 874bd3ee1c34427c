"""``napari-sam evaluate``: how good a model is, on images with labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli_auto import PointsFrom
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.errors import ImageError

if TYPE_CHECKING:
    from napari_sam.evaluation.datasets import LabelledFile
    from napari_sam.evaluation.scores import Failure

__all__ = ["Only", "evaluate"]


class Only(StrEnum):
    """Which protocol is measured."""

    INTERACTIVE = "interactive"
    AUTOMATIC = "automatic"


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="Name of a model (see `napari-sam models`), or path of a checkpoint; none: only baselines."
        ),
    ] = "nano",
    images: Annotated[Path | None, typer.Option(help="Folder of images.", show_default=False)] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label images of the same names.", show_default=False)
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            help="Instead of folders: an index.csv, or the folder that holds it.", show_default=False
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the index; val without it.", show_default=False)
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(help="Only this data set of the index; repeatable.", show_default=False),
    ] = None,
    only: Annotated[Only | None, typer.Option(help="Only this protocol.", show_default=False)] = None,
    clicks: Annotated[int, typer.Option(min=1, max=20, help="Points per object.")] = 9,
    feed_back: Annotated[
        bool, typer.Option("--feed-back", help="Give each click the logits of the one before.")
    ] = False,
    points_from: Annotated[
        PointsFrom, typer.Option(help="For automatic masks, as in `napari-sam auto`.")
    ] = PointsFrom.AUTO,
    points_per_side: Annotated[int, typer.Option(min=1, help="The same, of a grid.")] = 32,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Measure flood fill, random walker and watershed, too."),
    ] = False,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Files of each data set at most, drawn at random.", show_default=False),
    ] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(min=1, help="Objects clicked on in each image at most, drawn.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same ones.")] = 0,
    plane_step: Annotated[int, typer.Option(min=1, help="Take every such plane of a volume.")] = 10,
    modalities: Annotated[
        bool, typer.Option("--modalities", help="A line for each modality of a data set, too.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Write a row for each image and data set.", show_default=False)
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything, down to single objects.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing output files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Measure how good a model is on images with labels.

    Interactive: mean IoU after one point at the centre of each object, after a box, and after more points,
    each at the centre of the largest error of the mask before; and the number of clicks to an IoU of 0.85 and
    0.9 (NoC). Automatic: average precision (AP), mean segmentation accuracy (mSA) and SEG of masks of
    everything. An image that cannot be evaluated is reported, and the others are; the exit code is 0 only if
    all went well.
    """
    with one_sentence_errors():
        files = _files(images, labels, index, split, datasets)
        for output in (csv, json):
            _check(output, force)
        if csv is not None and json is not None and csv.resolve() == json.resolve():
            raise ImageError(f"--csv and --json are both {csv}: give two names.")

        from napari_sam.evaluation import evaluate as measure
        from napari_sam.evaluation.datasets import some_of_each
        from napari_sam.evaluation.report import tables, write_csv, write_json
        from napari_sam.inference.automatic import SamAutomaticMaskGenerator
        from napari_sam.models import load_model

        files = some_of_each(files, max_images, seed)
        network = generator = None
        if model != "none":
            network = load_model(model, device=device, dtype=dtype)
            generator = SamAutomaticMaskGenerator(network, points_per_side, prompts=points_from.value)
        elif not baselines:
            raise ImageError("Without a model there are only baselines to measure: add --baselines.")
        with _bar(len(files), quiet) as (progress, failed):
            found = measure(
                network,
                files,
                only=only,
                clicks=clicks,
                feed_back=feed_back,
                max_objects=max_objects,
                seed=seed,
                generator=generator,
                baselines=baselines,
                plane_step=plane_step,
                progress=progress,
                failed=failed,
            )
        if found.images:
            typer.echo(tables(found.per_dataset(modalities=modalities)))
            if csv is not None:
                write_csv(csv, found, modalities=modalities)
            if json is not None:
                digest = "" if network is None else network.digest
                about = {"model": model, "digest": digest, "clicks": clicks, "seed": seed}
                write_json(json, found, modalities=modalities, about=about)
    if found.failures:
        raise typer.Exit(1 if found.images else 2)


def _files(
    images: Path | None,
    labels: Path | None,
    index: Path | None,
    split: str | None,
    datasets: list[str] | None,
) -> list[LabelledFile]:
    """What is to be measured, before anything is read."""
    from napari_sam.evaluation.datasets import list_folders, list_index

    if index is not None and images is None and labels is None:
        return list_index(index, "val" if split is None else split, datasets)
    if index is None and images is not None and labels is not None:
        if split is not None or datasets:
            raise ImageError("--split and --datasets choose from an index: leave them out, or give --index.")
        return list_folders(images, labels)
    raise ImageError("Give either --images and --labels, or --index.")


def _check(output: Path | None, force: bool) -> None:
    """Make sure that a table can be written, before any work is done."""
    if output is None:
        return
    if not output.parent.is_dir():
        raise ImageError(f"The folder {output.parent} does not exist: make it first.")
    if output.is_dir():
        raise ImageError(f"{output} is a folder: choose another name.")
    if output.exists() and not force:
        raise ImageError(f"{output} exists: choose another name, or use --force to replace it.")


@contextlib.contextmanager
def _bar(
    total: int, quiet: bool
) -> Iterator[tuple[Callable[[int, int | None, str], None], Callable[[Failure], None]]]:
    """A progress bar, which is told where the work is; and how a failure is told beside it."""
    from tqdm import tqdm

    with tqdm(total=total, unit="image", leave=False, disable=True if quiet else None) as bar:

        def progress(done: int, _: int | None, name: str) -> None:
            bar.update(done - bar.n)
            bar.set_description(name)

        def failed(failure: Failure) -> None:
            text = failure.reason
            sentence = text if failure.name in text else f"{failure.name}: {text}"
            with tqdm.external_write_mode():
                typer.echo(f"napari-sam: {sentence}", err=True)

        yield progress, failed
