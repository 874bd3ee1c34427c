"""Where the viewer looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.inference.mask import box_around

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.annotation import Plane, SamObject
    from napari_sam.ui.session import Session

__all__ = ["bring_into_view", "go_to_plane"]


def bring_into_view(viewer: ViewerModel, session: Session, items: Sequence[SamObject]) -> None:
    """Go to a plane on which the first object is, and centre the canvas on the objects there."""
    shown = session.plane
    planes = [plane for item in items for plane in item.masks]
    if not planes:
        return
    plane = shown if shown in planes else planes[0]
    rows, columns = box_around(*(item.masks[plane] for item in items if plane in item.masks))
    middle = [float(i) if i is not None else 0.0 for i in plane.index]
    middle[-2:] = (rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2
    world = np.asarray(session.image.data_to_world(middle), dtype=float)
    dims = viewer.dims
    first = dims.ndim - len(world)
    hidden = [axis for axis in range(first, dims.ndim) if axis not in dims.displayed]
    if hidden:
        dims.set_point(hidden, [world[axis - first] for axis in hidden])
    centre = [world[axis - first] if axis >= first else 0.0 for axis in dims.displayed]
    # The camera's centre is z, y, x whatever is displayed.
    viewer.scene.camera.center = (0.0,) * (3 - len(centre)) + tuple(centre)


def go_to_plane(viewer: ViewerModel, session: Session, plane: Plane) -> None:
    """Display another plane that lies as the displayed one; the canvas shows the same part of it."""
    image, dims = session.image, viewer.dims
    at = np.asarray(image.world_to_data(dims.point), dtype=float)[-image.ndim :]
    for axis, i in enumerate(plane.index):
        if i is not None:
            at[axis] = i
    # All axes: where the image is turned, one in the world depends on several of its own.
    first = dims.ndim - image.ndim
    dims.set_point(range(first, dims.ndim), [float(x) for x in image.data_to_world(at)])
