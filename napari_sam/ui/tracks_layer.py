"""The ways of all objects through a series, in a Tracks layer of napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Tracks

from napari_sam.ui.layers import TRANSFORM
from napari_sam.ui.tracks import Centres, first_axis, tracks_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_sam.annotation import Plane, SamObject
    from napari_sam.ui.tracks import Tracks as TracksData

__all__ = ["TracksLayer"]


class TracksLayer:
    """Shows where objects go along one axis of an image, and which came from which by division.

    The layer is made when there is something to show. It is the only one that is ever changed here; if the
    user removes it, it is not made again.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
        Whose place in the world it shares.
    shape : sequence of int
        Of the image, in pixels, without colours.
    below : callable
        Gives the layers that are to stay above it; those that are not in the viewer do not matter.

    Attributes
    ----------
    layer : napari.layers.Tracks or None
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        shape: Sequence[int],
        below: Callable[[], Sequence[Layer]],
    ) -> None:
        self._viewer, self._image, self._shape, self._below = viewer, image, tuple(shape), below
        self.layer: Tracks | None = None
        self._axis: int | None = None
        self._at: tuple[int | None, ...] = ()
        self._centres = Centres()
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._follow_image)

    def owns(self, layer: object) -> bool:
        """Whether a layer is this one."""
        return layer is not None and layer is self.layer

    @property
    def was_removed(self) -> bool:
        """Whether the user took the layer away."""
        return self.layer is not None and self.layer not in self._viewer.layers

    def show(self, objects: Sequence[SamObject], plane: Plane, axis: int | None = None) -> bool:
        """Show where objects go.

        Parameters
        ----------
        objects : sequence of SamObject
        plane : Plane
            One that the objects go through.
        axis : int, optional
            Along which they are followed, if a Tracks layer can do that; else along another one.

        Returns
        -------
        bool
            False if the image has no axis for it.
        """
        axis, at = self._key(plane, axis)
        if axis is None:
            return False
        tracks = tracks_of(objects, axis, (*at, *plane.index[axis:]), self._centres)
        if self.layer is not None and (axis, at) != (self._axis, self._at):
            self.clear()
        self._axis, self._at = axis, at
        if not len(tracks.data):
            self.clear()
        elif self.layer is None:
            self._make(tracks)
        else:
            _fill(self.layer, tracks)
        return True

    def is_of(self, plane: Plane, axis: int | None = None) -> bool:
        """Whether what is shown is what would be shown for a plane and an axis, as in `show`."""
        return self._key(plane, axis) == (self._axis, self._at)

    def _key(self, plane: Plane, axis: int | None) -> tuple[int | None, tuple[int | None, ...]]:
        """The axis along which objects are followed, and where the planes lie along those before it."""
        axis = first_axis(self._shape, axis)
        # Where such an axis spans the plane, its beginning is as good as any other place.
        return axis, tuple(0 if i is None else i for i in plane.index[: axis or 0])

    def close(self, keep_layer: bool = False) -> None:
        """Take the layer away and stop listening. Closing twice is fine.

        Parameters
        ----------
        keep_layer : bool, default False
            Leave the layer in the viewer as it is.
        """
        for name in TRANSFORM:
            getattr(self._image.events, name).disconnect(self._follow_image)
        if keep_layer:
            self.layer = None
        else:
            self.clear()

    def clear(self) -> None:
        """Take the layer away, until there is something to show again."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _make(self, tracks: TracksData) -> None:
        # Known as ours before anybody hears of it.
        self.layer = Tracks(
            tracks.data,
            name=f"{self._image.name}: tracks",
            graph=tracks.graph,
            properties=tracks.properties,
            **self._place(),
        )
        layers = self._viewer.layers
        active = layers.selection.active
        above = [layers.index(one) for one in self._below() if one in layers]
        layers.insert(min(above, default=len(layers)), self.layer)
        layers.selection.active = active

    def _place(self) -> dict[str, Any]:
        """Where the layer lies in the world."""
        image, count = self._image, len(self._shape) - (self._axis or 0)
        if count == image.ndim:
            return {name: getattr(image, name) for name in TRANSFORM}
        # Fewer axes than the image has: the last ones, at a fixed place along those before.
        corner = [*self._at, *(0,) * count]
        origin = np.asarray(image.data_to_world(corner), dtype=float)
        affine = np.eye(count + 1)
        for number in range(count):
            step = np.array(corner)
            step[len(self._at) + number] = 1
            affine[:-1, number] = (np.asarray(image.data_to_world(step), dtype=float) - origin)[-count:]
        affine[:-1, -1] = origin[-count:]
        return {
            "affine": affine,
            "units": image.units[-count:],
            "axis_labels": image.axis_labels[-count:],
        }

    def _follow_image(self) -> None:
        if self.layer is not None:
            for name, value in self._place().items():
                setattr(self.layer, name, value)


def _fill(layer: Tracks, tracks: TracksData) -> None:
    """Give a layer other tracks; how they look stays."""
    shown, graph = layer.color_by, layer.graph
    if np.array_equal(layer.data, tracks.data) and graph == tracks.graph:
        return
    # napari forgets properties with the data, and warns if it was coloured by one of them.
    layer.color_by = "track_id"
    layer.data = tracks.data
    layer.properties = tracks.properties
    layer.graph = tracks.graph
    layer.color_by = shown
