from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import coins
from skimage.data import immunohistochemistry as tissue

import napari_sam
from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.engine import encode, segment
from napari_sam.inference.image import as_rgb
from napari_sam.inference.predictor import SamPredictor
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.transform import ResizeLongestSide
from napari_sam.models.base import PromptableModel

IMAGE = coins()
SIZE = (IMAGE.shape[0], IMAGE.shape[1])
POINT, BOX = np.array([[100, 56]]), np.array([75, 30, 125, 80])


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def predictor(nano: PromptableModel) -> SamPredictor:
    predictor = napari_sam.SamPredictor(nano)
    predictor.set_image(IMAGE)
    return predictor


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_shapes_and_types_are_the_official_ones(predictor: SamPredictor, multimask: bool, count: int) -> None:
    masks, scores, low_res = predictor.predict(
        point_coords=POINT, point_labels=np.array([1]), multimask_output=multimask
    )
    assert (masks.shape, masks.dtype) == ((count, *SIZE), np.bool_)
    assert (scores.shape, scores.dtype) == ((count,), np.float32)
    assert (low_res.shape, low_res.dtype) == ((count, 256, 256), np.float32)


def test_logits_instead_of_masks(predictor: SamPredictor) -> None:
    masks, _, _ = predictor.predict(POINT, [1])
    logits, _, _ = predictor.predict(POINT, [1], return_logits=True)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits > 0, masks)


def test_same_masks_as_the_engine(nano: PromptableModel, predictor: SamPredictor) -> None:
    embedding = encode(nano, as_rgb(IMAGE))
    one = segment(nano, embedding, Prompts.create(SIZE, POINT))
    masks, scores, low_res = predictor.predict(POINT, [1])
    best = int(np.argmax(scores))
    assert not one.mask.is_empty
    np.testing.assert_array_equal(masks[best], one.mask.to_array())
    np.testing.assert_array_equal(low_res[best], one.low_res_logits)
    assert scores[best] == pytest.approx(one.score)
    boxed = segment(nano, embedding, Prompts.create(SIZE, box=BOX))
    masks, _, _ = predictor.predict(box=BOX, multimask_output=False)
    np.testing.assert_array_equal(masks[0], boxed.mask.to_array())


def test_logits_go_back_in(predictor: SamPredictor) -> None:
    _, scores, low_res = predictor.predict(POINT, [1])
    best = int(np.argmax(scores))
    masks, _, again = predictor.predict(POINT, [1], mask_input=low_res[best][None], multimask_output=False)
    assert masks.shape == (1, *SIZE)
    without, _, _ = predictor.predict(POINT, [1], multimask_output=False, return_logits=True)
    with_mask, _, _ = predictor.predict(
        POINT, [1], mask_input=low_res[best][None], multimask_output=False, return_logits=True
    )
    assert np.abs(with_mask - without).max() > 1e-3
    assert again.shape == (1, 256, 256)


@pytest.mark.parametrize("return_logits", [False, True])
def test_batches_of_tensors_give_the_same_masks(predictor: SamPredictor, return_logits: bool) -> None:
    points = torch.tensor([[[100.0, 56]], [[155, 51]], [[335, 44]]])
    coords = predictor.transform.apply_coords_torch(points, SIZE)
    masks, scores, low_res = predictor.predict_torch(
        coords, torch.ones(3, 1, dtype=torch.int), return_logits=return_logits
    )
    assert masks.shape == (3, 3, *SIZE)
    assert masks.dtype == (torch.float32 if return_logits else torch.bool)
    assert scores.shape == (3, 3)
    assert low_res.shape == (3, 3, 256, 256)
    for row, point in enumerate(points):
        alone, alone_scores, _ = predictor.predict(point.numpy(), [1])
        np.testing.assert_allclose(scores[row].numpy(), alone_scores, atol=1e-3)
        differ = (masks[row] > 0).numpy() != alone
        assert differ.mean() < 1e-3


def test_batches_of_boxes_and_masks(predictor: SamPredictor) -> None:
    boxes = torch.tensor([[75.0, 30, 125, 80], [190, 30, 240, 75]])
    transformed = predictor.transform.apply_boxes_torch(boxes, SIZE)
    masks, _, low_res = predictor.predict_torch(None, None, transformed, multimask_output=False)
    assert masks.shape == (2, 1, *SIZE)
    again, _, _ = predictor.predict_torch(None, None, transformed, low_res, multimask_output=False)
    assert again.shape == (2, 1, *SIZE)
    padded, _, _ = predictor.predict_torch(
        torch.zeros(2, 1, 2), torch.full((2, 1), -1), transformed, multimask_output=False
    )
    assert torch.equal(padded, masks)
    none, scores, logits = predictor.predict_torch(None, None, boxes[:0])
    assert (none.shape, scores.shape, logits.shape) == ((0, 3, *SIZE), (0, 3), (0, 3, 256, 256))
    with pytest.raises(PromptError, match="same number"):
        predictor.predict_torch(torch.zeros(3, 1, 2), torch.ones(3, 1), transformed)
    with pytest.raises(PromptError, match="same number"):
        predictor.predict_torch(None, None)


def test_image_formats(nano: PromptableModel) -> None:
    colour = tissue()[:200, :150]
    rgb, bgr = SamPredictor(nano), SamPredictor(nano)
    rgb.set_image(colour)
    bgr.set_image(colour[..., ::-1], image_format="BGR")
    assert torch.equal(rgb.get_image_embedding(), bgr.get_image_embedding())
    bgr.set_image(colour, image_format="BGR")
    assert not torch.equal(rgb.get_image_embedding(), bgr.get_image_embedding())
    with pytest.raises(ImageError, match="'GRB'"):
        rgb.set_image(colour, image_format="GRB")


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i4", "f4", "f8"])
def test_any_type_of_image(nano: PromptableModel, dtype: str) -> None:
    predictor = SamPredictor(nano)
    predictor.set_image((IMAGE > 120).astype(dtype) if dtype == "?" else IMAGE.astype(dtype))
    masks, scores, _ = predictor.predict(POINT, [1])
    assert masks.shape == (3, *SIZE)
    assert np.isfinite(scores).all()


def test_transformed_image(nano: PromptableModel) -> None:
    predictor = SamPredictor(nano)
    plane = as_rgb(IMAGE)
    transformed = predictor.transform.apply_image(plane)
    tensor = torch.as_tensor(transformed).permute(2, 0, 1)[None]
    predictor.set_torch_image(tensor, SIZE)
    assert (predictor.original_size, predictor.input_size) == (SIZE, (808, 1024))
    coords = torch.as_tensor(predictor.transform.apply_coords(POINT, SIZE))[None]
    masks, _, low_res = predictor.predict_torch(coords, torch.ones(1, 1))
    assert masks.shape == (1, 3, *SIZE)
    assert low_res.shape == (1, 3, 256, 256)
    same, _, _ = predictor.predict(POINT, [1])
    assert (masks[0].numpy() != same).mean() < 1e-3
    for wrong in (tensor[0], tensor[..., :-1], tensor.repeat(2, 1, 1, 1)):
        with pytest.raises(ImageError, match="apply_image"):
            predictor.set_torch_image(wrong, SIZE)


def test_without_an_image(nano: PromptableModel) -> None:
    predictor = SamPredictor(nano)
    assert not predictor.is_image_set
    assert predictor.features is None
    predictor.set_image(IMAGE)
    assert predictor.is_image_set
    assert predictor.features is not None
    assert predictor.features.ndim == 4
    assert predictor.device == torch.device("cpu")
    predictor.reset_image()
    for call in (
        lambda: predictor.predict(POINT, [1]),
        lambda: predictor.predict_torch(torch.ones(1, 1, 2), torch.ones(1, 1)),
        predictor.get_image_embedding,
    ):
        with pytest.raises(RuntimeError, match="set_image"):
            call()


def test_an_image_that_fails_does_not_leave_the_last_one(nano: PromptableModel) -> None:
    predictor = SamPredictor(nano)
    predictor.set_image(IMAGE)
    with pytest.raises(ImageError):
        predictor.set_image(np.zeros((2, 3, 4, 5)))
    assert not predictor.is_image_set


def test_a_head_can_be_trained_on_the_embedding(nano: PromptableModel) -> None:
    predictor = SamPredictor(nano)
    predictor.set_image(IMAGE)
    before = predictor.predict(POINT, [1])[2]
    for embedding in (predictor.get_image_embedding(), predictor.features):
        assert embedding is not None
        head = torch.nn.Conv2d(embedding.shape[1], 1, 1)
        head(embedding).sum().backward()
        assert head.weight.grad is not None
        # It is the caller's: what becomes of it changes no prediction.
        embedding.zero_()
    np.testing.assert_array_equal(predictor.predict(POINT, [1])[2], before)


def test_prompts_are_checked(predictor: SamPredictor) -> None:
    with pytest.raises(PromptError, match="without labels"):
        predictor.predict(POINT)
    with pytest.raises(PromptError, match="outside"):
        predictor.predict([[5000, 1]], [1])
    with pytest.raises(PromptError, match="nothing"):
        predictor.predict()


def test_longest_side_is_scaled() -> None:
    transform = ResizeLongestSide(1024)
    # Values of the official class, segment-anything 1.0.
    assert transform.get_preprocess_shape(303, 384, 1024) == (808, 1024)
    assert transform.get_preprocess_shape(1365, 2048, 1024) == (683, 1024)
    # Where the official one gives no height at all.
    assert transform.get_preprocess_shape(1, 3000, 1024) == (1, 1024)
    np.testing.assert_allclose(
        transform.apply_coords(np.array([100, 56]), (303, 384)), [266.66667, 149.33333]
    )
    np.testing.assert_allclose(
        transform.apply_boxes(np.array([10, 20, 30, 40]), (1365, 2048)),
        [[5, 10.0073260, 15, 20.014652]],
        rtol=1e-6,
    )
    boxes = torch.tensor([[10, 20, 30, 40]])
    np.testing.assert_allclose(
        transform.apply_boxes_torch(boxes, (1365, 2048)).numpy(),
        transform.apply_boxes(boxes.numpy(), (1365, 2048)),
        rtol=1e-6,
    )
    image = np.zeros((30, 60, 3), dtype=np.uint8)
    image[:, 30:] = 200
    resized = transform.apply_image(image)
    assert (resized.shape, resized.dtype) == ((512, 1024, 3), np.uint8)
    assert (resized[0, 100, 0], resized[0, 900, 0]) == (0, 200)
    assert transform.apply_image(image[..., :1]).shape == (512, 1024)
    np.testing.assert_array_equal(transform.apply_image(image[..., 0]), transform.apply_image(image[..., :1]))
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    np.testing.assert_allclose(
        transform.apply_image_torch(tensor)[0].permute(1, 2, 0).numpy(), resized, atol=1.5
    )
