"""A user's images and labels: paired, checked, read when they are needed, split for validation."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ImageError
from napari_sam.evaluation.datasets import list_folders, list_index
from napari_sam.inference.files import read_image
from napari_sam.inference.image import as_rgb, distinct_channels
from napari_sam.training.data import LabelledImage

__all__ = ["Images", "Shelf", "Source", "from_index", "hold_out", "pair"]

Images = str | os.PathLike[str] | ArrayLike | Sequence[str | os.PathLike[str] | ArrayLike]
"""A folder, an array, or a sequence of files and arrays."""

_SHELF_NBYTES = 1 << 30
_LEAST_SIDE = 16
"""Of an image that is cut in two, in pixels."""


@dataclass(frozen=True, eq=False)
class Source:
    """One plane with labels, and where to read it.

    Attributes
    ----------
    name : str
        What to call it in an error.
    image, labels : ndarray or Path
    plane : tuple of int
        Its index along the axes before the last two, of a stack.
    group : str
        What sampling is balanced over.
    objects : int
        How many objects it has.
    size : tuple of int
        Height and width.
    region : tuple of slice
        Rows and columns that are used.
    whole : bool
        Leave out objects that the region cuts.
    limits : tuple of float, optional
    gamma : float
        How the image is displayed; as for :func:`~napari_sam.inference.image.as_rgb`.
    """

    name: str
    image: NDArray[Any] | Path
    labels: NDArray[Any] | Path
    plane: tuple[int, ...] = ()
    group: str = ""
    objects: int = 0
    size: tuple[int, int] = (0, 0)
    region: tuple[slice, slice] = (slice(None), slice(None))
    whole: bool = False
    limits: tuple[float, float] | None = None
    gamma: float = 1.0

    @property
    def origin(self) -> object:
        """What tells one image, with all its planes, from another."""
        return self.image if isinstance(self.image, Path) else id(self.image)

    def read(self) -> LabelledImage:
        """The plane as a model sees it, its objects numbered from 1."""
        image, labels = _load(self.image), _load(self.labels, palette=False)
        pixels = _displayed(image[self.plane], self.limits, self.gamma)[self.region]
        ids = np.asarray(labels[self.plane])
        part = _numbered(ids[self.region], self.name)
        if self.whole and part.any():
            outside = ids.copy()
            outside[self.region] = 0
            crossing = np.isin(ids[self.region], np.unique(outside[outside > 0]))
            part = _numbered(np.where(crossing, 0, part), self.name)
        return LabelledImage(np.ascontiguousarray(pixels), [part], self.group)


class Shelf:
    """Planes that were read, of which those not used for the longest time go first.

    Parameters
    ----------
    nbytes : int
        How much they may take together; at least one is kept.
    partial : bool
        Whether objects may lack a label, in all of them.
    """

    def __init__(self, nbytes: int = _SHELF_NBYTES, *, partial: bool = False) -> None:
        self._limit, self._partial, self._held = nbytes, partial, 0
        self._planes: OrderedDict[Source, LabelledImage] = OrderedDict()

    def read(self, source: Source) -> LabelledImage:
        """The plane of a source."""
        if source not in self._planes:
            plane = replace(source.read(), partial=self._partial)
            self._planes[source] = plane
            self._held += _nbytes(plane)
            while self._held > self._limit and len(self._planes) > 1:
                self._held -= _nbytes(self._planes.popitem(last=False)[1])
        self._planes.move_to_end(source)
        return self._planes[source]


def pair(
    images: Images, labels: Images, group: str = "", *, names: Sequence[str] | None = None
) -> list[Source]:
    """Every plane that has objects, of images and their labels.

    Parameters
    ----------
    images, labels : path, array, or sequence of paths and arrays
        Two folders are paired as by :func:`~napari_sam.evaluation.datasets.list_folders`; images without
        labels are left out. Of stacks, labels have the shape of the image, (..., H, W); colour is the image's
        last axis.
    group : str
    names : sequence of str, optional
        What to call images that are arrays.

    Raises
    ------
    ImageError
        If there are none, labels are missing, sizes differ or labels are not integers; says of which file.

    Examples
    --------
    >>> squares = np.zeros((40, 60), np.uint8)
    >>> squares[5:15, 5:15], squares[20:35, 20:35] = 1, 2
    >>> [(source.size, source.objects) for source in pair(squares * 100, squares)]
    [((40, 60), 2)]
    """
    couples: list[tuple[str, NDArray[Any] | Path, NDArray[Any] | Path]]
    if (folder := _folder(images)) is not None:
        truths = _folder(labels)
        if truths is None:
            raise ImageError(f"Of the images in {folder}, give a folder with labels, too.")
        files = list_folders(folder, truths)
        couples = [(file.name, file.image, file.labels) for file in files if file.labels is not None]
    else:
        first, second = _listed(images, "an image"), _listed(labels, "labels")
        if len(first) != len(second):
            raise ImageError(
                f"There are {len(first)} images and {len(second)} labels: give labels for each image."
            )
        called = names or [f"image {number}" for number in range(1, len(first) + 1)]
        couples = [
            (image.name if isinstance(image, Path) else name, image, truth)
            for name, image, truth in zip(called, first, second, strict=True)
        ]
    found = [plane for name, image, truth in couples for plane in _planes(name, image, truth, group)]
    return _some(found)


def from_index(folder: str | os.PathLike[str], split: str = "train") -> list[Source]:
    """Every plane that has objects, of one split of an ``index.csv``.

    Parameters
    ----------
    folder : path
        Holds ``index.csv``; see :func:`~napari_sam.evaluation.datasets.list_index`. Planes are drawn as often
        from each pair of data set and modality, however many it has.
    split : str, default "train"

    Raises
    ------
    ImageError
        If there is no index, it has no items of the split, or as for :func:`pair`.
    """
    found = []
    for file in list_index(Path(folder), split):
        if file.labels is not None:
            found += _planes(file.name, file.image, file.labels, f"{file.dataset}/{file.modality}")
    return _some(found)


def hold_out(sources: Sequence[Source], share: float, seed: int) -> tuple[list[Source], list[Source]]:
    """Split off some for validation: whole files; of one stack its last planes; of one plane its end.

    Parameters
    ----------
    sources : sequence of Source
    share : float
        Between 0 and 1; at least one plane, and not all.
    seed : int
        The same one splits in the same way.

    Returns
    -------
    train, val : list of Source

    Raises
    ------
    ImageError
        If there is only one plane, with too few objects for two parts.
    """
    origins = list(dict.fromkeys(source.origin for source in sources))
    if len(origins) > 1:
        order = np.random.default_rng(seed).permutation(len(origins))
        chosen = {origins[index] for index in order[: _count(len(origins), share)]}
        return [s for s in sources if s.origin not in chosen], [s for s in sources if s.origin in chosen]
    if len(sources) > 1:
        kept = len(sources) - _count(len(sources), share)
        return list(sources[:kept]), list(sources[kept:])
    return _cut(sources[0], share)


def _count(number: int, share: float) -> int:
    return min(number - 1, max(1, round(number * share)))


def _cut(source: Source, share: float) -> tuple[list[Source], list[Source]]:
    """Two parts of one plane along its longer side; objects on the line belong to the first."""
    axis = int(source.size[1] > source.size[0])
    line = round(source.size[axis] * (1 - share))
    if min(line, source.size[axis] - line) >= _LEAST_SIDE:
        regions = [[slice(None), slice(None)], [slice(None), slice(None)]]
        regions[0][axis], regions[1][axis] = slice(0, line), slice(line, None)
        parts = []
        for (rows, columns), whole in zip(regions, (False, True), strict=True):
            part = replace(source, region=(rows, columns), whole=whole)
            parts.append(replace(part, objects=int(part.read().labels[0].max())))
        if all(part.objects for part in parts):
            return parts[:1], parts[1:]
    raise ImageError(
        f"{source.name} is the only image and has too few objects to keep some for validation: "
        "give more images, or some for validation."
    )


def _folder(given: Images) -> Path | None:
    """The folder that was given, if it was one."""
    if not isinstance(given, (str, os.PathLike)):
        return None
    path = Path(given).expanduser()
    if not path.exists():
        raise ImageError(f"There is no folder or file {path}: check where images and labels are.")
    return path if path.is_dir() else None


def _listed(given: Images, what: str) -> list[NDArray[Any] | Path]:
    if isinstance(given, (str, os.PathLike)) or hasattr(given, "__array__"):
        given = [given]
    if not isinstance(given, Sequence):
        raise ImageError(f"{type(given).__name__} is not {what}: give a folder, an array, or a list of them.")
    return [_file_or_array(one) for one in given]


def _file_or_array(given: Any) -> NDArray[Any] | Path:
    if isinstance(given, (str, os.PathLike)):
        return Path(given).expanduser()
    # What is computed or read when it is asked for is asked plane by plane.
    lazy = all(hasattr(given, name) for name in ("shape", "dtype", "ndim", "__getitem__"))
    return given if lazy else np.asarray(given)


def _planes(name: str, image: NDArray[Any] | Path, labels: NDArray[Any] | Path, group: str) -> list[Source]:
    pixels, ids = _load(image), _load(labels, palette=False)
    if ids.ndim < 2 or ids.dtype.kind not in "bui":
        raise ImageError(
            f"The labels of {name} are {ids.dtype} of shape {ids.shape}: they must be planes of integers, "
            "one for each object and 0 for background."
        )
    colour = pixels.ndim == ids.ndim + 1 and pixels.shape[-1] in (1, 3, 4)
    if (pixels.shape[:-1] if colour else pixels.shape) != ids.shape:
        raise ImageError(
            f"{name} has the shape {pixels.shape} and its labels {ids.shape}: they must be of the same size."
        )
    found = []
    for plane in np.ndindex(*ids.shape[:-2]):
        objects = int(_numbered(np.asarray(ids[plane]), name).max(initial=0))
        where = f"{name}, plane {','.join(map(str, plane))}" if plane else name
        size = (ids.shape[-2], ids.shape[-1])
        found.append(Source(where, image, labels, plane, group, objects, size))
        if objects:
            _displayed(pixels[plane])  # says what is wrong with it now, not after hours
    return found


def _some(found: Sequence[Source]) -> list[Source]:
    some = [source for source in found if source.objects]
    if not some:
        raise ImageError(
            "None of the labels has an object: give labels that are 1, 2, ... on objects and 0 elsewhere."
        )
    return some


def _load(given: NDArray[Any] | Path, *, palette: bool = True) -> NDArray[Any]:
    return read_image(given, palette=palette)[0] if isinstance(given, Path) else given


def _displayed(
    plane: NDArray[Any], limits: tuple[float, float] | None = None, gamma: float = 1.0
) -> NDArray[Any]:
    """As the model is given it for inference, (H, W, 1) or (H, W, 3)."""
    return distinct_channels(as_rgb(plane, contrast_limits=limits, gamma=gamma))


def _numbered(labels: NDArray[Any], name: str) -> NDArray[np.int32]:
    """Objects from 1 on, whatever their ids; connected parts if the labels only say where objects are."""
    if labels.dtype.kind == "b":
        from skimage.measure import label

        return np.asarray(label(labels), np.int32)
    if labels.size and int(labels.min()) < 0:
        raise ImageError(f"The labels of {name} have negative ids: objects have ids from 1 on.")
    ids, numbers = np.unique(labels, return_inverse=True)
    first = 0 if ids.size and ids[0] == 0 else 1
    return (numbers.reshape(labels.shape) + first).astype(np.int32)


def _nbytes(plane: LabelledImage) -> int:
    return plane.pixels.nbytes + sum(ids.nbytes for ids in plane.labels)
