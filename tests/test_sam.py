"""SAM on its own: sizes, odd images and what must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.sam import Sam, build_sam
from napari_sam.models.sam_image_encoder import VIT_SIZES, ImageEncoderViT, ViTSize


@pytest.fixture(scope="module")
def sam() -> Sam:
    """A SAM with the smallest image encoder that has windows and global attention."""
    torch.manual_seed(0)
    return build_sam(ViTSize(64, 2, 2, (1,))).prepare(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("name", "count"), [("vit_b", 314), ("vit_l", 482), ("vit_h", 594), ("vit_t", 439)])
def test_as_many_parameters_as_published(name: str, count: int) -> None:
    size = VIT_SIZES.get(name)
    # Names depend on the depth alone, so that a narrow one will do.
    narrow = name if size is None else ViTSize(32, size.depth, 2, size.global_blocks)
    assert len(build_sam(narrow).state_dict()) == count


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (33, 2), (1500, 40)])
def test_images_of_any_shape(sam: Sam, shape: tuple[int, int]) -> None:
    predictor = SamPredictor(sam)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    masks, scores, low_res = predictor.predict(np.array([[0, 0]]), np.array([1]))
    assert masks.shape == (3, *shape)
    assert low_res.shape == (3, 256, 256)
    assert np.isfinite(scores).all()


def test_floats_see_what_bytes_see(sam: Sam) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = []
    for pixels in (image, image / np.float32(255)):
        predictor = SamPredictor(sam)
        predictor.set_image(pixels)
        found.append(predictor.get_image_embedding())
    # Bytes are rounded after resizing, as published; floats are not.
    assert torch.allclose(found[0], found[1], atol=0.02 * float(found[0].abs().max()))


def test_objects_do_not_depend_on_their_batch(sam: Sam) -> None:
    predictor = SamPredictor(sam)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    coords = torch.rand(7, 1, 2) * 1000
    together = predictor.predict_torch(coords, torch.ones(7, 1), return_logits=True)[0]
    for index in range(7):
        alone = predictor.predict_torch(coords[index : index + 1], torch.ones(1, 1), return_logits=True)[0]
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-4)


def test_logits_come_back_as_a_mask_prompt(sam: Sam) -> None:
    predictor = SamPredictor(sam)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8))
    _, _, low_res = predictor.predict(np.array([[10, 10]]), np.array([1]), multimask_output=False)
    given, _, _ = predictor.predict(None, None, mask_input=low_res, multimask_output=False)
    assert given.shape == (1, 50, 80)


def test_moving_twice_keeps_what_must_stay_exact(sam: Sam) -> None:
    model = build_sam("vit_t").prepare(torch.device("cpu"), torch.bfloat16)
    model.prepare(torch.device("cpu"), torch.float32)
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    assert not torch.equal(matrix, matrix.bfloat16().float())
    assert not torch.equal(model.pixel_mean, model.pixel_mean.bfloat16().float())
    assert set(model.state_dict()) >= {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"}
    assert not any(key.startswith("pixel") for key in model.state_dict())


def test_embeddings_of_other_models_are_refused(sam: Sam) -> None:
    from napari_sam.models import load_model
    from napari_sam.models.base import PromptBatch

    foreign = load_model("nano", device="cpu").encode(torch.zeros(3, 8, 8))
    with pytest.raises(TypeError, match="its own embeddings"):
        sam.decode(foreign, PromptBatch(torch.zeros(1, 1, 2), torch.ones(1, 1)), multimask=True)


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    encoder = ImageEncoderViT(ViTSize(32, 2, 2, (1,)), image_size=320).eval()
    pixels = torch.randn(2, 3, 320, 320)
    with torch.no_grad():
        together = encoder(pixels)
        apart = torch.cat([encoder(image[None]) for image in pixels])
    torch.testing.assert_close(together, apart)
