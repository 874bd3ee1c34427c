"""The prompts of one object, checked against the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError
from napari_sam.inference.checks import checked_box, checked_logits, checked_mask, checked_points, numbers
from napari_sam.inference.mask import Mask
from napari_sam.inference.strokes import Scribble, checked_lasso

if TYPE_CHECKING:
    import torch

    from napari_sam.models.base import PromptBatch

__all__ = ["Prompts", "batch"]


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Checked prompts of one object; make them with :meth:`create`.

    What a user drew stays here as it was drawn; :func:`napari_sam.inference.drawn.plain` says what a decoder
    is told of it. Coordinates are (x, y) pixels of the plane; an integer is the centre of that pixel.
    Prompts compare by value, and their arrays are read-only.

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
    mask : Mask, or None
        A mask of this plane to start from, whoever made it.
    scribbles : tuple of Scribble
    lasso : ndarray, shape (K, 2), float64, or None
        The vertices of a polygon drawn roughly around the object. They may lie outside the image.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None = None
    mask_input: NDArray[np.float32] | None = None
    mask: Mask | None = None
    scribbles: tuple[Scribble, ...] = ()
    lasso: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name in ("points", "labels", "box", "mask_input", "lasso"):
            array = getattr(self, name)
            if array is not None and array.flags.writeable:
                array = array.copy()
                array.flags.writeable = False
                object.__setattr__(self, name, array)
        object.__setattr__(self, "scribbles", tuple(self.scribbles))

    @classmethod
    def create(
        cls,
        size: tuple[int, int],
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        *,
        mask: Mask | None = None,
        scribbles: Iterable[Scribble | tuple[ArrayLike, int]] = (),
        lasso: ArrayLike | None = None,
    ) -> Prompts:
        """Check prompts against an image and bring them into shape.

        Parameters
        ----------
        size : tuple of int
            Height and width of the plane, in pixels.
        points : array_like, shape (N, 2), optional
            Must lie on the image, which reaches from -0.5 to width - 0.5 and from -0.5 to height - 0.5.
        labels : array_like, shape (N,), optional
            1 or 0 for each point, all 1 by default; of one point, also a number. Points labelled -1 (padding
            in the official code) are dropped.
        box : array_like, shape (4,), optional
            Two opposite corners, x0, y0, x1, y1. They are put in order and clipped to the image.
        mask_input : array_like, shape (256, 256) or (1, 256, 256), optional
            Logits.
        mask : Mask, optional
            Of a plane of this size, not empty.
        scribbles : iterable of Scribble or of (path, label), optional
            Paths are of shape (N, 2), labels 1 or 0. What lies outside the image is cut off.
        lasso : array_like, shape (K, 2), optional
            At least three vertices, not on one line. Must reach over the image.

        Raises
        ------
        PromptError
            If nothing is prompted, a number is not finite, a label unknown, lengths differ, a point or
            the whole of a box, a scribble or the lasso lies outside the image, box or lasso have no area,
            or the mask is empty or of another plane.

        Examples
        --------
        >>> prompts = Prompts.create((100, 200), points=[[120, 80]], box=[150, 90, 100, 60])
        >>> prompts.labels.tolist(), prompts.box.tolist()
        ([1], [100.0, 60.0, 150.0, 90.0])
        """
        xy, marks = checked_points(size, points, labels)
        prompts = cls(
            points=xy,
            labels=marks,
            box=None if box is None else checked_box(size, box),
            mask_input=None if mask_input is None else checked_logits(mask_input),
            mask=None if mask is None else checked_mask(size, mask),
            scribbles=_scribbles(size, scribbles),
            lasso=None if lasso is None else checked_lasso(size, lasso),
        )
        return _not_empty(prompts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prompts):
            return NotImplemented
        if self is other:
            return True
        arrays = (
            (self.points, other.points),
            (self.labels, other.labels),
            (self.box, other.box),
            (self.lasso, other.lasso),
            (self.mask_input, other.mask_input),
        )
        return (
            self.scribbles == other.scribbles
            and all(_equal(mine, its) for mine, its in arrays)
            and self.mask == other.mask
        )

    def __hash__(self) -> int:
        # Masks and logits are large: where they are says enough.
        arrays = (self.points, self.labels, self.box, self.lasso)
        small = tuple(None if array is None else tuple(array.ravel().tolist()) for array in arrays)
        place = None if self.mask is None else (self.mask.origin, self.mask.shape)
        return hash((small, self.scribbles, place, self.mask_input is None))

    @property
    def is_ambiguous(self) -> bool:
        """Whether this is a single point, which may mean a part, a whole or a group (SAM, section 3)."""
        return self.points.shape[0] == 1 and self.has_points_alone and not self.scribbles

    @property
    def selects_something(self) -> bool:
        """Whether there is anything that lies on the object: with negative prompts alone there is not."""
        return bool(
            (self.labels == 1).any()
            or any(scribble.label == 1 for scribble in self.scribbles)
            or self.box is not None
            or self.lasso is not None
            or self.mask is not None
            or self.mask_input is not None
        )

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but points, box and logits: what decoders know."""
        return self.mask is None and not self.scribbles and self.lasso is None

    def with_point(self, point: ArrayLike, label: int) -> Prompts:
        """These prompts and one point more.

        Parameters
        ----------
        point : array_like, shape (2,)
            (x, y), on the image: prompts do not know its size, so that this is not checked.
        label : int
            1 or 0.

        Raises
        ------
        PromptError
            If the point is not two finite numbers, or the label unknown.
        """
        xy = numbers(point, "Point coordinates")
        if xy.shape != (2,):
            raise PromptError(f"A point is one x and one y, not an array of shape {xy.shape}.")
        if label not in (0, 1):
            raise PromptError(f"A point label is 1 (on the object) or 0 (on the background), not {label}.")
        return replace(
            self,
            points=np.concatenate([self.points, xy[np.newaxis]]),
            labels=np.append(self.labels, np.int64(label)),
        )

    def with_mask(self, mask: Mask | None) -> Prompts:
        """These prompts with another mask to start from, or none.

        Raises
        ------
        PromptError
            If the mask is empty, or of another plane than the one before, or if nothing is left without it.
        """
        if mask is not None:
            mask = checked_mask(mask.shape if self.mask is None else self.mask.shape, mask)
        return _not_empty(replace(self, mask=mask))

    @property
    def has_points_alone(self) -> bool:
        """Whether there is nothing but points and scribbles, which are points to a decoder."""
        return self.box is None and self.mask_input is None and self.mask is None and self.lasso is None


def batch(
    prompts: Sequence[Prompts],
    device: torch.device | str = "cpu",
    scale: tuple[float, float] = (1.0, 1.0),
) -> PromptBatch:
    """Stack the prompts of several objects for a decoder.

    Objects with fewer points than others are padded with points labelled -1, objects without a box get a
    row of NaN. Logits are for all objects or for none.

    Parameters
    ----------
    prompts : sequence of Prompts
        At least one, all plain.
    device : torch.device or str
    scale : tuple of float
        Pixels of the plane that was encoded per pixel of the prompts' plane, along y and x.

    Raises
    ------
    ValueError
        If only some of the objects have logits, one has what no decoder knows (a mask, scribbles, a lasso),
        or the sequence is empty.
    """
    import torch

    from napari_sam.models.base import PromptBatch

    if not prompts:
        raise ValueError("A batch needs the prompts of at least one object.")
    if not all(p.is_plain for p in prompts):
        raise ValueError("A batch takes points, boxes and logits: make the prompts plain first.")
    count, width = len(prompts), max(len(p.labels) for p in prompts)
    points = np.zeros((count, width, 2), dtype=np.float32)
    labels = np.full((count, width), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        points[row, : len(prompt.labels)] = _scaled(prompt.points, scale)
        labels[row, : len(prompt.labels)] = prompt.labels
    boxes = logits = None
    if any(p.box is not None for p in prompts):
        missing = np.full(4, np.nan)
        corners = [missing if p.box is None else p.box for p in prompts]
        boxes = _scaled(np.stack(corners).reshape(count, 2, 2), scale).reshape(count, 4).astype(np.float32)
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


def _scaled(xy: NDArray[np.float64], scale: tuple[float, float]) -> NDArray[np.float64]:
    """Pixel coordinates on the resized image, whose edges stay in place."""
    return xy if scale == (1.0, 1.0) else (xy + 0.5) * np.array(scale[::-1]) - 0.5


def _scribbles(
    size: tuple[int, int], given: Iterable[Scribble | tuple[ArrayLike, int]]
) -> tuple[Scribble, ...]:
    pairs: list[tuple[ArrayLike, int]] = []
    try:
        for one in given:
            path, label = (one.path, one.label) if isinstance(one, Scribble) else one
            pairs.append((path, label))
    except (TypeError, ValueError):
        raise PromptError(
            "Scribbles are a list of (path, label) each, the label being 1 or 0: give them so."
        ) from None
    return tuple(Scribble.create(size, path, label) for path, label in pairs)


def _equal(one: NDArray[np.generic] | None, other: NDArray[np.generic] | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _not_empty(prompts: Prompts) -> Prompts:
    if prompts.points.shape[0] == 0 and prompts.has_points_alone and not prompts.scribbles:
        raise PromptError("There is nothing to segment: give at least one point, a box or a mask.")
    return prompts
