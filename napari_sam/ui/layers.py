"""The layers that the plugin adds, with the image's transform, and which layers it can write to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from napari.layers import Labels, Points, Shapes
from napari.utils.colormaps.standardize_color import transform_color

from napari_sam.errors import ImageError
from napari_sam.ui.plane import image_shape

if TYPE_CHECKING:
    from napari.layers import Image, Layer

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "TRANSFORM",
    "match_transform",
    "point_layer",
    "refusal",
    "result_layer",
    "shape_layer",
    "unwrap",
]

POSITIVE, NEGATIVE = "positive", "negative"

_COLOURS = {POSITIVE: "#2fbf4f", NEGATIVE: "#e5383b"}
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""The attributes of a layer that say where its pixels lie in the world."""

T = TypeVar("T")


def unwrap(thing: T) -> T:
    """The viewer or layer itself: napari hands plugins a proxy that looks up every attribute slowly."""
    return getattr(thing, "__wrapped__", thing)


def _transform(image: Layer) -> dict[str, Any]:
    """What makes another layer lie on the image, pixel on pixel."""
    return {name: getattr(image, name) for name in TRANSFORM}


def match_transform(layer: Layer, image: Layer) -> None:
    """Make a layer lie on the image again after the latter was moved."""
    for name, value in _transform(image).items():
        setattr(layer, name, value)


def point_layer(image: Image, size: float) -> Points:
    """An empty layer for point prompts, green where positive and red where negative.

    Its features say of each point its `polarity` and by its `axes` ("row,column") which way the plane lies on
    which it was put.
    """
    layer = Points(
        np.empty((0, image.ndim)),
        ndim=image.ndim,
        name=f"{image.name}: points",
        features={
            "polarity": pd.Categorical([], categories=list(_COLOURS)),
            "axes": np.array([], dtype=object),
        },
        feature_defaults={"polarity": POSITIVE, "axes": ""},
        face_color="polarity",
        face_color_cycle=_COLOURS,
        border_color="white",
        border_width=0.15,
        size=size,
        **_transform(image),
    )
    layer.mode = "add"
    return layer


def shape_layer(image: Image, edge_width: float) -> Shapes:
    """An empty layer for boxes, scribbles and lassos.

    Its features are those of the points, and the `kind`: napari makes polygons of rectangles that are edited.
    """
    layer = Shapes(
        ndim=image.ndim,
        name=f"{image.name}: shapes",
        features={
            "polarity": pd.Categorical([], categories=list(_COLOURS)),
            "axes": np.array([], dtype=object),
            "kind": np.array([], dtype=object),
        },
        feature_defaults={"polarity": POSITIVE, "axes": "", "kind": "box"},
        face_color="transparent",
        edge_color="polarity",
        edge_color_cycle=list(_COLOURS.values()),
        edge_width=edge_width,
        **_transform(image),
    )
    # Unlike Points, Shapes give colours to values in the order in which these come.
    layer.edge_color_cycle_map = {name: transform_color(colour)[0] for name, colour in _COLOURS.items()}
    layer.mode = "add_rectangle"
    return layer


def result_layer(image: Image, what: str = "objects", **options: Any) -> Labels:
    """An empty Labels layer as large as the image.

    Raises
    ------
    ImageError
        If there is not enough memory for it.
    """
    shape = image_shape(image)
    try:
        pixels = np.zeros(shape, dtype=np.int32)
    except (MemoryError, ValueError):  # the latter if no computer had enough
        size = math.prod(shape) * np.dtype(np.int32).itemsize / 2**30
        raise ImageError(
            f"A layer of {what} as large as {image.name!r} takes {size:,.1f} GiB, more memory than there is: "
            "crop the image, or open a Labels layer of its shape from a zarr file and choose it under "
            "“Objects to”."
        ) from None
    return Labels(pixels, name=f"{image.name}: {what}", **options, **_transform(image))


def refusal(image: Image, labels: Labels) -> str | None:
    """Why the objects of the image cannot be written to a Labels layer, in one sentence; None if they can."""
    if labels.multiscale:
        return f"{labels.name!r} is multiscale, which napari cannot edit: choose another layer or a new one."
    wanted = image_shape(image)
    if tuple(labels.data.shape) != wanted:
        return (
            f"{labels.name!r} has the shape {tuple(labels.data.shape)}, but the image has {wanted}: "
            "choose a layer of the image's shape or a new one."
        )
    if type(labels.data).__module__.partition(".")[0] == "dask":
        return f"{labels.name!r} is computed when needed (dask): choose another layer or a new one."
    if _is_read_only(labels.data):
        return f"{labels.name!r} is read-only: choose another layer or a new one, or open it to be written."
    if not labels.editable:
        return f"{labels.name!r} cannot be edited: choose another layer or a new one."
    return None


def _is_read_only(data: Any) -> bool:
    """Whether an array of NumPy (a file that is mapped, say) or zarr takes no values."""
    if isinstance(data, np.ndarray):
        return not data.flags.writeable
    return bool(getattr(data, "read_only", False))
