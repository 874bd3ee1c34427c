"""The outlines of the objects that are selected in the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.utils.colormaps import DirectLabelColormap

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.ui.preview import PreviewLayer

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["HighlightLayer"]

_NOTHING = (0.0, 0.0, 0.0, 0.0)
_WHITE = (1.0, 1.0, 1.0, 1.0)
_WIDTH = 2


class HighlightLayer(PreviewLayer):
    """Shows the outlines of masks of one plane; there as long as there are any."""

    _what = "selected"

    def show_masks(self, masks: Sequence[Mask], plane: Plane) -> None:
        """Show the outlines of masks instead of those before.

        Parameters
        ----------
        masks : sequence of Mask
            Disjoint, of one shape; without any, the layer goes.
        plane : Plane
            Of the image.
        """
        if not masks:
            self._let_go()
            return
        self._ready(masks[0].shape, plane)
        self._pixels[...] = 0
        # Outlines between neighbours need different values.
        for number, mask in enumerate(masks):
            self._pixels[mask.slices][mask.bits] = number % 250 + 1
        self._refresh()

    def _new(self, pixels: Any, **options: Any) -> Labels:
        labels = super()._new(pixels, **options)
        labels.contour = _WIDTH
        return labels

    def _options(self) -> dict[str, Any]:
        return {"colormap": DirectLabelColormap(color_dict={None: _WHITE, 0: _NOTHING}), "opacity": 0.9}
