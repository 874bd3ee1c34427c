"""``napari-sam auto``: masks of everything in images, into files."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli_auto_files import Format, Output, outputs
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_progress import progress_bar
from napari_sam.errors import ImageError, NapariSamError

if TYPE_CHECKING:
    from napari_sam.inference.automatic import SamAutomaticMaskGenerator

__all__ = ["OnTop", "PointsFrom", "auto"]


class OnTop(StrEnum):
    """Who gets pixels that several masks have."""

    SCORE = "score"
    SMALL = "small"


class PointsFrom(StrEnum):
    """Where the points are that are prompted."""

    AUTO = "auto"
    GRID = "grid"
    CENTRES = "centres"


@dataclass(frozen=True)
class _Labels:
    """What label images are to be like."""

    on_top: OnTop
    semantic: bool
    link: float | None


def auto(
    inputs: Annotated[
        list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder; or, for one image, a .tif, .png, .npy, .json or .csv file.",
            show_default=False,
        ),
    ],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format", help="What goes into the folder; repeatable. By default labels.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model (see `napari-sam models`), or path of a checkpoint.")
    ] = "nano",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    points_per_side: Annotated[int, typer.Option(help="Points of the grid along a side.")] = 32,
    points_per_batch: Annotated[int, typer.Option(help="Points decoded at once.")] = 64,
    pred_iou_thresh: Annotated[float | None, typer.Option(help="Masks are above this predicted IoU.")] = None,
    stability_score_thresh: Annotated[
        float | None, typer.Option(help="Masks are at least so stable.")
    ] = None,
    stability_score_offset: Annotated[
        float | None, typer.Option(help="How far the threshold of logits is moved to measure stability.")
    ] = None,
    box_nms_thresh: Annotated[float | None, typer.Option(help="Highest IoU of boxes of two masks.")] = None,
    crop_n_layers: Annotated[int, typer.Option(help="Layers of crops besides the whole image.")] = 0,
    crop_nms_thresh: Annotated[float | None, typer.Option(help="The same of masks of two crops.")] = None,
    crop_overlap_ratio: Annotated[float, typer.Option(help="How far crops overlap.")] = 512 / 1500,
    crop_n_points_downscale_factor: Annotated[
        int, typer.Option(help="Fewer points along a side by this factor with each layer.")
    ] = 1,
    min_mask_region_area: Annotated[
        int | None, typer.Option(help="Smaller holes are filled, smaller islands dropped; in pixels.")
    ] = None,
    on_top: Annotated[
        OnTop, typer.Option(help="Whose label a pixel of several masks gets: best score, or smallest.")
    ] = OnTop.SCORE,
    points_from: Annotated[
        PointsFrom,
        typer.Option(help="A grid, or the centres of objects that the model sees; auto: centres with nano."),
    ] = PointsFrom.AUTO,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="Label images are 1 where anything is.")
    ] = False,
    link: Annotated[
        bool,
        typer.Option("--link", help="Label images of stacks: one label for an object on all its planes."),
    ] = False,
    link_iou: Annotated[
        float | None,
        typer.Option(
            help="The same, and masks of neighbouring planes overlap by at least this IoU; 0.3 without it.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Segment again what is there already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Segment everything in images.

    Images whose results are in the folder already are skipped, so that a run that was interrupted goes on
    where it stopped. A file that cannot be segmented is reported, and the others are done; the exit code is 0
    only if all went well. Planes of a stack are segmented one by one;
    --link makes objects of the stack of them. Thresholds that are not given are those
    that suit the model.
    """
    with one_sentence_errors():
        jobs = outputs(inputs, output, formats)
        labels = _Labels(on_top, semantic, _least_iou(link, link_iou, semantic))

        from napari_sam.inference.automatic import SamAutomaticMaskGenerator
        from napari_sam.models import load_model

        generator = SamAutomaticMaskGenerator(
            load_model(model, device=device),
            points_per_side,
            points_per_batch,
            pred_iou_thresh,
            stability_score_thresh,
            stability_score_offset,
            box_nms_thresh,
            crop_n_layers,
            crop_nms_thresh,
            crop_overlap_ratio,
            crop_n_points_downscale_factor,
            min_mask_region_area=min_mask_region_area,
            prompts=points_from.value,
        )
        if not jobs[0].single:
            output.mkdir(parents=True, exist_ok=True)
        failed = sum(not _tried(generator, job, labels, force, quiet) for job in jobs)
    if failed:
        raise typer.Exit(1 if failed < len(jobs) else 2)


def _least_iou(link: bool, given: float | None, semantic: bool) -> float | None:
    """From which IoU on masks of neighbouring planes are one object; None: never."""
    from napari_sam.inference.linking import LINK_IOU

    if not link and given is None:
        return None
    if semantic:
        raise ImageError("With --semantic there are no objects to link: leave out one of the two.")
    least = LINK_IOU if given is None else given
    if not 0 < least <= 1:
        raise ImageError(f"--link-iou is greater than 0 and at most 1, not {least:g}.")
    return least


def _tried(
    generator: SamAutomaticMaskGenerator, job: Output, wanted: _Labels, force: bool, quiet: bool
) -> bool:
    """Whether an image was segmented; what happened is printed."""
    if job.is_done and not force:
        typer.echo(f"{job.image}: skipped, its results are there (--force segments it again)")
        return True
    started = time.perf_counter()
    try:
        planes, count = _segmented(generator, job, wanted, force, quiet)
    except (NapariSamError, OSError) as error:
        # Decoders name the file they failed on.
        text = str(error)
        typer.echo(f"napari-sam: {text if job.image.name in text else f'{job.image}: {text}'}", err=True)
        return False
    many = f" on {planes} planes" if planes > 1 else ""
    typer.echo(f"{job.image}: {count} masks{many}, {time.perf_counter() - started:.1f} s")
    return True


def _segmented(
    generator: SamAutomaticMaskGenerator, job: Output, wanted: _Labels, force: bool, quiet: bool
) -> tuple[int, int]:
    """Write the results of one image; how many planes it has, and how many masks."""
    import numpy as np

    from napari_sam.formats.candidates import WRITERS
    from napari_sam.inference.files import read_image, write_labels
    from napari_sam.inference.mask_files import StackLabels

    pixels, colour = read_image(job.image)
    leading = pixels.shape[: max(0, pixels.ndim - (3 if colour else 2))]
    labels = []
    stack = StackLabels(
        smaller_on_top=wanted.on_top is OnTop.SMALL,
        semantic=wanted.semantic,
        # The labels of a single plane are the numbers of the masks in other formats.
        link=wanted.link if leading else None,
    )
    count = 0
    planes = {index: "".join(f"_{at:04d}" for at in index) for index in np.ndindex(*leading)}
    job.begin(list(planes.values()), force=force)
    for index, plane in planes.items():
        with progress_bar(f"{job.image.name}{plane}", "batch", quiet) as progress:
            found = generator.masks(np.asarray(pixels[index]), progress=progress)
        for kind in job.formats:
            if kind is not Format.LABELS:
                WRITERS[kind.value][1](job.path(kind, plane), found, job.image.name)
        if Format.LABELS in job.formats:
            labels.append(stack.add(found, first=not any(index[-1:])))
        count += len(found)
    if labels:
        stacked = np.stack(labels).reshape(*leading, *labels[0].shape) if leading else labels[0]
        write_labels(job.path(Format.LABELS), stacked, force=True)
    job.finish()
    return math.prod(leading), count
