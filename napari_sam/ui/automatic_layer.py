"""What an automatic run found, shown over the image before it is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.ui.layers import TRANSFORM
from napari_sam.ui.preview import PreviewLayer

__all__ = ["AutomaticLayer"]

_OPACITY = 0.6


class AutomaticLayer(PreviewLayer):
    """Shows a label image of one plane, as large as that, in the colours of napari's labels."""

    _pixels: NDArray[Any]

    def show_labels(self, labels: NDArray[np.integer], plane: Plane) -> None:
        """Show labels instead of those before.

        Parameters
        ----------
        labels : ndarray, shape of the plane, int
        plane : Plane
            Of the image.
        """
        if self.layer is not None and self.layer not in self._viewer.layers:
            self.layer = None
        if self.layer is None:
            self._make(labels.shape, plane)
        elif plane != self._plane or self._pixels.shape != labels.shape:
            self._move(self.layer, labels.shape, plane)
        self._pixels[...] = labels
        self._refresh()

    def clear(self) -> None:
        """Show nothing; the layer stays."""
        if self.layer is not None and self._pixels.any():
            self._pixels[...] = 0
            self._refresh()

    def remove(self) -> None:
        """Take the layer away, until there is something to show again."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _make(self, shape: tuple[int, int], plane: Plane) -> None:
        # Known as ours before anybody hears of it.
        self.layer = Labels(
            self._blank(shape, plane),
            name=f"{self._image.name}: automatic",
            opacity=_OPACITY,
            translate=self._translate(plane),
            **{name: getattr(self._image, name) for name in TRANSFORM if name != "translate"},
        )
        self._insert()

    def _blank(self, shape: tuple[int, int], plane: Plane) -> NDArray[Any]:
        data = super()._blank(shape, plane).astype(np.int32)
        self._pixels = data.reshape(shape)
        return data
