"""Masks of an automatic run, filtered: as torchvision and scipy would, and as the rules say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torchvision.ops import nms

from napari_sam.inference.box_overlap import BoxOverlaps
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.mask import Mask

SHAPE = (60, 80)
ALL = Filter(max_overlap=1, min_visible=0)


def candidates_of(
    arrays: list[NDArray[np.bool_]], iou: list[float] | None = None, stability: list[float] | None = None
) -> MaskCandidates:
    count, shape = len(arrays), arrays[0].shape if arrays else SHAPE
    return MaskCandidates.of(
        [Mask.from_array(array) for array in arrays],
        np.linspace(0.9, 0.5, count) if iou is None else iou,
        np.ones(count) if stability is None else stability,
        np.zeros((count, 2)),
        [(0, 0, shape[1], shape[0])] * count,
        shape,
    )


def rectangle(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    full = np.zeros(SHAPE, dtype=bool)
    full[y0:y1, x0:x1] = True
    return full


def blobs(seed: int, count: int = 40) -> list[NDArray[np.bool_]]:
    """Discs with holes and pieces missing, many on top of each other."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    made = []
    for _ in range(count):
        row, column, radius = rng.uniform(0, 60), rng.uniform(0, 80), rng.uniform(1, 25)
        made.append((np.hypot(y - row, x - column) < radius) & (rng.random(SHAPE) < 0.9))
    return made


boxes = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)), max_size=40
)


@settings(deadline=None, max_examples=200)
@given(boxes, st.floats(0.1, 1), st.randoms(use_true_random=False))
def test_suppression_is_that_of_torchvision(sides, most: float, random) -> None:
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h in sides], dtype=np.int64).reshape(-1, 4)
    # Few different scores, so that many are equal.
    scores = np.array([random.randint(0, 5) / 5 for _ in sides], dtype=np.float32)
    kept = BoxOverlaps(xyxy, scores).suppressed(np.ones(len(xyxy), dtype=bool), most)
    theirs = nms(torch.from_numpy(xyxy).float(), torch.from_numpy(scores), most)
    assert np.flatnonzero(kept).tolist() == sorted(theirs.tolist())


def test_suppression_among_many_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam.inference.box_overlap._CHUNK", 10_000)
    rng = np.random.default_rng(0)
    corner, size = rng.integers(0, 900, (1000, 2)), rng.integers(5, 300, (1000, 2))
    xyxy, scores = np.concatenate([corner, corner + size], axis=1), rng.random(1000).astype(np.float32)
    overlaps, among = BoxOverlaps(xyxy, scores), rng.random(1000) < 0.8
    for most in (0.1, 0.3, 0.7):
        theirs = nms(torch.from_numpy(xyxy[among]).float(), torch.from_numpy(scores[among]), most).numpy()
        ours = overlaps.suppressed(among, most)
        assert np.flatnonzero(ours).tolist() == np.sort(np.flatnonzero(among)[theirs]).tolist()
        assert 0 < ours.sum() < among.sum()
    np.testing.assert_array_equal(overlaps.suppressed(among, 1), among)
    with pytest.raises(ValueError, match=r"0\.1 at least"):
        overlaps.suppressed(among, 0.05)


def test_each_threshold_lets_the_right_ones_through() -> None:
    squares = [rectangle(x, 20, x + n, 20 + n) for x, n in ((0, 4), (10, 6), (20, 8), (40, 10))]
    sieve = Sieve(candidates_of(squares, [0.9, 0.8, 0.7, 0.6], [0.1, 0.4, 0.9, 1.0]))

    def kept(**values: object) -> list[int]:
        return sieve.select(Filter(**values)).tolist()  # type: ignore[arg-type]

    assert kept() == [0, 1, 2, 3]
    assert kept(min_predicted_iou=0.65) == [0, 1, 2]
    assert kept(min_stability=0.4) == [1, 2, 3]
    assert kept(min_area=36) == [1, 2, 3]
    assert kept(min_area=37, max_area=64) == [2]
    assert kept(exclude_border=True) == [1, 2, 3]
    assert kept(smaller_on_top=True) == [0, 1, 2, 3]
    assert sieve.select(Filter(), among=np.array([False, True, False, True])).tolist() == [1, 3]
    np.testing.assert_array_equal(sieve.centres[3], (44.5, 24.5))


@pytest.mark.parametrize("edge", [(0, 9, 4, 12), (9, 0, 12, 4), (70, 9, 80, 12), (9, 50, 12, 60)])
def test_each_border_is_one(edge: tuple[int, int, int, int]) -> None:
    sieve = Sieve(candidates_of([rectangle(*edge), rectangle(1, 1, 79, 59)]))
    assert sieve.select(Filter(exclude_border=True)).tolist() == [1]


def test_empty_masks_and_no_masks() -> None:
    nothing = Sieve(candidates_of([]))
    assert len(nothing.select(Filter())) == 0
    assert not nothing.paint(nothing.select(Filter()), Filter()).labels.any()
    sieve = Sieve(candidates_of([rectangle(0, 0, 0, 0), rectangle(5, 5, 9, 9)], [0.9, 0.5]))
    assert sieve.select(Filter(min_area=0)).tolist() == [1]
    assert sieve.paint(np.array([0, 1]), Filter()).kept.tolist() == [1]


@pytest.mark.parametrize("seed", range(3))
def test_holes_are_filled_as_scipy_fills_them(seed: int) -> None:
    arrays = blobs(seed)
    sieve = Sieve(candidates_of(arrays))
    for index, array in enumerate(arrays):
        parts, _ = ndimage.label(ndimage.binary_fill_holes(array) & ~array)
        sizes = np.bincount(parts.ravel())
        for most in (0, 1, 3, 10_000):
            small = sizes <= most
            small[0] = False
            filled = sieve.mask(index, Filter(fill_holes=most))
            np.testing.assert_array_equal(filled.to_array(), array | small[parts])
    assert sieve.nbytes > 1000


def test_areas_are_those_before_holes_are_filled_but_what_is_seen_counts_with_them() -> None:
    ring = rectangle(10, 10, 20, 20) & ~rectangle(12, 12, 18, 18)
    sieve = Sieve(candidates_of([ring]))
    assert sieve.select(Filter(min_area=65, fill_holes=36)).tolist() == []
    assert sieve.select(Filter(min_area=64, max_area=64, fill_holes=36)).tolist() == [0]
    # 40 of the ring's 64 pixels are free, which are not half of the 100 that it has when it is filled.
    protected = rectangle(10, 10, 20, 15)
    protected[15, 10:20] = True
    assert sieve.paint(np.array([0]), Filter(), ~ring).kept.tolist() == [0]
    assert sieve.paint(np.array([0]), Filter(fill_holes=36), protected).kept.tolist() == []


@pytest.mark.parametrize("smaller_on_top", [False, True])
@pytest.mark.parametrize("fill_holes", [0, 2])
def test_painting_gives_pixels_in_order(smaller_on_top: bool, fill_holes: int) -> None:
    """Against painting whole frames from the last to the first."""
    arrays = blobs(5)
    sieve = Sieve(candidates_of(arrays, np.random.default_rng(5).random(len(arrays)).tolist()))
    wanted = Filter(max_overlap=1, min_visible=0, smaller_on_top=smaller_on_top, fill_holes=fill_holes)
    protected = rectangle(30, 30, 50, 40)
    kept = sieve.select(wanted)
    expected = np.zeros(SHAPE, dtype=np.int64)
    for index in kept[::-1]:
        expected[sieve.mask(index, wanted).to_array()] = index + 1
    expected[protected] = 0
    painted = sieve.paint(kept, wanted, protected)
    np.testing.assert_array_equal(painted.labels, expected)
    assert set(painted.kept) == set(np.unique(expected)[1:] - 1)
    assert [i for i in kept.tolist() if i in set(painted.kept.tolist())] == painted.kept.tolist()


def test_the_better_or_the_smaller_one_is_on_top() -> None:
    large, small = rectangle(10, 10, 40, 40), rectangle(20, 20, 30, 30)
    sieve = Sieve(candidates_of([large, small], [0.9, 0.8]))
    better = sieve.paint(sieve.select(ALL), ALL)
    assert better.kept.tolist() == [0]
    wanted = Filter(smaller_on_top=True)
    smaller = sieve.paint(sieve.select(wanted), wanted)
    assert smaller.kept.tolist() == [1, 0]
    assert smaller.labels[25, 25] == 2
    assert smaller.labels[12, 12] == 1


def test_what_is_mostly_hidden_is_left_out_and_frees_its_pixels() -> None:
    first, second, third = rectangle(0, 0, 30, 10), rectangle(10, 0, 40, 10), rectangle(25, 0, 50, 10)
    sieve = Sieve(candidates_of([first, second, third]))
    wanted = Filter(max_overlap=1)
    painted = sieve.paint(sieve.select(wanted), wanted)
    # Two thirds of the second are the first's; what is left of it goes to the third.
    assert painted.kept.tolist() == [0, 2]
    assert painted.labels[5, 33] == 3
    protected = rectangle(0, 0, 20, 10)
    painted = sieve.paint(sieve.select(wanted), wanted, protected)
    assert painted.kept.tolist() == [1]
    assert not painted.labels[protected].any()
    half = rectangle(0, 0, 15, 10)
    assert 0 in sieve.paint(sieve.select(wanted), wanted, half).kept
