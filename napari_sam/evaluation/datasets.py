"""Images with ground truth: listed by an ``index.csv``, or folders of images beside folders of labels."""

from __future__ import annotations

import csv
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.inference.files import read_image

__all__ = [
    "PLANE_STEP",
    "LabelledFile",
    "Sample",
    "at_most",
    "list_folders",
    "list_index",
    "some_of_each",
]

PLANE_STEP = 10
"""Of a volume, whose neighbouring planes are nearly equal, every tenth plane is taken."""

_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy"})
_ENDINGS = ("_labels", "_label", "_masks", "_mask")
"""That a label image may have after the name of its image; ``napari-sam auto`` writes the first."""
_COLUMNS = frozenset({"dataset", "id", "split", "image", "labels"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One plane and its ground truth.

    Attributes
    ----------
    dataset, name : str
    image : ndarray, shape (H, W) or (H, W, channels)
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


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """An image file and its ground truth, which are read when they are needed.

    Attributes
    ----------
    dataset, name : str
    image : Path
    labels : Path or None
        None if there are none, which is said when it is read.
    modality : str
        Empty if it is not known.
    """

    dataset: str
    name: str
    image: Path
    labels: Path | None
    modality: str = ""

    def planes(self, step: int = PLANE_STEP) -> Iterator[Sample]:
        """The plane of the file or, of a volume, whose first axis is its planes, some of them.

        Compressed volumes are in memory as a whole, others plane by plane.

        Parameters
        ----------
        step : int, default 10
            Take every such plane of a volume, starting in the middle of the first step.

        Raises
        ------
        ImageError
            If there are no labels, a file cannot be read, the labels are no whole numbers, or the shapes of
            image and labels differ.
        """
        if self.labels is None:
            raise ImageError(f"{self.image.name} has no labels: give label images of the same names.")
        labels, coloured = read_image(self.labels, palette=False)
        if coloured:
            raise ImageError(f"{self.labels} is a colour image: labels are one whole number for each pixel.")
        image, _ = read_image(self.image)
        if not np.issubdtype(labels.dtype, np.integer):
            raise ImageError(f"{self.labels} has values of type {labels.dtype}: labels are whole numbers.")
        if image.shape[: labels.ndim] != labels.shape:
            raise ImageError(
                f"{self.image.name} has the shape {image.shape} and its labels {labels.shape}: "
                "they must be of the same size."
            )
        if labels.ndim == 2:
            yield Sample(self.dataset, self.name, image, labels, self.modality)
            return
        if labels.ndim != 3:
            raise ImageError(
                f"{self.labels} has {labels.ndim} axes: labels of planes or volumes have 2 or 3."
            )
        for z in range(min(step // 2, len(labels) - 1), len(labels), step):
            yield Sample(self.dataset, f"{self.name}/{z}", image[z], labels[z], self.modality)


def list_index(
    index: Path, split: str | None = "val", datasets: Collection[str] | None = None
) -> list[LabelledFile]:
    """The items of an index, in its order.

    Parameters
    ----------
    index : path
        A CSV file, or the folder that holds ``index.csv``, with the columns dataset, id, split, image and
        labels, and perhaps modality. Paths are relative to the folder.
    split : str, optional
        Only the items of this split; None for all.
    datasets : collection of str, optional
        Only these.

    Raises
    ------
    ImageError
        If there is no index, it cannot be read or lacks a column, or it has none of the items asked for.
    """
    file = index if index.is_file() else index / "index.csv"
    if not file.is_file():
        raise ImageError(f"There is no index.csv in {index}: give the folder that holds it.")
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.DictReader(opened)
            missing = _COLUMNS - set(table.fieldnames or ())
            if missing:
                raise ImageError(f"{file} has no column {', '.join(sorted(missing))}.")
            rows = [row for row in table if split is None or row["split"] == split]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{file} cannot be read as a table ({error}).") from error
    kind = "" if split is None else f"{split} "
    if datasets is not None:
        unknown = set(datasets) - {row["dataset"] for row in rows}
        if unknown:
            raise ImageError(f"{file} has no {kind}items of {', '.join(sorted(unknown))}.")
        rows = [row for row in rows if row["dataset"] in datasets]
    if not rows:
        raise ImageError(f"{file} has no {kind}items: check --split.")
    return [
        LabelledFile(
            row["dataset"],
            row["id"],
            file.parent / (row["image"] or ""),
            file.parent / row["labels"] if row["labels"] else None,
            row.get("modality") or "",
        )
        for row in rows
    ]


def list_folders(images: Path, labels: Path) -> list[LabelledFile]:
    """The images of a folder, in alphabetical order, with the label images of the same names.

    The suffix may be another; a label image may have ``_labels``, ``_label``, ``_masks`` or ``_mask`` after
    the name of its image. The data set is called as the folder of the images.

    Parameters
    ----------
    images, labels : path
        Folders; they may be the same, if label images have such an ending.

    Raises
    ------
    ImageError
        If a folder is not there, has two images of one name, or no image has labels.
    """
    found, truths = _by_stem(images), _by_stem(labels)
    if images.resolve() == labels.resolve():
        found = {stem: path for stem, path in found.items() if not stem.endswith(_ENDINGS)}
        truths = {stem: path for stem, path in truths.items() if stem.endswith(_ENDINGS)}
    dataset = images.resolve().name
    pairs = [
        LabelledFile(
            dataset, stem, path, next((truths[stem + e] for e in ("", *_ENDINGS) if stem + e in truths), None)
        )
        for stem, path in found.items()
    ]
    if all(pair.labels is None for pair in pairs):
        raise ImageError(f"No image in {images} has labels of the same name in {labels}: check both folders.")
    return pairs


def some_of_each(files: Sequence[LabelledFile], most: int | None, seed: int = 0) -> list[LabelledFile]:
    """Some files of each data set, drawn at random, in the order that they had.

    Parameters
    ----------
    files : sequence of LabelledFile
    most : int, optional
        Of each data set; all if None.
    seed : int
        The same seed draws the same files.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, file in enumerate(files):
        places[file.dataset].append(place)
    chosen = (place for dataset, own in places.items() for place in at_most(own, most, seed, dataset))
    return [files[place] for place in sorted(chosen)]


def at_most(items: Sequence[T], most: int | None, seed: int, name: str) -> list[T]:
    """No more than so many of a sequence, drawn at random, in the order that they had.

    Parameters
    ----------
    items : sequence
    most : int, optional
        All if None.
    seed : int
    name : str
        What they belong to: what is drawn of one thing does not depend on what is drawn of others.

    Examples
    --------
    >>> at_most("abc", None, 0, "letters")
    ['a', 'b', 'c']
    >>> at_most(range(9), 3, 0, "numbers") == at_most(range(9), 3, 0, "numbers")
    True
    """
    if most is None or len(items) <= most:
        return list(items)
    drawn = np.random.default_rng([seed, zlib.crc32(name.encode())]).choice(len(items), most, replace=False)
    return [items[place] for place in sorted(drawn.tolist())]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImageError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ImageError(
                f"{folder} holds both {found[path.stem].name} and {path.name}: "
                "images and labels are told apart by their names without suffix."
            )
        found[path.stem] = path
    return found
