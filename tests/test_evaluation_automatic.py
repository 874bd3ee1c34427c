"""Automatic masks against the truth: measured as COCOeval and by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.data import coins

from napari_sam.evaluation.automatic import find_everything
from napari_sam.evaluation.instances import (
    IOU_THRESHOLDS,
    Match,
    average_precision,
    label_iou,
    match_labels,
    seg_scores,
    segmentation_accuracy,
)
from napari_sam.evaluation.scores import Evaluation, ImageResult
from napari_sam.evaluation.watershed import watershed_baseline


def squares(rng: np.random.Generator, move: int = 0) -> np.ndarray:
    """Up to nine squares on a grid, moved by up to `move` pixels; some are missing."""
    labels = np.zeros((60, 60), dtype=np.uint16)
    for number in rng.permutation(9)[: rng.integers(0, 10)].tolist():
        row, column = 20 * (number // 3) + 4, 20 * (number % 3) + 4
        side = rng.integers(6, 13)
        y, x = row + rng.integers(-move, move + 1), column + rng.integers(-move, move + 1)
        labels[y : y + side, x : x + side] = number + 1
    return labels


def by_coco(pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The mean precision at each threshold as pycocotools has it."""
    from pycocotools import mask as coco

    def records(labels: np.ndarray, image: int) -> list[dict]:
        found = []
        for label in np.unique(labels)[1:].tolist() if 0 in labels else np.unique(labels).tolist():
            rle = coco.encode(np.asfortranarray(labels == label).astype(np.uint8))
            rle["counts"] = rle["counts"].decode()
            area = int((labels == label).sum())
            base = {"image_id": image, "category_id": 1, "segmentation": rle, "area": area, "iscrowd": 0}
            found.append({**base, "bbox": [0, 0, 1, 1], "label": label})
        return found

    truth, found = [], []
    for image, (ours, theirs, scores) in enumerate(pairs, 1):
        truth += records(theirs, image)
        found += [{**one, "score": float(scores[one["label"]])} for one in records(ours, image)]
    for number, one in enumerate(truth, 1):
        one["id"] = number
    images = [{"id": image, "height": 60, "width": 60} for image in range(1, len(pairs) + 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "o"}]}
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(found), "segm")
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, 2].mean(axis=1)


# pycocotools reads arrays of its own in a way that numpy 2 finds old-fashioned
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_precision_is_that_of_coco(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        # No two scores are equal: what comes first then is another matter.
        pairs.append((squares(rng, 4), squares(rng), rng.permutation(1000)[:10] / 1000 + 0.0001 * len(pairs)))
    matches = [match_labels(*pair) for pair in pairs]
    if not any(match.iou.shape[0] for match in matches) or not any(match.iou.shape[1] for match in matches):
        return
    ours = [average_precision(matches, threshold) for threshold in IOU_THRESHOLDS]
    np.testing.assert_allclose(ours, by_coco(pairs), atol=1e-9)


def test_known_answers() -> None:
    truth = np.zeros((4, 8), dtype=int)
    truth[:, :2], truth[:, 4:6] = 3, 5
    perfect = match_labels(truth, truth)
    assert average_precision([perfect], 0.95) == 1
    assert segmentation_accuracy(perfect, 0.95) == 1
    one = match_labels(np.where(truth == 3, 9, 0), truth)
    assert one.iou.tolist() == [[1, 0]]
    assert average_precision([one], 0.5) == pytest.approx(51 / 101)
    assert segmentation_accuracy(one, 0.5) == 0.5
    nothing = match_labels(np.zeros_like(truth), truth)
    assert average_precision([nothing], 0.5) == 0
    assert segmentation_accuracy(nothing, 0.5) == 0
    empty = match_labels(np.zeros_like(truth), np.zeros_like(truth))
    assert np.isnan(average_precision([empty], 0.5))
    assert segmentation_accuracy(empty, 0.5) == 1
    # What is wrong and sure costs more than what is wrong and unsure.
    both = np.array([[1.0], [0.0]])
    assert average_precision([Match(both, np.array([0.2, 0.9]))], 0.5) == 0.5
    assert average_precision([Match(both, np.array([0.9, 0.2]))], 0.5) == 1
    with pytest.raises(ValueError, match="cannot be compared"):
        label_iou(truth, truth[1:])


def test_as_many_as_possible_are_matched() -> None:
    # The best pair alone would leave the other two without a partner.
    match = Match(np.array([[0.8, 0.6], [0.7, 0.0]]), np.ones(2))
    assert segmentation_accuracy(match, 0.5) == 1


def test_the_watershed_finds_coins() -> None:
    assert 15 < watershed_baseline(coins()).max() < 200
    assert not watershed_baseline(np.ones((5, 5), dtype=np.uint8)).any()
    dark = np.full((30, 30, 3), 200, dtype=np.uint8)
    dark[10:20, 10:20] = 20
    assert int((watershed_baseline(dark) > 0).sum()) == pytest.approx(100, abs=10)


def test_the_watershed_leaves_out_what_is_no_number() -> None:
    image = np.zeros((40, 40))
    image[5:15, 5:15] = image[20:35, 20:35] = 1
    image[0, 0], image[0, 39], image[39, 0] = np.nan, np.inf, -np.inf
    assert watershed_baseline(image).max() == 2


def test_seg_is_the_iou_with_what_covers_more_than_half() -> None:
    truth = np.zeros((4, 12), dtype=int)
    truth[:, 0:2], truth[:, 4:6], truth[:, 8:10] = 1, 2, 3
    found = np.zeros_like(truth)
    found[:, 0:3] = 5  # covers all 8 pixels of the first, and 4 more
    found[:2, 4:6] = 6  # covers exactly half of the second
    found[:3, 8:10] = 7  # covers 6 of the 8 pixels of the third
    assert seg_scores(found, truth).tolist() == pytest.approx([8 / 12, 0, 6 / 8])
    assert seg_scores(truth, truth).tolist() == [1, 1, 1]
    # One found object over two true ones covers both.
    assert seg_scores(np.ones_like(truth), truth).tolist() == pytest.approx([8 / 48] * 3)
    assert seg_scores(found, np.zeros_like(truth)).shape == (0,)
    with pytest.raises(ValueError, match="cannot be compared"):
        seg_scores(found, truth[1:])


def test_mean_accuracy_of_known_overlaps() -> None:
    # Two of three are found, with IoUs of 0.72 and 0.93; one more is found that is not there.
    truth = np.zeros((10, 400), dtype=int)
    truth[:, 0:100], truth[:, 150:250], truth[:, 300:310] = 1, 2, 3
    found = np.zeros_like(truth)
    found[:, 0:72], found[:, 150:243], found[:, 350:360] = 1, 2, 3
    result = find_everything(lambda image: (image, None), found, truth)
    # 0.5 to 0.7: 2 / (2 + 1 + 1); 0.75 to 0.9: 1 / (1 + 2 + 2); 0.95: none.
    assert result.accuracy.tolist() == pytest.approx([0.5] * 5 + [0.2] * 4 + [0])
    assert result.right.sum(axis=1).tolist() == [2] * 5 + [1] * 4 + [0]
    (line,) = Evaluation([ImageResult("d", "n", "", {}, {"m": result})]).per_dataset()
    assert line.automatic is not None
    assert line.automatic.msa == pytest.approx(0.33)
    assert line.automatic.seg == pytest.approx((0.72 + 0.93) / 3)
    assert (line.automatic.objects, line.automatic.found) == (3, 3)
