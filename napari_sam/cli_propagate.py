"""``napari-sam propagate``: objects that are prompted on some planes of a stack, on all of them."""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli_convert import told
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_images import calibration_of_image, opened
from napari_sam.cli_progress import progress_bar
from napari_sam.errors import FormatError, FormatWarning, NapariSamError, reason_of

if TYPE_CHECKING:
    from napari_sam.annotation.annotation import Annotation
    from napari_sam.formats import Calibration, Format
    from napari_sam.inference.image_files import ImageFile

__all__ = ["propagate"]


def propagate(
    stack: Annotated[
        Path, typer.Argument(help="Image with several planes: TIFF, NPY, ...", show_default=False)
    ],
    prompts: Annotated[
        Path,
        typer.Option(
            help="What is known on some planes: an annotation, .napari-sam.zip, or its annotation.json.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="What to write; its suffix says in which format: .tif, .napari-sam.zip, .csv, ...",
            show_default=False,
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of OUTPUT, by its name in `napari-sam formats`; ctc for tracks.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        list[int] | None,
        typer.Option("--object", help="Id of an object; repeatable. By default all.", show_default=False),
    ] = None,
    direction: Annotated[
        str, typer.Option(help="both, forward or backward, from the planes with prompts.")
    ] = "both",
    axis: Annotated[
        int | None,
        typer.Option(
            help="Along which planes follow each other; by default the last one.", show_default=False
        ),
    ] = None,
    start: Annotated[
        int | None, typer.Option(help="Plane to go on from; by default all with prompts.", show_default=False)
    ] = None,
    stop: Annotated[int | None, typer.Option(help="Last plane to be filled.", show_default=False)] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name or checkpoint of a model; by default that of the newest prompt.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Go on with another image, and replace an existing output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Carry objects from the planes on which they are prompted to the others of a stack or a film.

    Planes with prompts, painted or imported masks stay as they are. If it ends early, because a plane
    cannot be read or somebody stops it, what was done until then is written, and the exit code is 1. If it
    cannot be written to OUTPUT, it goes into an annotation beside it.
    """
    with one_sentence_errors(), told():
        from napari_sam.formats.catalogue import check_place, written_format
        from napari_sam.inference.files import check_apart

        chosen = written_format(output, kind or "")
        check_apart(output, stack)
        check_place(output, chosen, overwrite=force)
        image = opened(stack, palette=False)
        annotation = _opened(image, prompts, model, device, force)
        pixels = None
        # Tracks are of whatever axis comes first.
        if chosen.name != "ctc":
            pixels = calibration_of_image(stack, image)
        if pixels is not None and len(pixels.axes) != len(annotation.document.shape):
            pixels = None
        if chosen.name != "annotation":
            _check_format(annotation, output, chosen, pixels)
        started = time.perf_counter()
        failure: BaseException | None = None
        steps = annotation.undo_text
        try:
            with progress_bar(stack.name, "mask", quiet) as progress:
                annotation.propagate(
                    objects or [item.id for item in annotation.objects] or None,
                    direction,
                    axis=axis,
                    start=start,
                    stop=stop,
                    progress=progress,
                )
        except (NapariSamError, KeyboardInterrupt) as error:
            if annotation.undo_text == steps:
                raise
            failure = error
        try:
            _write(annotation, output, chosen, pixels, force)
        except (NapariSamError, OSError, MemoryError) as error:
            place = _rescued(annotation, output)
            if place is None:
                raise
            raise FormatError(f"{reason_of(error)}; what was found is in {place}.") from error
    planes = len(annotation.document.planes)
    many = f"{len(annotation)} object{'' if len(annotation) == 1 else 's'}"
    where = f"{planes} plane{'' if planes == 1 else 's'}"
    typer.echo(f"{output}: {many} on {where}, {time.perf_counter() - started:.1f} s")
    if failure is not None:
        typer.echo(f"napari-sam: {str(failure) or 'Stopped.'}", err=True)
        raise typer.Exit(1)


def _opened(image: ImageFile, prompts: Path, model: str | None, device: str, force: bool) -> Annotation:
    """What is known of a stack; a doubt whether it is of that is printed."""
    from napari_sam.annotation.annotation import Annotation

    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        annotation = Annotation.load(prompts, image.pixels, model, device=device, force=force)
    for doubt in doubts:
        typer.echo(f"napari-sam: {doubt.message}", err=True)
    return annotation


def _check_format(annotation: Annotation, output: Path, chosen: Format, pixels: Calibration | None) -> None:
    """Write small objects on such planes, as a trial: what a format cannot hold only its writer knows.

    Raises
    ------
    FormatError
        If it could not be written at last.
    """
    import numpy as np

    from napari_sam.formats import Calibration, Item, Segmentation, write
    from napari_sam.inference.mask import Mask

    shape = annotation.document.shape
    small = (*(min(side, 2) for side in shape[:-2]), 8, 8)
    axes = Calibration.plain(len(shape)) if pixels is None else pixels
    classes = annotation.document.snapshot.classes
    names = {one.id: one.name for one in classes}
    mask = Mask((2, 2), np.ones((4, 4), dtype=bool), (8, 8))
    planes = [*itertools.product(*map(range, small[:-2]))]
    items = [
        Item(one.id, dict.fromkeys(planes, mask), names.get(one.class_id, "")) for one in annotation.objects
    ]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FormatWarning)
        trial = Path(folder) / output.name
        try:
            write(trial, Segmentation(small, items, classes, axes), chosen)
        except NapariSamError as error:
            told = str(error).replace(str(trial), str(output)).replace(str(small), str(shape))
            raise FormatError(told) from error


def _write(
    annotation: Annotation, output: Path, chosen: Format, pixels: Calibration | None, force: bool
) -> None:
    """Write what there is; an annotation with all its prompts."""
    from napari_sam.formats import Segmentation, write

    if chosen.name == "annotation" and chosen.fits(output):
        annotation.save(output, overwrite=force)
    else:
        write(output, Segmentation.of_snapshot(annotation.document.snapshot, pixels), chosen, overwrite=force)


def _rescued(annotation: Annotation, output: Path) -> Path | None:
    """Where is saved what cannot be written as it should; None if it cannot be saved either."""
    stem = output.name.partition(".")[0] or "propagated"
    numbered = (f"{stem}{f'_{number}' if number > 1 else ''}.napari-sam.zip" for number in itertools.count(1))
    try:
        return annotation.save(next(path for path in map(output.with_name, numbered) if not path.exists()))
    except (NapariSamError, OSError, MemoryError):
        return None
