"""The mask that a click would give, shown over the image before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.ui.layers import TRANSFORM

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

__all__ = ["PreviewLayer"]

_POSITIVE, _NEGATIVE = 1, 2
_NOTHING = (0.0, 0.0, 0.0, 0.0)
# Told apart with any kind of colour blindness, and not the green and red of the prompts.
_COLOURS: dict[int | None, tuple[float, float, float, float]] = {
    None: _NOTHING,
    0: _NOTHING,
    _POSITIVE: (0.0, 0.9, 1.0, 1.0),
    _NEGATIVE: (1.0, 0.55, 0.0, 1.0),
}
_OPACITY = 0.5


class PreviewLayer:
    """Shows one mask of one plane; cheap enough to follow the mouse.

    The layer is as large as the plane only, and moved to where the plane lies in the image. It is made when
    the first mask is shown, and again if the user removed it; it is never selected by itself.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
        The image that the masks are of.
    below : callable
        Gives the layers that are to stay above the preview; those that are not in the viewer do not matter.

    Attributes
    ----------
    layer : napari.layers.Labels or None
        What shows the mask; None until there is one.
    """

    # What the layer is called after the image, and the type of its pixels.
    _what = "preview"
    _dtype: type[np.integer] = np.uint8

    def __init__(self, viewer: ViewerModel, image: Image, below: Callable[[], Sequence[Layer]]) -> None:
        self._viewer, self._image, self._below = viewer, image, below
        self.layer: Labels | None = None
        self._plane: Plane | None = None
        self._shown: tuple[Mask, int] | None = None
        self._pixels: NDArray[Any] = np.zeros((0, 0), dtype=self._dtype)
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._on_transform)

    def owns(self, layer: object) -> bool:
        """Whether a layer is the preview."""
        return layer is not None and layer is self.layer

    def show(self, mask: Mask, plane: Plane, positive: bool = True) -> None:
        """Show a mask instead of the one before.

        Parameters
        ----------
        mask : Mask
            Of the plane's shape.
        plane : Plane
            Of the image.
        positive : bool, default True
            Whether a click would add the mask, or take it away.
        """
        value = _POSITIVE if positive else _NEGATIVE
        if self._ready(mask.shape, plane) and self._shown == (mask, value):
            return
        self._erase()
        self._pixels[mask.slices][mask.bits] = value
        self._shown = mask, value
        self._refresh()

    def clear(self) -> None:
        """Show nothing; the layer stays."""
        if self._shown is not None:
            self._erase()
            self._refresh()

    def close(self, keep_layer: bool = False) -> None:
        """Take the layer away and stop listening. Closing twice is fine.

        Parameters
        ----------
        keep_layer : bool, default False
            Leave the layer in the viewer, where what would draw the change does not exist any more.
        """
        for name in TRANSFORM:
            getattr(self._image.events, name).disconnect(self._on_transform)
        self._let_go(keep_layer)

    def _let_go(self, keep_layer: bool = False) -> None:
        """Take the layer away, until there is something to show again."""
        layer, self.layer, self._shown = self.layer, None, None
        self._pixels = np.zeros((0, 0), dtype=self._dtype)
        if layer is not None and layer in self._viewer.layers and not keep_layer:
            self._viewer.layers.remove(layer)

    def _options(self) -> dict[str, Any]:
        """How the layer looks."""
        return {"colormap": DirectLabelColormap(color_dict=_COLOURS), "opacity": _OPACITY}

    def _ready(self, shape: tuple[int, int], plane: Plane) -> bool:
        """Have a layer of this size on the plane; says whether it was there already."""
        if self.layer is not None and self.layer not in self._viewer.layers:
            self.layer = None
        if self.layer is None:
            self._make(shape, plane)
        elif plane != self._plane or self._pixels.shape != shape:
            self._move(self.layer, shape, plane)
        else:
            return True
        return False

    def _make(self, shape: tuple[int, int], plane: Plane) -> None:
        # Known as ours before anybody hears of it.
        self.layer = self._new(
            self._blank(shape, plane),
            name=f"{self._image.name}: {self._what}",
            translate=self._translate(plane),
            **self._options(),
            **{name: getattr(self._image, name) for name in TRANSFORM if name != "translate"},
        )
        self.layer.editable = False
        layers = self._viewer.layers
        above = [layers.index(layer) for layer in self._below() if layer in layers]
        with _selection_untouched(self._viewer):
            layers.insert(min(above, default=len(layers)), self.layer)

    def _new(self, pixels: NDArray[Any], **options: Any) -> Labels:
        return Labels(pixels, **options)

    def _blank(self, shape: tuple[int, int], plane: Plane) -> NDArray[Any]:
        """Zeros of the plane's size, of length 1 along the other axes; `_pixels` is a view of them."""
        self._plane, self._shown = plane, None
        sides = dict(zip(plane.axes, shape, strict=True))
        data = np.zeros([sides.get(axis, 1) for axis in range(plane.ndim)], dtype=self._dtype)
        self._pixels = data.reshape(shape)
        return data

    def _move(self, layer: Labels, shape: tuple[int, int], plane: Plane) -> None:
        """Lie on another plane, or on one of another size."""
        if self._plane is not None and plane.axes == self._plane.axes and self._pixels.shape == shape:
            self._erase()
            self._plane = plane
        else:
            layer.data = self._blank(shape, plane)
            # A layer becomes editable whenever it gets an array.
            layer.editable = False
        layer.translate = self._translate(plane)

    def _translate(self, plane: Plane) -> NDArray[np.float64]:
        """Where a layer with the image's scale, rotation and shear must begin to lie on the plane."""
        first = self._image.data_to_world([0 if i is None else i for i in plane.index])
        return np.asarray(self._image.affine.inverse(first))

    def _erase(self) -> None:
        if self._shown is not None:
            self._pixels[self._shown[0].slices] = 0
            self._shown = None

    def _refresh(self) -> None:
        # Nothing but pixels changed; of a large layer, everything else takes much longer than that.
        if self.layer is not None:
            self.layer.refresh(extent=False, thumbnail=False, highlight=False)

    def _on_transform(self, event: Any) -> None:
        """Follow the image."""
        if self.layer is not None and self._plane is not None:
            if event.type != "translate":
                setattr(self.layer, event.type, getattr(self._image, event.type))
            self.layer.translate = self._translate(self._plane)


@contextmanager
def _selection_untouched(viewer: ViewerModel) -> Iterator[None]:
    """Undo that napari selects a layer when it is added, before anybody hears of it."""
    selection = viewer.layers.selection
    active, selected = selection.active, set(selection)
    with selection.events.blocker_all():
        yield
        if active is not None:
            selection.active = active
        else:
            selection.clear()
            selection.update(selected)
