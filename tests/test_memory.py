"""Memory attention and memory encoder of SAM 2, against the official package with the same random weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from napari_sam.models import tiled_attention
from napari_sam.models.memory_attention import MemoryAttention
from napari_sam.models.memory_encoder import MemoryEncoder
from napari_sam.models.positions import sine_positions

SIDE = 12
POINTERS = 8
CASES = [(1, 0), (1, POINTERS), (3, 0), (7, 4 * POINTERS), (0, POINTERS)]


def scramble(module: nn.Module) -> None:
    """Weights that let every part contribute: activations of about unit size, no scale or shift near 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
            else:
                p.copy_(torch.rand(p.shape, generator=generator) + 0.2)


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((ours.float() - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def attention() -> MemoryAttention:
    ours = MemoryAttention().eval().requires_grad_(False)
    scramble(ours)
    return ours


@pytest.fixture(scope="module")
def encoder() -> MemoryEncoder:
    ours = MemoryEncoder().eval().requires_grad_(False)
    scramble(ours)
    return ours


def attention_inputs(frames: int, pointers: int, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    count = SIDE * SIDE
    tokens = frames * count + pointers
    shapes = ((batch, count, 256), (batch, tokens, 64), (batch, count, 256), (batch, tokens, 64))
    current, memory, current_pos, memory_pos = (torch.randn(s, generator=generator) for s in shapes)
    return current, memory, current_pos, memory_pos


def official_attention() -> nn.Module:
    official = pytest.importorskip("sam2.modeling.memory_attention")
    transformer = pytest.importorskip("sam2.modeling.sam.transformer")
    rotary = {"embedding_dim": 256, "num_heads": 1, "feat_sizes": (64, 64)}
    layer = official.MemoryAttentionLayer(
        activation="relu",
        cross_attention=transformer.RoPEAttention(rope_k_repeat=True, kv_in_dim=64, **rotary),
        d_model=256,
        dim_feedforward=2048,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=transformer.RoPEAttention(**rotary),
    )
    return official.MemoryAttention(d_model=256, pos_enc_at_input=True, layer=layer, num_layers=4).eval()


def official_encoder() -> nn.Module:
    official = pytest.importorskip("sam2.modeling.memory_encoder")
    positions = pytest.importorskip("sam2.modeling.position_encoding")
    return official.MemoryEncoder(
        out_dim=64,
        mask_downsampler=official.MaskDownSampler(kernel_size=3, stride=2, padding=1),
        fuser=official.Fuser(official.CXBlock(dim=256), num_layers=2),
        position_encoding=positions.PositionEmbeddingSine(num_pos_feats=64),
    ).eval()


@pytest.mark.parametrize(("height", "width", "channels"), [(64, 64, 256), (64, 64, 64), (5, 7, 32)])
def test_sine_positions_are_the_official_ones(height: int, width: int, channels: int) -> None:
    positions = pytest.importorskip("sam2.modeling.position_encoding")
    theirs = positions.PositionEmbeddingSine(channels)(torch.zeros(1, 1, height, width))
    torch.testing.assert_close(sine_positions(height, width, channels), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("frames", "pointers"), CASES)
def test_memory_attention_is_the_official_one(
    attention: MemoryAttention, monkeypatch: pytest.MonkeyPatch, frames: int, pointers: int
) -> None:
    monkeypatch.setattr(tiled_attention, "_QUERIES", 50)  # so that the last group of queries is smaller
    official = official_attention()
    official.load_state_dict(attention.state_dict(), strict=True)
    inputs = attention_inputs(frames, pointers, batch=3)
    with torch.inference_mode():
        # the official module takes tokens first
        theirs = official(*(t.transpose(0, 1) for t in inputs), num_obj_ptr_tokens=pointers).transpose(0, 1)
        ours = attention(*inputs, pointers)
    assert error(ours, theirs) < 1e-4


def test_memory_attention_depends_on_all_it_is_given(attention: MemoryAttention) -> None:
    """Weights under which an input would not matter would make the parity tests worthless."""
    inputs = attention_inputs(2, POINTERS, batch=1)
    with torch.inference_mode():
        before = attention(*inputs, POINTERS)
        assert error(attention(*inputs, POINTERS + 2 * SIDE * SIDE), before) > 1e-2  # nothing rotated
        for i in range(4):
            changed = [t.roll(1, dims=1) if i == j else t for j, t in enumerate(inputs)]
            assert error(attention(*changed, POINTERS), before) > 1e-2


def test_memory_attention_leaves_its_inputs_alone(attention: MemoryAttention) -> None:
    inputs = attention_inputs(2, POINTERS, batch=1)
    kept = [t.clone() for t in inputs]
    with torch.inference_mode():
        attention(*inputs, POINTERS)
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept, strict=True))


def test_positions_may_be_shared_by_the_batch(attention: MemoryAttention) -> None:
    current, memory, current_pos, memory_pos = attention_inputs(1, POINTERS, batch=3)
    shared = current_pos[:1], memory_pos[:1]
    with torch.inference_mode():
        together = attention(current, memory, *shared, POINTERS)
        alone = torch.cat(
            [attention(current[i : i + 1], memory[i : i + 1], *shared, POINTERS) for i in range(3)]
        )
    assert error(together, alone) < 1e-5


@pytest.mark.parametrize(("count", "tokens", "pointers"), [(12, 12, 0), (16, 20, 0), (16, 4, 8)])
def test_memories_that_do_not_fit_are_refused(
    attention: MemoryAttention, count: int, tokens: int, pointers: int
) -> None:
    current, memory = torch.zeros(1, count, 256), torch.zeros(1, tokens, 64)
    with pytest.raises(ValueError, match="do not fit"):
        attention(current, memory, current, memory, pointers)


def test_gradients_reach_every_parameter_of_the_memory_attention(attention: MemoryAttention) -> None:
    trained = copy.deepcopy(attention).requires_grad_(True)
    trained(*attention_inputs(2, POINTERS, batch=1), POINTERS).square().sum().backward()
    # the bias of a key shifts all scores of a query alike, as long as the keys are not rotated
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in trained.parameters())


def encoder_inputs(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(batch, 1, 16 * SIDE, 16 * SIDE, generator=generator) * 20 - 10
    return torch.randn(batch, 256, SIDE, SIDE, generator=generator), masks


@pytest.mark.parametrize("batch", [1, 3])
def test_memory_encoder_is_the_official_one(encoder: MemoryEncoder, batch: int) -> None:
    official = official_encoder()
    official.load_state_dict(encoder.state_dict(), strict=True)
    inputs = encoder_inputs(batch)
    with torch.inference_mode():
        theirs = official(*inputs, skip_mask_sigmoid=True)
        memory, positions = encoder(*inputs)
    assert error(memory, theirs["vision_features"]) < 1e-4
    assert error(positions.expand(batch, -1, -1, -1), theirs["vision_pos_enc"][0]) < 1e-6


def test_memory_encoder_depends_on_image_and_mask(encoder: MemoryEncoder) -> None:
    embedding, masks = encoder_inputs(1)
    with torch.inference_mode():
        before = encoder(embedding, masks)[0]
        assert error(encoder(embedding.roll(1, dims=3), masks)[0], before) > 1e-2
        assert error(encoder(embedding, masks.roll(16, dims=3))[0], before) > 1e-2


def test_a_new_memory_encoder_starts_as_published() -> None:
    """Blocks of the fuser begin close to the identity."""
    for name, p in MemoryEncoder().named_parameters():
        if name.endswith("gamma"):
            torch.testing.assert_close(p.detach(), torch.full((256,), 1e-6))


def test_bfloat16_agrees(attention: MemoryAttention, encoder: MemoryEncoder) -> None:
    half_attention = copy.deepcopy(attention).to(torch.bfloat16)
    half_encoder = copy.deepcopy(encoder).to(torch.bfloat16)
    tokens, maps = attention_inputs(2, POINTERS, batch=1), encoder_inputs(1)
    with torch.inference_mode():
        ours = half_attention(*(t.bfloat16() for t in tokens), POINTERS)
        memory, positions = half_encoder(*(t.bfloat16() for t in maps))
        assert ours.dtype == memory.dtype == positions.dtype == torch.bfloat16
        assert error(ours, attention(*tokens, POINTERS)) < 0.05
        assert error(memory, encoder(*maps)[0]) < 0.05
