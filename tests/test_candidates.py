from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask

SHAPE = (9, 13)
planes = st.lists(arrays(np.bool_, SHAPE, elements=st.booleans(), fill=st.just(False)), max_size=6)


def packed(masks: list[Mask], shape: tuple[int, int] = SHAPE, model: str = "nano") -> MaskCandidates:
    count = len(masks)
    rng = np.random.default_rng(count)
    return MaskCandidates.of(
        masks,
        rng.uniform(size=count),
        rng.uniform(size=count),
        rng.uniform(0, 9, (count, 2)),
        [(0, 0, shape[1], shape[0])] * count,
        shape,
        model=model,
    )


@settings(max_examples=60)
@given(planes)
def test_what_is_packed_comes_back(full: list[np.ndarray]) -> None:
    masks = [Mask.from_array(one) for one in full]
    found = packed(masks)
    assert len(found) == len(full)
    for index, (mask, one) in enumerate(zip(masks, full, strict=True)):
        assert found.mask(index) == mask
        np.testing.assert_array_equal(found.mask(index).to_array(), one)
        assert found.areas[index] == one.sum()
        x0, y0, x1, y1 = found.boxes[index]
        np.testing.assert_array_equal(found.bits(index), one[y0:y1, x0:x1])
        if one.any():
            assert one[y0:y1, x0:x1].sum() == one.sum()
            assert mask.box_xyxy == (x0, y0, x1 - 1, y1 - 1)


@settings(max_examples=40)
@given(planes, st.data())
def test_selecting_and_putting_together(full: list[np.ndarray], data: st.DataObject) -> None:
    masks = [Mask.from_array(one) for one in full]
    found = packed(masks)
    order = data.draw(st.permutations(range(len(full))))
    picked = found.select(order)
    assert [picked.mask(i) for i in range(len(picked))] == [masks[i] for i in order]
    np.testing.assert_array_equal(picked.stability, found.stability[np.array(order, dtype=int)])
    wanted = found.predicted_iou > 0.5
    assert found.select(wanted) == found.select(np.flatnonzero(wanted))
    cut = data.draw(st.integers(0, len(full)))
    parts = [found.select(range(cut)), found.select(range(cut, len(full)))]
    together = MaskCandidates.concatenate(parts)
    assert together == found
    assert hash(together) == hash(found)


def test_it_is_small_and_cannot_change() -> None:
    rng = np.random.default_rng(0)
    shape = (1024, 1024)
    masks = [
        Mask((int(y), int(x)), np.ones((60, 60), dtype=bool), shape)
        for y, x in rng.integers(0, 960, (1000, 2))
    ]
    found = packed(masks, shape)
    assert found.nbytes < 1_000_000
    for name in ("predicted_iou", "boxes", "areas", "packed"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(found, name)[0] = 0
    assert found.mask(-1) == masks[-1]


def test_another_value_is_not_equal() -> None:
    found = packed([Mask((1, 1), np.ones((2, 3), dtype=bool), SHAPE)])
    assert found != packed([Mask((1, 1), np.ones((3, 2), dtype=bool), SHAPE)])
    assert found != packed([Mask((1, 1), np.array([[1, 1, 1], [1, 0, 1]], dtype=bool), SHAPE)])
    assert found != replace(found, predicted_iou=found.predicted_iou + 1)
    assert found != replace(found, model="vit_b")
    assert found != "something else"
    assert found == replace(found)


def test_what_does_not_fit_together_is_refused() -> None:
    found = packed([Mask((1, 1), np.ones((2, 3), dtype=bool), SHAPE)])
    with pytest.raises(ValueError, match="stability of 1 masks"):
        replace(found, stability=np.zeros(2))
    with pytest.raises(ValueError, match="beyond"):
        replace(found, boxes=found.boxes + 10)
    with pytest.raises(ValueError, match="take 1 bytes"):
        replace(found, packed=np.zeros(2, dtype=np.uint8))
    with pytest.raises(ValueError, match="of a plane of"):
        packed([Mask.empty((2, 2))])
    with pytest.raises(ValueError, match="different planes"):
        MaskCandidates.concatenate([found, packed([], model="vit_b")])
    with pytest.raises(ValueError, match="nothing"):
        MaskCandidates.concatenate([])
