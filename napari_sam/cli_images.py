"""The images of commands: what files say of their axes and of the size of their pixels, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from napari_sam.formats import Calibration
    from napari_sam.inference.image_files import ImageFile

__all__ = ["calibration_of_image", "opened", "tiff_of"]


def opened(path: Path, channel_axis: int | None = None, *, palette: bool = True) -> ImageFile:
    """An image file; that it holds more images than one is printed.

    Parameters
    ----------
    path : Path
    channel_axis : int, optional
        Which axis of it is channels; what the file says, if not given.
    palette : bool, default True
        As of :func:`napari_sam.inference.image_files.open_image`.

    Raises
    ------
    ImageError
        If it cannot be read, or has no such axis.
    """
    from napari_sam.inference.image_files import open_image

    image = open_image(path, palette=palette)
    if image.count > 1:
        typer.echo(f"napari-sam: warning: {path} holds {image.count} images: the first is used.", err=True)
    return image if channel_axis is None else image.with_channels(channel_axis)


def calibration_of_image(path: Path, image: ImageFile) -> Calibration | None:
    """What the axes of an image are, without colours, and how large its pixels; None where no file says so.

    Parameters
    ----------
    path : Path
    image : ImageFile
        What was read of it.
    """
    axes = image.axes.removesuffix("s")
    if path.suffix.lower() not in (".tif", ".tiff") or not axes.endswith("yx"):
        return None
    from tifffile import TiffFile

    from napari_sam.formats.tiff_metadata import calibration_of

    try:
        with TiffFile(path) as file:
            _, found = calibration_of(path, file, 0)
            letters = file.series[0].axes.lower()
    # The pixels are there, whatever somebody wrote beside them, and XML and JSON of others raise anything.
    except Exception:  # noqa: BLE001
        typer.echo(f"napari-sam: warning: the size of the pixels of {path} cannot be read.", err=True)
        return None
    known = [*zip(found.axes, found.scale, found.translate, found.units, strict=True)]
    if len(letters) == len(known):
        known = [one for letter, one in zip(letters, known, strict=True) if letter != "s"]
    return _placed(axes, known)


def _placed(axes: str, known: list[tuple[str, float, float, str]]) -> Calibration:
    """What is known of axes in the order in which they were read."""
    from napari_sam.formats.calibration import UNKNOWN, Calibration

    pairs = [*zip(axes, known, strict=False)]
    same = len(axes) == len(known) and all(
        letter in (one[0], UNKNOWN, "c") or one[0] == UNKNOWN for letter, one in pairs
    )
    if not same:  # one was moved or made of samples, or had the length 1
        by_letter = {one[0]: one for one in reversed(known) if one[0] != UNKNOWN}
        pairs = [(letter, by_letter.get(letter, (letter, 1.0, 0.0, ""))) for letter in axes]
    rows = [
        ("c", 1.0, 0.0, "") if letter == "c" else (letter if one[0] == UNKNOWN else one[0], *one[1:])
        for letter, one in pairs
    ]
    letters, scale, translate, units = zip(*rows, strict=True)
    return Calibration("".join(letters), scale, translate, units)


def tiff_of(calibration: Calibration | None) -> dict[str, Any]:
    """The axes of an image for :func:`napari_sam.inference.files.write_labels`."""
    if calibration is None:
        return {}
    from napari_sam.formats.tiff_metadata import KEY, resolution
    from napari_sam.formats.whole_image import calibration_members

    members = {"axes": calibration.axes.upper(), KEY: calibration_members(calibration)}
    return {"metadata": members, **resolution(calibration)}
