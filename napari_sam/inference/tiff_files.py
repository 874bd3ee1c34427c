"""Pixels of TIFF files: in the colours that are seen, with a name for each axis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffPageSeries

__all__ = ["read_tiff"]

_GRAY, _PALETTE, _INKS = (0, 1), 3, 5
_ALPHA = (1, 2)
_PLAIN_KINDS = frozenset({"generic", "uniform", "shaped"})
"""Of files whose palette is colours of the image; ImageJ and others keep there how values were displayed."""


def read_tiff(path: Path, *, palette: bool) -> tuple[NDArray[Any], str, int]:
    """The first image of a file.

    Parameters
    ----------
    path : Path
    palette : bool
        Give the colours that values stand for, where the image has a palette.

    Returns
    -------
    array : ndarray
        Uncompressed stacks are read from the file where they are used.
    axes : str
        A letter for each axis: t, c, z, y, x, s (of colours, last), or q.
    count : int
        How many images the file holds.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        count = len(file.series)
        series = file.series[0]
        # Uncompressed stacks may be larger than memory: of these, only the chosen plane is read.
        whole = series.asarray() if series.dataoffset is None else tifffile.memmap(path, mode="r")
        array = np.asarray(whole)
        axes = "".join(letter if letter in "tczyxs" else "q" for letter in series.axes.lower())
        if "s" in axes:
            array, axes = _samples(array, axes, series.keyframe)
        elif palette:
            array, axes = _seen(array, axes, series)
    return array, axes, count


def _samples(array: NDArray[Any], axes: str, page: TiffPage) -> tuple[NDArray[Any], str]:
    """What the samples of a pixel are: colours, perhaps kept plane by plane; gray and alpha; or channels."""
    at = axes.index("s")
    array, axes = np.moveaxis(array, at, -1), axes.replace("s", "")
    count = array.shape[-1]
    alpha = page.photometric in _GRAY and bool(page.extrasamples) and page.extrasamples[0] in _ALPHA
    if count == 1 or (count == 2 and alpha):
        return array[..., 0], axes
    if page.photometric == _INKS and count >= 4 and array.dtype.kind == "u":
        return _rgb_of_inks(array[..., :4]), axes + "s"
    if count in (3, 4):
        return array, axes + "s"
    return np.moveaxis(array, -1, -3), f"{axes[:-2]}{'q' if 'c' in axes else 'c'}{axes[-2:]}"


def _rgb_of_inks(inks: NDArray[Any]) -> NDArray[Any]:
    """Red, green and blue of cyan, magenta, yellow and black, as Pillow has them."""
    most = np.iinfo(inks.dtype).max
    light = (most - inks).astype(np.float64)
    rgb = light[..., :3] * light[..., 3:] / most
    return np.rint(rgb).astype(inks.dtype)


def _seen(array: NDArray[Any], axes: str, series: TiffPageSeries) -> tuple[NDArray[Any], str]:
    """The colours that values stand for, or gray levels, if the palette has no others."""
    page = series.keyframe
    if page.photometric != _PALETTE or page.colormap is None or series.kind not in _PLAIN_KINDS:
        return array, axes
    colours = np.asarray(page.colormap)
    # Colours have 16 bits; there are programs that write 8.
    colours = (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)
    if (colours == colours[0]).all():
        return colours[0][array], axes
    return colours.T[array], axes + "s"
