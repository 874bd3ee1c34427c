"""Asking a model about many points, or what it sees by itself, and keeping what it says, packed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import Cancelled
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.engine import Prediction, decode, encode, see
from napari_sam.inference.fallback import on_device_of
from napari_sam.inference.grids import Crop, points_on
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.regions import largest_region
from napari_sam.inference.stability import measured
from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["MOST_BYTES", "Harvest"]

MOST_BYTES = 512 * 2**20
"""Memory that the bits of all candidates of a run may take."""

_EDGE = 20
"""Masks that come this near to the edge of a crop, in pixels, are taken to be cut off by it, as published."""

Point = NDArray[np.float64]


class _Batch(NamedTuple):
    """Some of the points of a crop: which of all, shape (N,), and where, shape (N, 2)."""

    indices: NDArray[np.intp]
    points: NDArray[np.float64]


@dataclass(frozen=True)
class Harvest:
    """How candidates are collected.

    Attributes
    ----------
    model : PromptableModel
    crops : sequence of Crop
        Each is encoded by itself.
    grids : sequence of ndarray, shape (N, 2), float64, or None
        Points between 0 and 1, for each layer of crops; None to prompt where the model itself finds objects.
    batch : int
        Points decoded at once.
    offset : float
        Of the threshold of logits, for stability.
    threshold : float
        Masks are where logits are above it.
    again : bool
        Each mask is given to the model as a prompt, and what it answers is kept instead.
    multimask : bool
        Three masks for each point, not one.
    predicted_iou, stability : float
        Masks are kept if they are above the former, where that is greater than 0, and not below the latter.
        What has too low a predicted IoU never exists in full size.
    most_bytes : int
        That the packed bits may take. If all take more, those with the lowest predicted IoU go.
    one_pass : bool
        Nothing is prompted: what the model sees by itself is kept. For `grids` that are None; what is about
        prompts does not count.
    """

    model: PromptableModel
    crops: Sequence[Crop]
    grids: Sequence[NDArray[np.float64]] | None
    batch: int
    offset: float
    threshold: float = 0.0
    again: bool = False
    multimask: bool = True
    predicted_iou: float = 0.0
    stability: float = 0.0
    most_bytes: int = MOST_BYTES
    one_pass: bool = False

    def run(
        self,
        plane: NDArray[Any],
        look: dict[str, Any],
        region: Mask | None = None,
        progress: Callable[[int, int], object] | None = None,
        cancelled: threading.Event | None = None,
        embedding: Embedding | None = None,
    ) -> MaskCandidates:
        """Collect the candidates of a plane; see :class:`~napari_sam.inference.automatic`.

        Parameters
        ----------
        plane : ndarray, shape (H, W, 3), uint8 or float32
        look : dict
            `contrast_limits` and `gamma` that it was made with.
        region : Mask, optional
            Only points on it are prompted.
        progress : callable, optional
            Called with the number of batches done and of all batches.
        cancelled : threading.Event, optional
        embedding : Embedding, optional
            Of the whole plane, by this model, if it is there already.

        Raises
        ------
        Cancelled
            If `cancelled` was set.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        shape = plane.shape[0], plane.shape[1]
        nothing = MaskCandidates.of(
            [],
            [],
            [],
            [],
            [],
            shape,
            model=self.model.name,
            digest=self.model.known_digest,
            prompted=not self.one_pass,
            **look,
        )
        parts = [nothing]
        event = threading.Event() if cancelled is None else cancelled
        stopping = contextlib.nullcontext() if cancelled is None else abandonable(self.model, event)
        try:
            with stopping:
                for done, total, part in self._parts(plane, nothing, region, embedding, event):
                    parts = parts if part is None else self._within_bounds([*parts, part])
                    if progress is not None:
                        progress(done, total)
        except Abandoned:
            raise Cancelled("Cancelled: nothing was segmented.") from None
        return MaskCandidates.concatenate(parts)

    def _parts(
        self,
        plane: NDArray[Any],
        nothing: MaskCandidates,
        region: Mask | None,
        given: Embedding | None,
        cancelled: threading.Event,
    ) -> Iterator[tuple[int, int, MaskCandidates | None]]:
        """Batches done, batches of all as far as they are known, and what the last batch found."""
        grids = self.grids
        known = None if grids is None else [self._batches(points_on(c, grids), c, region) for c in self.crops]
        done, total = 0, len(self.crops) if known is None else sum(map(len, known))
        yield done, total, None
        for number, crop in enumerate(self.crops):
            batches = None if known is None else known[number]
            if batches == [] or (region is not None and not region.bits_in(*crop.slices).any()):
                total -= batches is None
                continue
            # The first crop is the whole plane.
            whole = given is not None and crop.size == plane.shape[:2]
            embedding = given if whole and given is not None else encode(self.model, plane[crop.slices])
            seen = see(self.model, embedding) if self.one_pass else None
            if batches is None:
                points = self.model.centres(embedding).double().numpy() if seen is None else seen.points
                batches = self._batches(points, crop, region)
                # One batch was assumed of this crop, as of those to come.
                total += len(batches) - 1
                yield done, total, None
            for batch in batches:
                if seen is None:
                    embedding = on_device_of(self.model, embedding)
                    answers = self._asked(embedding, batch.points)
                else:
                    answers = zip(batch.points, seen.predictions(batch.indices), strict=True)
                part = self._packed(answers, crop, nothing, cancelled)
                done += 1
                yield done, total, part

    def _batches(self, points: NDArray[np.float64], crop: Crop, region: Mask | None) -> list[_Batch]:
        """Points in pixels of the crop, without those that are not on the region."""
        indices = np.arange(len(points))
        if region is not None:
            inside = region.bits_in(*crop.slices)
            columns, rows = np.rint(points).astype(np.intp).T
            indices = np.flatnonzero(inside[rows, columns])
        groups = [indices[start : start + self.batch] for start in range(0, len(indices), self.batch)]
        return [_Batch(group, points[group]) for group in groups]

    def _packed(
        self,
        answers: Iterable[tuple[Point, Prediction]],
        crop: Crop,
        nothing: MaskCandidates,
        cancelled: threading.Event,
    ) -> MaskCandidates:
        """The candidates of one batch: points, and what the model says of each."""
        masks, numbers, points = [], [], []
        for point, prediction in answers:
            for index, score in enumerate(prediction.scores.tolist()):
                if cancelled.is_set():
                    raise Abandoned
                if self.predicted_iou > 0 and not score > self.predicted_iou:
                    continue
                logits = (
                    prediction.logits[index] - self.threshold if self.threshold else prediction.logits[index]
                )
                mask, stability = measured(logits, prediction.frame, crop.size, prediction.via, self.offset)
                if mask.is_empty or stability < self.stability:
                    continue
                if self.model.objects_hang_together:
                    mask = largest_region(mask)
                mask = _uncropped(mask, crop, nothing.shape)
                if not _is_cut_off(mask, crop):
                    masks.append(mask)
                    numbers.append((score, stability))
                    points.append(point + np.array([crop.x0, crop.y0]))
        scores, stabilities = zip(*numbers, strict=True) if numbers else ((), ())
        return nothing.replaced(masks, scores, stabilities, np.array(points), [crop.xywh] * len(masks))

    def _asked(self, embedding: Embedding, batch: NDArray[np.float64]) -> Iterator[tuple[Point, Prediction]]:
        """What the model says of each point; where masks are asked for again, each comes by itself."""
        label = np.ones(1, dtype=np.int64)
        prompts = [Prompts(point[np.newaxis], label) for point in batch]
        # Most points of a grid are on nothing, or on what others are on, too.
        found = decode(self.model, embedding, prompts, self.multimask, closely=self.grids is None)
        if not self.again:
            yield from zip(batch, found, strict=True)
            return
        for start in range(0, len(batch), max(1, self.batch // 3)):
            part = slice(start, start + max(1, self.batch // 3))
            pairs = [
                (prompt, logits)
                for prompt, prediction in zip(prompts[part], found[part], strict=True)
                for logits in prediction.low_res_logits
            ]
            second = [Prompts(prompt.points, label, mask_input=logits) for prompt, logits in pairs]
            refined = decode(self.model, embedding, second, False)
            for (prompt, _), prediction in zip(pairs, refined, strict=True):
                yield prompt.points[0], prediction

    def _within_bounds(self, parts: list[MaskCandidates]) -> list[MaskCandidates]:
        """Without those of the lowest predicted IoU if there are too many."""
        if sum(part.packed.nbytes for part in parts) <= self.most_bytes:
            return parts
        together = MaskCandidates.concatenate(parts)
        order = np.argsort(-together.predicted_iou, kind="stable")
        fits = np.cumsum(np.diff(together.offsets)[order]) <= self.most_bytes
        return [together.select(np.sort(order[fits]))]


def _uncropped(mask: Mask, crop: Crop, shape: tuple[int, int]) -> Mask:
    if mask.shape == shape:
        return mask
    row, column = mask.origin
    return Mask((row + crop.y0, column + crop.x0), mask.bits, shape)


def _is_cut_off(mask: Mask, crop: Crop) -> bool:
    """Whether a mask comes near to an edge of the crop that is not near an edge of the plane."""
    height, width = mask.shape
    box = np.array(mask.box_xyxy)
    near = np.abs(box - (crop.x0, crop.y0, crop.x1, crop.y1)) <= _EDGE
    at_the_plane = np.abs(box - (0, 0, width, height)) <= _EDGE
    return bool((near & ~at_the_plane).any())
