"""MobileSAM's image encoder.

``mobile_sam`` is not on the package index. The reference here is timm's TinyViT, another implementation of
the same network, under MobileSAM's names and with MobileSAM's one change (the last stage keeps its
resolution), followed by SAM's neck made of the official package's parts. All weights are random.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from napari_sam.models import tiny_vit
from napari_sam.models.tiny_vit import TinyViT


def scramble(module: nn.Module) -> None:
    """Weights that let every part contribute: activations of about unit size, biases and statistics not 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, t in module.state_dict().items():
            noise = torch.randn(t.shape, generator=generator)
            if name.endswith("attention_biases"):
                t.copy_(noise)
            elif t.ndim > 1:
                t.copy_(noise * t[0].numel() ** -0.5)
            elif name.endswith(("weight", "running_var")):
                t.copy_(noise.abs().clamp(0.3, 2))
            elif t.is_floating_point():
                t.copy_(0.2 * noise)


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((ours.float() - theirs).abs().max() / theirs.abs().max())


def pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def timm_name(name: str) -> str:
    """What timm calls a parameter: it counts the way to the next stage as the next stage's first part."""
    parts = name.replace(".c.", ".conv.").split(".")
    if parts[:2] == ["patch_embed", "seq"]:
        parts[1:3] = ["conv1" if parts[2] == "0" else "conv2"]
    elif parts[0] == "layers":
        parts[0] = "stages"
        if parts[2] == "downsample":
            parts[1] = str(int(parts[1]) + 1)
    elif parts[0] in ("head", "norm_head"):
        parts[:1] = ["head", "norm" if parts[0] == "norm_head" else "fc"]
    return ".".join(parts)


class Reference(nn.Module):
    """timm's TinyViT with MobileSAM's last stage, and SAM's neck."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        timm = pytest.importorskip("timm")
        common = pytest.importorskip("segment_anything.modeling.common")
        self.trunk = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=1000)
        self.trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            common.LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            common.LayerNorm2d(256),
        )
        trunk = {timm_name(k): v for k, v in state.items() if not k.startswith("neck.")}
        self.trunk.load_state_dict(trunk, strict=True)
        self.neck.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("neck.")}, strict=True)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.trunk.forward_features(x))


@pytest.fixture(scope="module")
def encoder() -> TinyViT:
    ours = TinyViT().eval().requires_grad_(False)
    scramble(ours)
    return ours


@pytest.fixture(scope="module")
def fused(encoder: TinyViT) -> TinyViT:
    model = copy.deepcopy(encoder)
    model.fuse()
    return model


@pytest.fixture(scope="module")
def reference(encoder: TinyViT) -> Reference:
    return Reference(encoder.state_dict())


def test_keys_are_those_of_the_checkpoint() -> None:
    state = TinyViT().state_dict()
    assert len(state) == 302  # and SAM's prompt encoder and mask decoder have the other 137 of 439
    shapes = {
        "patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "patch_embed.seq.2.bn.num_batches_tracked": (),
        "layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
        "layers.0.downsample.conv3.bn.running_var": (128,),
        "layers.1.blocks.0.attn.attention_biases": (4, 49),
        "layers.2.blocks.5.attn.attention_biases": (5, 196),
        "layers.2.blocks.5.attn.qkv.weight": (480, 160),
        "layers.2.blocks.5.mlp.fc1.weight": (640, 160),
        "layers.3.blocks.1.local_conv.c.weight": (320, 1, 3, 3),
        "norm_head.weight": (320,),
        "head.weight": (1000, 320),
        "neck.2.weight": (256, 256, 3, 3),
    }
    assert {k: tuple(state[k].shape) for k in shapes} == shapes


def test_full_size_is_the_reference(fused: TinyViT, reference: Reference) -> None:
    x = pixels(1, 3, 1024, 1024)
    with torch.inference_mode():
        ours, theirs = fused(x), reference(x)
    assert ours.shape == (1, 256, 64, 64)
    assert error(ours, theirs) < 1e-4


# windows that fit (224), windows filled up by different amounts, and one window that is not full
@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (3, 3, 256, 192), (2, 3, 144, 368), (1, 3, 64, 80)])
def test_other_sizes_and_batches_are_the_reference(
    encoder: TinyViT, reference: Reference, shape: tuple[int, ...]
) -> None:
    x = pixels(*shape)
    with torch.inference_mode():
        assert error(encoder(x), reference(x)) < 1e-4


def test_all_of_the_attention_counts(encoder: TinyViT) -> None:
    """Weights under which a part would not matter would make the tests against the reference worthless."""
    x = pixels(1, 3, 128, 128)
    with torch.inference_mode():
        before = encoder(x)
        for part in ("attention_biases", "attn.norm.bias", "local_conv.bn.running_mean", "neck.2.weight"):
            model = copy.deepcopy(encoder)
            for name, t in model.state_dict().items():
                if name.endswith(part):
                    t.zero_()
            assert error(model(x), before) > 1e-2, part


def test_fusing_twice_is_fusing_once(encoder: TinyViT, fused: TinyViT) -> None:
    x = pixels(1, 3, 128, 128)
    twice = copy.deepcopy(fused)
    twice.fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twice.modules())
    with torch.inference_mode():
        assert torch.equal(twice(x), fused(x))
        assert error(fused(x), encoder(x)) < 1e-5


def test_fusing_gathers_the_biases_that_were_loaded(encoder: TinyViT) -> None:
    """A cache filled before the weights come would go unnoticed: the network works, only worse."""
    x = pixels(1, 3, 128, 128)
    model = TinyViT().eval()
    with torch.inference_mode():
        model(x)
        model.load_state_dict(encoder.state_dict(), strict=True)
        assert error(model(x), encoder(x)) < 1e-5
        model.fuse()
        assert error(model(x), encoder(x)) < 1e-5


@pytest.mark.parametrize("elements", [1, 40_000, 150_000])
def test_strips_do_not_show(fused: TinyViT, monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    x = pixels(2, 3, 112, 96)
    with torch.inference_mode():
        monkeypatch.setattr(tiny_vit, "_STRIP_ELEMENTS", 2**40)
        whole = fused(x)
        monkeypatch.setattr(tiny_vit, "_STRIP_ELEMENTS", elements)
        assert error(fused(x), whole) < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
def test_bfloat16_agrees(fused: TinyViT, batch: int) -> None:
    half = copy.deepcopy(fused).to(torch.bfloat16)
    x = pixels(batch, 3, 192, 192)
    with torch.inference_mode():
        ours, exact = half(x.bfloat16()), fused(x)
    assert ours.dtype == torch.bfloat16
    assert float((ours - exact).norm() / exact.norm()) < 0.03


def test_gradients_reach_every_parameter_but_the_classifier(encoder: TinyViT) -> None:
    trained = copy.deepcopy(encoder).requires_grad_(True).train()
    trained(pixels(2, 3, 64, 64)).square().sum().backward()
    without = {n for n, p in trained.named_parameters() if p.grad is None}
    assert without == {"norm_head.weight", "norm_head.bias", "head.weight", "head.bias"}
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)
