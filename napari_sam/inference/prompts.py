"""The prompts of one object, checked against the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError

if TYPE_CHECKING:
    import torch

    from napari_sam.models.base import PromptBatch

__all__ = ["Prompts", "batch"]

_LOW_RES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Checked prompts of one object; make them with :meth:`create`.

    Coordinates are (x, y) pixels of the plane; an integer is the centre of that pixel.

    Attributes
    ----------
    points : ndarray, shape (N, 2), float64
    labels : ndarray, shape (N,), int64
        1 for a point on the object, 0 for a point on the background.
    box : ndarray, shape (4,), float64, or None
        x0, y0, x1, y1 in rising order, inside the image.
    mask_input : ndarray, shape (256, 256), float32, or None
        Logits on the low-resolution frame (a square with the image's longest side), usually those
        of an earlier prediction.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None = None
    mask_input: NDArray[np.float32] | None = None

    @classmethod
    def create(
        cls,
        size: tuple[int, int],
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
    ) -> Prompts:
        """Check prompts against an image and bring them into shape.

        Parameters
        ----------
        size : tuple of int
            Height and width of the plane, in pixels.
        points : array_like, shape (N, 2), optional
            Must lie on the image, which reaches from -0.5 to width - 0.5 and from -0.5 to height - 0.5.
        labels : array_like, shape (N,), optional
            1 or 0 for each point, all 1 by default. Points labelled -1 (padding in the official code)
            are dropped.
        box : array_like, shape (4,), optional
            Two opposite corners, x0, y0, x1, y1. They are put in order and clipped to the image.
        mask_input : array_like, shape (256, 256) or (1, 256, 256), optional
            Logits.

        Raises
        ------
        PromptError
            If nothing is prompted, a number is not finite, a label unknown, lengths differ, a point or
            the whole box lies outside the image, or the box has no area.

        Examples
        --------
        >>> prompts = Prompts.create((100, 200), points=[[120, 80]], box=[150, 90, 100, 60])
        >>> prompts.labels.tolist(), prompts.box.tolist()
        ([1], [100.0, 60.0, 150.0, 90.0])
        """
        xy, marks = _checked_points(size, points, labels)
        prompts = cls(
            points=xy,
            labels=marks,
            box=None if box is None else _checked_box(size, box),
            mask_input=None if mask_input is None else _checked_logits(mask_input),
        )
        if prompts.points.shape[0] == 0 and prompts.box is None and prompts.mask_input is None:
            raise PromptError("There is nothing to segment: give at least one point, a box or a mask.")
        return prompts

    @property
    def is_ambiguous(self) -> bool:
        """Whether this is a single point, which may mean a part, a whole or a group (SAM, section 3)."""
        return self.points.shape[0] == 1 and self.box is None and self.mask_input is None

    def rescaled(self, size: tuple[int, int], new_size: tuple[int, int]) -> Prompts:
        """The same prompts on the image resized from `size` to `new_size` (height, width)."""
        if size == new_size:
            return self
        scale = np.array([new_size[1] / size[1], new_size[0] / size[0]])
        box = None if self.box is None else (self.box.reshape(2, 2) + 0.5) * scale - 0.5
        return Prompts(
            points=(self.points + 0.5) * scale - 0.5,
            labels=self.labels,
            box=None if box is None else box.ravel(),
            mask_input=self.mask_input,
        )


def batch(prompts: Sequence[Prompts], device: torch.device | str = "cpu") -> PromptBatch:
    """Stack the prompts of several objects for a decoder.

    Objects with fewer points than others are padded with points labelled -1, objects without a box get a
    row of NaN. Mask prompts are for all objects or for none.

    Parameters
    ----------
    prompts : sequence of Prompts
        At least one.

    Raises
    ------
    ValueError
        If only some of the objects have a mask prompt, or the sequence is empty.
    """
    import torch

    from napari_sam.models.base import PromptBatch

    if not prompts:
        raise ValueError("A batch needs the prompts of at least one object.")
    count, width = len(prompts), max(len(p.labels) for p in prompts)
    points = np.zeros((count, width, 2), dtype=np.float32)
    labels = np.full((count, width), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        points[row, : len(prompt.labels)] = prompt.points
        labels[row, : len(prompt.labels)] = prompt.labels
    boxes = logits = None
    if any(p.box is not None for p in prompts):
        missing = np.full(4, np.nan)
        boxes = np.stack([missing if p.box is None else p.box for p in prompts]).astype(np.float32)
    masks = [p.mask_input for p in prompts if p.mask_input is not None]
    if masks:
        if len(masks) != count:
            raise ValueError("Either all objects of a batch have a mask prompt or none.")
        logits = np.stack(masks)[:, np.newaxis]
    return PromptBatch(
        points=torch.from_numpy(points).to(device),
        labels=torch.from_numpy(labels).to(device),
        boxes=None if boxes is None else torch.from_numpy(boxes).to(device),
        logits=None if logits is None else torch.from_numpy(logits).to(device),
    )


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what} must be numbers ({error}).") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, without NaN or infinity.")
    return array


def _checked_points(
    size: tuple[int, int], points: ArrayLike | None, labels: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if points is None:
        if labels is not None and np.size(np.asarray(labels)) > 0:
            raise PromptError("Point labels were given without points: give the points as well.")
        return np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    xy = _numbers(points, "Point coordinates")
    if xy.size == 0:
        xy = xy.reshape(0, 2)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError(f"Points must have the shape (N, 2), one x and one y each, not {xy.shape}.")
    marks = np.ones(len(xy)) if labels is None else _numbers(labels, "Point labels")
    if marks.size == 0:
        marks = marks.reshape(0)
    if marks.shape != (len(xy),):
        raise PromptError(f"There are {len(xy)} points but {marks.size} labels: give one label per point.")
    wrong = ~np.isin(marks, (-1, 0, 1))
    if wrong.any():
        raise PromptError(
            f"A point label is 1 (on the object) or 0 (on the background), not {marks[wrong][0]:g}."
        )
    xy, marks = xy[marks >= 0], marks[marks >= 0]
    height, width = size
    outside = (xy < -0.5).any(axis=1) | (xy > np.array([width, height]) - 0.5).any(axis=1)
    if outside.any():
        x, y = xy[outside][0]
        raise PromptError(
            f"The point ({x:g}, {y:g}) lies outside the image, "
            f"which is {width} pixels wide and {height} high."
        )
    return xy, marks.astype(np.int64)


def _checked_box(size: tuple[int, int], box: ArrayLike) -> NDArray[np.float64]:
    corners = _numbers(box, "Box coordinates")
    if corners.size != 4:
        raise PromptError(f"A box is four numbers, x0, y0, x1, y1; {corners.size} were given.")
    corners = corners.reshape(2, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (low == high).any():
        raise PromptError(
            f"The box from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) has no area: "
            "its corners must differ in x and in y."
        )
    height, width = size
    edge = np.array([width, height]) - 0.5
    clipped_low, clipped_high = np.clip(low, -0.5, edge), np.clip(high, -0.5, edge)
    if (clipped_low >= clipped_high).any():
        raise PromptError(
            f"The box from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) lies outside the image, "
            f"which is {width} pixels wide and {height} high."
        )
    return np.concatenate([clipped_low, clipped_high])


def _checked_logits(mask_input: ArrayLike) -> NDArray[np.float32]:
    if np.asarray(mask_input).dtype == bool:
        raise PromptError(
            "A mask prompt is logits, not a boolean mask: "
            "give the low-resolution logits of an earlier prediction."
        )
    logits = _numbers(mask_input, "Mask prompts")
    if logits.shape == (1, _LOW_RES, _LOW_RES):
        logits = logits[0]
    if logits.shape != (_LOW_RES, _LOW_RES):
        raise PromptError(
            f"A mask prompt has the shape ({_LOW_RES}, {_LOW_RES}), not {logits.shape}: "
            "give the low-resolution logits of an earlier prediction."
        )
    return logits.astype(np.float32)
