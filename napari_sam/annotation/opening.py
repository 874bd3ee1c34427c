"""A saved annotation and the image that it should be of."""

from __future__ import annotations

import os
from typing import Any

from napari_sam.annotation.archive import load_annotation
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.planes import Planes, array_of
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError

__all__ = ["doubt_about", "open_with_image"]


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
    image = array_of(image)
    # The annotation knows whether its image had colours.
    rgb = len(image.shape) == len(snapshot.shape) + 1 and image.shape[-1] in (3, 4)
    planes = Planes(image, rgb)
    doubt = doubt_about(os.fspath(path), snapshot, identity, planes.image, planes.shape)
    if doubt and not force:
        raise AnnotationError(f"{doubt[:-1]}; force it to go on all the same.")
    return snapshot, planes, doubt


def doubt_about(
    name: str, snapshot: Snapshot, identity: ImageIdentity | None, image: Any, shape: tuple[int, ...]
) -> str:
    """What makes one doubt that an annotation is of an image.

    Parameters
    ----------
    name : str
        What the annotation is called in the sentence.
    snapshot : Snapshot
    identity : ImageIdentity or None
        Of the image that it was made on, if that is known.
    image : array_like
    shape : tuple of int
        Of the image, in pixels, without colours.

    Returns
    -------
    str
        A sentence if the image has other pixels, or cannot be read everywhere; else empty.

    Raises
    ------
    AnnotationError
        If the image has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.annotation import Document
    >>> image = np.zeros((4, 5))
    >>> doubt_about("cells", Document((4, 5)).snapshot, ImageIdentity.of(image), image + 1, (4, 5))
    'cells was made on another image: the pixels of this one are not the same.'
    """
    if snapshot.shape != shape:
        raise AnnotationError(
            f"{name} is of an image of shape {snapshot.shape}, this one has the shape {shape}: "
            "choose the image that it was made on."
        )
    if identity is None:
        return ""
    found = ImageIdentity.if_readable(image)
    if found == identity:
        return ""
    if found is None:
        return f"{name} may have been made on another image: parts of this one cannot be read."
    return f"{name} was made on another image: the pixels of this one are not the same."
