"""Images with ground truth: a folder with an ``index.csv``, or a folder of images beside one of labels."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.io import imread

from napari_sam.errors import ImageError

__all__ = ["PLANE_STEP", "Sample", "read_folders", "read_index"]

PLANE_STEP = 10
"""Of a volume, whose neighbouring planes are nearly equal, every tenth plane is taken."""

_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy"})


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One plane and its ground truth.

    Attributes
    ----------
    dataset, name : str
    image : ndarray, shape (H, W) or (H, W, 3)
        As it is in the file.
    labels : ndarray, shape (H, W), integer
        0 for background.
    modality : str
        Empty if it is not known.
    """

    dataset: str
    name: str
    image: NDArray[Any]
    labels: NDArray[np.integer[Any]]
    modality: str = ""


def read_index(
    folder: Path, split: str, datasets: Collection[str] | None = None, plane_step: int = PLANE_STEP
) -> Iterator[Sample]:
    """Read the items of one split, one by one, in the order of the index.

    Parameters
    ----------
    folder : path
        Holds ``index.csv`` with the columns dataset, id, split, image and labels; the last two are paths
        relative to the folder, and perhaps modality. Volumes have planes as their first axis.
    split : str
        For example "val".
    datasets : collection of str, optional
        Only these.
    plane_step : int, default 10
        Take every such plane of a volume, starting in the middle of the first step.

    Raises
    ------
    ImageError
        If there is no index, it lacks a column or has none of the items asked for, or a file cannot be read.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise ImageError(f"There is no index.csv in {folder}: give the folder that holds it.")
    with index.open(newline="") as file:
        table = csv.DictReader(file)
        missing = {"dataset", "id", "split", "image", "labels"} - set(table.fieldnames or ())
        if missing:
            raise ImageError(f"{index} has no column {', '.join(sorted(missing))}.")
        rows = [row for row in table if row["split"] == split]
    if datasets is not None:
        unknown = set(datasets) - {row["dataset"] for row in rows}
        if unknown:
            raise ImageError(f"{index} has no {split} items of {', '.join(sorted(unknown))}.")
        rows = [row for row in rows if row["dataset"] in datasets]
    if not rows:
        raise ImageError(f"{index} has no items of the split {split!r}.")
    for row in rows:
        image, labels = _read(folder / row["image"]), _read(folder / row["labels"])
        sample = Sample(row["dataset"], row["id"], image, labels, row.get("modality") or "")
        yield from _planes(sample, plane_step)


def read_folders(images: Path, labels: Path, plane_step: int = PLANE_STEP) -> Iterator[Sample]:
    """Read pairs of files whose names are the same but for their suffix, in alphabetical order.

    The data set is called as the folder that the images are in. Images without labels are left out.

    Parameters
    ----------
    images, labels : path
        Folders.
    plane_step : int, default 10
        As for :func:`read_index`.

    Raises
    ------
    ImageError
        If no image has labels, or a file cannot be read.
    """
    found, truths = _by_stem(images), _by_stem(labels)
    pairs = sorted(found.keys() & truths.keys())
    if not pairs:
        raise ImageError(f"No image in {images} has labels of the same name in {labels}: check both folders.")
    for stem in pairs:
        sample = Sample(images.resolve().name, stem, _read(found[stem]), _read(truths[stem]))
        yield from _planes(sample, plane_step)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImageError(f"There is no folder {folder}.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES}


def _read(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path) if path.suffix == ".npy" else imread(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} cannot be read as an image ({error}).") from error
    return np.asarray(array)


def _planes(sample: Sample, step: int) -> Iterator[Sample]:
    """The sample itself, or planes of it if its labels are a volume."""
    image, labels = sample.image, sample.labels
    if not np.issubdtype(labels.dtype, np.integer):
        raise ImageError(f"The labels of {sample.name} are {labels.dtype}: they must be integers.")
    if image.shape[: labels.ndim] != labels.shape:
        raise ImageError(
            f"The labels of {sample.name} have the shape {labels.shape} and its image {image.shape}: "
            "they must be the same."
        )
    if labels.ndim == 2:
        yield sample
        return
    if labels.ndim != 3:
        raise ImageError(f"The labels of {sample.name} have {labels.ndim} axes: they must have 2 or 3.")
    for z in range(min(step // 2, len(labels) - 1), len(labels), step):
        yield Sample(sample.dataset, f"{sample.name}/{z}", image[z], labels[z], sample.modality)
