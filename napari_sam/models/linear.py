"""Linear layers as fast as a CPU can: one place for what PyTorch does not offer publicly."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["linear", "linear_gelu", "linear_relu", "product", "products"]

_X86 = platform.machine().lower() in ("x86_64", "amd64")


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)``."""
    return product(x, layer.weight, layer.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.t() + bias``, of ``x`` (..., I), ``weight`` (O, I) and ``bias`` (O,)."""
    return _onednn(x, weight, bias, "none") if _fits(x) else F.linear(x, weight, bias)


def products(x: Tensor, weights: Tensor) -> Tensor:
    """``x @ weights.transpose(1, 2)``, of ``x`` (B, N, I) and ``weights`` (B, O, I), for a small B."""
    if not _fits(x):
        return x @ weights.transpose(1, 2)
    return torch.stack([product(*pair) for pair in zip(x, weights, strict=True)])


def linear_gelu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``F.gelu(layer(x))``, without the activation before GELU going through memory where possible."""
    return _onednn(x, layer.weight, layer.bias, "gelu") if _fits(x) else F.gelu(layer(x))


def linear_relu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``F.relu(layer(x))``, likewise."""
    return _onednn(x, layer.weight, layer.bias, "relu") if _fits(x) else F.relu(layer(x), inplace=True)


def _fits(x: Tensor) -> bool:
    """Whether to ask oneDNN: in float32 PyTorch takes MKL instead, half as fast on CPUs of AMD.

    Where autocast chooses dtypes, it does not see what oneDNN is asked.
    """
    return (
        _X86
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    # Private in PyTorch, whose compiler replaces linear layers by it; there is no public way to oneDNN's
    # float32 product, nor to a product that ends in an activation. It has no gradient.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")  # noqa: SLF001
