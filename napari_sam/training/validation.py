"""How good a model is while it trains: IoU after a point and after a box, on images that it does not see."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import DeviceError, ImageError
from napari_sam.evaluation.clicks import centre
from napari_sam.inference import engine
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask, mask_iou
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import Embedding
from napari_sam.training.data import LabelledImage
from napari_sam.training.progress import Quality
from napari_sam.training.sources import Shelf, Source
from napari_sam.training.trainee import AnyTrainee

__all__ = ["Validation"]

T = TypeVar("T")

MOST_IMAGES = 16
MOST_OBJECTS = 64
"""Of all images together; at least one of each."""
LEAST_AREA = 12
"""Smallest object that is asked for, in pixels of the image."""


class Validation:
    """Asks a model for objects by the rule of all faces, on whole images.

    At most 16 images, and 64 objects of them, evenly chosen. If the encoder does not learn and costs
    much, embeddings are kept: at most 16, of some 20 MB each.

    Parameters
    ----------
    sources : sequence of Source
    shelf : Shelf

    Raises
    ------
    ImageError
        If they have no object that is large enough.
    """

    def __init__(self, sources: Sequence[Source], shelf: Shelf) -> None:
        self._shelf = shelf
        chosen = _spread(sources, MOST_IMAGES)
        most = max(1, MOST_OBJECTS // len(chosen))
        found = [(source, _spread(_objects(shelf.read(source)), most)) for source in chosen]
        self._images = [(source, objects) for source, objects in found if objects]
        if not self._images:
            raise ImageError(
                "The images for validation have no object that is large enough: give others, or labels for "
                "more objects."
            )
        self._embeddings: dict[Source, Embedding] = {}

    @property
    def objects(self) -> int:
        """How many objects are asked for."""
        return sum(len(objects) for _, objects in self._images)

    @torch.no_grad()
    def measure(self, trainee: AnyTrainee, stop: threading.Event | None = None) -> Quality | None:
        """The quality of a model as it is now; None if it was stopped.

        Parameters
        ----------
        trainee : Trainee
        stop : threading.Event, optional
            Looked at between two images.

        Raises
        ------
        DeviceError
            If the device has too little memory for it.
        """
        device = trainee.model.device
        points: list[float] = []
        boxes: list[float] = []
        for source, objects in self._images:
            if stop is not None and stop.is_set():
                return None
            embedding = self._encoded(trainee, source)
            size = objects[0].shape
            for ious, prompts in (
                (points, [Prompts.create(size, points=[_click(mask)]) for mask in objects]),
                (boxes, [Prompts.create(size, box=mask.box_edges) for mask in objects]),
            ):
                found = engine.segment_all(trainee.model, embedding, prompts)
                ious += [mask_iou(truth, segment.mask) for truth, segment in zip(objects, found, strict=True)]
        if trainee.model.device != device:
            raise DeviceError(
                f"{device} has too little memory to train and to segment: train the decoder only, or on the "
                "CPU."
            )
        return Quality(float(np.mean(points)), float(np.mean(boxes)))

    def _encoded(self, trainee: AnyTrainee, source: Source) -> Embedding:
        if source in self._embeddings:
            return trainee.refreshed(self._embeddings[source])
        pixels = self._shelf.read(source).pixels
        # Floats are as they are displayed already: stretched again, they would be another image.
        limits = None if pixels.dtype == np.uint8 else (0.0, 1.0)
        embedding = engine.encode(trainee.model, as_rgb(pixels, contrast_limits=limits))
        if trainee.caches and not trainee.encoder_learns:
            self._embeddings[source] = embedding
        return embedding


def _objects(image: LabelledImage) -> list[Mask]:
    """The objects of a plane that are large enough."""
    labels: NDArray[np.int32] = image.labels[0]
    size = (labels.shape[0], labels.shape[1])
    masks = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        bits = None if box is None else labels[box] == number
        if bits is not None and bits.sum() >= LEAST_AREA:
            masks.append(Mask((box[0].start, box[1].start), bits, size))
    return masks


def _spread(things: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly over all."""
    return [things[index] for index in np.linspace(0, len(things) - 1, min(most, len(things))).astype(int)]


def _click(mask: Mask) -> tuple[float, float]:
    row, column = centre(mask.bits)
    return float(column + mask.origin[1]), float(row + mask.origin[0])
