"""From planes and prompts to masks: what the plugin, Python and the command line all run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.inference.agreement import most_agreeable
from napari_sam.inference.drawn import plain
from napari_sam.inference.fallback import in_chunks, on_device_of, on_some_device
from napari_sam.inference.image import distinct_channels
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts, batch
from napari_sam.inference.resample import BACKGROUND_LOGIT, read_map, read_mask
from napari_sam.models.base import LOW_RES_SIZE, Embedding, MaskLogits, PromptableModel

__all__ = ["Prediction", "Seen", "Segment", "candidates", "decode", "encode", "see", "segment", "segment_all"]

_CHUNK = 64
"""Objects decoded at once: enough to keep a GPU busy, few enough to bound memory."""
_DRAWN_CHUNK = 16
"""The same for drawn masks, whose logits may take 4 MB each."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about one object.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels.
    scores : ndarray, shape (C,), float32
        The predicted IoU of each.
    logits : ndarray, shape (C, h, w), float32
        What the decoder returned.
    frame : ndarray, shape (4,), float64
        The rectangle x0, y0, x1, y1 of the plane that `logits` cover, between pixel edges.
    low_res_frame : ndarray, shape (4,), float64
        The rectangle that mask prompts of this model cover.
    via : tuple of int, or None
    limit : float, or None
        As in :class:`~napari_sam.models.base.MaskLogits`.
    """

    shape: tuple[int, int]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    frame: NDArray[np.float64]
    low_res_frame: NDArray[np.float64]
    via: tuple[int, int] | None = None
    limit: float | None = None

    @cached_property
    def masks(self) -> list[Mask]:
        """The C candidates."""
        return [self.mask(index) for index in range(len(self.logits))]

    def mask(self, index: int) -> Mask:
        """One of the candidates: much less work than all of them."""
        if index not in self._computed:
            self._computed[index] = Mask.from_logits(self.logits[index], self.frame, self.shape, self.via)
        return self._computed[index]

    @cached_property
    def _computed(self) -> dict[int, Mask]:
        """The masks asked for so far."""
        return {}

    @cached_property
    def low_res_logits(self) -> NDArray[np.float32]:
        """The logits on `low_res_frame`: shape (C, 256, 256), float32.

        They can be given back as `mask_input`.
        """
        square = self.logits.shape[1:] == (LOW_RES_SIZE, LOW_RES_SIZE)
        if square and np.allclose(self.frame, self.low_res_frame, rtol=1e-6):
            logits = self.logits.copy()
        else:
            x0, y0, x1, y1 = self.low_res_frame
            share = (np.arange(LOW_RES_SIZE) + 0.5) / LOW_RES_SIZE
            y, x = y0 + share * (y1 - y0), x0 + share * (x1 - x0)
            logits = self._logits_at(y.astype(np.float32), x.astype(np.float32))
        return logits if self.limit is None else np.clip(logits, -self.limit, self.limit)

    def logits_in(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """The logits of the pixels between rows and columns: shape (C, h, w), float32."""
        y, x = (
            np.arange(part.start, part.stop, dtype=np.float32) + np.float32(0.5) for part in (rows, columns)
        )
        return self._logits_at(y, x)

    def full_logits(self) -> NDArray[np.float32]:
        """The logits of every pixel: shape (C, H, W), float32. The masks are where they are above 0."""
        return self._logits_at(*self._pixels())

    def full_masks(self) -> NDArray[np.bool_]:
        """The candidates as whole planes: shape (C, H, W), bool."""
        y, x = self._pixels()
        inside = self._inside(y, x)
        found = read_mask(self.logits, self.frame, y[inside[0]], x[inside[1]], self.shape, self.via)
        if found.shape[1:] == self.shape:
            return found
        result = np.zeros((len(self.logits), *self.shape), dtype=bool)
        result[:, *inside] = found
        return result

    def _pixels(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The centres of all rows and columns, between pixel edges."""
        height, width = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in self.shape)
        return height, width

    def _logits_at(self, y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits at all (y, x), background outside the frame."""
        inside = self._inside(y, x)
        values = read_map(self.logits, self.frame, y[inside[0]], x[inside[1]], self.shape, self.via)
        if values.shape[1:] == (len(y), len(x)):
            return values
        result = np.full((len(self.logits), len(y), len(x)), BACKGROUND_LOGIT)
        result[:, *inside] = values
        return result

    def _inside(self, y: NDArray[np.float32], x: NDArray[np.float32]) -> tuple[slice, slice]:
        """Which of the rising y and x lie in the frame."""
        x0, y0, x1, y1 = self.frame
        rows, columns = np.searchsorted(y, [y0, y1]), np.searchsorted(x, [x0, x1])
        return slice(rows[0], rows[1]), slice(columns[0], columns[1])


@dataclass(frozen=True)
class Segment:
    """The mask of one object.

    Attributes
    ----------
    mask : Mask
    score : float
        The predicted IoU.
    prediction : Prediction
        All candidates.
    index : int
        Which of them `mask` is.
    """

    mask: Mask
    score: float
    prediction: Prediction
    index: int

    @property
    def low_res_logits(self) -> NDArray[np.float32]:
        """Logits that can be given back as `mask_input`: shape (256, 256), float32."""
        logits: NDArray[np.float32] = self.prediction.low_res_logits[self.index]
        return logits


class Seen(NamedTuple):
    """Objects that a model sees without any prompt.

    Attributes
    ----------
    points : ndarray, shape (N, 2), float64
        (x, y) in each of them, in pixels of the plane; an integer is the centre of that pixel.
    predictions : callable
        From the indices of some to a prediction of one mask for each.
    """

    points: NDArray[np.float64]
    predictions: Callable[[NDArray[np.intp]], list[Prediction]]


def encode(model: PromptableModel, plane: NDArray[Any]) -> Embedding:
    """Compute the image embedding of one plane.

    On a device that fails or has too little memory, the model is moved to the CPU; a
    :class:`~napari_sam.errors.DeviceWarning` says so.

    Parameters
    ----------
    model : PromptableModel
    plane : ndarray, shape (H, W, 3), uint8 or float32
        As :func:`napari_sam.inference.image.as_rgb` returns it.

    Raises
    ------
    ImageError
        If the plane is not such an array.
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    if plane.ndim != 3 or plane.shape[2] != 3 or 0 in plane.shape:
        raise ImageError(f"A plane of shape {plane.shape} cannot be encoded: make it with as_rgb.")
    if plane.dtype not in (np.uint8, np.float32):
        raise ImageError(f"A plane of type {plane.dtype} cannot be encoded: make it with as_rgb.")
    # What is repeated need not be sent to the device.
    channels = distinct_channels(plane)

    def attempt() -> Embedding:
        pixels = torch.from_numpy(np.array(channels.transpose(2, 0, 1), order="C"))
        return model.encode(pixels.expand(3, -1, -1))

    return on_some_device(model, attempt)


def decode(
    model: PromptableModel,
    embedding: Embedding,
    prompts: Sequence[Prompts],
    multimask: bool,
    *,
    size: tuple[int, int] | None = None,
    closely: bool = True,
) -> list[Prediction]:
    """Predict the masks of any number of objects of one plane.

    Each object's masks are the same whichever other objects are in the batch: only objects with
    prompts of the same make-up are decoded together, so that none is padded. Where memory is short, fewer
    are decoded at once, at last on the CPU.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
        Of this model.
    prompts : sequence of Prompts
        One per object.
    multimask : bool
        Three candidates each instead of one.
    size : tuple of int, optional
        Height and width of the plane that prompts and masks are on, where the embedding was
        computed from a resized copy of it.
    closely : bool
        Without it, a model that can answer faster and less exactly does so: for points that are many.

    Returns
    -------
    list of Prediction
        One per object, in the given order.

    Raises
    ------
    PromptError
        If a mask that is prompted with is of a plane of another size.
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    encoded = embedding.original_size
    size = encoded if size is None else size
    scale = encoded[0] / size[0], encoded[1] / size[1]
    frame = np.array(embedding.low_res_frame) / (scale[::-1] * 2)
    predictions: dict[int, Prediction] = {}
    held = [embedding]
    for portion in _portions(prompts):
        asked = {i: plain(prompts[i], size, frame, cells=model.mask_cells) for i in portion}

        def attempt(chunk: Sequence[int], asked: dict[int, Prompts] = asked) -> list[Prediction]:
            # Only the newest copy is kept: after a move to the CPU the one on the device has to go.
            held[0] = on_device_of(model, held[0])
            together = batch([asked[i] for i in chunk], model.device, scale)
            found = model.decode(held[0], replace(together, closely=closely), multimask=multimask)
            return _predictions(found, held[0], size)

        for group in _alike(asked):
            predictions.update(zip(group, in_chunks(model, group, _CHUNK, attempt), strict=True))
    return [predictions[index] for index in range(len(prompts))]


def see(model: PromptableModel, embedding: Embedding) -> Seen:
    """All objects that a model sees in a plane without any prompt.

    Parameters
    ----------
    model : PromptableModel
        One that `finds_centres`.
    embedding : Embedding
        Of the plane, by this model.
    """
    found = model.instances(embedding)
    size = embedding.original_size
    return Seen(
        found.points.double().numpy(), lambda chosen: _predictions(found.masks(chosen), embedding, size)
    )


def candidates(segment: Segment) -> tuple[tuple[Mask, float], ...]:
    """All masks that were predicted for an object and their predicted IoUs, in the decoder's order.

    One or three; ``candidates(segment)[segment.index]`` is the chosen one, which is not computed again.
    """
    masks = segment.prediction.masks
    scores = (float(score) for score in segment.prediction.scores)
    return tuple(zip(masks, scores, strict=True))


def segment(model: PromptableModel, embedding: Embedding, prompts: Prompts) -> Segment:
    """The mask of one object; see :func:`segment_all`.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
        Of this model.
    prompts : Prompts

    Raises
    ------
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    return segment_all(model, embedding, [prompts])[0]


def segment_all(model: PromptableModel, embedding: Embedding, prompts: Sequence[Prompts]) -> list[Segment]:
    """The masks of objects, by the rule that plugin, Python and command line share.

    A single point is ambiguous, so three candidates are decoded (Kirillov et al. 2023, section 3, "Resolving
    ambiguity"); any other prompt decodes one, unless the model is better with candidates for points alone,
    however many. Such a model is asked for candidates, too, where its one mask contradicts a click. Of
    candidates, the one that contradicts the fewest clicks is taken, and of these the one with the highest
    predicted IoU.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
        Of this model.
    prompts : sequence of Prompts
        One per object.

    Returns
    -------
    list of Segment
        One per object, in the given order.

    Raises
    ------
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    segments: dict[int, Segment] = {}
    contradicted: dict[int, int] = {}

    def choose(indices: list[int], multimask: bool) -> None:
        predictions = decode(model, embedding, [prompts[i] for i in indices], multimask=multimask)
        for index, prediction in zip(indices, predictions, strict=True):
            best, count = most_agreeable(prediction, prompts[index])
            if count < contradicted.get(index, count + 1):
                score = float(prediction.scores[best])
                segments[index] = Segment(prediction.mask(best), score, prediction, best)
                contradicted[index] = count

    ambiguous = [_wants_candidates(model, prompt) for prompt in prompts]
    choose([i for i, several in enumerate(ambiguous) if several], True)
    choose([i for i, several in enumerate(ambiguous) if not several], False)
    if model.candidates_for_points:
        choose([i for i, several in enumerate(ambiguous) if not several and contradicted[i]], True)
    return [segments[index] for index in range(len(prompts))]


def _portions(prompts: Sequence[Prompts]) -> Iterator[Sequence[int]]:
    """Those that are plain already, then a few at a time of those whose logits are still to be made."""
    drawn = [index for index, prompt in enumerate(prompts) if not prompt.is_plain]
    yield [index for index, prompt in enumerate(prompts) if prompt.is_plain]
    for start in range(0, len(drawn), _DRAWN_CHUNK):
        yield drawn[start : start + _DRAWN_CHUNK]


def _alike(prompts: dict[int, Prompts]) -> Iterable[list[int]]:
    """Groups of prompts that go into one batch without padding."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, prompt in prompts.items():
        logits = None if prompt.mask_input is None else prompt.mask_input.shape
        groups[len(prompt.labels), prompt.box is None, logits].append(index)
    return groups.values()


def _wants_candidates(model: PromptableModel, prompts: Prompts) -> bool:
    return prompts.is_ambiguous or (prompts.has_points_alone and model.candidates_for_points)


def _predictions(output: MaskLogits, embedding: Embedding, size: tuple[int, int]) -> list[Prediction]:
    """Split the output for a batch, with masks on a plane of `size`."""
    encoded = embedding.original_size
    scale = torch.tensor([size[1] / encoded[1], size[0] / encoded[0]] * 2, dtype=torch.float64)
    frames = (output.frames.detach().cpu().double() * scale).numpy()
    low_res_frame = np.array(embedding.low_res_frame) * scale.numpy()
    logits, scores = (t.detach().float().cpu().numpy() for t in (output.logits, output.scores))
    return [
        Prediction(size, scores[b], logits[b], frames[b], low_res_frame, output.via, output.limit)
        for b in range(len(logits))
    ]
