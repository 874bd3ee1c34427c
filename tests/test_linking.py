"""Masks of neighbouring planes are one object where they overlap most."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.inference import linking
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.linking import Linker, link_planes
from napari_sam.inference.mask import Mask
from napari_sam.inference.mask_files import StackLabels, label_image

SIZE = (7, 8)


@st.composite
def planes_of_masks(draw: st.DrawFn, most: int = 6) -> list[Mask]:
    """Masks of one plane, which may overlap, be equal or empty."""
    seed = draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    masks = []
    for _ in range(draw(st.integers(0, most))):
        height, width = random.integers(1, 5, 2)
        top, left = random.integers(0, SIZE[0] - height + 1), random.integers(0, SIZE[1] - width + 1)
        bits = random.random((height, width)) < random.choice([0.0, 0.5, 1.0], p=[0.1, 0.5, 0.4])
        masks.append(Mask((int(top), int(left)), bits, SIZE))
    return masks


def block(x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = (40, 50)) -> Mask:
    return Mask((y0, x0), np.ones((y1 - y0, x1 - x0), dtype=bool), shape)


def iou(one: Mask, other: Mask) -> float:
    common, either = (one & other).area, (one | other).area
    return common / either if either else 0.0


@given(one=planes_of_masks(), other=planes_of_masks(), least=st.sampled_from([0.01, 0.3, 0.5, 1.0]))
@settings(max_examples=150, deadline=None)
def test_two_planes_are_matched_with_the_greatest_sum(
    one: list[Mask], other: list[Mask], least: float
) -> None:
    before, after = link_planes([one, other], least)
    assert before.tolist() == list(range(len(one)))
    assert len(set(after.tolist())) == len(after)
    assert sorted(set(after.tolist()) - set(before.tolist())) == list(
        range(len(one), len(one) + (after >= len(one)).sum())
    )
    gains = [[g if (g := iou(a, b)) >= least else 0.0 for b in other] for a in one]
    reached = [gains[number][at] for at, number in enumerate(after.tolist()) if number < len(one)]
    assert all(gain > 0 for gain in reached)
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    gain_of = np.array(gains) if len(one) <= len(other) else np.array(gains).reshape(len(one), -1).T
    best = max(
        (sum(gain_of[i, j] for i, j in enumerate(way)) for way in permutations(range(len(long)), len(short))),
        default=0.0,
    )
    assert sum(reached) == pytest.approx(best)


@given(masks=planes_of_masks(), count=st.integers(1, 4), least=st.sampled_from([0.1, 0.9, 1.0]))
@settings(max_examples=60, deadline=None)
def test_identical_planes_have_identical_numbers(masks: list[Mask], count: int, least: float) -> None:
    # Equal masks of one plane are not told apart.
    different = [mask for mask in dict.fromkeys(masks) if not mask.is_empty]
    for numbers in link_planes([different] * count, least):
        assert numbers.tolist() == list(range(len(different)))


@given(planes=st.lists(planes_of_masks(5), min_size=1, max_size=4), seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_the_order_of_masks_does_not_matter(planes: list[list[Mask]], seed: int) -> None:
    planes = [list(dict.fromkeys(masks)) for masks in planes]
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(masks)) for masks in planes]
    shuffled = [[masks[i] for i in order] for masks, order in zip(planes, orders, strict=True)]
    objects: list[set[frozenset[tuple[int, int]]]] = []
    for numbers, back in (
        (link_planes(planes), [np.arange(len(order)) for order in orders]),
        (link_planes(shuffled), orders),
    ):
        found: dict[int, set[tuple[int, int]]] = {}
        for z, (mine, order) in enumerate(zip(numbers, back, strict=True)):
            for number, index in zip(mine.tolist(), order.tolist(), strict=True):
                found.setdefault(number, set()).add((z, index))
        objects.append({frozenset(one) for one in found.values()})
    assert objects[0] == objects[1]


def test_an_object_that_splits_goes_on_with_the_larger_part() -> None:
    whole, left, right = block(0, 0, 20, 10), block(0, 0, 8, 10), block(8, 0, 20, 10)
    for parts, expected in (([left, right], [1, 0]), ([right, left], [0, 1])):
        assert [n.tolist() for n in link_planes([[whole], parts])] == [[0], expected]
    # And two that become one: the larger one goes on.
    assert [n.tolist() for n in link_planes([[left, right], [whole]])] == [[0, 1], [1]]


def test_the_best_for_all_is_chosen_not_the_best_for_one() -> None:
    # The first overlaps most with the second of the next plane, whose other partner has nobody else.
    one = [block(10, 0, 20, 10), block(14, 0, 24, 10)]
    other = [block(6, 0, 16, 10), block(11, 0, 21, 10)]
    assert iou(one[0], other[1]) > iou(one[0], other[0]) > 0.3
    numbers = link_planes([one, other])[1].tolist()
    assert numbers == [0, 1]


def test_what_overlaps_too_little_begins_a_new_object() -> None:
    one, other = block(0, 0, 10, 10), block(5, 0, 15, 10)
    exact = 50 / 150
    assert link_planes([[one], [other]], exact)[1].tolist() == [0]
    assert link_planes([[one], [other]], exact + 1e-9)[1].tolist() == [1]


def test_a_gap_ends_an_object() -> None:
    mask = block(3, 3, 9, 9)
    assert [n.tolist() for n in link_planes([[mask], [], [mask]])] == [[0], [], [1]]
    linker = Linker()
    assert linker.add([mask]).tolist() == [0]
    linker.skip()
    assert linker.add([mask]).tolist() == [1]
    assert linker.count == 2


def test_masks_larger_than_what_is_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    planes = [[Mask((0, 0), random.random((30, 40)) < 0.5, (30, 40)) for _ in range(7)] for _ in range(3)]
    planes[1][0] = planes[0][4]
    whole = [numbers.tolist() for numbers in link_planes(planes, 0.2)]
    assert whole[1][0] == 4
    for chunk in (1, 39, 100, 1201):
        monkeypatch.setattr(linking, "_CHUNK", chunk)
        assert [numbers.tolist() for numbers in link_planes(planes, 0.2)] == whole


def found(*masks: Mask) -> MaskCandidates:
    count, shape = len(masks), masks[0].shape
    scores = np.linspace(0.9, 0.5, count)
    return MaskCandidates.of(
        masks, scores, scores, np.zeros((count, 2)), np.tile([0, 0, *shape[::-1]], (count, 1)), shape
    )


def test_label_images_of_a_stack() -> None:
    # The third is hidden by the first and left out; the second has lost a part of its pixels.
    masks = [block(5, 5, 20, 20), block(15, 5, 40, 20), block(6, 6, 10, 10)]
    runs = [found(*masks), found(*masks[::-1])]
    single = [label_image(run) for run in runs]
    apart, linked = StackLabels(), StackLabels(link=0.3)
    first, second = (apart.add(run) for run in runs)
    np.testing.assert_array_equal(first, single[0])
    np.testing.assert_array_equal(second, np.where(single[1] > 0, single[1] + 3, 0))
    first, second = (linked.add(run) for run in runs)
    assert set(np.unique(first)) == {0, 1, 2}
    # On the second plane the small one has the better score, and goes on as nothing.
    large, wide, small = second[18, 7], second[7, 30], second[7, 7]
    assert (large, wide) == (first[7, 7], first[7, 30])
    assert small == 3
    assert set(np.unique(linked.add(runs[0], first=True))) == {0, 4, 5}
    semantic = StackLabels(semantic=True).add(runs[0])
    assert semantic.dtype == np.uint8
    np.testing.assert_array_equal(semantic == 1, np.any([mask.to_array() for mask in masks], axis=0))


@pytest.mark.parametrize("least", [0.0, -1.0, 1.1, float("nan")])
def test_what_is_no_iou_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match="from an IoU above 0"):
        link_planes([], least)


def test_planes_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be linked"):
        link_planes([[block(0, 0, 3, 3)], [block(0, 0, 3, 3, (9, 9))]])


def test_a_thousand_masks_a_plane_take_milliseconds() -> None:
    random = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-9:10, -9:10]) <= 9
    corners = random.integers(0, 1000, (1000, 2)).tolist()
    planes = [[Mask((y + z, x), disc, (1024, 1024)) for y, x in corners] for z in range(3)]
    planes[1].append(block(0, 0, 1024, 1024, (1024, 1024)))
    planes[2].append(block(0, 0, 1024, 1024, (1024, 1024)))
    link_planes(planes)
    linker, least = Linker(), []
    for masks in planes * 3:
        begin = time.process_time()
        linker.add(masks)
        least.append(time.process_time() - begin)
    assert min(least[1:]) < 0.1
