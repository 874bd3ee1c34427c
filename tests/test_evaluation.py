"""The interactive protocol on cases whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from torch import Tensor

import napari_sam
from napari_sam.errors import ImageError
from napari_sam.evaluation.clicks import Click, centre, iou, largest_component, next_click
from napari_sam.evaluation.interactive import Ask, InteractiveResult, click_through, targets, with_model
from napari_sam.evaluation.seeded import flood_fill, walk_randomly
from napari_sam.inference import engine
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch

# ------------------------------------------------------------------------------------------------- clicks

Method = Callable[..., Ask]
regions = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(deadline=None, max_examples=60)
@given(regions.filter(np.any))
def test_centre_is_farthest_from_the_outside(region: np.ndarray) -> None:
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    inside = np.argwhere(padded)
    depth = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1)).min(1)
    expected = inside[depth.argmax()] - 1
    assert centre(region) == tuple(expected)


@settings(deadline=None, max_examples=60)
@given(regions.flatmap(lambda a: st.tuples(st.just(a), arrays(bool, a.shape))))
def test_next_click_lies_in_the_error(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    click = next_click(truth, predicted, origin=(100, 200))
    if click is None:
        assert np.array_equal(truth, predicted)
        assert iou(truth, predicted) == 1
    else:
        at = click.y - 100, click.x - 200
        assert truth[at] != predicted[at]
        assert truth[at] == click.positive
        sizes = [
            np.bincount(ndimage.label(e)[0].ravel())[1:] for e in (truth & ~predicted, predicted & ~truth)
        ]
        assert largest_component(truth != predicted)[1] >= max(s.max(initial=0) for s in sizes)
        hit = ndimage.label(truth & ~predicted if click.positive else predicted & ~truth)[0]
        assert (hit == hit[at]).sum() == max(s.max(initial=0) for s in sizes)


def test_the_click_goes_to_the_largest_piece_not_the_largest_sum() -> None:
    truth = np.zeros((20, 40), dtype=bool)
    truth[0:3, 0:3] = truth[6:9, 0:3] = truth[12:15, 0:3] = True
    predicted = np.zeros_like(truth)
    predicted[5:9, 20:25] = True
    assert next_click(truth, predicted) == Click(21, 6, positive=False)


def test_iou() -> None:
    a, b = np.zeros((2, 4, 10), dtype=bool)
    assert iou(a, b) == 1
    a[:, :6], b[:, 3:9] = True, True
    assert iou(a, b) == pytest.approx(3 / 9)


# ------------------------------------------------------------------------- models with a known behaviour


@dataclass(frozen=True, slots=True)
class Regions(Embedding):
    """Remembers the regions of equal gray value of the image."""

    ids: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.ids]


class Oracle(PromptableModel):
    """Returns the union of the regions pointed at; regions pointed at negatively are taken away.

    For a box it is the region in the middle. ``shift`` moves every mask to the right, ``leak`` adds a region
    until it is pointed at negatively. Of three candidates the second is right and says so.
    """

    def __init__(self, shift: int = 0, leak: int = 0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shift, self.leak = shift, leak
        self.seen: list[tuple[int, bool, bool]] = []

    def encode(self, pixels: Tensor) -> Regions:
        assert pixels.dtype == torch.uint8
        ids = pixels[0].long()
        return Regions((ids.shape[0], ids.shape[1]), ids)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        assert isinstance(embedding, Regions)
        ids = embedding.ids
        self.seen.append((prompts.points.shape[1], prompts.logits is not None, multimask))
        masks = []
        for b in range(len(prompts)):
            mask = ids == self.leak if self.leak else torch.zeros_like(ids, dtype=torch.bool)
            if prompts.boxes is not None:
                x, y = ((prompts.boxes[b, :2] + prompts.boxes[b, 2:]) / 2).long().tolist()
                mask = mask | (ids == ids[y, x])
            for (x, y), label in zip(
                prompts.points[b].long().tolist(), prompts.labels[b].tolist(), strict=True
            ):
                region = ids == ids[y, x]
                mask = mask | region if label == 1 else mask & ~region
            masks.append(torch.roll(mask, self.shift, dims=1))
        logits = torch.where(torch.stack(masks), 5.0, -5.0)[:, None]
        scores = torch.ones(len(masks), 1)
        if multimask:
            logits = torch.cat([-logits, logits, -logits], dim=1)
            scores = torch.tensor([[0.2, 0.9, 0.5]]).expand(len(masks), 3)
        height, width = embedding.original_size
        frame = torch.tensor([[0.0, 0.0, width, height]]).expand(len(masks), 4)
        return MaskLogits(logits, frame, scores)


class Empty(Oracle):
    """Finds nothing."""

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        found = super().decode(embedding, prompts, multimask=multimask)
        return MaskLogits(torch.full_like(found.logits, -1), found.frames, found.scores)


@pytest.fixture
def scene() -> np.ndarray:
    """Three rectangles; the values are the gray values of the image and the labels as well."""
    labels = np.zeros((60, 100), dtype=np.uint8)
    labels[5:15, 10:30] = 40
    labels[20:40, 50:70] = 90
    labels[45:55, 5:25] = 200
    return labels


def evaluate_image(
    model: PromptableModel, image: np.ndarray, labels: np.ndarray, **options: object
) -> InteractiveResult:
    return click_through(with_model(model), image, targets(labels), **options)  # type: ignore[arg-type]


def test_a_perfect_model(scene: np.ndarray) -> None:
    model = Oracle()
    result = evaluate_image(model, scene, scene.astype(np.int32), clicks=4)
    assert [(o.label, o.area) for o in result.objects] == [(40, 200), (90, 400), (200, 200)]
    assert all(o.box == 1 and o.clicks == (1.0,) * 4 for o in result.objects)
    assert all(o.clicks_to(0.9) == 1 for o in result.objects)
    # A box; the single click that is timed; a point, ambiguous; nothing is left to correct.
    assert model.seen == [(0, False, False), (1, False, True), (1, False, True)]


def test_a_model_that_finds_nothing(scene: np.ndarray) -> None:
    model = Empty()
    result = evaluate_image(model, scene, scene.astype(np.int32), clicks=3)
    assert all(o.box == 0 and o.clicks == (0.0,) * 3 for o in result.objects)
    assert all(o.clicks_to(0.85) == 3 for o in result.objects)
    assert [seen[0] for seen in model.seen] == [0, 1, 1, 2, 3]


def test_a_model_that_is_off_by_four_pixels(scene: np.ndarray) -> None:
    result = evaluate_image(Oracle(shift=4), scene, scene.astype(np.int32), clicks=1)
    for o in result.objects:
        assert o.box == pytest.approx(16 / 24)
        assert o.clicks == (pytest.approx(16 / 24),)


def test_clicks_find_what_is_missing_and_remove_what_is_too_much(scene: np.ndarray) -> None:
    labels = scene.astype(np.int32)
    labels[labels == 200] = 40  # an object of two pieces of 200 pixels each
    result = evaluate_image(Oracle(leak=90), scene, labels, clicks=4)
    two_pieces, leaking = result.objects
    assert leaking.clicks == (1.0,) * 4
    # One piece and the leak of 400; the leak removed; the other piece added.
    assert two_pieces.clicks == pytest.approx((200 / 800, 200 / 400, 1, 1))
    assert two_pieces.clicks_to(0.85) == 3


def test_logits_are_fed_back_only_if_asked_for(scene: np.ndarray) -> None:
    for feed_back in (False, True):
        model = Empty()
        evaluate_image(model, scene, scene.astype(np.int32), clicks=2, feed_back=feed_back)
        assert [seen[:2] for seen in model.seen] == [(0, False), (1, False), (1, False), (2, feed_back)]


def test_objects_at_the_edge_one_pixel_wide_and_none_at_all() -> None:
    labels = np.zeros((8, 9), dtype=np.uint16)
    labels[0, 0] = 7
    labels[2:8, 8] = 3
    first, second = targets(labels)
    assert (first.label, first.box) == (3, (7.5, 1.5, 8.5, 7.5))
    assert (second.label, second.box) == (7, (-0.5, -0.5, 0.5, 0.5))
    image = labels.astype(np.uint8) * 20
    assert all(o.clicks == (1.0,) for o in evaluate_image(Oracle(), image, labels, clicks=1).objects)
    empty = evaluate_image(Oracle(), image, np.zeros_like(labels))
    assert empty.objects == ()
    assert np.isnan(empty.click_seconds)


def test_at_most_so_many_objects_and_the_same_for_the_same_seed() -> None:
    labels = np.repeat(np.arange(50), 4).reshape(10, 20)
    chosen = [
        [t.label for t in targets(labels, 5, seed, name)] for seed, name in ((0, "a"), (1, "a"), (0, "b"))
    ]
    assert chosen[0] == [t.label for t in targets(labels, 5, 0, "a")]
    assert len({tuple(one) for one in chosen}) == 3
    assert all(one == sorted(set(one)) and len(one) == 5 and 0 not in one for one in chosen)
    assert len(targets(labels, 100)) == 49


def test_what_cannot_be_evaluated(scene: np.ndarray) -> None:
    with pytest.raises(ImageError, match="array of integers"):
        targets(scene.astype(float))
    with pytest.raises(ValueError, match="1 to 20 clicks"):
        evaluate_image(Oracle(), scene, scene.astype(int), clicks=21)


def test_many_objects_are_clicked_on_in_portions() -> None:
    labels = np.arange(150).repeat(4).reshape(-1, 20).astype(np.int32)
    found = evaluate_image(Oracle(), labels.astype(np.uint8), labels, clicks=2)
    assert [o.label for o in found.objects] == list(range(1, 150))
    assert all(o.box == 1 and o.clicks == (1.0, 1.0) for o in found.objects)


# --------------------------------------------------------------------------------------- classical methods


@pytest.mark.parametrize("method", [flood_fill, walk_randomly])
def test_classical_methods_find_flat_regions_and_follow_clicks(scene: np.ndarray, method: Method) -> None:
    scene[scene > 0] += 50
    labels = scene.astype(np.int32)
    found = click_through(lambda plane: method(plane, sigma=0), scene, targets(labels), clicks=2)
    assert all(o.box == 1 and o.clicks == (1.0, 1.0) for o in found.objects)
    labels[labels == 250] = 90  # an object of two pieces
    pieces, _ = click_through(lambda plane: method(plane, sigma=0), scene, targets(labels), clicks=2).objects
    assert pieces.clicks == (0.5, 1.0)


def test_a_negative_click_takes_away_what_was_flooded(scene: np.ndarray) -> None:
    ask = flood_fill(np.repeat(scene[..., None], 3, axis=2), sigma=0)
    size = (60, 100)
    everything, without = ask(
        [
            Prompts.create(size, points=[[60, 30], [0, 0]], labels=[1, 1]),
            Prompts.create(size, points=[[60, 30], [0, 0], [55, 25]], labels=[1, 1, 0]),
        ]
    )
    assert (everything.mask.area, without.mask.area) == (6000 - 400, 6000 - 800)
    assert not without.mask.to_array()[30, 60]


def test_a_walk_over_a_large_object_is_coarse_and_over_a_flat_image_nothing() -> None:
    image = np.zeros((400, 500, 3), dtype=np.uint8)
    image[100:300, 100:400] = 180
    ask = walk_randomly(image)
    (boxed,) = ask([Prompts.create((400, 500), box=[99.5, 99.5, 399.5, 299.5])])
    truth = image[..., 0] > 0
    assert iou(truth, boxed.mask.to_array()) > 0.95
    (flat,) = walk_randomly(np.zeros((30, 30, 3), dtype=np.uint8))(
        [Prompts.create((30, 30), points=[[9, 9]])]
    )
    assert flat.mask.area == 5 * 5  # the seed


def test_nano_in_batches_gives_the_masks_of_single_clicks() -> None:
    rng = np.random.default_rng(0)
    model = napari_sam.load_model("nano", device="cpu", dtype="float32")
    image = (ndimage.gaussian_filter(rng.normal(size=(120, 150)), 6) > 0).astype(np.uint8) * 200
    embedding = engine.encode(model, np.repeat(image[..., None], 3, axis=2))
    prompts = [
        Prompts.create((120, 150), points=[[30, 40]]),
        Prompts.create((120, 150), box=[10, 10, 80, 90]),
        Prompts.create((120, 150), points=[[100, 40]]),
        Prompts.create((120, 150), points=[[100, 40], [20, 20]], labels=[1, 0]),
    ]
    for prompt, together in zip(prompts, engine.segment_all(model, embedding, prompts), strict=True):
        alone = engine.segment(model, embedding, prompt)
        assert together.index == alone.index
        assert together.score == pytest.approx(alone.score, abs=1e-4)
        different = together.mask.to_array() != alone.mask.to_array()
        assert different.mean() < 1e-3
