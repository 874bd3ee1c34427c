"""Where the pixels of an image are in the world: names, sizes, offsets and units of its axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_sam.errors import FormatError

__all__ = ["UNKNOWN", "Calibration"]

UNKNOWN = "q"
"""The name of an axis of which nothing is known, as in TIFF."""

_LETTERS = frozenset("tczyx" + UNKNOWN)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The axes of an image.

    Parameters
    ----------
    axes : str
        A letter for each axis: t, c, z, y, x, or q for one of unknown meaning.
    scale : tuple of float
        The size of one step along each axis, in its unit.
    translate : tuple of float
        The place of the first pixel's centre along each axis, in its unit.
    units : tuple of str
        Names such as ``"micrometer"`` or ``"second"``; empty for pixels.

    Raises
    ------
    FormatError
        If the lengths differ, a letter is unknown, or a number is not finite or a size not positive.

    Examples
    --------
    >>> plain = Calibration.plain(3)
    >>> plain.axes, plain.scale, plain.is_plain
    ('qyx', (1.0, 1.0, 1.0), True)
    """

    axes: str
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.axes) == len(self.scale) == len(self.translate) == len(self.units):
            raise FormatError(
                f"An image with the axes {self.axes!r} needs {len(self.axes)} scales, offsets and units."
            )
        if not _LETTERS.issuperset(self.axes):
            raise FormatError(f"Axes are named by the letters t, c, z, y, x and q, not {self.axes!r}.")
        if not all(map(math.isfinite, (*self.scale, *self.translate))) or min(self.scale, default=1) <= 0:
            raise FormatError(f"Sizes of pixels are positive numbers, not {self.scale}.")

    @classmethod
    def plain(cls, ndim: int) -> Calibration:
        """Pixels without a size: of an image with `ndim` axes, the last two of which are y and x."""
        return cls(UNKNOWN * (ndim - 2) + "yx", (1.0,) * ndim, (0.0,) * ndim, ("",) * ndim)

    @property
    def is_plain(self) -> bool:
        """Whether there are neither sizes nor offsets nor units."""
        return set(self.scale) <= {1.0} and set(self.translate) <= {0.0} and set(self.units) <= {""}

    @property
    def plane(self) -> Calibration:
        """That of one plane of the last two axes."""
        return Calibration(self.axes[-2:], self.scale[-2:], self.translate[-2:], self.units[-2:])
