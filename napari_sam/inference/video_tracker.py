"""Tracking objects through a video: which networks run on a frame, for whom, and what is kept of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_sam.errors import PromptError
from napari_sam.inference.fallback import in_chunks, on_some_device
from napari_sam.inference.prompts import Prompts, batch
from napari_sam.inference.video_memory import Attended, FrameOutput, ObjectMemory
from napari_sam.inference.video_state import VideoState
from napari_sam.models import memory_steps
from napari_sam.models.memory_steps import POINTERS, FrameEmbedding, Tracked
from napari_sam.models.sam2 import Sam2

__all__ = ["VideoTracker"]

_LOGIT_LIMIT = 32.0
"""Logits that come back as a mask prompt are cut off here, as published."""
_CPU_OBJECTS = 1
"""Objects tracked at once on a CPU: more do not fit its caches."""
_OBJECTS = 16
"""Objects tracked at once on a GPU: each takes about 150 MB."""


class VideoTracker:
    """Runs a model on the frames of a video.

    Parameters
    ----------
    model : Sam2
    corrections_condition : bool
        Whether a frame that is corrected after it was tracked is attended to like those prompted first.
    most_conditioning : int
        How many prompted frames a frame attends to at most; -1 for all.
    """

    def __init__(self, model: Sam2, *, corrections_condition: bool, most_conditioning: int) -> None:
        self.model = model
        self.corrections_condition = corrections_condition
        self.most_conditioning = most_conditioning

    def answer(
        self,
        state: VideoState,
        frame: int,
        known: ObjectMemory,
        prompts: Prompts | None,
        mask: Tensor | None,
    ) -> bool:
        """Ask the model what prompts, or a mask, say of an object, and keep that.

        Parameters
        ----------
        state : VideoState
        frame : int
        known : ObjectMemory
            Changed when all went well.
        prompts : Prompts or None
        mask : Tensor, shape (image_size, image_size), float32, or None
            0 and 1, instead of prompts.

        Returns
        -------
        bool
            Whether the frame is a conditioning one.
        """
        # A frame that was propagated to is corrected with all that is remembered; on others a prompt is new.
        first = frame not in known.backward or not known.conditioning
        conditioning = first or self.corrections_condition
        before = known.on(frame, conditioning=conditioning)

        def attempt() -> FrameOutput:
            device = self.model.device
            embedding = state.embedding(self.model, frame)
            if prompts is None:
                assert mask is not None
                return _outputs(state, memory_steps.adopt(self.model, embedding, mask))[0]
            asked = batch([prompts], device)
            if before is not None:
                hint = before.logits.on(device).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
                asked = replace(asked, logits=hint[None, None])
            features = None
            if not first:
                features = self._recall(state, embedding, frame, [known], known.backward[frame])
            return _outputs(state, memory_steps.prompt(self.model, embedding, features, asked))[0]

        output = on_some_device(self.model, attempt)
        known.fresh[conditioning][frame] = output
        known.prompts[frame] = prompts
        return conditioning

    def settle(self, state: VideoState) -> None:
        """Make memories of all answers to prompts.

        Raises
        ------
        PromptError
            If an object has no prompts.
        """
        for obj_id, known in state.objects.items():
            for kind in (False, True):
                for frame, output in list(known.fresh[kind].items()):
                    known.settle(kind, frame, self._remembered(state, frame, output))
            if not known.conditioning:
                raise PromptError(f"Object {obj_id} has no prompts: add points, a box or a mask first.")
            for frame in known.conditioning:
                known.tracked.pop(frame, None)

    def track(
        self, state: VideoState, frame: int, backward: bool, obj_ids: Collection[int] | None = None
    ) -> list[FrameOutput]:
        """The outputs of objects on a frame, all of them by default; nothing is kept before all are there."""
        tracked = {i: state.objects[i] for i in (state.objects if obj_ids is None else obj_ids)}
        groups: dict[object, list[int]] = defaultdict(list)
        for obj_id, known in tracked.items():
            if frame not in known.conditioning:
                groups[self._attended(state, frame, known, backward).layout].append(obj_id)

        def attempt(chunk: Sequence[int]) -> list[FrameOutput]:
            embedding = state.embedding(self.model, frame)
            objects = [state.objects[obj_id] for obj_id in chunk]
            features = self._recall(state, embedding, frame, objects, backward)
            found = memory_steps.decode(self.model, embedding, features)
            return _outputs(state, found, memory_steps.remember(self.model, embedding, found, prompted=False))

        made: dict[int, FrameOutput] = {}
        for group in groups.values():
            few = _CPU_OBJECTS if self.model.device.type == "cpu" else _OBJECTS
            made.update(zip(group, in_chunks(self.model, group, few, attempt), strict=True))
        for obj_id, known in tracked.items():
            known.backward[frame] = backward
            if obj_id in made:
                known.tracked[frame] = made[obj_id]
        return [made.get(obj_id) or known.conditioning[frame] for obj_id, known in tracked.items()]

    def _remembered(self, state: VideoState, frame: int, output: FrameOutput) -> FrameOutput:
        """The answer to a prompt, with its memory."""
        if output.memory is not None:
            return output

        def attempt() -> FrameOutput:
            device = self.model.device
            known = (output.logits.on(device), output.pointer, output.presence, output.score)
            found = Tracked(*(tensor.to(device)[None] for tensor in known))
            embedding = state.embedding(self.model, frame)
            memory = memory_steps.remember(self.model, embedding, found, prompted=True)[0]
            return replace(output, memory=state.store.hold(_placed(state, memory)))

        return on_some_device(self.model, attempt)

    def _recall(
        self,
        state: VideoState,
        embedding: FrameEmbedding,
        frame: int,
        objects: Sequence[ObjectMemory],
        backward: bool,
    ) -> Tensor:
        """The frame's tokens conditioned on the memories of objects that attend to the same frames."""
        device = self.model.device
        attended = [self._attended(state, frame, known, backward) for known in objects]
        times, distances = attended[0].layout
        held = [out.memory for one in attended for out in one.memories.values()]
        memories = torch.stack([memory.on(device) for memory in held if memory is not None])
        # A frame before all prompted ones has no pointers in its past.
        pointers = torch.stack(
            [out.pointer.to(device) for one in attended for out in one.pointers.values()]
            or [self.model.no_obj_ptr[:0]]
        )
        return memory_steps.recall(
            self.model,
            state.begun(self.model, embedding),
            memories.unflatten(0, (len(objects), -1)),
            times,
            pointers.view(len(objects), len(distances), self.model.no_obj_ptr.shape[1]),
            distances,
            longest=max(1, min(state.num_frames, POINTERS) - 1),
        )

    def _attended(self, state: VideoState, frame: int, known: ObjectMemory, backward: bool) -> Attended:
        return known.attended(
            frame, backward=backward, frames=state.num_frames, conditioning=self.most_conditioning
        )


def _outputs(state: VideoState, found: Tracked, memories: Tensor | None = None) -> list[FrameOutput]:
    """What is kept of each object."""
    found = Tracked(*(_placed(state, tensor) for tensor in found))
    memories = None if memories is None else _placed(state, memories)
    hold = state.store.hold
    return [
        FrameOutput(
            hold(found.logits[b]),
            found.pointers[b],
            found.presence[b],
            found.scores[b],
            None if memories is None else hold(memories[b]),
        )
        for b in range(len(found.logits))
    ]


def _placed(state: VideoState, tensor: Tensor) -> Tensor:
    """A tensor where the state is to be kept."""
    return tensor.cpu() if state.offload_state_to_cpu else tensor
