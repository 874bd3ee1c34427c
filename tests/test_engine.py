from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import coins
from torch import Tensor, nn
from torch.nn import functional as F

import napari_sam
from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.engine import Prediction, candidates, decode, encode, segment, segment_all
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.resample import BACKGROUND_LOGIT
from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch

IMAGE = coins()
SIZE = (IMAGE.shape[0], IMAGE.shape[1])


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def embedding(nano: PromptableModel) -> Embedding:
    return encode(nano, as_rgb(IMAGE))


@dataclass(frozen=True, slots=True)
class PixelEmbedding(Embedding):
    pixels: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.pixels]


class Disks(PromptableModel):
    """Candidates whose masks are known: disks of 3, 2 and 4 pixels around the last point."""

    name = "disks"

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.batches: list[PromptBatch] = []

    def encode(self, pixels: Tensor) -> PixelEmbedding:
        return PixelEmbedding((pixels.shape[1], pixels.shape[2]), pixels)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        assert torch.is_inference_mode_enabled()
        assert isinstance(embedding, PixelEmbedding)
        self.batches.append(prompts)
        centre = prompts.points[:, -1].round() + 0.5
        frames = torch.cat([centre - 8, centre + 8], dim=1)
        grid = torch.arange(64) / 4 + 0.125 - 8
        distance = torch.hypot(grid[:, None], grid[None])
        radii = torch.tensor([3.0, 2.0, 4.0]) if multimask else torch.tensor([3.0])
        logits = (radii[:, None, None] - distance).expand(len(prompts), -1, -1, -1)
        scores = torch.tensor([[0.4, 0.9, 0.5]]) if multimask else torch.tensor([[0.7]])
        return MaskLogits(logits, frames, scores.expand(len(prompts), -1))


def test_the_model_sees_the_plane_as_it_is() -> None:
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    gray = as_rgb(plane[..., 0] * np.float32(2))
    assert 0 <= gray.min() < gray.max() <= 1
    for pixels, dtype in (
        (plane, torch.uint8),
        (plane[..., ::-1], torch.uint8),
        (as_rgb(plane[..., 0]), torch.uint8),
        (gray, torch.float32),
    ):
        seen = encode(Disks(), pixels).tensors[0]
        assert seen.dtype == dtype
        np.testing.assert_array_equal(seen.numpy(), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "plane",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 1), np.uint8)],
)
def test_only_planes_are_encoded(plane: np.ndarray) -> None:
    with pytest.raises(ImageError, match="as_rgb"):
        encode(Disks(), plane)


def test_mask_lies_around_the_point() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    (prediction,) = decode(model, embedding, [Prompts.create((40, 60), [[33, 12]])], multimask=False)
    rows, columns = np.mgrid[:40, :60]
    disk = np.hypot(rows - 12, columns - 33) < 3 - 0.02
    np.testing.assert_array_equal(prediction.masks[0].to_array(), disk)
    np.testing.assert_array_equal(prediction.full_logits()[0] > 0, disk)


def test_masks_on_the_plane_of_a_resized_embedding() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    size = (80, 180)
    (prediction,) = decode(model, embedding, [Prompts.create(size, [[100, 25]])], multimask=False, size=size)
    # (100, 25) is in pixel (33, 12) of the resized plane, whose edges are 99 and 102, 24 and 26 here.
    rows, columns = np.mgrid[:80, :180]
    ellipse = np.hypot((rows + 0.5 - 25) / 2, (columns + 0.5 - 100.5) / 3) < 3
    found = prediction.masks[0].to_array()
    assert prediction.masks[0].shape == size
    assert (found & ellipse).sum() / (found | ellipse).sum() > 0.95


def test_a_model_may_want_candidates_for_several_points() -> None:
    class Choosy(Disks):
        candidates_for_points = True

    model = Choosy()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    two = segment(model, embedding, Prompts.create((40, 60), [[20, 20], [25, 25]], [1, 0]))
    assert (two.index, len(two.prediction.masks)) == (1, 3)
    boxed = segment(model, embedding, Prompts.create((40, 60), [[20, 20], [9, 9]], box=[10, 10, 30, 30]))
    assert (boxed.index, len(boxed.prediction.masks)) == (0, 1)


def test_the_candidate_that_agrees_with_the_clicks_is_taken() -> None:
    class Choosy(Disks):
        candidates_for_points = True

    choosy, plain = Choosy(), Disks()
    embedding = encode(choosy, np.zeros((40, 60, 3), np.uint8))
    far = [[23, 20], [20, 20]]
    # Of the disks around the second point only the largest holds the first; its predicted IoU is the second.
    for prompts in (
        Prompts.create((40, 60), far),
        Prompts.create((40, 60), far, box=[10, 10, 30, 30]),
        Prompts.create((40, 60), [[20, 20]], scribbles=[(far, 1)], box=[10, 10, 30, 30]),
    ):
        found = segment(choosy, embedding, prompts)
        assert (found.index, found.score, len(found.prediction.masks)) == (2, 0.5, 3)
        assert found.mask.bbox_xywh == (17, 17, 7, 7)
        assert len(segment(plain, embedding, prompts).prediction.masks) == 1
    # The smallest leaves this point out.
    near = Prompts.create((40, 60), [[22, 20], [20, 20]], [0, 1], box=[10, 10, 30, 30])
    assert segment(choosy, embedding, near).index == 1
    # All contradict this one: the single mask is as good, in whatever company.
    hopeless = Prompts.create((40, 60), [[50, 20], [20, 20]], box=[10, 10, 30, 30])
    assert [found.index for found in segment_all(choosy, embedding, [hopeless, near, hopeless])] == [0, 1, 0]


def test_a_single_point_takes_the_best_of_three() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    one = segment(model, embedding, Prompts.create((40, 60), [[20, 20]]))
    assert (one.index, len(one.prediction.masks)) == (1, 3)
    assert one.score == pytest.approx(0.9)
    assert one.mask == one.prediction.masks[1]
    assert one.mask.bbox_xywh == (19, 19, 3, 3)
    two = segment(model, embedding, Prompts.create((40, 60), [[20, 20], [25, 25]], [1, 0]))
    assert (two.index, len(two.prediction.masks)) == (0, 1)
    boxed = segment(model, embedding, Prompts.create((40, 60), [[20, 20]], box=[10, 10, 30, 30]))
    assert len(boxed.prediction.masks) == 1


def test_only_prompts_of_one_make_up_are_stacked_and_order_is_kept() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    points = [[[10, 10]], [[11, 10], [12, 10]], [[13, 10]], [[14, 10], [15, 10]]]
    prompts = [Prompts.create((40, 60), p) for p in points]
    prompts.append(Prompts.create((40, 60), [[16, 10]], mask_input=np.zeros((256, 256))))
    predictions = decode(model, embedding, prompts, multimask=False)
    assert [p.masks[0].origin[1] + 2 for p in predictions] == [10, 12, 13, 15, 16]
    assert sorted(len(b) for b in model.batches) == [1, 2, 2]
    assert not any((b.labels == -1).any() for b in model.batches)
    assert decode(model, embedding, [], multimask=False) == []


def test_many_objects_are_decoded_in_parts() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    xs = [10 + i % 40 for i in range(150)]
    predictions = decode(model, embedding, [Prompts.create((40, 60), [[x, 20]]) for x in xs], multimask=True)
    assert [p.masks[1].origin[1] + 1 for p in predictions] == xs
    assert [len(b) for b in model.batches] == [64, 64, 22]


def prediction_on(frame: tuple[float, ...], logits: Tensor, size: tuple[int, int]) -> Prediction:
    side = float(max(size))
    return Prediction(
        size,
        np.zeros(len(logits), np.float32),
        logits.numpy(),
        np.array(frame),
        np.array([0, 0, side, side]),
    )


def test_low_res_logits_on_the_frame_of_sam_are_the_logits() -> None:
    logits = torch.randn(3, 256, 256)
    low_res = prediction_on((0, 0, 300, 300), logits, (300, 200)).low_res_logits
    np.testing.assert_array_equal(low_res, logits.numpy())


def test_low_res_logits_of_a_window_are_what_torch_samples() -> None:
    logits = F.interpolate(torch.randn(1, 2, 6, 6), (64, 64), mode="bicubic")[0]
    x0, y0, x1, y1 = frame = (-20.0, 30.0, 108.0, 158.0)
    low_res = prediction_on(frame, logits, (200, 400)).low_res_logits
    centres = (torch.arange(256) + 0.5) * 400 / 256
    y, x = torch.meshgrid(
        (centres - y0) / (y1 - y0) * 2 - 1, (centres - x0) / (x1 - x0) * 2 - 1, indexing="ij"
    )
    grid = torch.stack([x, y], dim=-1)[None]
    expected = F.grid_sample(logits[None], grid, padding_mode="border", align_corners=False)[0]
    inside = (x >= -1) & (x < 1) & (y >= -1) & (y < 1)
    expected = torch.where(inside, expected, torch.tensor(float(BACKGROUND_LOGIT)))
    assert 1000 < inside.sum() < 20000
    np.testing.assert_allclose(low_res, expected.numpy(), atol=1e-4)


def test_full_logits_are_positive_on_the_mask_and_background_outside_the_frame() -> None:
    logits = F.interpolate(torch.randn(1, 3, 6, 6), (128, 128), mode="bicubic")[0]
    prediction = prediction_on((13.3, -20.7, 150.2, 116.2), logits, (100, 140))
    full = prediction.full_logits()
    np.testing.assert_array_equal(full > 0, np.stack([m.to_array() for m in prediction.masks]))
    assert 0 < sum(m.area for m in prediction.masks) < full.size
    assert (full[:, :, :13] == BACKGROUND_LOGIT).all()


def lengths(low: int, high: int) -> st.SearchStrategy[float]:
    """Numbers of which many fall on the edges and the centres of pixels."""
    return st.floats(low, high) | st.integers(2 * low, 2 * high).map(lambda n: n / 2)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    corner=st.tuples(lengths(-60, 60), lengths(-60, 60)),
    side=st.tuples(lengths(1, 120), lengths(1, 120)),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_masks_from_boxes_are_those_of_the_whole_plane(
    seed: int, corner: tuple[float, float], side: tuple[float, float], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 2, 4, 4, generator=generator) - torch.tensor([0.0, 1.5]).view(1, 2, 1, 1)
    logits = F.interpolate(logits, (24, 20), mode="bicubic")[0]
    frame = (*corner, corner[0] + side[0], corner[1] + side[1])
    prediction = prediction_on(frame, logits, size)
    np.testing.assert_array_equal(
        prediction.full_logits() > 0, np.stack([m.to_array() for m in prediction.masks])
    )


def test_nano_embeds_and_segments(nano: PromptableModel, embedding: Embedding) -> None:
    assert embedding.original_size == SIZE
    assert embedding.nbytes > 0
    found = segment(nano, embedding, Prompts.create(SIZE, [[100, 56]]))
    assert found.mask.shape == SIZE
    assert 0 <= found.score <= 1
    assert found.score == pytest.approx(found.prediction.scores.max())
    assert found.low_res_logits.shape == (256, 256)
    assert found.low_res_logits.dtype == np.float32


PROMPTS: list[dict[str, Any]] = [
    {"points": [[100, 56]]},
    {"points": [[335, 44]]},
    {"points": [[100, 56], [155, 51]], "labels": [1, 0]},
    {"box": [75, 30, 125, 80]},
    {"points": [[100, 56]], "box": [75, 30, 125, 80]},
]


def test_nano_gives_the_same_masks_alone_and_in_a_batch(nano: PromptableModel, embedding: Embedding) -> None:
    prompts = [Prompts.create(SIZE, **given) for given in PROMPTS]
    together = decode(nano, embedding, prompts, multimask=True)
    for prompt, batched in zip(prompts, together, strict=True):
        (alone,) = decode(nano, embedding, [prompt], multimask=True)
        np.testing.assert_allclose(alone.scores, batched.scores, atol=1e-4)
        np.testing.assert_allclose(alone.logits, batched.logits, atol=1e-2)


def test_nano_takes_its_logits_back(nano: PromptableModel, embedding: Embedding) -> None:
    first = segment(nano, embedding, Prompts.create(SIZE, [[100, 56]]))
    again = Prompts.create(SIZE, [[100, 56]], mask_input=first.low_res_logits)
    second = segment(nano, embedding, again)
    assert second.mask.shape == SIZE
    assert len(second.prediction.masks) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 2), (700, 90)])
def test_nano_on_odd_planes(nano: PromptableModel, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    plane = as_rgb(rng.integers(0, 4000, size).astype(np.uint16))
    embedding = encode(nano, plane)
    corner = [size[1] - 1, size[0] - 1]
    found = segment(nano, embedding, Prompts.create(size, [corner]))
    assert found.mask.shape == size
    assert np.isfinite(found.score)
    assert np.isfinite(found.low_res_logits).all()


def test_full_logits_cover_the_pixels_whose_centres_are_in_the_frame() -> None:
    full = prediction_on((2.5, 3.5, 6.5, 8.5), torch.ones(1, 4, 4), (20, 20)).full_logits()
    inside = np.zeros((20, 20), dtype=bool)
    inside[3:8, 2:6] = True
    np.testing.assert_array_equal(full[0], np.where(inside, np.float32(1), BACKGROUND_LOGIT))


def test_all_candidates_of_a_click_and_the_one_of_a_box() -> None:
    model = Disks()
    embedding = encode(model, np.zeros((40, 60, 3), np.uint8))
    clicked = segment(model, embedding, Prompts.create((40, 60), [[33, 12]]))
    found = candidates(clicked)
    assert [round(score, 6) for _, score in found] == [0.4, 0.9, 0.5]
    assert [mask.box_xyxy for mask, _ in found] == [(31, 10, 35, 14), (32, 11, 34, 13), (30, 9, 36, 15)]
    # None is computed twice.
    assert found[clicked.index][0] is clicked.mask
    assert all(one is other for (one, _), (other, _) in zip(found, candidates(clicked), strict=True))
    boxed = segment(model, embedding, Prompts.create((40, 60), [[33, 12]], box=[20, 5, 40, 20]))
    assert candidates(boxed) == ((boxed.mask, boxed.score),)


def drawn() -> list[Prompts]:
    coin = Mask((35, 80), np.hypot(*np.mgrid[-20:21, -20:21]) <= 20, SIZE)
    line = ([[90, 50], [110, 60]], 1)
    lasso = [[70, 56], [100, 25], [130, 56], [100, 90]]
    return [
        Prompts.create(SIZE, mask=coin),
        Prompts.create(SIZE, [[115, 56]], [0], mask=coin),
        Prompts.create(SIZE, scribbles=[line, ([[150, 40], [160, 60]], 0)]),
        Prompts.create(SIZE, lasso=lasso),
        Prompts.create(SIZE, [[100, 56]], lasso=lasso, scribbles=[line]),
    ]


def test_nano_finds_the_coin_from_whatever_is_drawn(nano: PromptableModel, embedding: Embedding) -> None:
    clicked = segment(nano, embedding, Prompts.create(SIZE, [[100, 56]])).mask.to_array()
    for index, found in enumerate(segment_all(nano, embedding, drawn())):
        mask = found.mask.to_array()
        # A negative point in the coin cuts it.
        assert (mask & clicked).sum() / (mask | clicked).sum() > (0.6 if index == 1 else 0.85)
        assert not (index == 1 and mask[56, 115])


@pytest.mark.parametrize("axis", [0, 1])
def test_a_click_beside_half_a_coin_makes_it_whole(
    nano: PromptableModel, embedding: Embedding, axis: int
) -> None:
    """How far the object reaches beyond a click is for the model to say, not for the box of the mask."""
    middle = np.array([56, 100])
    whole = segment(nano, embedding, Prompts.create(SIZE, [middle[::-1]])).mask.to_array()
    half = Mask.from_array(whole & (np.indices(SIZE)[axis] <= middle[axis]))
    beside = middle + 10 * np.eye(2, dtype=int)[axis]
    seen = segment(nano, embedding, Prompts.create(SIZE, [beside[::-1]], mask=half)).mask.to_array()
    assert (seen & whole).sum() / (seen | whole).sum() > 0.9


def test_masks_of_one_pass_are_those_of_separate_calls(nano: PromptableModel, embedding: Embedding) -> None:
    rng = np.random.default_rng(3)
    clicks = [Prompts.create(SIZE, [xy]) for xy in rng.uniform((0, 0), (383, 302), (10, 2))]
    prompts = [*clicks[:4], *drawn(), *clicks[4:]]
    together = segment_all(nano, embedding, prompts)
    for prompt, batched in zip(prompts, together, strict=True):
        alone = segment(nano, embedding, prompt)
        assert alone.mask == batched.mask
        assert alone.index == batched.index


def test_prompts_drawn_on_the_plane_of_a_resized_embedding(
    nano: PromptableModel, embedding: Embedding
) -> None:
    small = drawn()[0]
    assert small.mask is not None
    double = np.repeat(np.repeat(small.mask.to_array(), 2, 0), 2, 1)
    size = (2 * SIZE[0], 2 * SIZE[1])
    (expected,) = decode(nano, embedding, [small], multimask=False)
    given = Prompts.create(size, mask=Mask.from_array(double))
    (found,) = decode(nano, embedding, [given], multimask=False, size=size)
    # What is told of the mask is the same but for which of its pixels is deepest.
    a, b = found.mask(0).to_array()[::2, ::2], expected.mask(0).to_array()
    assert (a & b).sum() / (a | b).sum() > 0.95
    with pytest.raises(PromptError, match="give a mask of this image"):
        decode(nano, embedding, [small], multimask=False, size=size)
