"""Objects of a stack or a film: masks on some planes, carried on to others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.errors import PromptError

if TYPE_CHECKING:
    import threading

    from napari_sam.inference.mask import Mask
    from napari_sam.inference.video_frames import VideoFrames
    from napari_sam.models.base import Embedding, PromptableModel

__all__ = ["Carried", "StopRule", "propagate"]


@dataclass(frozen=True, slots=True)
class Carried:
    """What objects came to on one plane.

    Attributes
    ----------
    position : int
        Of the plane in the stack, or of the frame in the film.
    masks : mapping of int to (Mask, float) or None
        By object: its mask and the predicted IoU; None where it is not there.
    """

    position: int
    masks: Mapping[int, tuple[Mask, float] | None]


@dataclass(frozen=True, slots=True)
class StopRule:
    """When an object that is carried on plane by plane has come to its end.

    Attributes
    ----------
    min_predicted_iou : float, default 0.5
        Of the model for its mask.
    min_overlap : float, default 0.3
        The IoU of the mask with that of the plane before.
    max_area_change : float, default 3.0
        By what factor its area may grow or shrink from one plane to the next.
    min_contrast : float, default 0.1
        How much of the greatest contrast that the object had on the way is left at least, if it stood out
        from its surroundings: on its way out of focus it fades.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    min_predicted_iou: float = 0.5
    min_overlap: float = 0.3
    max_area_change: float = 3.0
    min_contrast: float = 0.1

    def __post_init__(self) -> None:
        shares = self.min_predicted_iou, self.min_overlap, self.min_contrast
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                "Predicted IoU, overlap and contrast at which an object ends lie between 0 and 1, "
                f"not at {shares[0]}, {shares[1]} and {shares[2]}."
            )
        if not self.max_area_change >= 1:
            raise ValueError(
                "The change of area at which an object ends is a factor of 1 or more, "
                f"not {self.max_area_change}."
            )


def propagate(
    model: PromptableModel,
    frames: VideoFrames,
    annotated: Mapping[int, Mapping[int, Mask]],
    wanted: Mapping[int, Collection[int]],
    *,
    rule: StopRule | None = None,
    embed: Callable[[int], Embedding] | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[Carried]:
    """Carry objects from the planes where they are known on to others.

    Information flows outward from the annotated planes, and between two of them from both sides. A SAM 2 does
    it by its memory (:mod:`napari_sam.inference.propagation_memory`), any other model plane by plane
    (:mod:`napari_sam.inference.propagation_planes`).

    Parameters
    ----------
    model : PromptableModel
    frames : VideoFrames
        The planes; see :func:`~napari_sam.inference.video_frames.open_video`. They are read one by one.
    annotated : mapping of int to (mapping of int to Mask)
        By object, then by position: what is known. An empty mask says that the object is not there.
    wanted : mapping of int to collection of int
        By object, the positions to find it at. Those in `annotated` are passed over.
    rule : StopRule, optional
        When an object has ended, if it is carried plane by plane.
    embed : callable, optional
        Returns the model's embedding of a position, from a cache for example; by default the frame is read
        and encoded. Not asked for a SAM 2, whose embeddings for videos are others.
    cancelled : threading.Event, optional
        Set it to stop, within a plane, too.

    Yields
    ------
    Carried
        In the order in which planes are done. Each wanted position of each object comes once; one plane may
        come several times, with other objects.

    Raises
    ------
    PromptError
        If an object has no mask to start from, a position is not in the stack, or a mask is of a plane of
        another size.
    ImageError
        If a plane cannot be read. What was yielded is not touched by that.
    Cancelled
        If `cancelled` was set.
    DeviceError
        If the device fails or runs out of memory, and the CPU, too.

    Examples
    --------
    A bright disc that moves to the right:

    >>> import napari_sam, numpy as np
    >>> from napari_sam.inference.mask import Mask
    >>> from napari_sam.inference.video_frames import open_video
    >>> y, x = np.mgrid[:64, :96]
    >>> discs = np.stack([(y - 32) ** 2 + (x - 24 - 4 * t) ** 2 < 144 for t in range(3)])
    >>> frames = open_video((discs * 200 + 20).astype(np.uint8))
    >>> model = napari_sam.load_model("nano", device="cpu")
    >>> for found in propagate(model, frames, {7: {0: Mask.from_array(discs[0])}}, {7: range(3)}):
    ...     mask, predicted_iou = found.masks[7]
    ...     print(found.position, (mask.to_array() & discs[found.position]).sum() > 300)
    1 True
    2 True
    """
    objects = {obj_id: dict(annotated.get(obj_id, {})) for obj_id, positions in wanted.items() if positions}
    left = {obj_id: sorted(set(wanted[obj_id]) - known.keys()) for obj_id, known in objects.items()}
    for obj_id, known in objects.items():
        _check(obj_id, known, left[obj_id], len(frames), frames.size)
    from napari_sam.inference.propagation_memory import carry_by_memory
    from napari_sam.inference.propagation_planes import carry_by_planes
    from napari_sam.models.sam2 import Sam2

    if isinstance(model, Sam2):
        return carry_by_memory(model, frames, objects, left, cancelled=cancelled)
    return carry_by_planes(model, frames, objects, left, rule=rule, embed=embed, cancelled=cancelled)


def _check(
    obj_id: int, known: Mapping[int, Mask], wanted: Collection[int], length: int, size: tuple[int, int]
) -> None:
    """Make sure that there is something to start from, and that all of it is in the stack."""
    if all(mask.is_empty for mask in known.values()):
        raise PromptError(f"Object {obj_id} has no mask to start from: segment it on a plane first.")
    for position in (*known, *wanted):
        if not 0 <= position < length:
            raise PromptError(f"There is no plane {position}: there are {length}, counted from 0.")
    for position, mask in known.items():
        if mask.shape != size:
            raise PromptError(
                f"The mask of object {obj_id} on plane {position} has {mask.shape[0]} x {mask.shape[1]} "
                f"pixels and the planes have {size[0]} x {size[1]}: give masks of these planes."
            )
