"""What is remembered of one object of a video, and which of it a frame attends to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from napari_sam.inference.prompts import Prompts
from napari_sam.inference.video_store import Held
from napari_sam.models.memory_steps import MEMORIES, POINTERS

__all__ = ["Attended", "FrameOutput", "ObjectMemory"]


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """What is known of one object on one frame.

    Attributes
    ----------
    logits : Held
        Of the mask: shape (256, 256), float32.
    pointer : Tensor, shape (256,)
    presence : Tensor, shape ()
        Logit of whether the object is there.
    score : Tensor, shape ()
        Predicted IoU.
    memory : Held or None
        Shape (4096, 64), bfloat16; None until the frame is propagated from.
    """

    logits: Held
    pointer: Tensor
    presence: Tensor
    score: Tensor
    memory: Held | None = None


class Attended(NamedTuple):
    """What a frame attends to.

    Attributes
    ----------
    memories : dict of (int, int) to FrameOutput
        By frame and how many frames ago that is, which is 0 for prompted frames.
    pointers : dict of (int, int) to FrameOutput
        By frame and how many frames ago that is, in the direction of tracking.
    """

    memories: dict[tuple[int, int], FrameOutput]
    pointers: dict[tuple[int, int], FrameOutput]

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How long ago everything is: objects that have this in common are tracked together."""
        return tuple(t for _, t in self.memories), tuple(t for _, t in self.pointers)


@dataclass
class ObjectMemory:
    """One object of a video.

    Frames with prompts are *conditioning*: all later and earlier frames attend to them. What was *tracked* is
    attended to by the frames close by. Answers to prompts are *fresh* until the next propagation, which makes
    memories of them.

    Attributes
    ----------
    prompts : dict of int to Prompts, or to None for a mask
        What was prompted on which frame.
    conditioning, tracked : dict of int to FrameOutput
        By frame.
    fresh : dict of bool to dict of int to FrameOutput
        Answers to prompts, of conditioning frames (True) and of others.
    backward : dict of int to bool
        Frames that were propagated to, and whether that was backward in time.
    """

    prompts: dict[int, Prompts | None] = field(default_factory=dict)
    conditioning: dict[int, FrameOutput] = field(default_factory=dict)
    tracked: dict[int, FrameOutput] = field(default_factory=dict)
    fresh: dict[bool, dict[int, FrameOutput]] = field(default_factory=lambda: {False: {}, True: {}})
    backward: dict[int, bool] = field(default_factory=dict)

    def on(self, frame: int, *, conditioning: bool) -> FrameOutput | None:
        """What is known of a frame; of answers to prompts, one of this kind."""
        for outputs in (self.fresh[conditioning], self.conditioning, self.tracked):
            if frame in outputs:
                return outputs[frame]
        return None

    def settle(self, kind: bool, frame: int, output: FrameOutput) -> None:
        """A fresh answer, with its memory, counts from now on."""
        (self.conditioning if kind else self.tracked)[frame] = output
        del self.fresh[kind][frame]

    def clear(self, frame: int) -> None:
        """Forget the prompts of a frame; its mask becomes a tracked one."""
        self.prompts.pop(frame, None)
        for answers in self.fresh.values():
            answers.pop(frame, None)
        output = self.conditioning.pop(frame, None)
        if output is not None:
            self.tracked[frame] = output
            self.backward.pop(frame, None)

    def attended(self, frame: int, *, backward: bool, frames: int, conditioning: int = -1) -> Attended:
        """What a frame attends to.

        Prompted frames, the six frames before (after, if tracking goes backward), and the object pointers of
        prompted frames in the past and of the frames before.

        Parameters
        ----------
        frame : int
        backward : bool
        frames : int
            In the video.
        conditioning : int
            How many prompted frames at most, those closest in time; -1 for all.
        """
        step = 1 if backward else -1
        chosen = closest(frame, self.conditioning, conditioning)
        others = {at: out for at, out in self.conditioning.items() if at not in chosen}
        near = others | self.tracked
        memories = {(at, 0): out for at, out in chosen.items()}
        for ago in range(MEMORIES - 1, 0, -1):
            at = frame + step * ago
            if at in near:
                memories[at, ago] = near[at]
        pointers = {(at, (at - frame) * step): out for at, out in chosen.items() if (at - frame) * step >= 0}
        for ago in range(1, min(frames, POINTERS)):
            at = frame + step * ago
            if at in near:
                pointers[at, ago] = near[at]
        return Attended(memories, pointers)


def closest(frame: int, outputs: Mapping[int, FrameOutput], count: int) -> dict[int, FrameOutput]:
    """The `count` outputs closest to a frame in time, one from each side at least; all for -1."""
    if count < 0 or len(outputs) <= count:
        return dict(outputs)
    before = max((at for at in outputs if at < frame), default=None)
    after = min((at for at in outputs if at >= frame), default=None)
    sides = [at for at in (before, after) if at is not None]
    others = sorted((at for at in outputs if at not in sides), key=lambda at: abs(at - frame))
    return {at: outputs[at] for at in (sides + others)[: max(count, len(sides))]}
