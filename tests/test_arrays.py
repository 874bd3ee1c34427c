"""What scripts give: tensors of any kind are taken, and what is no array is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from narrow_sam2 import narrow_sam2
from torch import Tensor

import napari_sam
from napari_sam import SamPredictor, SamVideoPredictor
from napari_sam.errors import DeviceError, ImageError, ModelError, NapariSamError, PromptError
from napari_sam.inference.arrays import as_array, to_numpy
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.video_frames import open_video
from napari_sam.models import load_model
from napari_sam.models.base import PromptableModel

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
SIZE = (60, 80)
RAGGED = [[1, 2], [3]]

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "float32": lambda t: t,
    "float16": Tensor.half,
    "bfloat16": Tensor.bfloat16,
    "of a graph": lambda t: t.clone().requires_grad_(),
    "of a graph, bfloat16": lambda t: t.bfloat16().requires_grad_(),
}
if torch.cuda.is_available():
    KINDS["on a GPU"] = Tensor.cuda


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def predictor(nano: PromptableModel) -> SamPredictor:
    predictor = SamPredictor(nano)
    predictor.set_image(IMAGE)
    return predictor


@pytest.fixture(scope="module")
def video() -> SamVideoPredictor:
    return SamVideoPredictor(narrow_sam2())


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_any_kind_are_arrays(kind: str) -> None:
    given = KINDS[kind](torch.arange(6.0).reshape(2, 3))
    array = to_numpy(given)
    assert array.dtype == (np.float16 if kind == "float16" else np.float32)
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])


def test_what_is_no_array_is_the_error_that_is_asked_for() -> None:
    for error in (PromptError, ImageError):
        with pytest.raises(error, match=r"^The thing cannot be read as an array of numbers \(.*\)\.$"):
            as_array(RAGGED, "The thing", error)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_images_and_prompts(kind: str) -> None:
    as_given = KINDS[kind]
    image = as_given(torch.from_numpy(IMAGE).float() / 256)
    np.testing.assert_array_equal(as_rgb(image), as_rgb(to_numpy(image)))
    frames = open_video(image[None])
    np.testing.assert_array_equal(frames.read(0), as_rgb(to_numpy(image)))
    logits = as_given(torch.full((1, 256, 256), 3.0))
    prompts = Prompts.create(
        SIZE, as_given(torch.tensor([[5.0, 6.0]])), as_given(torch.ones(1)), mask_input=logits
    )
    assert (prompts.points.tolist(), prompts.labels.tolist()) == ([[5, 6]], [1])
    np.testing.assert_array_equal(prompts.mask_input, np.full((256, 256), 3, np.float32))


@pytest.mark.parametrize("kind", [*KINDS, "array"])
def test_many_objects_by_tensors_of_any_kind(predictor: SamPredictor, kind: str) -> None:
    points, labels = torch.tensor([[[320.0, 256]], [[640, 512]]]), torch.ones(2, 1)
    boxes = torch.tensor([[128.0, 128, 512, 512], [256, 256, 896, 704]])
    expected = predictor.predict_torch(points, labels, boxes)[0]
    as_given = KINDS.get(kind, to_numpy)
    found = predictor.predict_torch(as_given(points), as_given(labels), as_given(boxes))[0]
    assert torch.equal(found, expected)
    corners = predictor.predict_torch(points, labels, boxes.reshape(2, 2, 2))[0]
    assert torch.equal(corners, expected)


@pytest.mark.parametrize("kind", [*KINDS, "array"])
def test_masks_and_transformed_images_by_tensors_of_any_kind(
    nano: PromptableModel, video: SamVideoPredictor, kind: str
) -> None:
    as_given = KINDS.get(kind, to_numpy)
    state = video.init_state(IMAGE[None])
    mask = torch.zeros(SIZE)
    mask[10:30, 20:50] = 1
    expected = video.add_new_mask(state, 0, 1, mask.bool())[2]
    assert torch.equal(video.add_new_mask(state, 0, 1, as_given(mask))[2], expected)
    predictor = SamPredictor(nano)
    # Whole numbers up to 256 are the same in every precision.
    image = torch.from_numpy(predictor.transform.apply_image(IMAGE)).float().expand(1, 3, 768, 1024)
    predictor.set_torch_image(image, SIZE)
    embedding = predictor.get_image_embedding()
    predictor.set_torch_image(as_given(image), SIZE)
    assert torch.equal(predictor.get_image_embedding(), embedding)


def test_the_label_of_one_point_may_be_a_number(predictor: SamPredictor) -> None:
    one, other = predictor.predict([[40, 30]], 1), predictor.predict([[40, 30]], [1])
    np.testing.assert_array_equal(one[0], other[0])
    with pytest.raises(PromptError, match="2 points but 1 labels"):
        predictor.predict([[40, 30], [20, 20]], 1)


def test_logits_that_float32_cannot_hold_are_cut_off() -> None:
    given = np.array([[1e300, -1e300], [3e4, 2.5]]).repeat(128, axis=0).repeat(128, axis=1)
    logits = Prompts.create(SIZE, mask_input=given).mask_input
    assert logits is not None
    assert np.unique(logits).tolist() == [-1e4, 2.5, 1e4]


def one_object(**prompts: Any) -> Callable[[SamPredictor], object]:
    return lambda predictor: predictor.predict(**{"point_coords": [[4, 5]], "point_labels": [1]} | prompts)


def many(*prompts: Any) -> Callable[[SamPredictor], object]:
    return lambda predictor: predictor.predict_torch(*prompts)


def transformed(size: Any) -> Callable[[SamPredictor], object]:
    return lambda predictor: SamPredictor(predictor.model).set_torch_image(torch.zeros(1, 3, 768, 1024), size)


def automatic(**options: Any) -> Callable[[SamPredictor], object]:
    return lambda predictor: SamAutomaticMaskGenerator(predictor.model, **options)


def grids(given: Any) -> Callable[[SamPredictor], object]:
    return automatic(points_per_side=None, point_grids=given)


def within(region: Any) -> Callable[[SamPredictor], object]:
    return lambda predictor: SamAutomaticMaskGenerator(predictor.model, 2).candidates(IMAGE, region=region)


def scribbled(*given: Any) -> Callable[[SamPredictor], object]:
    return lambda _: Prompts.create(SIZE, scribbles=given)


def image(given: Any = IMAGE, **look: Any) -> Callable[[SamPredictor], object]:
    return lambda _: as_rgb(given, **look)


WRONG: dict[str, tuple[Callable[[SamPredictor], object], type[NapariSamError], str]] = {
    "points, ragged": (one_object(point_coords=RAGGED), PromptError, "Point coordinates cannot be read"),
    "points, complex": (one_object(point_coords=[[1j, 2]]), PromptError, "real numbers"),
    "points, huge": (one_object(point_coords=[[10**400, 2]]), PromptError, "Point coordinates must be num"),
    "points, texts": (one_object(point_coords=[["a", "b"]]), PromptError, "Point coordinates must be num"),
    "logits, ragged": (one_object(mask_input=RAGGED), PromptError, "The mask prompt cannot be read"),
    "image, ragged": (image(RAGGED), ImageError, "The image cannot be read as an array of numbers"),
    "three limits": (image(contrast_limits=(1, 2, 3)), ImageError, r"finite .* not \(1, 2, 3\)"),
    "one limit": (image(contrast_limits=5), ImageError, "two finite numbers in rising order, not 5"),
    "limits, texts": (image(contrast_limits=("a", "b")), ImageError, "two finite numbers"),
    "no gamma": (image(gamma=None), ImageError, "greater than 0, not None"),
    "gamma, text": (image(gamma="x"), ImageError, "greater than 0, not 'x'"),
    "size of three": (transformed((60, 80, 3)), ImageError, r"height and width in pixels, not \(60, 80, 3\)"),
    "size of none": (transformed((0, 0)), ImageError, "height and width in pixels"),
    "size, fractions": (transformed((60.5, 80)), ImageError, "height and width in pixels"),
    "one box": (
        many(None, None, torch.ones(4)),
        PromptError,
        r"^Boxes have the shape \(B, 4\), .*, not \(4,\)",
    ),
    "box of texts": (many(None, None, [["a"] * 4]), PromptError, "Boxes must be numbers"),
    "points of one": (many(torch.ones(1, 2), torch.ones(1)), PromptError, r"Points have .* \(B, N, 2\)"),
    "labels of one": (many(torch.ones(1, 1, 2), torch.ones(1)), PromptError, r"labels have .* \(B, N\)"),
    "logits of one": (many(None, None, None, torch.ones(256, 256)), PromptError, r"\(B, 1, 256, 256\)"),
    "points, none": (many(torch.tensor(1.0), torch.ones(1)), PromptError, r"not \(\)"),
    "grid of triples": (grids([[[0.5, 0.5, 0.5]]]), PromptError, r"shape \(N, 2\), not \(1, 3\)"),
    "grid of texts": (grids([[["a", "b"]]]), PromptError, "point_grids must be numbers"),
    "grids, ragged": (grids([RAGGED]), PromptError, "point_grids cannot be read"),
    "half a layer": (
        automatic(crop_n_layers=1.5),
        PromptError,
        "crop_n_layers is a whole number of at least 0",
    ),
    "half a point": (automatic(points_per_batch=2.5), PromptError, "points_per_batch is a whole number"),
    "half a column": (automatic(points_per_side=2.5), PromptError, "points_per_side is a whole .*, not 2.5"),
    "smaller region": (within(Mask((0, 0), np.ones((9, 9)), (9, 9))), PromptError, "region .* 9 x 9 pixels"),
    "larger region": (
        within(Mask((90, 90), np.ones((9, 9)), (99, 99))),
        PromptError,
        "of a plane of 99 x 99",
    ),
    "no region": (within(np.ones(SIZE, bool)), PromptError, "A region to look at is a Mask, not a ndarray"),
    "scribble alone": (scribbled([[10, 10], [20, 20], [30, 30]]), PromptError, r"list of \(path, label\)"),
    "number": (scribbled(5), PromptError, r"list of \(path, label\)"),
    "many labels": (scribbled(([[10, 10], [20, 20]], np.array([1, 1]))), PromptError, "label is 1"),
    "no model": (lambda _: load_model(None), ModelError, "name or the path of a checkpoint, not by None"),  # type: ignore[arg-type]
    "model, number": (lambda _: load_model(5), ModelError, "name or the path of a checkpoint, not by 5"),  # type: ignore[arg-type]
    "no device": (lambda _: load_model(device=None), DeviceError, "None is not a device"),  # type: ignore[arg-type]
    "whole numbers": (lambda _: load_model(dtype=torch.int8), DeviceError, "torch.int8 is not a precision"),
    "frames of two sizes": (
        lambda _: open_video([np.zeros((3, 4)), np.zeros((4, 4))]),
        ImageError,
        "The video cannot be read as an array",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_one_sentence(predictor: SamPredictor, case: str) -> None:
    call, error, sentence = WRONG[case]
    with pytest.raises(error, match=sentence) as raised:
        call(predictor)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


def test_an_empty_region_is_nowhere(nano: PromptableModel) -> None:
    generator = SamAutomaticMaskGenerator(nano, points_per_side=2)
    for shape in (SIZE, (9, 9), (99, 99)):
        assert len(generator.candidates(IMAGE, region=Mask.empty(shape))) == 0


WRONG_IN_VIDEOS: dict[str, tuple[Callable[[SamVideoPredictor, Any], object], str]] = {
    "ragged mask": (lambda video, state: video.add_new_mask(state, 0, 1, RAGGED), "The mask cannot be read"),
    "mask of texts": (lambda video, state: video.add_new_mask(state, 0, 1, [["a"]]), "booleans or numbers"),
    "half a frame": (lambda video, state: video.add_new_mask(state, 0.5, 1, IMAGE), "by its number, .* 0.5"),
    "id": (lambda video, state: video.add_new_mask(state, 0, [1], IMAGE), r"whole number, not \[1\]"),
    "start": (lambda video, state: list(video.propagate(state, 1.5)), "by its number, .* 1.5"),
    "length": (
        lambda video, state: list(video.propagate(state, 0, 1.5)),
        "max_frame_num_to_track is a whole",
    ),
}


@pytest.mark.parametrize("case", WRONG_IN_VIDEOS)
def test_what_makes_no_sense_in_videos_is_one_sentence(video: SamVideoPredictor, case: str) -> None:
    call, sentence = WRONG_IN_VIDEOS[case]
    state = video.init_state(np.stack([IMAGE, IMAGE]))
    video.add_new_points_or_box(state, 0, 3, points=[[20, 10]], labels=[1])
    with pytest.raises(PromptError, match=sentence) as raised:
        call(video, state)
    assert str(raised.value).endswith(".")
