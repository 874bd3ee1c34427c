"""SAM against the official ``segment_anything`` package, with random weights of its own layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut, coins
from torch import nn

from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.sam import build_sam
from napari_sam.models.sam_image_encoder import VIT_SIZES, ImageEncoderViT, ViTSize

official = pytest.importorskip("segment_anything", reason="the official package is not installed")

IMAGES = {
    "wide": astronaut()[:300],
    "high": np.ascontiguousarray(astronaut()[:, 100:350]),
    "square": astronaut(),
    "large": np.tile(astronaut(), (3, 4, 1))[:1300],
    "gray": np.repeat(coins()[..., None], 3, axis=2),
}
PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": np.array([[100, 80]]), "point_labels": np.array([1])},
    "points": {"point_coords": np.array([[100, 80], [30, 40], [9, 9]]), "point_labels": np.array([1, 0, 1])},
    "box": {"box": np.array([20, 30, 200, 210])},
    "both": {
        "point_coords": np.array([[100, 80]]),
        "point_labels": np.array([0]),
        "box": np.array([20, 30, 200, 210]),
    },
    "mask": {
        "point_coords": np.array([[100, 80]]),
        "point_labels": np.array([1]),
        "mask_input": np.linspace(-8, 8, 256 * 256, dtype=np.float32).reshape(1, 256, 256),
    },
}


@torch.no_grad()
def _official_sam(size: ViTSize) -> nn.Module:
    """The official model with random weights, none of them zero."""
    from segment_anything.build_sam import _build_sam

    torch.manual_seed(0)
    network = _build_sam(
        encoder_embed_dim=size.dim,
        encoder_depth=size.depth,
        encoder_num_heads=size.heads,
        encoder_global_attn_indexes=size.global_blocks,
    )
    for parameter in network.parameters():
        if not parameter.any():
            parameter.normal_(std=0.05)
    return network.eval()


@torch.no_grad()
def _official_encoder(size: ViTSize, image_size: int) -> nn.Module:
    """The official encoder for smaller images with random weights, none of them zero."""
    network = official.modeling.ImageEncoderViT(
        img_size=image_size,
        embed_dim=size.dim,
        depth=size.depth,
        num_heads=size.heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=size.global_blocks,
    )
    for parameter in network.parameters():
        if not parameter.any():
            parameter.normal_(std=0.05)
    return network


def _pair(size: ViTSize) -> tuple[Any, SamPredictor]:
    network = _official_sam(size)
    model = build_sam(size)
    model.load_state_dict(network.state_dict(), strict=True)
    model.prepare(torch.device("cpu"), torch.float32)
    return official.SamPredictor(network), SamPredictor(model)


@pytest.fixture(scope="module")
def small() -> tuple[Any, SamPredictor]:
    """One narrow block, for what comes before and after blocks."""
    return _pair(ViTSize(128, 1, 2, ()))


@pytest.fixture(scope="module")
def wide() -> tuple[Any, SamPredictor]:
    """Two blocks as wide as in ViT-B: one with windows, one without."""
    theirs, ours = _pair(ViTSize(768, 2, 12, (1,)))
    for predictor in (theirs, ours):
        predictor.set_image(IMAGES["wide"])
    return theirs, ours


def close(found: np.ndarray | torch.Tensor, expected: np.ndarray | torch.Tensor) -> bool:
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


def agree(theirs: Any, ours: SamPredictor, prompts: dict[str, Any], multimask: bool) -> None:
    """Masks, predicted IoUs and low-resolution logits are the same."""
    masks, scores, low_res = theirs.predict(**prompts, multimask_output=multimask)
    own_masks, own_scores, own_low_res = ours.predict(**prompts, multimask_output=multimask)
    assert 0 < masks.mean() < 1
    assert close(own_low_res, low_res)
    assert close(own_scores, scores)
    for own, mask in zip(own_masks, masks, strict=True):
        assert (own & mask).sum() > 0.999 * (own | mask).sum()


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("multimask", [True, False], ids=["three", "one"])
def test_prompts_at_full_width(
    wide: tuple[Any, SamPredictor], prompts: dict[str, Any], multimask: bool
) -> None:
    theirs, ours = wide
    assert close(ours.get_image_embedding(), theirs.get_image_embedding())
    agree(theirs, ours, prompts, multimask)


@pytest.mark.parametrize("name", ["high", "square", "large", "gray"])
def test_images_of_other_shapes(small: tuple[Any, SamPredictor], name: str) -> None:
    theirs, ours = small
    for predictor in small:
        predictor.set_image(IMAGES[name])
    assert close(ours.get_image_embedding(), theirs.get_image_embedding())
    for kind in ("point", "box"):
        agree(theirs, ours, PROMPTS[kind], kind == "point")


def test_batches_in_the_transformed_frame(small: tuple[Any, SamPredictor]) -> None:
    image = IMAGES["wide"]
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(0, 300, (5, 2, 2)))
    labels = torch.from_numpy(rng.integers(0, 2, (5, 2)))
    boxes = torch.tensor([[10.0, 20, 100, 200]]).repeat(5, 1) + torch.arange(5)[:, None]
    found = []
    for predictor in small:
        predictor.set_image(image)
        coords = predictor.transform.apply_coords_torch(points, image.shape[:2])
        corners = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
        found.append(predictor.predict_torch(coords, labels, corners, multimask_output=False))
    (masks, scores, low_res), (own_masks, own_scores, own_low_res) = found
    assert close(own_low_res, low_res)
    assert close(own_scores, scores)
    assert (masks != own_masks).float().mean() < 1e-4


# Depth is compared once, since all blocks but those that see the whole image are the same. 320 pixels are
# 20 x 20 cells, which windows of 14 do not divide, as they do not divide the 64 x 64 of 1024 pixels.
@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
@torch.no_grad()
def test_encoders_at_full_width(name: str) -> None:
    size = VIT_SIZES[name]
    if name != "vit_b":
        size = ViTSize(size.dim, 2, size.heads, (1,))
    network = _official_encoder(size, 320)
    ours = ImageEncoderViT(size, image_size=320)
    ours.load_state_dict(network.state_dict(), strict=True)
    pixels = torch.randn(1, 3, 320, 320)
    assert close(ours.eval()(pixels), network.eval()(pixels))


def test_gradients_for_fine_tuning() -> None:
    size = ViTSize(96, 2, 4, (1,))
    theirs = _official_encoder(size, 320)
    ours = ImageEncoderViT(size, image_size=320)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels = torch.randn(2, 3, 320, 320)
    weights = torch.randn(2, 256, 20, 20)
    for encoder in (theirs, ours):
        (encoder(pixels) * weights).sum().backward()
    for own, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert own.grad is not None
        assert close(own.grad, parameter.grad)


def test_bfloat16_is_near() -> None:
    size = ViTSize(128, 2, 2, (1,))
    weights = _official_sam(size).state_dict()
    predictors = []
    for dtype in (torch.float32, torch.bfloat16):
        model = build_sam(size)
        model.load_state_dict(weights, strict=True)
        predictors.append(SamPredictor(model.prepare(torch.device("cpu"), dtype)))
        predictors[-1].set_image(IMAGES["wide"])
    for prompts in PROMPTS.values():
        (expected, scores, _), (found, near, _) = (
            predictor.predict(**prompts, return_logits=True) for predictor in predictors
        )
        assert np.abs(found - expected).mean() < 0.03 * np.abs(expected).mean()
        np.testing.assert_allclose(near, scores, atol=0.03)
        assert (found != expected).any()
