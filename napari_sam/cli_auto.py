"""``napari-sam auto``: masks of everything in images, into files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli_auto_files import Format, Output, outputs
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_images import calibration_of_image, opened, tiff_of
from napari_sam.cli_progress import progress_bar
from napari_sam.errors import ImageError, NapariSamError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam.formats import Calibration
    from napari_sam.inference.automatic import SamAutomaticMaskGenerator
    from napari_sam.inference.candidates import MaskCandidates
    from napari_sam.inference.image_files import ImageFile

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
    NONE = "none"


@dataclass(frozen=True)
class _Wanted:
    """How images are read, and what label images are to be like."""

    on_top: OnTop
    semantic: bool
    link: float | None
    channel_axis: int | None


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
        int | None, typer.Option(min=0, help="Smaller holes are filled, smaller islands dropped; in pixels.")
    ] = None,
    min_mask_area: Annotated[
        int | None, typer.Option(min=0, help="Smaller masks are left out; in pixels.")
    ] = None,
    on_top: Annotated[
        OnTop, typer.Option(help="Whose label a pixel of several masks gets: best score, or smallest.")
    ] = OnTop.SCORE,
    points_from: Annotated[
        PointsFrom,
        typer.Option(
            help="A grid, or the centres of objects that the model sees; none: all objects that it sees, in "
            "one pass; auto: centres with nano."
        ),
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
    channel_axis: Annotated[
        int | None,
        typer.Option(
            help="Which axis of images is channels; by default that of the file. Colours are known.",
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
    --link makes objects of the stack of them, in each channel by itself. Thresholds that are not given are
    those that suit the model.
    """
    with one_sentence_errors():
        jobs = outputs(inputs, output, formats, force=force)
        wanted = _Wanted(on_top, semantic, _least_iou(link, link_iou, semantic), channel_axis)
        _check_numbers(
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_nms_thresh=crop_nms_thresh,
        )

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
            min_mask_area=min_mask_area,
        )
        if not jobs[0].single:
            output.mkdir(parents=True, exist_ok=True)
        failed = sum(not _tried(generator, job, wanted, force, quiet) for job in jobs)
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


def _check_numbers(**given: float | None) -> None:
    """Refuse what is no number: every mask would be above it, or none."""
    for name, value in given.items():
        if value is not None and math.isnan(value):
            raise ImageError(f"--{name.replace('_', '-')} is a number, not nan.")


def _tried(
    generator: SamAutomaticMaskGenerator, job: Output, wanted: _Wanted, force: bool, quiet: bool
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
    generator: SamAutomaticMaskGenerator, job: Output, wanted: _Wanted, force: bool, quiet: bool
) -> tuple[int, int]:
    """Write the results of one image; how many planes it has, and how many masks."""
    import numpy as np

    from napari_sam.inference.files import write_labels
    from napari_sam.inference.mask_files import StackLabels

    image = opened(job.image, wanted.channel_axis)
    calibration = calibration_of_image(job.image, image)
    leading = image.leading
    # The labels of a single plane are the numbers of its masks.
    linked = wanted.link is not None and bool(leading)
    stack = StackLabels(
        smaller_on_top=wanted.on_top is OnTop.SMALL,
        semantic=wanted.semantic,
        link=wanted.link if linked else None,
    )
    labels: dict[tuple[int, ...], NDArray[np.integer]] = {}
    others: list[Format] = [kind for kind in job.formats if kind is not Format.LABELS]
    waiting: list[tuple[str, MaskCandidates, NDArray[np.int64]]] = []
    count = 0
    job.begin([_name(index) for index in _indices(image)], force=force)
    for index, first in _in_order(image, linked):
        plane = _name(index)
        with progress_bar(f"{job.image.name}{plane}", "batch", quiet) as progress:
            found = generator.masks(np.asarray(image.pixels[index]), progress=progress)
        painted = stack.add(found, first=first)
        if Format.LABELS in job.formats:
            labels[index] = painted
        if stack.ids.all():
            _write(job, others, plane, found, stack.ids, calibration)
        elif others:  # numbers of masks without a label come after all labels
            waiting.append((plane, found, stack.ids))
        count += len(found)
    for plane, found, ids in waiting:
        _write(job, others, plane, found, stack.completed(ids), calibration)
    if labels:
        planes = [labels[index] for index in _indices(image)]
        stacked = np.stack(planes).reshape(*leading, *planes[0].shape) if leading else planes[0]
        write_labels(job.path(Format.LABELS), stacked, force=True, tiff=tiff_of(calibration))
    job.finish()
    return math.prod(leading), count


def _name(index: tuple[int, ...]) -> str:
    """What names of files have for a plane."""
    return "".join(f"_{at:04d}" for at in index)


def _indices(image: ImageFile) -> list[tuple[int, ...]]:
    return [*product(*map(range, image.leading))]


def _in_order(image: ImageFile, linked: bool) -> Iterator[tuple[tuple[int, ...], bool]]:
    """The planes, and whether each is no neighbour of the one before; linked ones come in a row."""
    along = image.depth_axis
    indices = _indices(image)
    if linked and along is not None:
        indices.sort(key=lambda index: (index[:along], index[along + 1 :], index[along]))
    for index in indices:
        yield index, along is None or index[along] == 0


def _write(
    job: Output,
    kinds: list[Format],
    plane: str,
    found: MaskCandidates,
    ids: NDArray[np.int64],
    calibration: Calibration | None,
) -> None:
    """Write the masks of a plane, under the numbers that they have in the labels."""
    from napari_sam.formats import FORMATS, Feature, write
    from napari_sam.formats.candidates import of_candidates
    from napari_sam.inference.mask_files import write_csv, write_pngs

    name = job.image.name
    for kind in kinds:
        path = job.path(kind, plane)
        if kind is Format.CSV:
            write_csv(path, found, name, ids)
        elif kind is Format.PNG:
            write_pngs(path, found, name, ids)
        else:
            objects = of_candidates(found, name)
            more: dict[str, Any] = {}
            if calibration is not None and Feature.CALIBRATION in FORMATS[kind.value].holds:
                more["calibration"] = calibration.plane
            items = [replace(item, id=int(ids[item.id - 1])) for item in objects.items]
            write(path, replace(objects, items=items, **more), kind.value, overwrite=True)
