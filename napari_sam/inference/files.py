"""Label images into files, which appear complete or not at all; images from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.atomic import open_atomic
from napari_sam.errors import ImageError
from napari_sam.inference.image_files import read_image, read_plane

__all__ = ["check_apart", "check_output", "read_image", "read_plane", "write_labels"]

LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy")


def check_apart(target: Path, *images: Path) -> None:
    """Make sure that no image is replaced by what is found in it.

    Raises
    ------
    ImageError
        If `target` is one of them, under whatever name.
    """
    for image in images:
        if target.exists() and image.exists() and target.samefile(image):
            raise ImageError(f"{target} is the image itself: choose another name for what is found in it.")


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Make sure that a label image can be written to `path`, before any work is done.

    Raises
    ------
    ImageError
        If the suffix is unknown, the folder missing, or the file there and not `force`.
    """
    target = Path(path)
    if target.suffix.lower() not in LABEL_SUFFIXES:
        raise ImageError(
            f"{target.name} does not end in a format that labels can be written to: "
            f"use one of {', '.join(LABEL_SUFFIXES)}."
        )
    if not target.parent.is_dir():
        raise ImageError(f"The folder {target.parent} does not exist: make it first.")
    if target.is_dir():
        raise ImageError(f"{target} is a folder: choose another name.")
    if target.exists() and not force:
        raise ImageError(f"{target} exists: choose another name, or use --force to replace it.")
    return target


def write_labels(
    path: str | os.PathLike[str],
    labels: NDArray[Any],
    *,
    force: bool = False,
    tiff: Mapping[str, Any] | None = None,
) -> None:
    """Write a label image in the smallest unsigned type that holds its ids.

    The file appears complete or not at all.

    Parameters
    ----------
    path : path
        PNG, TIFF or NPY, by its suffix.
    labels : ndarray of int, shape (..., H, W)
    force : bool
        Replace an existing file.
    tiff : mapping, optional
        Arguments of ``tifffile.imwrite`` that say what the axes are and how large a pixel is. By default,
        nothing is known of the axes before the last two.

    Raises
    ------
    ImageError
        If the file exists and not `force`, or the format cannot hold the labels.
    """
    target = check_output(path, force=force)
    smallest = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    suffix = target.suffix.lower()
    if labels.min(initial=0) < 0:
        raise ImageError(
            f"The id {labels.min()} is negative, which label images cannot hold: use ids from 1 on."
        )
    if suffix == ".png" and labels.ndim > 2:
        raise ImageError("PNG holds a single plane: write TIFF or NPY.")
    if suffix == ".png" and smallest.dtype.itemsize > 2:
        raise ImageError(
            f"PNG holds ids up to 65535, these labels go to {smallest.max()}: write TIFF or NPY."
        )
    with open_atomic(target) as file:
        if suffix == ".npy":
            np.save(file, smallest)
        elif suffix == ".png":
            from PIL import Image

            Image.fromarray(smallest).save(file, format="PNG")
        else:
            import tifffile

            tifffile.imwrite(
                file,
                smallest,
                compression="zlib",
                photometric="minisblack",  # three planes are not a colour image
                **(tiff or {"metadata": {"axes": "Q" * (labels.ndim - 2) + "YX"}}),
            )
