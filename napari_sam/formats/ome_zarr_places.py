"""What a folder with a Zarr is before labels are written there: an image to add them to, or labels alone."""

from __future__ import annotations

import re
from pathlib import Path

from napari_sam.errors import FormatError
from napari_sam.formats.folders import holds_only
from napari_sam.formats.ome_zarr_reading import KEY, attributes_of, label_groups
from napari_sam.formats.zarr_chunks import has_group

__all__ = ["NAME", "is_all_in", "is_image", "label_name"]

NAME = "objects"
"""Of labels that have none, and of those in a store of their own."""

_ABOUT = r"(zarr\.json|\.zgroup|\.zarray|\.zattrs|\.zmetadata)"
_CHUNK = r"(c/)?\d+(/\d+)*"


def is_image(path: Path) -> bool:
    """Whether there is an image that labels go beside; a label image is none."""
    try:
        ome, _ = attributes_of(path) if has_group(path) else ({}, {})
    except (FormatError, OSError):
        return False
    return "multiscales" in ome and "image-label" not in ome


def is_all_in(path: Path) -> bool:
    """Whether a store has one label image of ours and nothing else."""
    own = path / "labels" / NAME
    try:
        ours = has_group(path) and has_group(own) and KEY in attributes_of(own)[1]
        if not ours or list(label_groups(path)) != [NAME] or "multiscales" in attributes_of(path)[0]:
            return False
    except FormatError:
        return False
    return holds_only(path, rf"(labels/({NAME}/(\d+/)?)?)?{_ABOUT}|labels/{NAME}/\d+/{_CHUNK}")


def label_name(name: str) -> str:
    """A name as a group of labels may have it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or NAME
