"""What every model of the package promises: the contract between a network and the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.models.digest import digest_of

__all__ = ["LOW_RES_SIZE", "Embedding", "Instances", "MaskLogits", "PromptBatch", "PromptableModel"]

LOW_RES_SIZE = 256
"""Side of the low-resolution logits that SAM returns and takes back as a mask prompt."""


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts for ``B`` objects of one image, padded to the same number of points.

    Coordinates are (x, y) pixels of the original image; an integer means the centre of that pixel.

    Attributes
    ----------
    points : Tensor, shape (B, N, 2), float32
    labels : Tensor, shape (B, N), int64
        1 positive, 0 negative, -1 padding.
    boxes : Tensor, shape (B, 4), float32, or None
        x0, y0, x1, y1. A row of NaN stands for an object without a box.
    logits : Tensor, shape (B, 1, 256, 256), float32, or None
        Mask prompts on the embedding's :attr:`~Embedding.low_res_frame`. Where a model's `mask_cells` are
        more, that many rows and columns are possible, too.
    closely : bool
        Without it, a model that can answer faster and less exactly does so.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor | None = None
    logits: Tensor | None = None
    closely: bool = True

    def __len__(self) -> int:
        return self.points.shape[0]


@dataclass(frozen=True, slots=True)
class MaskLogits:
    """What a decoder returns for ``B`` objects with ``C`` candidate masks each.

    Attributes
    ----------
    logits : Tensor, shape (B, C, h, w), float32
        Foreground where greater than 0. Outside the frame everything is background.
    frames : Tensor, shape (B, 4), float32
        The rectangle x0, y0, x1, y1 of the original image that the logits cover, measured between
        pixel edges: pixel 0 reaches from 0 to 1. It may reach beyond the image.
    scores : Tensor, shape (B, C), float32
        The predicted IoU of each candidate.
    via : tuple of int, or None
        Rows and columns of a grid over the whole image to which the logits are interpolated first, and from
        there to the image's pixels: SAM was published with masks that are upsampled in two steps.
    limit : float, or None
        Beyond it, up or down, logits are cut off where they become a mask prompt: SAM 2 was published so.
    """

    logits: Tensor
    frames: Tensor
    scores: Tensor
    via: tuple[int, int] | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Instances:
    """All objects that a model sees in a plane without any prompt.

    Attributes
    ----------
    points : Tensor, shape (N, 2), float32
        (x, y) in each object, in pixels of the plane, an integer being a pixel's centre.
    masks : callable
        From the indices of B objects, int64, to their logits and scores, one mask each.
    """

    points: Tensor
    masks: Callable[[NDArray[np.intp]], MaskLogits]


@dataclass(frozen=True, slots=True)
class Embedding(ABC):
    """The image embedding of one plane; each model family has its own subclass.

    Attributes
    ----------
    original_size : tuple of int
        Height and width of the plane that was encoded, in pixels.
    """

    original_size: tuple[int, int]

    @property
    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """The tensors held."""

    @property
    def low_res_frame(self) -> tuple[float, float, float, float]:
        """Which rectangle x0, y0, x1, y1 of the image, between pixel edges, 256 x 256 mask prompts cover.

        Unless a model has its own: a square with the image's longest side, in its upper left corner.
        """
        side = float(max(self.original_size))
        return 0.0, 0.0, side, side

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors)


class PromptableModel(nn.Module, ABC):
    """A promptable segmentation network: ``encode`` once per plane, ``decode`` once per prompt.

    Attributes
    ----------
    name : str
        The name in the model table, or the path of the checkpoint.
    source : Path or None
        The file that the weights are from.
    prefers_float32_on_cpu : bool
        The precision ``"auto"`` is float32 on every CPU: bfloat16 costs this network accuracy, or is not
        faster.
    candidates_for_points : bool
        The best of three candidates is better than the single mask for several points, too, not only for one.
    mask_cells : int
        Rows and columns of the mask prompts that are made of drawn masks.
    finds_centres : bool
        The model can say where objects are; see :meth:`centres` and :meth:`instances`.
    objects_hang_together : bool
        Objects are of one piece: what lies apart in a mask is not of the object. Counts where nobody looks at
        each mask.
    propagates_boxes : bool
        What an object looked like on the plane before is better given with its box than without.
    keeps_embeddings : bool
        To read an embedding from disk is much faster than to compute it; see :meth:`kept`.
    float32_buffers : frozenset of str
        Names, without those of their modules, of buffers that stay in float32 whatever the weights are.
    """

    name: str = ""
    source: Path | None = None
    prefers_float32_on_cpu: ClassVar[bool] = False
    candidates_for_points: ClassVar[bool] = False
    finds_centres: ClassVar[bool] = False
    objects_hang_together: ClassVar[bool] = False
    mask_cells: ClassVar[int] = LOW_RES_SIZE
    propagates_boxes: ClassVar[bool] = True
    keeps_embeddings: ClassVar[bool] = False
    float32_buffers: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def encode(self, pixels: Tensor) -> Embedding:
        """Embed one plane.

        Parameters
        ----------
        pixels : Tensor, shape (3, H, W), uint8 or float32
            RGB between 0 and 255, or between 0 and 1, on any device.
        """

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        """Masks for a batch of prompts: three candidates each if ``multimask``, else one."""

    def kept(self, embedding: Embedding) -> dict[str, Tensor]:
        """What of an embedding of this model is kept on disk: the rest is computed from it in no time.

        Raises
        ------
        NotImplementedError
            If not :attr:`keeps_embeddings`.
        """
        raise NotImplementedError

    def restored(self, kept: Mapping[str, Tensor], original_size: tuple[int, int]) -> Embedding:
        """The embedding again.

        Parameters
        ----------
        kept : mapping of str to Tensor
            On the device of the model, in its precision.
        original_size : tuple of int
            Height and width of the plane that was encoded, in pixels.

        Raises
        ------
        KeyError, ValueError
            If it is not what :meth:`kept` gave.
        NotImplementedError
            If not :attr:`keeps_embeddings`.
        """
        raise NotImplementedError

    def centres(self, embedding: Embedding) -> Tensor:
        """Where objects are, as far as the embedding says, without any prompt.

        Returns
        -------
        Tensor, shape (N, 2), float32
            (x, y) in pixels of the plane, an integer being a pixel's centre.

        Raises
        ------
        NotImplementedError
            If not :attr:`finds_centres`.
        """
        raise NotImplementedError

    def instances(self, embedding: Embedding) -> Instances:
        """All objects, as far as the embedding says, segmented without any prompt.

        Raises
        ------
        NotImplementedError
            If not :attr:`finds_centres`.
        """
        raise NotImplementedError

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Make ready for inference: no gradients, weights on ``device`` and in ``dtype``.

        May be called again, to move the model.
        """
        exact = [
            (self.get_submodule(owner), name, buffer.float())
            for (owner, _, name), buffer in ((n.rpartition("."), b) for n, b in self.named_buffers())
            if name in self.float32_buffers
        ]
        self.eval().requires_grad_(False).to(device=device, dtype=dtype)
        for module, name, buffer in exact:
            setattr(module, name, buffer.to(device))
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def digest(self) -> str:
        """The checksum of the weights' file, ``"sha256:..."``; empty if they are from none.

        The first time, a file that is not in the model table is read, which may take seconds.
        """
        return digest_of(self.name, self.source)

    @property
    def known_digest(self) -> str:
        """The same if that takes no time to say, else an empty text."""
        return digest_of(self.name, self.source, wait=False)
