"""What a step learns from: windows of random images, encoded, and some objects of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_sam.errors import ImageError
from napari_sam.training.data import LabelledImage, pick_objects
from napari_sam.training.sources import Shelf, Source
from napari_sam.training.trainee import AnyTrainee, Features

__all__ = ["Batch", "Batches"]

_CACHE_NBYTES = 1 << 30
_VIEWS = 8
_TRIES = 40


class Batch(NamedTuple):
    """Some windows and N objects of them.

    Attributes
    ----------
    features : tuple of Tensor
        What the encoder says of each window.
    owner : Tensor, shape (N,), int64
        Which window an object is in.
    truth : Tensor, shape (N, side, side), bool
    labels : Tensor, shape (B, side, side), int64
    items : list of LabelledImage
        Where the windows are from.
    """

    features: Features
    owner: Tensor
    truth: Tensor
    labels: Tensor
    items: list[LabelledImage]


class Batches:
    """Draws groups equally often, and the images of a group.

    What is drawn depends on the seed and the step alone, so that a run that is taken up again sees what it
    would have seen.

    Where encoding costs much and the encoder does not learn, each image is encoded as it is and in up to
    seven other views (another part of it, augmented), as many as go into 1 GiB together in float16, and these
    are drawn. More images than that are encoded again when they are drawn again.

    Parameters
    ----------
    trainee : Trainee
    sources : sequence of Source
    shelf : Shelf
    windows, objects : int
        How many windows make a batch, and the most objects of each.
    seed : int
    """

    def __init__(
        self,
        trainee: AnyTrainee,
        sources: Sequence[Source],
        shelf: Shelf,
        windows: int,
        objects: int,
        seed: int,
    ) -> None:
        self._trainee, self._shelf, self._seed = trainee, shelf, seed
        self._windows, self._objects = windows, objects
        groups = list(dict.fromkeys(source.group for source in sources))
        self._members = [[source for source in sources if source.group == group] for group in groups]
        self._numbers = {source: number for number, source in enumerate(sources)}
        self._most = max(1, _CACHE_NBYTES // trainee.view_nbytes)
        self._views = max(1, min(_VIEWS, self._most // len(self._numbers)))
        self._cached: OrderedDict[tuple[int, int], tuple[Features, Tensor]] = OrderedDict()

    def draw(self, step: int) -> Batch:
        """The batch of a step.

        Raises
        ------
        ImageError
            If no object is large enough to learn from.
        """
        rng = np.random.default_rng([self._seed, step])
        drawn: list[tuple[Features, Tensor, LabelledImage, Tensor]] = []
        for _ in range(_TRIES * self._windows):
            source = self._source(rng)
            item = self._shelf.read(source)
            features, labels = self._window(source, item, rng)
            chosen = pick_objects(labels, self._objects, rng, self._trainee.least_area)
            if len(chosen):
                drawn.append((features, labels, item, torch.from_numpy(chosen)))
            if len(drawn) == self._windows:
                break
        if not drawn:
            raise ImageError(
                "The objects are too small to learn from: give images of a higher magnification, or parts of "
                "these that are enlarged."
            )
        device = self._trainee.model.device
        labels = torch.stack([labels for _, labels, _, _ in drawn])
        truth = torch.cat([ids == chosen[:, None, None] for _, ids, _, chosen in drawn])
        counts = torch.tensor([len(chosen) for _, _, _, chosen in drawn])
        parts = zip(*(features for features, _, _, _ in drawn), strict=True)
        features = tuple(torch.stack(part).to(device) for part in parts)
        if not self._keeps:
            features = self._trainee.encode(features[0])
        return Batch(
            features,
            torch.repeat_interleave(torch.arange(len(drawn)), counts).to(device),
            truth.to(device),
            labels.to(device),
            [item for _, _, item, _ in drawn],
        )

    @property
    def _keeps(self) -> bool:
        return self._trainee.caches and not self._trainee.encoder_learns

    def _source(self, rng: np.random.Generator) -> Source:
        group = self._members[int(rng.integers(len(self._members)))]
        return group[int(rng.integers(len(group)))]

    def _window(
        self, source: Source, item: LabelledImage, rng: np.random.Generator
    ) -> tuple[Features, Tensor]:
        """Features of a window, or its pixels if they are encoded later, and its labels."""
        if not self._keeps:
            pixels, labels = self._trainee.window(item, rng)
            return (pixels,), labels
        number = self._numbers[source]
        key = number, int(rng.integers(self._views))
        if key not in self._cached:
            own = np.random.default_rng([self._seed, *key])
            pixels, labels = self._trainee.window(item, own, plain=key[1] == 0)
            encoded = self._trainee.encode(pixels[None].to(self._trainee.model.device))
            if len(self._cached) >= self._most:
                self._cached.popitem(last=False)
            short = torch.int16 if labels.max() < 2**15 else torch.int32
            self._cached[key] = tuple(part[0].half().cpu() for part in encoded), labels.to(short)
        self._cached.move_to_end(key)
        features, labels = self._cached[key]
        return tuple(part.float() for part in features), labels.long()
