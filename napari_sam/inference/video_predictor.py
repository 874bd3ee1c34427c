"""SAM 2 on videos and stacks: prompts on some frames, masks on all of them."""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam.errors import Cancelled, ModelError, PromptError
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.inference.arrays import as_array
from napari_sam.inference.checks import numbers
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.video_frames import open_video
from napari_sam.inference.video_masks import TrackedFrame, in_full_size, squared_mask
from napari_sam.inference.video_memory import FrameOutput, ObjectMemory
from napari_sam.inference.video_state import VideoState
from napari_sam.inference.video_tracker import VideoTracker
from napari_sam.models.base import PromptableModel
from napari_sam.models.sam2 import Sam2

__all__ = ["SamVideoPredictor"]


class SamVideoPredictor:
    """Objects of a video or a stack: prompts on some frames, masks on all of them.

    Methods, arguments and their meaning are those of ``SAM2VideoPredictor`` of the package ``sam2``, and so
    are the masks. What differs: frames are read and encoded one by one, when they are first needed, not all
    by `init_state`; and a correction of a frame that was propagated to counts in the next propagation.

    Parameters
    ----------
    model : Sam2
        As :func:`napari_sam.load_model` returns it for a SAM 2 or 2.1.
    add_all_frames_to_correct_as_cond : bool
        Whether frames that are corrected after they were propagated to are attended to like those prompted
        first. In the official code this is off by default, which lets propagation overwrite corrections.
    max_cond_frames_in_attn : int
        How many prompted frames a frame attends to at most, those closest in time; -1 for all. The time that
        a frame takes grows with them.
    non_overlap_masks : bool
        Give each pixel of the masks that are returned to the object with the highest logit.

    Raises
    ------
    ModelError
        If the model is no SAM 2.

    Examples
    --------
    >>> from napari_sam.models.hiera import HieraSize
    >>> from napari_sam.models.sam2 import build_sam2
    >>> size = HieraSize(16, 1, (1, 2, 3, 1), (4,))
    >>> model = build_sam2(size, image_size=128)  # untrained, and very small
    >>> predictor = SamVideoPredictor(model.prepare(torch.device("cpu"), torch.float32))
    >>> state = predictor.init_state(np.zeros((3, 30, 40), dtype=np.uint8))
    >>> frame, ids, logits = predictor.add_new_points_or_box(state, 0, 1, points=[[20, 15]], labels=[1])
    >>> for frame, ids, logits in predictor.propagate_in_video(state):
    ...     print(frame, ids, tuple(logits.shape))
    0 [1] (1, 1, 30, 40)
    1 [1] (1, 1, 30, 40)
    2 [1] (1, 1, 30, 40)
    """

    def __init__(
        self,
        model: PromptableModel,
        *,
        add_all_frames_to_correct_as_cond: bool = True,
        max_cond_frames_in_attn: int = -1,
        non_overlap_masks: bool = False,
    ) -> None:
        if not isinstance(model, Sam2):
            raise ModelError(
                f"{model.name or 'This model'} has no memory for videos: load one of SAM 2 or 2.1."
            )
        self.model = model
        self.non_overlap_masks = non_overlap_masks
        self._tracker = VideoTracker(
            model,
            corrections_condition=add_all_frames_to_correct_as_cond,
            most_conditioning=max_cond_frames_in_attn,
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def init_state(
        self,
        video_path: Any,
        offload_video_to_cpu: bool = False,  # noqa: ARG002
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,  # noqa: ARG002
        *,
        contrast_limits: tuple[float, float] | None = None,
        gamma: float = 1.0,
        rgb: bool | None = None,
    ) -> VideoState:
        """Open a video; no frame is encoded yet.

        Parameters
        ----------
        video_path : array_like, or path
            As for :func:`~napari_sam.inference.video_frames.open_video`: an array (T, H, W) or (T, H, W, 3),
            a folder of images, or a file.
        offload_video_to_cpu, async_loading_frames : bool
            For scripts of the official package: frames are always read when they are needed.
        offload_state_to_cpu : bool
            Keep what is remembered of objects in main memory instead of on the device.
        contrast_limits : tuple of float, optional
        gamma : float
            As in :func:`~napari_sam.inference.image.as_rgb`. For images of more than 8 bits, give limits, or
            each frame is stretched between its own.
        rgb : bool, optional
            Whether the last axis of an array is colour.

        Raises
        ------
        ImageError
            If there are no frames, or the file or folder cannot be read.
        """
        frames = open_video(video_path, contrast_limits=contrast_limits, gamma=gamma, rgb=rgb)
        return VideoState(frames, offload_state_to_cpu=offload_state_to_cpu)

    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | None = None,
        *,
        cancelled: threading.Event | None = None,
    ) -> tuple[int, list[int], Tensor]:
        """Prompt an object on a frame with points, a box, or both.

        Parameters
        ----------
        inference_state : VideoState
        frame_idx : int
        obj_id : int
            One that is not known yet makes a new object.
        points : array_like, shape (N, 2) or (1, N, 2), optional
            (x, y) in pixels of the frame; an integer is a pixel's centre.
        labels : array_like, shape (N,) or (1, N), optional
            1 for a point on the object, 0 for a point on the background.
        clear_old_points : bool
            Forget earlier points and the box on this frame. The mask they gave is a hint for the new one in
            any case.
        normalize_coords : bool
            False if coordinates are fractions of the frame's width and height instead of pixels.
        box : array_like, shape (4,), optional
            x0, y0, x1, y1.
        cancelled : threading.Event, optional
            Set it to stop.

        Returns
        -------
        frame_idx : int
        obj_ids : list of int
            Of all objects.
        logits : Tensor, shape (B, 1, H, W), float32
            Of their masks on this frame, which are where they are above 0. -1024 everywhere for objects
            of which nothing is known there.

        Raises
        ------
        PromptError
            If the prompts make no sense for the frame.
        ImageError
            If the frame cannot be read.
        Cancelled
            If `cancelled` was set; nothing has changed.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        inference_state.check(frame_idx)
        if points is not None and labels is None:
            raise PromptError("Points were given without labels: give labels, 1 or 0 for each point.")
        if points is None and box is None:
            raise PromptError("There is no prompt: give points, a box, or both.")
        if box is not None and not clear_old_points:
            raise PromptError("A box comes before all points: give it with clear_old_points=True.")
        size = inference_state.frames.size
        points, labels = _unbatched(points, "Point coordinates", 2), _unbatched(labels, "Point labels", 1)
        if not normalize_coords:
            points, box = _in_pixels(points, size), _in_pixels(box, size)
        prompts = Prompts.create(size, points, labels, box)
        known = _known(inference_state, obj_id)
        old = known.prompts.get(frame_idx)
        if old is not None and not clear_old_points:
            prompts = replace(
                prompts,
                points=np.concatenate([old.points, prompts.points]),
                labels=np.concatenate([old.labels, prompts.labels]),
                box=old.box,
            )
        return self._answer(inference_state, frame_idx, obj_id, known, prompts, None, cancelled)

    add_new_points = add_new_points_or_box
    """The former name, which older scripts use."""

    def add_new_mask(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        mask: ArrayLike,
        *,
        cancelled: threading.Event | None = None,
    ) -> tuple[int, list[int], Tensor]:
        """Say what the mask of an object on a frame is.

        Parameters
        ----------
        inference_state : VideoState
        frame_idx, obj_id
            As in :meth:`add_new_points_or_box`.
        mask : array_like, shape (h, w)
            Boolean; stretched to the frame if it has another size. An empty one says that the object is not
            there.
        cancelled : threading.Event, optional
            Set it to stop.

        Returns
        -------
        frame_idx, obj_ids, logits
            As in :meth:`add_new_points_or_box`.

        Raises
        ------
        PromptError
            If the mask is no plane.
        ImageError
            If the frame cannot be read.
        Cancelled
            If `cancelled` was set; nothing has changed.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        inference_state.check(frame_idx)
        plane = as_array(mask, "The mask", PromptError)
        if plane.ndim != 2 or 0 in plane.shape:
            raise PromptError(f"A mask has the shape (height, width), not {plane.shape}.")
        if plane.dtype.kind not in "buif":
            raise PromptError(f"A mask is of booleans or numbers, not of {plane.dtype}: give a boolean one.")
        square = squared_mask(plane.astype(bool), self.model.image_size)
        known = _known(inference_state, obj_id)
        return self._answer(inference_state, frame_idx, obj_id, known, None, square, cancelled)

    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        *,
        cancelled: threading.Event | None = None,
    ) -> Iterator[tuple[int, list[int], Tensor]]:
        """Masks of all objects, frame by frame.

        Objects that are added meanwhile wait for the next propagation. Those that are removed do not come any
        more; it ends when none is left.

        Parameters
        ----------
        inference_state : VideoState
        start_frame_idx : int, optional
            The earliest prompted frame by default.
        max_frame_num_to_track : int, optional
            How many frames to go on after that; to the end by default.
        reverse : bool
            Backward in time.
        cancelled : threading.Event, optional
            Set it to stop, within a frame, too.

        Yields
        ------
        frame_idx, obj_ids, logits
            As in :meth:`add_new_points_or_box`.

        Raises
        ------
        PromptError
            If an object has no prompts, or there is no such frame.
        ImageError
            If a frame cannot be read. The frames before are done, and propagation can go on behind it.
        Cancelled
            If `cancelled` was set; the frames before are done.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        for frame, obj_ids, outputs in self._propagate(
            inference_state, start_frame_idx, max_frame_num_to_track, reverse, cancelled
        ):
            yield frame, obj_ids, self._in_full_size(inference_state, outputs)

    def propagate(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        *,
        cancelled: threading.Event | None = None,
    ) -> Iterator[TrackedFrame]:
        """As :meth:`propagate_in_video`, with masks of a size that does not depend on the video's.

        `non_overlap_masks` is not applied.

        Parameters
        ----------
        inference_state, start_frame_idx, max_frame_num_to_track, reverse, cancelled
            As there.

        Yields
        ------
        TrackedFrame
        """
        for frame, obj_ids, outputs in self._propagate(
            inference_state, start_frame_idx, max_frame_num_to_track, reverse, cancelled
        ):
            yield TrackedFrame.of(frame, obj_ids, outputs, inference_state.frames.size)

    def clear_all_prompts_in_frame(
        self, inference_state: VideoState, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> tuple[int, list[int], Tensor] | None:
        """Forget what was prompted for an object on a frame.

        Its mask, if it was propagated from, stays as one that was propagated to.

        Parameters
        ----------
        inference_state : VideoState
        frame_idx, obj_id : int
        need_output : bool
            Whether to return anything.

        Returns
        -------
        frame_idx, obj_ids, logits
            As in :meth:`add_new_points_or_box`; or None.

        Raises
        ------
        PromptError
            If there is no such object or frame.
        """
        inference_state.check(frame_idx)
        if obj_id not in inference_state.objects:
            raise PromptError(
                f"There is no object {obj_id}: the video has {inference_state.obj_ids or 'none'}."
            )
        inference_state.objects[obj_id].clear(frame_idx)
        return self._on_frame(inference_state, frame_idx) if need_output else None

    def remove_object(
        self, inference_state: VideoState, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, Tensor]]]:
        """Forget an object.

        Parameters
        ----------
        inference_state : VideoState
        obj_id : int
        strict : bool
            Raise an error if there is no such object.
        need_output : bool
            Return the masks of the others on the frames where this one was prompted.

        Returns
        -------
        obj_ids : list of int
            Of the objects that are left.
        updated_frames : list of (int, Tensor)
            Frames and logits of masks there, as in :meth:`add_new_points_or_box`.

        Raises
        ------
        PromptError
            If there is no such object and `strict`.
        """
        removed = inference_state.objects.pop(obj_id, None)
        if removed is None and strict:
            raise PromptError(
                f"There is no object {obj_id} to remove: the video has {inference_state.obj_ids or 'none'}."
            )
        frames = removed.prompts if removed and need_output and inference_state.objects else ()
        updated = [(frame, self._on_frame(inference_state, frame)[2]) for frame in frames]
        return inference_state.obj_ids, updated

    def reset_state(self, inference_state: VideoState) -> None:
        """Forget all objects; embeddings of frames are kept."""
        inference_state.objects.clear()

    def _answer(
        self,
        state: VideoState,
        frame: int,
        obj_id: int,
        known: ObjectMemory,
        prompts: Prompts | None,
        mask: Tensor | None,
        cancelled: threading.Event | None,
    ) -> tuple[int, list[int], Tensor]:
        """Ask the model what prompts, or a mask, say of an object, and keep that."""
        with self._stoppable(cancelled, "nothing has changed"):
            conditioning = self._tracker.answer(state, frame, known, prompts, mask)
        state.objects.setdefault(obj_id, known)
        return self._on_frame(state, frame, conditioning)

    def _propagate(
        self,
        state: VideoState,
        start: int | None,
        most: int | None,
        reverse: bool,
        cancelled: threading.Event | None,
    ) -> Iterator[tuple[int, list[int], list[FrameOutput]]]:
        """The objects that there were and still are, and their outputs, frame by frame."""
        if not state.objects:
            raise PromptError("No object is prompted: add points, a box or a mask first.")
        with self._stoppable(cancelled, "no frame was propagated to"):
            self._tracker.settle(state)
        if start is None:
            start = min(min(one.conditioning) for one in state.objects.values())
        state.check(start)
        most = state.num_frames if most is None else _whole(most, "max_frame_num_to_track")
        if reverse:
            # As in the official code: nothing is before the first frame.
            order = range(start, max(start - most, 0) - 1, -1) if start else range(0)
        else:
            order = range(start, min(start + most, state.num_frames - 1) + 1)
        # Between two frames, whoever iterates may add objects, remove them, or start one of them anew.
        followed = dict(state.objects)
        for frame in order:
            here = [obj_id for obj_id, known in followed.items() if state.objects.get(obj_id) is known]
            if not here:
                return
            with self._stoppable(cancelled, f"the frames before frame {frame} are done"):
                outputs = self._tracker.track(state, frame, reverse, here)
            yield frame, here, outputs

    def _on_frame(
        self, state: VideoState, frame: int, conditioning: bool | None = None
    ) -> tuple[int, list[int], Tensor]:
        """What is known of all objects on a frame."""
        if conditioning is None:
            conditioning = any(frame in known.fresh[True] for known in state.objects.values())
        outputs = [known.on(frame, conditioning=conditioning) for known in state.objects.values()]
        return frame, state.obj_ids, self._in_full_size(state, outputs)

    def _in_full_size(self, state: VideoState, outputs: Sequence[FrameOutput | None]) -> Tensor:
        return in_full_size(outputs, state.frames.size, self.device, overlap=not self.non_overlap_masks)

    @contextlib.contextmanager
    def _stoppable(self, cancelled: threading.Event | None, kept: str) -> Iterator[None]:
        """Let an event stop what is computed inside the block."""
        if cancelled is None:
            yield
            return
        try:
            if cancelled.is_set():
                raise Abandoned
            with abandonable(self.model, cancelled):
                yield
        except Abandoned:
            raise Cancelled(f"Cancelled: {kept}.") from None


def _known(state: VideoState, obj_id: int) -> ObjectMemory:
    """What is remembered of an object; nothing of a new one."""
    try:
        return state.objects.get(obj_id, ObjectMemory())
    except TypeError:
        raise PromptError(f"The id of an object is a whole number, not {obj_id!r}.") from None


def _unbatched(values: ArrayLike | None, what: str, ndim: int) -> NDArray[Any] | None:
    """An array without the leading axis of length 1 that the official code takes, too."""
    if values is None:
        return None
    array = as_array(values, what, PromptError)
    return array[0] if array.ndim == ndim + 1 and len(array) == 1 else array


def _in_pixels(fractions: ArrayLike | None, size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Coordinates that are given as fractions of width and height."""
    if fractions is None:
        return None
    xy = numbers(fractions, "Coordinates")
    if xy.size % 2:
        raise PromptError(f"Coordinates come in pairs of x and y; {xy.size} numbers were given.")
    if xy.shape[-1:] != (2,):
        xy = xy.reshape(-1, 2)
    sides = np.array([size[1], size[0]], dtype=np.float64)
    # All of the width is the edge of the last pixel, which is half a pixel from its centre.
    return np.where(xy <= 1, np.minimum(xy * sides, sides - 0.5), xy * sides)


def _whole(number: object, what: str) -> int:
    """A number that counts frames."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise PromptError(f"{what} is a whole number, not {number!r}.") from None
