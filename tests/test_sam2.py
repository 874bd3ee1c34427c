"""SAM 2 on its own: sizes, odd images and what must not change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_sam.inference.predictor import SamPredictor
from napari_sam.models import sam2 as module
from napari_sam.models.base import PromptBatch
from napari_sam.models.hiera import HieraSize
from napari_sam.models.sam2 import Sam2, Sam2Embedding, build_sam2
from napari_sam.models.sam2_mask_decoder import stability

NARROW = HieraSize(16, 1, (1, 2, 3, 1), (4,))
"""A Hiera that has everything: windows cut short, global attention, three times pooling."""


def _sam2(dtype: torch.dtype = torch.float32) -> Sam2:
    torch.manual_seed(0)
    model = build_sam2(NARROW)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.prepare(torch.device("cpu"), dtype)


@pytest.fixture(scope="module")
def sam2() -> Sam2:
    return _sam2()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _prompts() -> PromptBatch:
    """A point, a point and a box, two points."""
    return PromptBatch(
        torch.tensor([[[10.0, 20.0], [0, 0]], [[30, 5], [0, 0]], [[40, 40], [3, 9]]]),
        torch.tensor([[1, -1], [0, -1], [1, 0]]),
        torch.tensor([[torch.nan] * 4, [5, 5, 50, 30], [torch.nan] * 4]),
    )


def _pixels(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("version", ["2", "2.1"])
@pytest.mark.parametrize(
    ("size", "count"),
    [("hiera_tiny", 468), ("hiera_small", 516), ("hiera_base_plus", 612), ("hiera_large", 900)],
)
def test_as_many_parameters_as_published(size: str, count: int, version: str) -> None:
    with torch.device("meta"):
        model = build_sam2(size, version=version)
    assert len(model.state_dict()) == count + (3 if version == "2.1" else 0)


def test_versions() -> None:
    with pytest.raises(ValueError, match=r"give '2' or '2\.1'"):
        build_sam2("hiera_tiny", version="3")


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (33, 2), (1500, 40)])
def test_images_of_any_shape(sam2: Sam2, shape: tuple[int, int]) -> None:
    predictor = SamPredictor(sam2)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    masks, scores, low_res = predictor.predict(np.array([[0, 0]]), np.array([1]))
    assert masks.shape == (3, *shape)
    assert low_res.shape == (3, 256, 256)
    assert np.isfinite(scores).all()


def test_masks_cover_the_whole_image(sam2: Sam2) -> None:
    embedding = sam2.encode(_pixels(60, 200))
    assert embedding.low_res_frame == (0, 0, 200, 60)
    assert embedding.features.shape == (1, 256, 64, 64)
    output = sam2.decode(embedding, _prompts(), multimask=True)
    assert (output.logits.shape, output.scores.shape) == ((3, 3, 256, 256), (3, 3))
    assert output.frames.tolist() == [[0, 0, 200, 60]] * 3
    assert output.via is None
    assert sam2.decode(embedding, _prompts(), multimask=False).logits.shape == (3, 1, 256, 256)


def test_gray_planes_are_resized_once_and_look_the_same(sam2: Sam2) -> None:
    gray = _pixels(90, 70)[:1]
    views, copies = sam2.encode(gray.expand(3, -1, -1)), sam2.encode(gray.repeat(3, 1, 1))
    torch.testing.assert_close(views.tensors, copies.tensors)


def test_floats_see_what_bytes_see(sam2: Sam2) -> None:
    pixels = _pixels(60, 90)
    torch.testing.assert_close(sam2.encode(pixels).features, sam2.encode(pixels.float() / 255).features)


def test_huge_images_are_resized_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _pixels(301, 77)
    whole = module._stretch(pixels, 64, torch.device("cpu"))
    expected = torch.nn.functional.interpolate(
        pixels[None].float() / 255, (64, 64), mode="bilinear", antialias=True
    )[0]
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1000)
    strips = module._stretch(pixels, 64, torch.device("cpu"))
    torch.testing.assert_close(whole, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(strips, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("multimask", [True, False])
def test_objects_do_not_depend_on_their_batch(sam2: Sam2, multimask: bool) -> None:
    embedding, prompts = sam2.encode(_pixels(64, 64)), _prompts()
    logits = torch.randn(3, 1, 256, 256)
    together = sam2.decode(
        embedding, PromptBatch(prompts.points, prompts.labels, prompts.boxes, logits), multimask=multimask
    )
    for b in range(3):
        one = slice(b, b + 1)
        alone = sam2.decode(
            embedding,
            PromptBatch(prompts.points[one], prompts.labels[one], prompts.boxes[one], logits[one]),
            multimask=multimask,
        )
        torch.testing.assert_close(alone.logits[0], together.logits[b], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.scores[0], together.scores[b], atol=1e-4, rtol=1e-4)


def test_one_mask_is_its_own_if_stable_and_else_the_best_of_three(sam2: Sam2) -> None:
    embedding, prompts = sam2.encode(_pixels(64, 64)), _prompts()
    three = sam2.decode(embedding, prompts, multimask=True)
    last = sam2.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    kept = last.weight.clone(), last.bias.clone()
    try:
        last.weight.zero_()
        last.bias.zero_()
        # Logits of 0 are stable at no threshold: the single mask is never taken.
        unstable = sam2.decode(embedding, prompts, multimask=False)
        last.weight.copy_(kept[0] * 1e6)
        last.bias.copy_(kept[1] * 1e6)
        stable = sam2.decode(embedding, prompts, multimask=False)
    finally:
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])
    best = three.scores.argmax(dim=1)
    torch.testing.assert_close(unstable.logits[:, 0], three.logits[torch.arange(3), best])
    torch.testing.assert_close(unstable.scores[:, 0], three.scores.amax(dim=1))
    assert (stable.logits.abs().amax(dim=(1, 2, 3)) > 1000 * three.logits.abs().max()).all()


def test_stability() -> None:
    logits = torch.full((3, 4, 4), -1.0)
    logits[0, :2] = 1
    logits[1, 0], logits[1, 1] = 1, 0.01
    assert stability(logits).tolist() == [1.0, 0.5, 1.0]


def test_bfloat16_agrees(sam2: Sam2) -> None:
    small = _sam2(torch.bfloat16)
    pixels, prompts = _pixels(120, 100), _prompts()
    embeddings = [model.encode(pixels) for model in (sam2, small)]
    assert all(t.dtype == torch.bfloat16 for t in embeddings[1].tensors)
    exact, rounded = (
        model.decode(embedding, prompts, multimask=True)
        for model, embedding in zip((sam2, small), embeddings, strict=True)
    )
    assert (rounded.logits.dtype, rounded.scores.dtype) == (torch.float32, torch.float32)
    # Around the median of each mask, so that a random network's masks have foreground and background.
    middle = exact.logits.flatten(2).median(dim=2).values[..., None, None]
    first, second = exact.logits > middle, rounded.logits > middle
    assert (first & second).sum() / (first | second).sum() > 0.95
    torch.testing.assert_close(rounded.scores, exact.scores, atol=0.02, rtol=0)


def test_prepared_again_in_another_precision() -> None:
    model = _sam2(torch.bfloat16).prepare(torch.device("cpu"), torch.float32)
    assert model.pixel_mean.dtype == torch.float32
    assert model.encode(_pixels(8, 8)).features.dtype == torch.float32


def test_embeddings_of_others_are_refused(sam2: Sam2) -> None:
    from napari_sam.models.sam import SamEmbedding

    own = sam2.encode(_pixels(8, 8))
    assert isinstance(own, Sam2Embedding)
    other = SamEmbedding((8, 8), own.features, (8, 8), own.tokens, 1024)
    with pytest.raises(TypeError, match="encode the image with this model"):
        sam2.decode(other, _prompts(), multimask=True)
