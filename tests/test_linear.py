"""The products that are asked of oneDNN are those of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.linear import linear, linear_gelu, linear_relu, product, products

ACTIVATIONS: list[tuple[Callable[[Tensor, nn.Linear], Tensor], Callable[[Tensor], Tensor]]] = [
    (linear, lambda x: x),
    (linear_gelu, F.gelu),
    (linear_relu, F.relu),
]


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 40)


@pytest.mark.parametrize(("ours", "activation"), ACTIVATIONS)
@pytest.mark.parametrize("gradients", [False, True])
def test_layers(
    layer: nn.Linear,
    ours: Callable[[Tensor, nn.Linear], Tensor],
    activation: Callable[[Tensor], Tensor],
    gradients: bool,
) -> None:
    x = torch.randn(2, 5, 24)
    with torch.set_grad_enabled(gradients):
        found = ours(x, layer)
        assert found.requires_grad == gradients
        torch.testing.assert_close(found, activation(F.linear(x, layer.weight, layer.bias)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
def test_products_of_any_strides(dtype: torch.dtype, batch: int) -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(batch, 24, 7).to(dtype).transpose(1, 2), torch.randn(batch, 24, 9).to(dtype)
    exact = x.double() @ weights.double()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    with torch.inference_mode():
        found = products(x, weights.transpose(1, 2))
        one = product(x[0], weights[0].t())
    assert found.dtype == one.dtype == dtype
    torch.testing.assert_close(
        found.double(), exact, rtol=tolerance, atol=tolerance * float(exact.abs().max())
    )
    assert torch.equal(one, found[0])


@pytest.mark.parametrize("autocast", [False, True])
def test_autocast_goes_on_choosing_dtypes(layer: nn.Linear, autocast: bool) -> None:
    x = torch.randn(3, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        found = linear(linear(x, layer)[:, :24], layer)
    assert found.dtype == (torch.bfloat16 if autocast else torch.float32)
