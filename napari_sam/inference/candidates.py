"""All masks that were found on a plane, packed: thousands of them in a few megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.inference.mask import Mask

__all__ = ["MaskCandidates"]

_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "predicted_iou": (np.float32, 0),
    "stability": (np.float32, 0),
    "points": (np.float64, 2),
    "crop_boxes": (np.int64, 4),
    "boxes": (np.int64, 4),
    "areas": (np.int64, 0),
}
"""Type and columns of what there is one of for each mask."""


@dataclass(frozen=True, eq=False)
class MaskCandidates:
    """N masks of one plane and what was measured of each; make them with :meth:`of`.

    Of each mask, the bits of its tight box are kept, eight to a byte. Nothing is ever changed; arrays are
    read-only. Two of them are equal if all their values are.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels.
    predicted_iou : ndarray, shape (N,), float32
    stability : ndarray, shape (N,), float32
        IoU of the masks that a higher and a lower threshold of the logits would give, 0 to 1.
    points : ndarray, shape (N, 2), float64
        What each was prompted with: (x, y) in pixels of the plane, an integer being a pixel's centre.
    crop_boxes : ndarray, shape (N, 4), int64
        In which part of the plane each was found: x, y, width, height.
    boxes : ndarray, shape (N, 4), int64
        x0, y0, x1, y1 of the tight box, the latter two exclusive. Zeros for an empty mask.
    areas : ndarray, shape (N,), int64
        Foreground pixels.
    packed : ndarray, shape (bytes,), uint8
        The bits of all boxes, row by row; each mask begins with a new byte.
    model, digest : str
        Which model found them, and the checksum of its weights; empty for other programs.
    contrast_limits : tuple of float, or None
    gamma : float
        How the plane was displayed to the model; see :func:`napari_sam.inference.image.as_rgb`.
    prompted : bool
        Whether a model was asked about each point, or saw the objects by itself: what scores mean differs.

    Raises
    ------
    ValueError
        If arrays are not of one length, a box is not on the plane, or the bits are not those of the boxes.

    Examples
    --------
    >>> import numpy as np
    >>> masks = [Mask((2, 3), np.ones((2, 4), dtype=bool), (10, 10)), Mask.empty((10, 10))]
    >>> whole = [(0, 0, 10, 10)] * 2
    >>> found = MaskCandidates.of(masks, [0.9, 0.2], [1, 0.5], [(4, 2), (9, 9)], whole, (10, 10))
    >>> len(found), found.boxes[0].tolist(), found.areas.tolist(), found.packed.nbytes
    (2, [3, 2, 7, 4], [8, 0], 1)
    >>> found.mask(0) == masks[0], len(found.select(found.predicted_iou > 0.5))
    (True, 1)
    """

    shape: tuple[int, int]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    points: NDArray[np.float64]
    crop_boxes: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    packed: NDArray[np.uint8]
    model: str = ""
    digest: str = ""
    contrast_limits: tuple[float, float] | None = None
    gamma: float = 1.0
    prompted: bool = True

    def __post_init__(self) -> None:
        height, width = (int(side) for side in self.shape)
        object.__setattr__(self, "shape", (height, width))
        count = len(self.predicted_iou)
        for name, (dtype, columns) in _ARRAYS.items():
            array = np.array(getattr(self, name), dtype=dtype)
            expected = (count, columns) if columns else (count,)
            if array.shape != expected:
                raise ValueError(f"{name} of {count} masks has the shape {expected}, not {array.shape}.")
            _keep(self, name, array)
        # Large: not copied where it cannot change.
        packed = np.asarray(self.packed, dtype=np.uint8)
        _keep(self, "packed", packed.copy() if packed.flags.writeable else packed)
        x0, y0, x1, y1 = self.boxes.T
        if not ((x0 >= 0) & (y0 >= 0) & (x0 <= x1) & (y0 <= y1) & (x1 <= width) & (y1 <= height)).all():
            raise ValueError(f"A box reaches beyond a plane of {height} x {width} pixels.")
        if self.packed.shape != (self.offsets[-1],):
            raise ValueError(f"Masks of these boxes take {self.offsets[-1]} bytes, not {self.packed.size}.")

    @classmethod
    def of(
        cls,
        masks: Iterable[Mask],
        predicted_iou: ArrayLike,
        stability: ArrayLike,
        points: ArrayLike,
        crop_boxes: ArrayLike,
        shape: tuple[int, int],
        *,
        model: str = "",
        digest: str = "",
        contrast_limits: tuple[float, float] | None = None,
        gamma: float = 1.0,
        prompted: bool = True,
    ) -> MaskCandidates:
        """Pack masks.

        Parameters
        ----------
        masks : iterable of Mask
            N, of a plane of this shape. Taken one after the other, so that they may be made as they are
            packed.
        predicted_iou, stability, points, crop_boxes, shape, model, digest, contrast_limits, gamma, prompted
            As in :class:`MaskCandidates`.

        Raises
        ------
        ValueError
            If numbers differ or a mask is of another plane.
        """
        pieces, boxes, areas = [], [], []
        for mask in masks:
            if mask.shape != tuple(shape):
                raise ValueError(f"A mask of a plane of {mask.shape} is not one of a plane of {shape}.")
            rows, columns = mask.slices
            pieces.append(np.packbits(mask.bits))
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            areas.append(mask.area)
        return cls(
            shape,
            predicted_iou=np.asarray(predicted_iou, dtype=np.float32),
            stability=np.asarray(stability, dtype=np.float32),
            points=np.asarray(points, dtype=np.float64).reshape(-1, 2),
            crop_boxes=np.asarray(crop_boxes, dtype=np.int64).reshape(-1, 4),
            boxes=np.array(boxes, dtype=np.int64).reshape(-1, 4),
            areas=np.array(areas, dtype=np.int64),
            packed=_joined(pieces),
            model=model,
            digest=digest,
            contrast_limits=contrast_limits,
            gamma=gamma,
            prompted=prompted,
        )

    def replaced(
        self,
        masks: Iterable[Mask],
        predicted_iou: ArrayLike,
        stability: ArrayLike,
        points: ArrayLike,
        crop_boxes: ArrayLike,
    ) -> MaskCandidates:
        """Other masks of the same plane, found in the same way; arguments are as of :meth:`of`."""
        made = MaskCandidates.of(masks, predicted_iou, stability, points, crop_boxes, self.shape)
        return replace(self, **{name: getattr(made, name) for name in (*_ARRAYS, "packed")})

    @staticmethod
    def concatenate(parts: Sequence[MaskCandidates]) -> MaskCandidates:
        """All masks of several, in order.

        Parameters
        ----------
        parts : sequence of MaskCandidates
            At least one, of one plane, found by the same model.

        Raises
        ------
        ValueError
            If there is none, or they are of different planes, models or looks.
        """
        if not parts:
            raise ValueError("There is nothing to concatenate.")
        first = parts[0]
        if any(_origin(part) != _origin(first) for part in parts):
            raise ValueError("Masks of different planes, models or looks cannot be put together.")
        arrays: dict[str, Any] = {n: np.concatenate([getattr(part, n) for part in parts]) for n in _ARRAYS}
        return replace(first, packed=_joined([part.packed for part in parts]), **arrays)

    def select(self, indices: ArrayLike) -> MaskCandidates:
        """Some of them.

        Parameters
        ----------
        indices : array_like, shape (K,), int, or shape (N,), bool
            In this order.
        """
        chosen = np.arange(len(self))[_index(indices)]
        starts, stops = self.offsets[chosen], self.offsets[chosen + 1]
        packed = [self.packed[start:stop] for start, stop in zip(starts, stops, strict=True)]
        arrays: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        return replace(self, packed=_joined(packed), **arrays)

    def __len__(self) -> int:
        return len(self.predicted_iou)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskCandidates):
            return NotImplemented
        names = (*_ARRAYS, "packed")
        return self is other or (
            _origin(self) == _origin(other)
            and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)
        )

    def __hash__(self) -> int:
        return hash((_origin(self), self.boxes.tobytes(), self.predicted_iou.tobytes()))

    def __repr__(self) -> str:
        height, width = self.shape
        return f"<MaskCandidates: {len(self)} masks of {height} x {width} pixels, {self.nbytes} bytes>"

    def bits(self, index: int) -> NDArray[np.bool_]:
        """The bits in the box of one mask: shape (h, w), bool. A new array."""
        x0, y0, x1, y1 = (int(edge) for edge in self.boxes[index])
        index %= len(self)
        packed = self.packed[self.offsets[index] : self.offsets[index + 1]]
        size = y1 - y0, x1 - x0
        return np.unpackbits(packed, count=size[0] * size[1]).view(np.bool_).reshape(size)

    def mask(self, index: int) -> Mask:
        """One mask."""
        x0, y0 = (int(edge) for edge in self.boxes[index, :2])
        return Mask((y0, x0), self.bits(index), self.shape)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where in `packed` each mask begins, and where the last one ends: shape (N + 1,), int64."""
        x0, y0, x1, y1 = self.boxes.T
        ends = np.cumsum(((x1 - x0) * (y1 - y0) + 7) // 8)
        return np.concatenate([np.zeros(1, dtype=np.int64), ends])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(getattr(self, name).nbytes for name in (*_ARRAYS, "packed"))


def _origin(candidates: MaskCandidates) -> tuple[Any, ...]:
    """Of what plane and by whom."""
    names = [field.name for field in fields(candidates) if field.name not in (*_ARRAYS, "packed")]
    return tuple(getattr(candidates, name) for name in names)


def _keep(candidates: MaskCandidates, name: str, array: NDArray[Any]) -> None:
    array.flags.writeable = False
    object.__setattr__(candidates, name, array)


def _joined(pieces: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    joined = np.concatenate(pieces) if len(pieces) else np.zeros(0, dtype=np.uint8)
    joined.flags.writeable = False
    return joined


def _index(indices: ArrayLike) -> NDArray[Any]:
    """Something to index with, also where it is empty."""
    array = np.asarray(indices)
    return array if array.size or array.dtype == np.bool_ else array.astype(np.intp)
