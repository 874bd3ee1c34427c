"""A model as training sees it: windows of images in, masks of prompted objects out, with gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.base import Embedding, PromptableModel
from napari_sam.training.data import LabelledImage
from napari_sam.training.lora import add_low_rank
from napari_sam.training.precision import reduced_precision
from napari_sam.training.prompts import SimulatedPrompts

__all__ = ["PARTS", "AnyTrainee", "Features", "Part", "Trainee"]

Part = Literal["all", "decoder", "lora"]
PARTS: tuple[Part, ...] = ("all", "decoder", "lora")
"""What is trained: every weight; all but the image encoder; all but the image encoder, whose attentions get a
low-rank correction."""

Features = tuple[Tensor, ...]
"""What an image encoder says of B windows; the first axis of each is B."""


Model = TypeVar("Model", bound=PromptableModel)


class Trainee(ABC, Generic[Model]):
    """What training needs to know of a family of models.

    Normalisation keeps the statistics that it was published with: batches of a few windows have none that are
    worth knowing.

    Parameters
    ----------
    model : PromptableModel
        As it was built or read, not made ready for inference.
    part : {"all", "decoder", "lora"}
    rank : int
        Of low-rank corrections.
    seed : int
        What these begin with.

    Attributes
    ----------
    side : int
        Of windows, in pixels.
    stride : int
        Pixels of a window per cell of the logits, along each side.
    least_area : int
        Smallest object that is learnt from, in pixels of a window.
    jitter : tuple of float
    most_jitter : float
        Of simulated boxes; see :func:`~napari_sam.training.prompts.first_prompts`.
    second_looks : float
        See :func:`~napari_sam.training.rounds.follow_prompts`.
    windows, objects : int
        How many windows make a step, and how many objects of each, unless the user says.
    rates : dict of str to float
        Learning rate by part, unless the user says.
    caches : bool
        Encoding costs so much that windows are encoded once and kept if the encoder does not learn.
    half : bool
        Weights are saved in float16.
    family : str
        What files say that they hold.

    Raises
    ------
    ModelError
        If the part cannot be trained.
    """

    side: int
    stride: ClassVar[int]
    least_area: ClassVar[int]
    jitter: ClassVar[tuple[float, float]] = (0.1, 0.1)
    most_jitter: ClassVar[float] = 20.0
    second_looks: ClassVar[float] = 0.0
    windows: ClassVar[int] = 1
    objects: ClassVar[int] = 6
    rates: ClassVar[dict[Part, float]]
    caches: ClassVar[bool] = True
    half: ClassVar[bool] = False
    family: ClassVar[str]

    def __init__(self, model: Model, part: Part, rank: int, seed: int) -> None:
        self.model = model
        self.part = part
        model.eval().requires_grad_(False)
        learning = self.decoders()
        if part == "all":
            learning.append(self.encoder)
        for module in learning:
            module.requires_grad_(True)
        if part == "lora" and not add_low_rank(self.encoder, rank, seed):
            raise ModelError(
                f"{model.name or 'This model'} has no attention in its image encoder to add low-rank "
                "corrections to: train all of it, or the decoder."
            )

    @property
    def encoder(self) -> nn.Module:
        """The image encoder."""
        encoder = self.model.image_encoder
        assert isinstance(encoder, nn.Module)
        return encoder

    @property
    def encoder_learns(self) -> bool:
        """Whether gradients reach the image encoder."""
        return self.part != "decoder"

    @property
    def view_nbytes(self) -> int:
        """Memory that a window takes whose features are kept in float16, with its labels."""
        return 2 * self.side**2

    @abstractmethod
    def decoders(self) -> list[nn.Module]:
        """Prompt encoder and mask decoder."""

    @abstractmethod
    def window(
        self, item: LabelledImage, rng: np.random.Generator, *, plain: bool = False
    ) -> tuple[Tensor, Tensor]:
        """A random part of an image, augmented; the whole image as it is if ``plain`` and if it fits.

        Returns
        -------
        pixels : Tensor, shape (3, side, side), float32
            Ready for the encoder.
        labels : Tensor, shape (side, side), int64
        """

    @abstractmethod
    def features(self, pixels: Tensor) -> Features:
        """Encode windows (B, 3, side, side)."""

    @abstractmethod
    def decode(
        self, features: Features, prompts: SimulatedPrompts, logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, 4, h, w) and predicted IoUs (N, 4) of N objects, float32.

        Parameters
        ----------
        features : tuple of Tensor
            One row for each object.
        prompts : SimulatedPrompts
        logits : Tensor, shape (N, 1, h, w), or None
        """

    @abstractmethod
    def loss(self, found: Tensor, scores: Tensor, target: Tensor, prompts: SimulatedPrompts) -> Tensor:
        """The loss of one round of prompts."""

    def dense_loss(self, features: Features, labels: Tensor, items: list[LabelledImage]) -> Tensor | None:
        """The loss of what the encoder says whatever the prompt, if it says anything."""
        return None

    def refreshed(self, embedding: Embedding) -> Embedding:
        """An embedding of validation as the decoder sees it now, after it learnt; the encoder did not."""
        return embedding

    def encode(self, pixels: Tensor) -> Features:
        """Encode windows, with gradients if the encoder learns."""
        with torch.set_grad_enabled(self.encoder_learns and torch.is_grad_enabled()):
            # Without gradients, networks take ways on a CPU that autocast does not know.
            if not self.encoder_learns and pixels.device.type == "cpu":
                return self.features(pixels)
            with self.precision():
                return self.features(pixels)

    def precision(self) -> AbstractContextManager[object]:
        """Inside, bfloat16 where the device has it."""
        model = self.model
        return reduced_precision(model.device, prefers_float32_on_cpu=model.prefers_float32_on_cpu)


AnyTrainee = Trainee[Any]
"""One of whichever family."""
