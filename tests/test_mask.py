from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_sam.inference.mask import Mask


def blobs(seed: int, count: int, height: int, width: int) -> torch.Tensor:
    """Smooth random maps, some of them negative everywhere, some positive everywhere."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, count, 5, 5, generator=generator)
    offset = torch.linspace(-2.5, 2.5, count).view(1, count, 1, 1)
    fine = 0.05 * torch.randn(1, count, height, width, generator=generator)
    return F.interpolate(coarse + offset, (height, width), mode="bicubic") + fine


def masks_of(
    logits: torch.Tensor,
    frame: tuple[float, ...],
    shape: tuple[int, int],
    via: tuple[int, int] | None = None,
) -> list[Mask]:
    return [Mask.from_logits(one, frame, shape, via) for one in logits[0].numpy()]


@pytest.mark.parametrize(
    "shape", [(1024, 1024), (600, 800), (303, 384), (100, 37), (2000, 1500), (256, 256), (1, 5), (1, 1)]
)
@pytest.mark.parametrize("seed", range(3))
def test_square_frame_is_what_torch_interpolates(shape: tuple[int, int], seed: int) -> None:
    logits = blobs(seed, 5, 256, 256)
    side = max(shape)
    full = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    expected = full[0, :, : shape[0], : shape[1]].numpy() > 0
    masks = masks_of(logits, (0, 0, side, side), shape)
    assert 0 < expected.sum() < expected.size or shape == (1, 1)
    for mask, reference in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask.to_array(), reference)


@pytest.mark.parametrize("shape", [(1024, 1024), (600, 800), (700, 300), (1300, 1700), (2000, 50), (1, 1)])
def test_two_steps_are_the_official_upsampling(shape: tuple[int, int]) -> None:
    logits = blobs(0, 5, 256, 256)
    scale = 1024 / max(shape)
    via = (max(1, int(shape[0] * scale + 0.5)), max(1, int(shape[1] * scale + 0.5)))
    padded = F.interpolate(logits, size=(1024, 1024), mode="bilinear", align_corners=False)
    full = F.interpolate(padded[..., : via[0], : via[1]], size=shape, mode="bilinear", align_corners=False)
    frame = (0, 0, 1024 * shape[1] / via[1], 1024 * shape[0] / via[0])
    certain = full[0].abs().numpy() > 1e-5
    for mask, expected, sure in zip(
        masks_of(logits, frame, shape, via), full[0].numpy(), certain, strict=True
    ):
        np.testing.assert_array_equal(mask.to_array()[sure], (expected > 0)[sure])


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    corner=st.tuples(st.integers(-80, 90), st.integers(-80, 90)),
    zoom=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    cells=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    shape=st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
def test_window_is_what_torch_interpolates_pasted_into_the_plane(
    seed: int, corner: tuple[int, int], zoom: float, cells: tuple[int, int], shape: tuple[int, int]
) -> None:
    size = max(1, int(cells[0] * zoom)), max(1, int(cells[1] * zoom))
    logits = blobs(seed, 3, *cells)
    inside = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].numpy()
    margin = 200
    canvas = np.full((3, 2 * margin + shape[0] + 200, 2 * margin + shape[1] + 200), -1.0)
    x, y = corner
    canvas[:, margin + y : margin + y + size[0], margin + x : margin + x + size[1]] = inside
    expected = canvas[:, margin : margin + shape[0], margin : margin + shape[1]]
    certain = np.abs(expected) > 1e-5
    masks = masks_of(logits, (x, y, x + size[1], y + size[0]), shape)
    for mask, reference, sure in zip(masks, expected, certain, strict=True):
        np.testing.assert_array_equal(mask.to_array()[sure], (reference > 0)[sure])


def test_frame_between_pixels_covers_the_pixels_whose_centres_it_holds() -> None:
    logits = torch.ones(1, 1, 4, 4)
    (mask,) = masks_of(logits, (2.4, 3.6, 6.5, 7.4), (20, 20))
    # Centres 2.5 to 5.5 (6.5 is the far edge, which is not part of the frame) and 4.5 to 6.5.
    assert mask.box_xyxy == (2, 4, 5, 6)
    assert mask.area == 12


@pytest.mark.parametrize("frame", [(-50, -50, -10, -10), (30, 0, 60, 20), (0, 25, 20, 60)])
def test_frame_beside_the_plane_is_empty(frame: tuple[float, ...]) -> None:
    (mask,) = masks_of(torch.ones(1, 1, 8, 8), frame, (20, 20))
    assert mask == Mask.empty((20, 20))


def test_boxes_of_a_window() -> None:
    logits = torch.full((1, 3, 8, 8), -1.0)
    logits[0, 1, 2, 3] = 1
    logits[0, 2] = 1
    masks = masks_of(logits, (8, 8, 16, 16), (16, 16))
    assert [m.box_xyxy for m in masks] == [None, (11, 10, 11, 10), (8, 8, 15, 15)]
    assert [m.bbox_xywh for m in masks] == [(0, 0, 0, 0), (11, 10, 1, 1), (8, 8, 8, 8)]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6))
def test_array_and_back(rows: list[list[bool]]) -> None:
    array = np.array(rows)
    mask = Mask.from_array(array)
    np.testing.assert_array_equal(mask.to_array(), array)
    assert mask.area == array.sum()
    assert mask.is_empty == (not array.any())
    if mask.is_empty:
        assert mask.box_xyxy is None
        return
    ys, xs = np.nonzero(array)
    assert mask.box_xyxy == (xs.min(), ys.min(), xs.max(), ys.max())
    assert mask.bbox_xywh == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
    np.testing.assert_array_equal(array[mask.slices], mask.bits)


def test_box_is_tight_whatever_is_given() -> None:
    bits = np.zeros((5, 6), dtype=bool)
    bits[2, 3] = True
    mask = Mask((10, 20), bits, (50, 50))
    assert mask.origin == (12, 23)
    assert mask.bits.shape == (1, 1)
    assert mask == Mask((12, 23), np.ones((1, 1), dtype=bool), (50, 50))
    assert hash(mask) == hash(Mask((12, 23), np.ones((1, 1), dtype=bool), (50, 50)))
    assert mask != Mask((12, 23), np.ones((1, 1), dtype=bool), (50, 51))


def test_masks_do_not_change_afterwards() -> None:
    source = np.ones((3, 3), dtype=bool)
    mask = Mask.from_array(source)
    source[:] = False
    assert mask.area == 9
    with pytest.raises(ValueError, match="read-only"):
        mask.bits[0, 0] = False


@pytest.mark.parametrize("origin", [(-1, 0), (0, -1), (8, 0), (0, 8)])
def test_bits_beyond_the_plane_are_refused(origin: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="beyond"):
        Mask(origin, np.ones((3, 3), dtype=bool), (10, 10))


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="two"):
        Mask.from_array(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="two"):
        Mask((0, 0), np.ones(3, dtype=bool), (10, 10))
