"""``napari-sam propagate``: objects that are prompted on some planes of a stack, on all of them."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli_convert import told
from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_progress import progress_bar
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam.annotation.annotation import Annotation
    from napari_sam.formats import Format

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
    cannot be read or somebody stops it, what was done until then is written, and the exit code is 1.
    """
    with one_sentence_errors(), told():
        from napari_sam.formats.catalogue import check_place, written_format

        chosen = written_format(output, kind or "")
        check_place(output, chosen, overwrite=force)
        annotation = _opened(stack, prompts, model, device, force)
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
        _write(annotation, output, chosen, force)
    planes = len(annotation.document.planes)
    many = f"{len(annotation)} object{'' if len(annotation) == 1 else 's'}"
    where = f"{planes} plane{'' if planes == 1 else 's'}"
    typer.echo(f"{output}: {many} on {where}, {time.perf_counter() - started:.1f} s")
    if failure is not None:
        typer.echo(f"napari-sam: {str(failure) or 'Stopped.'}", err=True)
        raise typer.Exit(1)


def _opened(stack: Path, prompts: Path, model: str | None, device: str, force: bool) -> Annotation:
    """What is known of a stack; a doubt whether it is of that is printed."""
    from napari_sam.inference.files import read_image

    pixels, _ = read_image(stack)

    from napari_sam.annotation.annotation import Annotation

    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        annotation = Annotation.load(prompts, pixels, model, device=device, force=force)
    for doubt in doubts:
        typer.echo(f"napari-sam: {doubt.message}", err=True)
    return annotation


def _write(annotation: Annotation, output: Path, chosen: Format, force: bool) -> None:
    """Write what there is; an annotation with all its prompts."""
    from napari_sam.formats import write

    if chosen.name == "annotation" and chosen.fits(output):
        annotation.save(output, overwrite=force)
    else:
        write(output, annotation, chosen, overwrite=force)
