"""A video in the middle of being segmented."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from torch import Tensor

from napari_sam.errors import PromptError
from napari_sam.inference.embedding_cache import CACHE_BYTES, EmbeddingCache
from napari_sam.inference.fallback import on_device_of, on_some_device
from napari_sam.inference.video_frames import VideoFrames, squared
from napari_sam.inference.video_memory import ObjectMemory
from napari_sam.inference.video_store import STORE_BYTES, TensorStore
from napari_sam.models import memory_steps
from napari_sam.models.memory_steps import FrameEmbedding

if TYPE_CHECKING:
    from napari_sam.models.sam2 import Sam2

__all__ = ["VideoState"]


class VideoState:
    """Frames of a video, objects on them, and what is remembered of both.

    :meth:`SamVideoPredictor.init_state` makes one. Not thread-safe.

    Parameters
    ----------
    frames : VideoFrames
    cache_bytes : int
        Memory for embeddings of frames. Those that were not used for the longest time are forgotten, and
        computed again when they are needed.
    store_bytes : int
        Memory for what is remembered of objects. What was not used for the longest time is written to a
        temporary folder.
    offload_state_to_cpu : bool
        Keep the latter in main memory, whatever the model's device.

    Attributes
    ----------
    frames : VideoFrames
    num_frames : int
    video_height, video_width : int
        In pixels.
    objects : dict of int to ObjectMemory
        By id, in the order in which they were first prompted.
    """

    def __init__(
        self,
        frames: VideoFrames,
        *,
        cache_bytes: int = CACHE_BYTES,
        store_bytes: int = STORE_BYTES,
        offload_state_to_cpu: bool = False,
    ) -> None:
        self.frames = frames
        self.num_frames = len(frames)
        self.video_height, self.video_width = frames.size
        self.objects: dict[int, ObjectMemory] = {}
        self.offload_state_to_cpu = offload_state_to_cpu
        self.store = TensorStore(store_bytes)
        self._embeddings: EmbeddingCache[int] = EmbeddingCache(lambda: cache_bytes)
        self._begun: tuple[FrameEmbedding, Tensor] | None = None

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they were first prompted."""
        return list(self.objects)

    def embedding(self, model: Sam2, index: int) -> FrameEmbedding:
        """The embedding of a frame, on the model's device; computed if it is not in the cache.

        Raises
        ------
        PromptError
            If there is no such frame.
        ImageError
            If the frame cannot be read.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        self.check(index)

        def compute() -> FrameEmbedding:
            square = squared(self.frames.read(index), model.image_size)
            return on_some_device(model, lambda: memory_steps.encode_frame(model, square, self.frames.size))

        held = self._embeddings.get(index, compute)
        moved = on_device_of(model, held)
        assert isinstance(moved, FrameEmbedding)
        if moved is not held:
            self._embeddings[index] = moved
        return moved

    def begun(self, model: Sam2, embedding: FrameEmbedding) -> Tensor:
        """What all objects of a frame have in common before they look at their memories; once per frame."""
        if self._begun is None or self._begun[0] is not embedding:
            self._begun = embedding, memory_steps.begin(model, embedding)
        return self._begun[1]

    def check(self, index: int) -> None:
        """Make sure that there is such a frame.

        Raises
        ------
        PromptError
            If not.
        """
        try:
            operator.index(index)
        except TypeError:
            raise PromptError(f"A frame is given by its number, counted from 0, not by {index!r}.") from None
        if not 0 <= index < self.num_frames:
            raise PromptError(f"There is no frame {index}: the video has {self.num_frames}, counted from 0.")
