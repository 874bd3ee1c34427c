"""Prompts for many objects from another layer: each point, each shape's box, each label."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from napari.layers import Labels, Points, Shapes
from numpy.typing import NDArray

from napari_sam.annotation import Plane
from napari_sam.annotation.batch import Checked, prompts_of_boxes, prompts_of_masks, prompts_of_points
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.errors import PromptError
from napari_sam.inference.prompts import Prompts
from napari_sam.ui import coordinates
from napari_sam.ui.plane import finest

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sam.ui.session import Session

__all__ = ["Many", "in_image", "prompts_from"]


class Many(NamedTuple):
    """Prompts of many objects.

    Attributes
    ----------
    prompts : list of (Plane, list of Prompts)
    what : str
        How many of what, in words.
    skipped : str
        A sentence about those that make no sense for the image; empty if there are none.
    """

    prompts: list[tuple[Plane, list[Prompts]]]
    what: str
    skipped: str

    @property
    def number(self) -> int:
        """How many objects are asked for."""
        return sum(len(many) for _, many in self.prompts)


def prompts_from(layer: Layer, session: Session) -> Many:
    """What the points, shapes or labels of a layer ask for in the image.

    Points and shapes are looked up on all planes that lie as the displayed one; labels on the displayed one.

    Raises
    ------
    PromptError
        If the layer has nothing to go by, or the viewer shows no plane of the image.
    """
    plane = session.plane
    if plane is None:
        raise PromptError(session.plane_problem)
    size = plane.size_in(session.shape)
    found: dict[Plane, Checked] = {}
    if isinstance(layer, Labels):
        what = "labels"
        pixels = finest(layer)
        if tuple(pixels.shape) != session.shape:
            raise PromptError(
                f"{layer.name!r} has the shape {tuple(pixels.shape)}, but the image has {session.shape}: "
                "choose a layer of the image's shape."
            )
        drafts = drafts_of_labels(np.asarray(pixels[plane.slices]))
        found[plane] = prompts_of_masks([draft.base[Plane((None, None))].mask for draft in drafts])
    else:
        grouped: defaultdict[Plane, list[NDArray[np.float64]]] = defaultdict(list)
        outside = 0
        shapes = layer.data if isinstance(layer, Shapes) else [at[np.newaxis] for at in layer.data]
        what = "boxes" if isinstance(layer, Shapes) else "points"
        for vertices in shapes:
            where = in_image(layer, np.asarray(vertices, dtype=float), session)
            on = coordinates.plane_at(where.mean(axis=0), plane.axes)
            if any(i is not None and not 0 <= i < n for i, n in zip(on.index, session.shape, strict=True)):
                outside += 1
            elif isinstance(layer, Points):
                grouped[on].append(coordinates.to_xy(where, on)[0])
            else:
                grouped[on].append(coordinates.corners_to_box(where, on))
        make = prompts_of_boxes if isinstance(layer, Shapes) else prompts_of_points
        found = {on: make(np.array(many), size) for on, many in grouped.items()}
        if outside:
            found.setdefault(plane, Checked([], ""))
            verbs = ("lies", "was") if outside == 1 else ("lie", "were")
            told = f"{outside} of {len(shapes)} {what} {verbs[0]} on no plane of the image"
            sentence = f"{told} and {verbs[1]} skipped."
            found[plane] = found[plane]._replace(skipped=sentence)
    prompts = [(on, checked.prompts) for on, checked in found.items() if checked.prompts]
    skipped = " ".join(checked.skipped for checked in found.values() if checked.skipped)
    many = Many(prompts, "", skipped)
    if not many.number:
        raise PromptError(skipped or f"There are no {what} in {layer.name!r}: add some first.")
    name = {"boxes": "box", "labels": "label", "points": "point"}[what] if many.number == 1 else what
    return many._replace(what=f"{many.number} {name}")


def in_image(layer: Layer, vertices: NDArray[np.float64], session: Session) -> NDArray[np.float64]:
    """Positions in a layer as data coordinates of the image; axes that the layer lacks are as displayed."""
    image, dims = session.image, session.viewer.dims
    result = np.empty((len(vertices), image.ndim))
    for number, at in enumerate(vertices):
        world = np.asarray(dims.point, dtype=float)
        world[dims.ndim - layer.ndim :] = layer.data_to_world(at)
        result[number] = image.world_to_data(world)[-image.ndim :]
    return result
