from __future__ import annotations

import copy
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from scipy import ndimage
from skimage.data import coins
from skimage.measure import label
from torch.nn import functional as F

from napari_sam import load_model
from napari_sam.demo import CLICKS
from napari_sam.errors import Cancelled, ImageError, PromptError
from napari_sam.inference.automatic import SamAutomaticMaskGenerator, thresholds_of
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.engine import encode
from napari_sam.inference.grids import crops, point_grid
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.regions import without_small_regions
from napari_sam.inference.rle import coco_rle, run_lengths
from napari_sam.inference.stability import measured
from napari_sam.inference.suppression import best_of_overlapping
from napari_sam.models.base import PromptableModel
from napari_sam.models.sam import build_sam
from napari_sam.models.sam2 import build_sam2

PART = np.ascontiguousarray(coins()[150:, :200])
"""Six coins."""


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def found(nano: PromptableModel) -> MaskCandidates:
    return SamAutomaticMaskGenerator(nano, 10).candidates(PART)


def test_each_coin_is_found_once(nano: PromptableModel, found: MaskCandidates) -> None:
    kept = SamAutomaticMaskGenerator(nano).filtered(found)
    masks = [kept.mask(index).to_array() for index in range(len(kept))]
    clicks = [(x, y - 150) for x, y in CLICKS if y > 190 and x < 190]
    assert len(clicks) == 6
    for x, y in clicks:
        assert sum(mask[y, x] and 700 < mask.sum() < 3000 for mask in masks) == 1
    assert len(masks) <= len(clicks) + 1


def test_masks_of_nano_are_of_one_piece(nano: PromptableModel, found: MaskCandidates) -> None:
    pieces = [label(found.mask(index).to_array(), connectivity=2).max() for index in range(len(found))]
    assert set(pieces) == {1}
    model = copy.copy(nano)
    model.objects_hang_together = False  # type: ignore[misc]
    apart = SamAutomaticMaskGenerator(model, 10).candidates(PART)
    assert any(label(apart.mask(i).to_array(), connectivity=2).max() > 1 for i in range(len(apart)))


# pycocotools decodes through an array that numpy 2 finds old-fashioned
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_generate_is_what_remains_of_the_candidates(nano: PromptableModel, found: MaskCandidates) -> None:
    generator = SamAutomaticMaskGenerator(nano, 10, output_mode="coco_rle")
    records = generator.generate(PART)
    assert records == generator.records(found)
    kept = generator.filtered(found)
    assert 6 <= len(records) == len(kept) < len(found)
    assert (np.diff(kept.predicted_iou) <= 0).all()
    for record, index in zip(records, range(len(kept)), strict=True):
        mask = kept.mask(index)
        np.testing.assert_array_equal(coco.decode(record["segmentation"]), mask.to_array())
        assert record["area"] == mask.area
        assert record["bbox"] == [*mask.bbox_xywh[:2], mask.bbox_xywh[2] - 1, mask.bbox_xywh[3] - 1]
        assert record["crop_box"] == [0, 0, 200, 153]
        assert record["predicted_iou"] > generator.pred_iou_thresh
        assert record["stability_score"] >= generator.stability_score_thresh


def test_candidates_say_where_they_came_from(nano: PromptableModel, found: MaskCandidates) -> None:
    assert found.model == nano.name == "nano"
    assert found.digest == nano.known_digest != ""
    assert found.shape == PART.shape
    assert 200 < len(found) <= 300
    assert found.areas.min() > 0
    assert len(np.unique(found.points, axis=0)) == 100
    seen = SamAutomaticMaskGenerator(nano, 1).candidates(PART, contrast_limits=(0, 100), gamma=0.5)
    assert (seen.contrast_limits, seen.gamma) == ((0, 100), 0.5)


def test_a_region_is_where_points_are(nano: PromptableModel) -> None:
    region = Mask((0, 100), np.ones((40, 60), dtype=bool), PART.shape)
    some = SamAutomaticMaskGenerator(nano, 10).candidates(PART, region=region)
    assert len(some)
    assert ((some.points >= (99.5, -0.5)) & (some.points <= (159.5, 39.5))).all()
    nowhere = SamAutomaticMaskGenerator(nano, 10).candidates(PART, region=Mask.empty(PART.shape))
    assert len(nowhere) == 0


def test_progress_by_batches(nano: PromptableModel) -> None:
    told: list[tuple[int, int]] = []
    generator = SamAutomaticMaskGenerator(nano, 3, points_per_batch=4, crop_n_layers=1)
    generator.candidates(PART[:60, :90], progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 15) for done in range(16)]


def test_cancelling_stops_within_a_batch(nano: PromptableModel) -> None:
    cancelled, told = threading.Event(), []

    def progress(done: int, total: int) -> None:
        told.append(done)
        if done == 2:
            cancelled.set()

    generator = SamAutomaticMaskGenerator(nano, 5, points_per_batch=5)
    with pytest.raises(Cancelled, match="Cancelled"):
        generator.candidates(PART, progress=progress, cancelled=cancelled)
    assert told == [0, 1, 2]
    with pytest.raises(Cancelled):
        generator.generate(PART, cancelled=cancelled)
    cancelled.clear()
    assert generator.generate(PART[:60, :60], cancelled=cancelled) is not None


def test_memory_is_bounded_by_the_best(nano: PromptableModel, found: MaskCandidates) -> None:
    most = found.packed.nbytes // 3
    few = SamAutomaticMaskGenerator(nano, 10, points_per_batch=20).candidates(PART, most_bytes=most)
    assert 0 < few.packed.nbytes <= most
    order = np.argsort(-found.predicted_iou)
    fits = np.cumsum(np.diff(found.offsets)[order]) <= most
    best = set(found.predicted_iou[order[fits]].tolist())
    assert len(best & set(few.predicted_iou.tolist())) > 0.9 * len(best)


def test_the_centres_of_coins_are_enough(nano: PromptableModel) -> None:
    told: list[tuple[int, int]] = []
    generator = SamAutomaticMaskGenerator(nano, prompts="centres", points_per_batch=8)
    found = generator.candidates(PART, progress=lambda *now: told.append(now))
    points = np.unique(found.points, axis=0)
    assert len(points) < 60  # of a grid, there are 1024
    masks = [
        generator.filtered(found).mask(index).to_array() for index in range(len(generator.filtered(found)))
    ]
    clicks = [(x, y - 150) for x, y in CLICKS if y > 190 and x < 190]
    for x, y in clicks:
        assert sum(mask[y, x] and 700 < mask.sum() < 3000 for mask in masks) == 1
    assert told[0] == (0, 1)
    assert [done for done, _ in told] == [0, *range(len(told) - 1)]
    assert told[-1] == (len(told) - 2, len(told) - 2)


def test_centres_in_crops_and_on_a_region(nano: PromptableModel) -> None:
    region = Mask((0, 0), np.ones((70, 100), dtype=bool), PART.shape)
    told: list[tuple[int, int]] = []
    generator = SamAutomaticMaskGenerator(nano, prompts="centres", crop_n_layers=1)
    found = generator.candidates(PART, region=region, progress=lambda *now: told.append(now))
    assert len(found)
    assert region.to_array()[tuple(np.rint(found.points[:, ::-1]).astype(int).T)].all()
    # One crop of four has nothing in common with the region, or three: they take no batch.
    assert told[-1][0] == told[-1][1]
    assert len(np.unique(found.crop_boxes, axis=0)) > 1


def test_all_coins_in_one_pass(nano: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(nano), "decode", None)
    generator = SamAutomaticMaskGenerator(nano, prompts="none", points_per_batch=8)
    told: list[tuple[int, int]] = []
    found = generator.candidates(coins(), progress=lambda *now: told.append(now))
    masks = generator.filtered(found)
    arrays = [masks.mask(index).to_array() for index in range(len(masks))]
    assert len(arrays) == len(CLICKS) == 24
    for x, y in CLICKS:
        assert sum(mask[y, x] and 700 < mask.sum() < 3500 for mask in arrays) == 1
    assert told[-1][0] == told[-1][1] == len(told) - 2 > 3


def test_one_pass_on_a_region_and_in_crops(nano: PromptableModel) -> None:
    region = Mask((0, 0), np.ones((70, 100), dtype=bool), PART.shape)
    whole = SamAutomaticMaskGenerator(nano, prompts="none").candidates(PART)
    some = SamAutomaticMaskGenerator(nano, prompts="none").candidates(PART, region=region)
    inside = region.to_array()[tuple(np.rint(whole.points[:, ::-1]).astype(int).T)]
    assert 0 < len(some) < len(whole)
    assert some == whole.select(inside)
    crops = SamAutomaticMaskGenerator(nano, prompts="none", crop_n_layers=1).candidates(PART)
    assert len(np.unique(crops.crop_boxes, axis=0)) > 1


def test_an_embedding_is_not_computed_twice(nano: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for prompts in ("grid", "centres", "none"):
        generator = SamAutomaticMaskGenerator(nano, 3, prompts=prompts)
        expected = generator.candidates(PART)
        embedding = encode(nano, as_rgb(PART))
        with monkeypatch.context() as patched:
            patched.setattr(type(nano), "encode", None)
            assert generator.candidates(PART, embedding=embedding) == expected


def test_only_models_that_find_centres_are_asked_for_them(nano: PromptableModel) -> None:
    assert SamAutomaticMaskGenerator(build_sam("vit_t"), prompts="auto").prompts == "grid"
    assert SamAutomaticMaskGenerator(nano, prompts="auto").prompts == "centres"
    for prompts in ("centres", "none"):
        with pytest.raises(PromptError, match="finds no objects by itself: use a grid"):
            SamAutomaticMaskGenerator(build_sam("vit_t"), prompts=prompts)


@pytest.mark.parametrize("prompts", ["grid", "centres", "none"])
@pytest.mark.parametrize(
    "image",
    [np.zeros((40, 50), np.uint8), np.full((40, 50, 3), 255, np.uint8), np.ones((1, 1)), np.ones((1, 70))],
    ids=["black", "white", "pixel", "row"],
)
@pytest.mark.parametrize("layers", [0, 1])
def test_images_without_anything_in_them(
    nano: PromptableModel, image: np.ndarray, layers: int, prompts: str
) -> None:
    generator = SamAutomaticMaskGenerator(
        nano, 2, crop_n_layers=layers, min_mask_region_area=5, prompts=prompts
    )
    for record in generator.generate(image):
        assert record["segmentation"].shape == image.shape[:2]
        assert record["area"] > 0


def test_using_masks_again_and_one_mask_a_point(nano: PromptableModel) -> None:
    single = SamAutomaticMaskGenerator(nano, 3, multimask_output=False).candidates(PART)
    assert len(single) <= 9
    again = SamAutomaticMaskGenerator(nano, 3, use_m2m=True).candidates(PART)
    first = SamAutomaticMaskGenerator(nano, 3).candidates(PART)
    assert 9 < len(again) <= 27
    assert again != first


def test_defaults_are_those_of_the_family(nano: PromptableModel) -> None:
    sam, sam2 = build_sam("vit_t"), build_sam2("hiera_tiny")
    generators = [SamAutomaticMaskGenerator(model) for model in (sam, sam2, nano)]
    assert [(g.pred_iou_thresh, g.stability_score_thresh) for g in generators[:2]] == [
        (0.88, 0.95),
        (0.8, 0.95),
    ]
    assert generators[2].pred_iou_thresh == thresholds_of(nano).predicted_iou
    assert SamAutomaticMaskGenerator(sam, pred_iou_thresh=0).pred_iou_thresh == 0


@pytest.mark.parametrize(
    "options",
    [
        {"points_per_side": None},
        {"points_per_side": 3, "point_grids": [point_grid(2)]},
        {"points_per_side": 0},
        {"points_per_side": None, "point_grids": [point_grid(2)], "crop_n_layers": 1},
        {"points_per_side": None, "point_grids": [point_grid(2) * 100]},
        {"points_per_batch": 0},
        {"crop_n_layers": -1},
        {"crop_overlap_ratio": 1},
        {"stability_score_offset": -1},
        {"output_mode": "polygons"},
        {"prompts": "polygons"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(nano: PromptableModel, options: dict[str, Any]) -> None:
    with pytest.raises(PromptError):
        SamAutomaticMaskGenerator(nano, **options)


def test_what_is_no_image(nano: PromptableModel) -> None:
    with pytest.raises(ImageError):
        SamAutomaticMaskGenerator(nano).generate(np.zeros((3, 4, 5, 6)))


# Stability


@pytest.mark.parametrize("shape", [(90, 120), (33, 200), (1, 1)])
@pytest.mark.parametrize("via", [None, (64, 80)])
def test_stability_is_that_of_the_whole_plane(shape: tuple[int, int], via: tuple[int, int] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(6, 1, 5, 5, generator=generator) * 3 - torch.linspace(-2, 9, 6).view(6, 1, 1, 1)
    logits = F.interpolate(coarse, (48, 64), mode="bicubic")
    full = logits if via is None else F.interpolate(logits, via, mode="bilinear")
    full = F.interpolate(full, shape, mode="bilinear")[:, 0].numpy()
    for one, expected in zip(logits[:, 0].numpy(), full, strict=True):
        mask, stability = measured(one, (0, 0, shape[1], shape[0]), shape, via, 1.5)
        sure = np.abs(expected) > 1e-4
        np.testing.assert_array_equal(mask.to_array()[sure], (expected > 0)[sure])
        if mask.is_empty:
            assert stability == 0
        else:
            assert stability == pytest.approx((expected > 1.5).sum() / (expected > -1.5).sum(), abs=2e-3)


def test_a_mask_of_a_huge_plane_is_never_in_full_size() -> None:
    logits = np.full((256, 256), -5, dtype=np.float32)
    logits[100:104, 50:54] = 5
    shape = (8000, 8000)
    tracemalloc.start()
    mask, stability = measured(logits, (0, 0, 8000, 8000), shape, None, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6 < 8000 * 8000
    assert mask == Mask.from_logits(logits, (0, 0, 8000, 8000), shape)
    assert 0.7 < stability < 1


# Duplicates


def test_boxes_of_one_row_are_duplicates_too() -> None:
    boxes = np.array([[5, 5, 9, 6], [5, 5, 9, 6], [5, 5, 6, 6], [0, 0, 20, 20]])
    assert best_of_overlapping(boxes, [0.5, 0.9, 0.1, 0.2], 0.5).tolist() == [1, 3, 2]


def test_groups_do_not_meet() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 4)
    assert best_of_overlapping(boxes, [1, 2, 3, 4], 0.5, [7, 7, 3, 3]).tolist() == [3, 1]
    assert best_of_overlapping(boxes, [1, 1, 1, 1], 0.5, [7, 7, 3, 3]).tolist() == [0, 2]
    assert best_of_overlapping(boxes, [1, 1, 1, 1], 1.0).tolist() == [0, 1, 2, 3]
    assert best_of_overlapping(boxes[:0], [], 0.5).tolist() == []


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 3)), max_size=12), st.floats(0, 1))
def test_what_goes_overlaps_something_better(rows: list[tuple[int, ...]], threshold: float) -> None:
    boxes = np.array([(x, y, x + w + 2, y + h + 2) for x, y, w, h, _ in rows]).reshape(-1, 4)
    scores = np.array([row[4] for row in rows])
    kept = best_of_overlapping(boxes, scores, threshold).tolist()
    assert (np.diff(scores[kept]) <= 0).all()

    def iou(one: int, other: int) -> float:
        low = np.maximum(boxes[one, :2], boxes[other, :2])
        inner = np.prod(np.maximum(np.minimum(boxes[one, 2:], boxes[other, 2:]) - 1 - low, 0))
        areas = [np.prod(boxes[i, 2:] - boxes[i, :2] - 1) for i in (one, other)]
        return float(inner / (sum(areas) - inner))

    better = {i: [k for k in kept if (-scores[k], k) < (-scores[i], i)] for i in range(len(rows))}
    for i, others in better.items():
        most = max((iou(i, k) for k in others), default=0.0)
        assert i in kept if most < threshold - 1e-6 else most < threshold + 1e-6 or i not in kept


# Run lengths and small regions

small_planes = arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7)))


@settings(max_examples=150)
@given(small_planes)
def test_run_lengths_are_those_of_coco(plane: np.ndarray) -> None:
    mask = Mask.from_array(plane)
    lengths = run_lengths(mask)
    column_by_column = np.repeat(np.arange(len(lengths["counts"])) % 2, lengths["counts"])
    np.testing.assert_array_equal(column_by_column.reshape(plane.shape[::-1]).T, plane)
    assert all(lengths["counts"][1:])
    assert coco_rle(mask)["counts"] == coco.encode(np.asfortranarray(plane, np.uint8))["counts"].decode()


@settings(max_examples=150)
@given(small_planes, st.integers(0, 12))
def test_small_regions_as_on_the_whole_plane(plane: np.ndarray, least: int) -> None:
    def small(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, count = ndimage.label(bits, np.ones((3, 3)))
        sizes = np.array([(labels == i).sum() for i in range(1, count + 1)])
        return labels, sizes

    labels, sizes = small(~plane)
    expected = plane | np.isin(labels, np.flatnonzero(sizes < least) + 1)
    labels, sizes = small(expected)
    large = np.flatnonzero(sizes >= least)
    if not plane.any():
        assert without_small_regions(Mask.from_array(plane), least).is_empty
        return
    expected = np.isin(labels, (large if len(large) else np.argmax(sizes, keepdims=True)) + 1) & expected
    mask = Mask.from_array(plane)
    cleaned = without_small_regions(mask, least)
    np.testing.assert_array_equal(cleaned.to_array(), expected)
    assert cleaned is not mask or np.array_equal(plane, expected)


# Crops


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (200, 300), (1023, 517)])
@pytest.mark.parametrize("overlap", [0, 512 / 1500, 0.9])
def test_crops_cover_the_plane(shape: tuple[int, int], overlap: float) -> None:
    found = crops(shape, 2, overlap)
    assert found[0].size == shape
    for layer in (1, 2):
        covered = np.zeros(shape, dtype=bool)
        for crop in found:
            if crop.layer == layer:
                assert min(crop.size) > 0
                covered[crop.slices] = True
        assert covered.all()
    if min(shape) > 100:
        assert len(found) == 1 + 4 + 16
