"""Which network a state dict belongs to, from the names and shapes of its parameters.

A user's own fine-tuned checkpoint needs no name: it says itself what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_sam.errors import ModelError
from napari_sam.models.zoo import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from napari_sam.models.base import PromptableModel

__all__ = ["Architecture", "identify"]

_NANO = "prompt_encoder.kinds.weight"
_VIT = "image_encoder.pos_embed"
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"
_HIERA = "image_encoder.trunk.patch_embed.proj.weight"
_ONLY_IN_2_1 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
_WINDOW = 14

_VITS = {
    (768, 12, (2, 5, 8, 11)): "vit_b",
    (1024, 24, (5, 11, 17, 23)): "vit_l",
    (1280, 32, (7, 15, 23, 31)): "vit_h",
}
"""Encoder by width, number of blocks, and the blocks with global attention."""

_HIERAS = {
    (96, 12): "hiera_tiny",
    (96, 16): "hiera_small",
    (112, 24): "hiera_base_plus",
    (144, 48): "hiera_large",
}
"""Encoder by width of the patch embedding and number of blocks."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network that napari-sam has.

    Attributes
    ----------
    family : {"nano", "sam", "sam2"}
    encoder : str
        As in :class:`~napari_sam.models.zoo.ModelInfo`.
    version : str
        Of SAM 2: ``"2"`` or ``"2.1"``; else empty.
    """

    family: Family
    encoder: str
    version: str = ""

    def build(self, *, initialise: bool = True) -> PromptableModel:
        """The network, on the CPU and in float32.

        Parameters
        ----------
        initialise : bool, default True
            False leaves the parameters as memory happens to be, for weights that are loaded next:
            drawing 640 million random numbers takes seconds.
        """
        if not initialise:
            with _NoInit():
                return self.build()
        if self.family == "sam":
            from napari_sam.models.sam import build_sam

            return build_sam(self.encoder)
        if self.family == "sam2":
            from napari_sam.models.sam2 import build_sam2

            return build_sam2(self.encoder, version=self.version)
        from napari_sam.models.nano import Nano

        return Nano()


class _NoInit(TorchFunctionMode):
    """Inside, ``torch.nn.init`` returns tensors as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def identify(state: Mapping[str, Tensor], source: str = "The checkpoint") -> Architecture:
    """The architecture whose parameters these are.

    Only what tells the architectures apart is looked at; whether all parameters are there is for
    :func:`~napari_sam.models.checkpoint.load_into` to say.

    Parameters
    ----------
    state : mapping of str to Tensor
        Parameters by name, as :func:`~napari_sam.models.checkpoint.read_state` returns them.
    source : str
        What to call them in an error.

    Raises
    ------
    ModelError
        If it is none of them; says what was seen.
    """
    if _NANO in state:
        return Architecture("nano", "nano")
    if _TINY_VIT in state:
        return Architecture("sam", "vit_t")
    if _HIERA in state:
        size = (_length(state[_HIERA], 0), _count_blocks(state, "image_encoder.trunk.blocks"))
        if size in _HIERAS:
            version = "2.1" if any(key in state for key in _ONLY_IN_2_1) else "2"
            return Architecture("sam2", _HIERAS[size], version)
        seen = f"a Hiera that starts {size[0]} wide and has {size[1]} blocks"
    elif _VIT in state:
        blocks = _count_blocks(state, "image_encoder.blocks")
        vit = (_length(state[_VIT], -1), blocks, _global_blocks(state))
        if vit in _VITS:
            return Architecture("sam", _VITS[vit])
        where = ", ".join(map(str, vit[2])) or "none"
        seen = f"a ViT {vit[0]} wide with {vit[1]} blocks, of which {where} have global attention"
    else:
        names = sorted(state)
        seen = f"parameters named {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    raise ModelError(
        f"{source} has {seen}, which is none of the known models; "
        "use a checkpoint of SAM, MobileSAM, SAM 2 or nano, or one fine-tuned from these."
    )


def _length(tensor: Tensor, axis: int) -> int:
    """Of an axis; 0 if it has none, which is no weight of any model."""
    return tensor.shape[axis] if tensor.ndim else 0


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, state) if match})


def _global_blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Blocks whose relative positions reach further than a window's."""
    pattern = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_h")
    return tuple(
        sorted(
            int(match[1])
            for name, tensor in state.items()
            if (match := pattern.fullmatch(name)) and _length(tensor, 0) > 2 * _WINDOW - 1
        )
    )
