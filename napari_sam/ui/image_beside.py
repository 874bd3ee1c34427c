"""The image that a file of outlines is of, where data sets have it: beside it, or in a folder of images."""

from __future__ import annotations

import warnings
from pathlib import Path

__all__ = ["shape_beside"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def shape_beside(path: Path) -> tuple[int, int] | None:
    """Height and width of the image of the same name, in pixels; None if there is none that can be read.

    Parameters
    ----------
    path : Path
        Of the outlines: beside the image, or in ``labels`` where the image is in ``images``.
    """
    folders = [path.parent]
    parts = list(path.parent.parts)
    if "labels" in parts:
        at = len(parts) - 1 - parts[::-1].index("labels")
        folders.append(Path(*parts[:at], "images", *parts[at + 1 :]))
    for image in (folder / (path.stem + suffix) for folder in folders for suffix in _SUFFIXES):
        if image.is_file() and (shape := _shape(image)) is not None:
            return shape
    return None


def _shape(image: Path) -> tuple[int, int] | None:
    """What the header of an image says."""
    import tifffile
    from PIL import Image

    try:
        if image.suffix.lower().startswith(".tif"):
            with tifffile.TiffFile(image) as file:
                page = file.pages.first
                return int(page.imagelength), int(page.imagewidth)
        with warnings.catch_warnings():
            # Nothing of it is decoded, however large it is.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(image) as found:
                return found.height, found.width
    except Exception:  # noqa: BLE001  # decoders raise anything on files of others
        return None
