"""``napari-sam convert`` and ``napari-sam formats``: files of other programs, in and out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli_errors import one_sentence_errors
from napari_sam.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.formats import Format

__all__ = ["Per", "convert", "formats", "told"]


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
        typer.Option(help="The image: for its size, and for intensities in a table.", show_default=False),
    ] = None,
    channel_axis: Annotated[
        int | None,
        typer.Option(help="Which axis of the image is channels; colours are known.", show_default=False),
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

        chosen = written_format(target, to or "")
        pixels = None
        if image is not None:
            pixels, channel_axis = _opened(image, channel_axis)
            sides = _without(pixels.shape, channel_axis)
        if chosen in TABLES or per is Per.OBJECT:
            chosen = measuring(chosen, pixels, channel_axis=channel_axis, per=per.value)
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


def _opened(image: Path, channel_axis: int | None) -> tuple[NDArray[Any], int | None]:
    """An image, and which of its axes is channels."""
    from napari_sam.inference.files import read_image

    pixels, colour = read_image(image)
    if channel_axis is None:
        return pixels, -1 if colour else None
    if not -pixels.ndim <= channel_axis < pixels.ndim:
        raise FormatError(f"{image} has the shape {pixels.shape}, and no axis {channel_axis} for channels.")
    return pixels, channel_axis


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    if axis is None:
        return shape
    at = axis % len(shape)
    return shape[:at] + shape[at + 1 :]
