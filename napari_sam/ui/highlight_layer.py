"""The outlines of the objects that are selected in the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.utils.colormaps import DirectLabelColormap
from scipy import ndimage

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.ui.preview import PreviewLayer

__all__ = ["HighlightLayer"]

_NOTHING = (0.0, 0.0, 0.0, 0.0)
_WHITE = (1.0, 1.0, 1.0, 1.0)
_WIDTH = 2


class HighlightLayer(PreviewLayer):
    """Shows the outlines of masks of one plane; there as long as there are any.

    napari's own contours look at all pixels of a plane whenever one of them changes.
    """

    _what = "selected"
    _drawn: Sequence[Mask] = ()

    def show_masks(self, masks: Sequence[Mask], plane: Plane) -> None:
        """Show the outlines of masks instead of those before.

        Parameters
        ----------
        masks : sequence of Mask
            Of one shape; without any, the layer goes.
        plane : Plane
            Of the image.
        """
        self._erase()
        if not masks:
            self._let_go()
            return
        self._ready(masks[0].shape, plane)
        for mask in masks:
            inner = ndimage.binary_erosion(mask.bits, iterations=_WIDTH)
            self._pixels[mask.slices][mask.bits & ~inner] = 1
        self._drawn = masks
        self._refresh()

    def _erase(self) -> None:
        for mask in self._drawn:
            self._pixels[mask.slices] = 0
        self._drawn = ()

    def _options(self) -> dict[str, Any]:
        return {"colormap": DirectLabelColormap(color_dict={None: _WHITE, 0: _NOTHING}), "opacity": 0.9}
