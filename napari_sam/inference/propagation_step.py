"""From one plane to the next: what the mask of one asks there, and what is made of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference import engine
from napari_sam.inference.engine import Prediction
from napari_sam.inference.mask import Mask, window_around
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.shapes import signed_distance
from napari_sam.models.base import LOW_RES_SIZE, Embedding, PromptableModel

__all__ = ["answers", "contrast"]

_SURE = 10.0
"""The logit of what is deep in a mask; the negative of it far outside."""
_SLOPE = 2.0
"""Logits per pixel on both sides of the outline, which is a little elsewhere on the next plane."""
_MARGIN = 8
"""Pixels around an expected shape in which the answer is made to agree with it."""
_LIMIT = 8.0
"""A model's logits count up to here against a shape."""
_LARGE = 512
"""Sides of masks, in pixels, above which their depth is measured on every other pixel, or fewer."""
_RING = 1, 5
"""Pixels from an outline between which the surroundings of an object are looked at."""
_TOGETHER = 16
"""Objects decoded at once: their mask prompts may take 4 MB each."""


def answers(
    model: PromptableModel, embedding: Embedding, expected: Sequence[Mask]
) -> list[tuple[Mask, float]]:
    """The masks of objects on a plane, and their predicted IoUs.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
        Of the plane.
    expected : sequence of Mask
        What each object could look like there; not empty.

    Raises
    ------
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.
    """
    found = []
    for start in range(0, len(expected), _TOGETHER):
        some = expected[start : start + _TOGETHER]
        prompts = [_prompts(model, embedding, mask) for mask in some]
        predictions = engine.decode(model, embedding, prompts, multimask=False)
        found += [
            (_agreed(prediction, mask), float(prediction.scores[0]))
            for prediction, mask in zip(predictions, some, strict=True)
        ]
    return found


def _prompts(model: PromptableModel, embedding: Embedding, mask: Mask) -> Prompts:
    """Box, deepest point, and the mask as logits that rise across its outline."""
    cells = min(model.mask_cells, max(LOW_RES_SIZE, *mask.shape))
    return Prompts(
        points=np.array([_deepest(mask)]),
        labels=np.ones(1, dtype=np.int64),
        box=np.array(mask.box_edges) if model.propagates_boxes else None,
        mask_input=_logits(mask, np.array(embedding.low_res_frame), cells),
    )


def _deepest(mask: Mask) -> tuple[float, float]:
    """The pixel (x, y) of a mask that is farthest from its outline."""
    step = -(-max(mask.bits.shape) // _LARGE)
    depth = signed_distance(mask.bits[::step, ::step])
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    if not mask.bits[row * step, column * step]:
        row, column = np.argwhere(mask.bits)[0]
        step = 1
    return float(mask.origin[1] + column * step), float(mask.origin[0] + row * step)


def _logits(mask: Mask, frame: NDArray[np.float64], cells: int) -> NDArray[np.float32]:
    """A mask as logits on a low-resolution frame: shape (cells, cells), float32."""
    from scipy import ndimage

    logits = np.full((cells, cells), -_SURE, dtype=np.float32)
    size = np.array([frame[3] - frame[1], frame[2] - frame[0]]) / cells
    margin = int(np.ceil(_SURE / _SLOPE + size.max()))
    rows, columns = window_around(mask, margin)
    distance = signed_distance(mask.bits_in(rows, columns))
    # Centres of cells, counted in pixels from the first one of the distances.
    at = [
        (np.arange(cells) + 0.5) * size[axis] + frame[1 - axis] - 0.5 - part.start
        for axis, part in enumerate((rows, columns))
    ]
    inside = [
        np.flatnonzero((centres > -0.5) & (centres < side - 0.5))
        for centres, side in zip(at, distance.shape, strict=True)
    ]
    where = np.meshgrid(at[0][inside[0]], at[1][inside[1]], indexing="ij")
    smooth = ndimage.uniform_filter(
        distance, np.maximum(1, np.rint(size)).astype(int).tolist(), mode="nearest"
    )
    values = ndimage.map_coordinates(smooth, where, order=1, mode="nearest")
    logits[np.ix_(*inside)] = np.clip(_SLOPE * values, -_SURE, _SURE)
    return logits


def _agreed(prediction: Prediction, expected: Mask) -> Mask:
    """What a model says, pulled towards what was expected as far as it is unsure.

    The mask is where the mean of logits and of the signed distance to the expected outline, in pixels, is
    positive. The distance has the weight 1 - p, where p is the predicted IoU.
    """
    found = prediction.mask(0)
    doubt = 1 - min(1.0, max(0.0, float(prediction.scores[0])))
    if not doubt or found.is_empty:
        return found
    rows, columns = window_around(found | expected, _MARGIN)
    logits = np.clip(prediction.logits_in(rows, columns)[0], -_LIMIT, _LIMIT)
    shape = np.clip(signed_distance(expected.bits_in(rows, columns)), -_LIMIT, _LIMIT)
    return Mask((rows.start, columns.start), (1 - doubt) * logits + doubt * shape > 0, expected.shape)


def contrast(plane: NDArray[Any], mask: Mask) -> tuple[float, float]:
    """How much brighter or darker an object is than what is around it.

    Parameters
    ----------
    plane : ndarray, shape (H, W, 3), uint8 or float32
    mask : Mask
        Not empty.

    Returns
    -------
    difference : float
        Of the mean values inside and in a ring of four pixels around, without a sign.
    spread : float
        The standard deviation inside and in the ring, in quadratic mean.
    """
    from scipy import ndimage

    rows, columns = window_around(mask, _RING[1] + 1)
    bits = mask.bits_in(rows, columns)
    distance = ndimage.distance_transform_edt(~bits)
    ring = (distance > _RING[0]) & (distance <= _RING[1])
    values = plane[rows, columns].mean(axis=2, dtype=np.float32)
    inside, around = values[bits], values[ring] if ring.any() else values[bits]
    spread = np.sqrt((inside.var(dtype=np.float64) + around.var(dtype=np.float64)) / 2)
    return abs(float(inside.mean(dtype=np.float64) - around.mean(dtype=np.float64))), float(spread)
