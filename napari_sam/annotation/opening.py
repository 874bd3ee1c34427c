"""A saved annotation and the image that it should be of."""

from __future__ import annotations

import os
from typing import Any

from napari_sam.annotation.archive import load_annotation
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError

__all__ = ["open_with_image"]


def open_with_image(
    path: str | os.PathLike[str], image: Any, *, force: bool = False
) -> tuple[Snapshot, Planes, str]:
    """Load an annotation, and make sure that it is of an image.

    Parameters
    ----------
    path : path
        Of the annotation.
    image : array_like
    force : bool
        Go on although the image has other pixels.

    Returns
    -------
    snapshot : Snapshot
    planes : Planes
        Of the image.
    doubt : str
        A sentence if the image has other pixels; else empty.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or is of another image.
    """
    snapshot, identity, _ = load_annotation(path)
    # The annotation knows whether its image had colours.
    rgb = getattr(image, "ndim", 0) == len(snapshot.shape) + 1
    planes = Planes(image, rgb)
    if planes.shape != snapshot.shape:
        raise AnnotationError(
            f"{os.fspath(path)} is of an image of shape {snapshot.shape}, this one has the shape "
            f"{planes.shape}: choose the image that it was made on."
        )
    doubt = ""
    if identity is not None and ImageIdentity.of(planes.image) != identity:
        doubt = f"{os.fspath(path)} was made on another image: the pixels of this one are not the same."
        if not force:
            raise AnnotationError(f"{doubt[:-1]}; force it to go on all the same.")
    return snapshot, planes, doubt
