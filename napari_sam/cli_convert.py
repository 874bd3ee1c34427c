"""``napari-sam convert`` and ``napari-sam formats``: files of other programs, in and out."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from napari_sam.cli_errors import one_sentence_errors
from napari_sam.cli_images import calibration_of_image, opened
from napari_sam.errors import FormatError, FormatWarning, NapariSamError

if TYPE_CHECKING:
    from napari_sam.formats import Calibration, Format, Segmentation
    from napari_sam.inference.image_files import ImageFile

__all__ = ["Per", "convert", "formats", "told"]

_T = TypeVar("_T")


class Per(StrEnum):
    """What has a row of a table."""

    PLANE = "plane"
    OBJECT = "object"


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder to read.", show_default=False)],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="What to write; its suffix says in which format.", show_default=False
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", help="Format of OUT, by its name in `napari-sam formats`.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--from", help="Format of IN, if it is not found out by itself.", show_default=False),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="...,H,W", help="Size of the image, if IN does not say it.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="The image: for its size, that of its pixels, and intensities in a table.",
            show_default=False,
        ),
    ] = None,
    channel_axis: Annotated[
        int | None,
        typer.Option(
            help="Which axis of the image is channels; by default that of the file, if IN has none.",
            show_default=False,
        ),
    ] = None,
    per: Annotated[
        Per, typer.Option(help="What has a row of a table: an object on each plane, or the whole of it.")
    ] = Per.PLANE,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write objects in another format: annotations, label images, outlines, data sets, tables.

    What the other format cannot hold is said before it is written. If IN holds several images and the other
    format one, OUT is a folder, which gets a file for each image, with its name; choose the format by --to.
    """
    with one_sentence_errors(), told():
        sides = _sides(shape)
        if sides is not None and image is not None:
            raise FormatError("The size of the image is given twice: leave --shape or --image away.")

        from napari_sam.formats import convert as converted
        from napari_sam.formats.catalogue import written_format
        from napari_sam.formats.tables import TABLES, measuring
        from napari_sam.inference.files import check_apart

        chosen = written_format(target, to or "")
        pixels = calibration = None
        if image is not None:
            check_apart(target, image)
            whole = opened(image)
            pixels = whole.pixels
            if channel_axis is None:
                channel_axis = _channels(whole, source, kind or "")
            elif not -pixels.ndim <= channel_axis < pixels.ndim:
                raise FormatError(
                    f"{image} has the shape {pixels.shape}, and no axis {channel_axis} for channels."
                )
            sides = _without(pixels.shape, channel_axis)
            calibration = _without_channels(calibration_of_image(image, whole), whole, channel_axis)
        if chosen in TABLES or per is Per.OBJECT:
            chosen = measuring(chosen, pixels, channel_axis=channel_axis, per=per.value)
        if calibration is not None:
            chosen = _calibrated(chosen, sides, calibration)
        for path in converted(source, target, to=chosen, kind=kind or "", shape=sides, overwrite=force):
            typer.echo(str(path))


def formats() -> None:
    """List the formats: names, suffixes, and what they hold."""
    from napari_sam.formats import FORMATS

    rows = [("name", "files", "holds")]
    rows += [(one.name, _files(one), _held(one)) for one in FORMATS.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _files(one: Format) -> str:
    return " ".join(f"*{end}/" if one.is_folder else f"*{end}" for end in one.suffixes)


def _held(one: Format) -> str:
    """In as few words as possible."""
    from napari_sam.formats import Feature

    if one.read is None:
        return "measurements; written only"
    missing = [feature.value for feature in Feature if feature not in one.holds]
    if not missing:
        return "everything"
    if len(missing) <= len(one.holds):
        return f"all but {', '.join(missing)}"
    return ", ".join(feature.value for feature in Feature if feature in one.holds)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Print what is lost to stderr when it is known, each sentence once."""
    from napari_sam.formats.telling import warnings_to

    told: set[str] = set()

    def show(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            typer.echo(f"napari-sam: warning: {sentence}", err=True)

    with warnings_to(show):
        yield


def _sides(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\s*\d{1,12}\s*(,\s*\d{1,12}\s*)+", text):
        raise FormatError(f"{text!r} is not the shape of an image: write numbers as H,W or T,Z,H,W.")
    return tuple(int(side) for side in text.split(","))


def _channels(image: ImageFile, source: Path, kind: str) -> int | None:
    """Which axis is channels, as the image says, unless the objects have it, too."""
    if image.colour or image.channel_axis is None:
        return -1 if image.colour else None
    from napari_sam.formats import read

    # What is wrong with the file is told when it is read for good.
    with contextlib.suppress(NapariSamError), warnings.catch_warnings():
        warnings.simplefilter("ignore", FormatWarning)
        if any(one.shape == image.pixels.shape for one in read(source, kind)):
            return None
    return image.channel_axis


def _without(values: tuple[_T, ...], axis: int | None) -> tuple[_T, ...]:
    if axis is None:
        return values
    at = axis % len(values)
    return values[:at] + values[at + 1 :]


def _without_channels(
    calibration: Calibration | None, image: ImageFile, axis: int | None
) -> Calibration | None:
    """The axes that objects have."""
    at = None if axis is None else axis % image.pixels.ndim
    if calibration is None or at is None or (image.colour and at == image.pixels.ndim - 1):
        return calibration
    if image.colour:
        return None
    from napari_sam.formats import Calibration

    return Calibration(
        calibration.axes[:at] + calibration.axes[at + 1 :],
        _without(calibration.scale, at),
        _without(calibration.translate, at),
        _without(calibration.units, at),
    )


def _calibrated(chosen: Format, shape: tuple[int, ...] | None, calibration: Calibration) -> Format:
    """The same format, in which objects that have no size get that of the image."""

    def placed(one: Segmentation) -> Segmentation:
        if one.shape != shape or not one.calibration.is_plain:
            return one
        leading = calibration.axes[:-2]
        # The objects may know more of the axes than the image.
        axes = one.calibration.axes if set(leading) <= {"q"} else calibration.axes
        return replace(one, calibration=replace(calibration, axes=axes))

    return replace(chosen, write=lambda path, found: chosen.write(path, [placed(one) for one in found]))
