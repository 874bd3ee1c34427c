"""What an automatic run found, shown over the image before it is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.ui.preview import PreviewLayer

__all__ = ["AutomaticLayer"]

_OPACITY = 0.6


class AutomaticLayer(PreviewLayer):
    """Shows a label image of one plane, as large as that, in the colours of napari's labels."""

    _what = "automatic"
    _dtype = np.int32

    def show_labels(self, labels: NDArray[np.integer], plane: Plane) -> None:
        """Show labels instead of those before.

        Parameters
        ----------
        labels : ndarray, shape of the plane, int
        plane : Plane
            Of the image.
        """
        rows, columns = labels.shape
        self._ready((rows, columns), plane)
        self._pixels[...] = labels
        self._refresh()

    def clear(self) -> None:
        """Show nothing; the layer stays."""
        if self.layer is not None and self._pixels.any():
            self._pixels[...] = 0
            self._refresh()

    def remove(self) -> None:
        """Take the layer away, until there is something to show again."""
        self._let_go()

    def _options(self) -> dict[str, Any]:
        return {"opacity": _OPACITY}
