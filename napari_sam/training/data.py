"""Labelled images for training, kept in memory, and random crops of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.io import imread as _imread
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.nano import normalise, percentile_limits, working_scale
from napari_sam.models.nano_closer import CLOSE
from napari_sam.models.nano_encoder import CENTRE_UNIT
from napari_sam.models.nano_prompts import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LabelledImage", "crop_at", "dense_target", "load_index", "pick_objects", "random_crop", "unit"]

_VOLUME_STEP = 4
"""Neighbouring planes of a volume are nearly equal: every fourth is kept."""
_MIN_AREA = 12
"""Smallest object that is trained on, in working pixels."""
_NEIGHBOURS = 0.5
"""How often the second object of a window is a neighbour of the first."""
_GAP = 4
"""Working pixels between neighbours, at most."""
_PARTIAL = ("colicoords_ecoli", "ampis_powder_sem", "drosophila_eggchambers")
"""Data sets in which objects may lack a label: their background proves nothing."""
_SCALES = (0.15, 4.0)
"""Bounds of working pixels per pixel of the plane."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One plane and its instance labels.

    Attributes
    ----------
    pixels : array, shape (H, W, C), uint8 or float32
        One or three channels; floats are between 0 and 1.
    labels : sequence of arrays, shape (H, W), int32
        Alternative readings of the same plane (an axon, or the axon with its myelin); one is drawn each time.
    group : str
        What sampling is balanced over: the data set, the modality, and the size of the image.
    partial : bool
        Whether objects may lack a label, so that background proves nothing.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    labels: Sequence[NDArray[np.int32]]
    group: str
    partial: bool = False
    limits: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", percentile_limits(unit(self.pixels)))


def unit(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    """Pixels (H, W, C) of a :class:`LabelledImage` as a tensor (C, H, W), float32 between 0 and 1."""
    plane = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1)
    return plane / 255 if plane.dtype == torch.uint8 else plane.float()


def load_index(folder: Path, split: str = "train") -> list[LabelledImage]:
    """Read every item of a split of an ``index.csv`` folder; volumes as planes along all three axes.

    Parameters
    ----------
    folder : path
        Holds ``index.csv`` with the columns dataset, split, modality, n_frames, image, labels.
    split : str, default "train"
    """
    with (folder / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    items: list[LabelledImage] = []
    for row in rows:
        image, labels = _read(folder / row["image"]), _read(folder / row["labels"]).astype(np.int32)
        height, width = labels.shape[-2:]
        group = f"{row['dataset']}/{row['modality']}/{height}x{width}"
        if int(row["n_frames"] or 1) > 1:
            volume = _to_uint8(image)
            for axis in range(3):
                for z in range(_VOLUME_STEP // 2, volume.shape[axis], _VOLUME_STEP):
                    plane, ids = np.take(volume, z, axis), np.take(labels, z, axis)
                    if ids.any():
                        items.append(LabelledImage(plane[..., None], [ids], group))
            continue
        variants = [labels]
        fibres = folder / row["labels"].replace("/labels/", "/labels_fiber/")
        if fibres.is_file() and "/labels/" in row["labels"]:
            variants.append(_read(fibres).astype(np.int32))
        pixels = image[..., None] if image.ndim == 2 else image[..., :3]
        items.append(LabelledImage(np.ascontiguousarray(pixels), variants, group))
    return items


def _read(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(_imread(path))
    return array


def _to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image.astype(np.uint8)
    low, high = np.percentile(image, [0.1, 99.9])
    return (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def random_crop(item: LabelledImage, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A window of the plane around a random object, at a random scale.

    Nearly half of the windows are at about the scale at which inference looks first, a third at about that of
    its closer look; the others are scaled until the object is between 10 and 180 working pixels across, so
    that every size is met in every modality.

    Returns
    -------
    pixels : Tensor, shape (3, 256, 256), float32
        Normalised as for inference.
    labels : Tensor, shape (256, 256), int64
    """
    labels = item.labels[int(rng.integers(len(item.labels)))]
    height, width = labels.shape
    rows, cols = np.nonzero(labels)
    if len(rows):
        pick = rng.integers(len(rows))
        centre = np.array([rows[pick], cols[pick]], float)
        its_rows, its_cols = np.nonzero(labels == labels[rows[pick], cols[pick]])
    else:
        centre = rng.uniform(size=2) * labels.shape
    kind = rng.random()
    if kind < 0.45 or not len(rows):
        scale = working_scale(height, width) * np.exp(rng.normal(0, 0.3)) / rng.choice([1, 1, 1, 2])
    elif kind < 0.8:
        side = max(np.ptp(its_rows), np.ptp(its_cols)) + 1
        scale = WINDOW / (side * CLOSE) * np.exp(rng.normal(0, 0.25))
    else:
        scale = np.exp(rng.uniform(np.log(10), np.log(180))) / np.sqrt(len(its_rows))
    scale = float(np.clip(scale, *_SCALES))
    corner = centre - WINDOW / scale * (0.5 + rng.uniform(-0.35, 0.35, size=2))
    return crop_at(item, labels, corner, scale)


def crop_at(
    item: LabelledImage, labels: NDArray[np.int32], corner: NDArray[np.float64], scale: float
) -> tuple[Tensor, Tensor]:
    """The window whose upper left corner (row, column) lies at ``corner``, enlarged by ``scale``."""
    side = max(2, round(WINDOW / scale))
    size = np.array(labels.shape)
    start = np.round(np.clip(corner, 0, np.maximum(size - side, 0))).astype(int)
    stop = np.minimum(start + side, size)
    region = (slice(start[0], stop[0]), slice(start[1], stop[1]))
    pixels = unit(item.pixels[region])[None]
    ids = torch.from_numpy(np.ascontiguousarray(labels[region])).float()[None, None]
    out = [max(1, min(WINDOW, round(n * scale))) for n in (stop - start).tolist()]
    pixels = F.interpolate(pixels, out, mode="bilinear", antialias=scale < 1, align_corners=False)
    ids = F.interpolate(ids, out, mode="nearest-exact")
    pixels = normalise(pixels[0], *item.limits)
    padding = (0, WINDOW - out[1], 0, WINDOW - out[0])
    pixels = F.pad(pixels.expand(3, -1, -1), padding)
    return pixels, F.pad(ids[0, 0].long(), padding)


def pick_objects(
    labels: Tensor, most: int, rng: np.random.Generator, least: int = _MIN_AREA
) -> NDArray[np.int64]:
    """Ids of at most ``most`` random objects of a window that have at least ``least`` pixels.

    Half of the time the second one is a neighbour of the first, if there is any: which of two touching
    objects is meant has to be learned.
    """
    ids, counts = np.unique(labels.numpy(), return_counts=True)
    ids = rng.permutation(ids[(ids > 0) & (counts >= least)])
    if 1 < most < len(ids) and rng.random() < _NEIGHBOURS:
        first = (labels == int(ids[0])).float()[None, None]
        around = F.max_pool2d(first, 2 * _GAP + 1, 1, _GAP)[0, 0] > 0
        far = ~np.isin(ids[1:], labels[around].numpy())
        ids[1:] = ids[1:][np.argsort(far, kind="stable")]
    return ids[:most]


def dense_target(labels: Tensor, group: str, *, partial: bool = False) -> Tensor:
    """What the encoder should say of every pixel of a window, at half its resolution, shape (6, 128, 128).

    Foreground, boundary, the way (x, y) to the object's centroid in units of ``CENTRE_UNIT`` pixels, whether
    foreground and boundary are known, and 1 over the object's radius in the same units (0 on the background).

    Parameters
    ----------
    labels : Tensor, shape (256, 256), int64
    group : str
    partial : bool
        See :class:`LabelledImage`.
    """
    ids = labels.float()[None, None]
    mixed = F.max_pool2d(ids, 3, 1, 1) != -F.max_pool2d(-ids, 3, 1, 1)
    boundary = F.max_pool2d(mixed.float(), 2)[0, 0]
    coarse = labels[::2, ::2].numpy()
    foreground = coarse > 0
    _, inverse = np.unique(coarse, return_inverse=True)
    inverse = inverse.reshape(coarse.shape)
    rows, columns = np.indices(coarse.shape) * 2 + 1.0
    area = np.bincount(inverse.ravel())
    centre_y = np.bincount(inverse.ravel(), rows.ravel()) / area
    centre_x = np.bincount(inverse.ravel(), columns.ravel()) / area
    radius = np.sqrt(area * 4 / np.pi) / CENTRE_UNIT
    ways = np.stack([centre_x[inverse] - columns, centre_y[inverse] - rows]) / CENTRE_UNIT * foreground
    partial = partial or group.partition("/")[0] in _PARTIAL
    known = foreground if partial else np.ones_like(foreground)
    planes = [foreground, boundary.numpy(), *ways, known, foreground / (radius[inverse] + 0.1)]
    return torch.from_numpy(np.stack(planes).astype(np.float32))
