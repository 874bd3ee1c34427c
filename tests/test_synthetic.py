"""Synthetic scenes: what training relies on."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label as connected_components

from napari_sam.training.synthetic import KINDS, MIN_AREA, synthetic_sample


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 160])
def test_sample_is_an_image_with_connected_contiguous_objects(kind: str, size: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        image, labels = synthetic_sample(rng, size, kind)
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
        assert labels.shape == (size, size)
        assert labels.dtype == np.int32
        areas = np.bincount(labels.ravel())
        assert (areas[1:] >= MIN_AREA).all()
        assert connected_components(labels, connectivity=1).max() == labels.max()


@pytest.mark.parametrize("kind", KINDS)
def test_same_state_same_sample(kind: str) -> None:
    first = synthetic_sample(np.random.default_rng(3), 96, kind)
    again = synthetic_sample(np.random.default_rng(3), 96, kind)
    other = synthetic_sample(np.random.default_rng(4), 96, kind)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_sizes_and_numbers_of_objects_are_spread() -> None:
    rng = np.random.default_rng(0)
    diameters, numbers = [], []
    for _ in range(80):
        _, labels = synthetic_sample(rng, 256)
        areas = np.bincount(labels.ravel())[1:]
        numbers.append(len(areas))
        if len(areas):
            diameters.append(np.sqrt(np.median(areas) * 4 / np.pi))
    assert np.mean(np.array(numbers) > 0) > 0.95
    assert min(diameters) < 12
    assert max(diameters) > 90
    assert max(numbers) > 100


@pytest.mark.parametrize("kind", KINDS)
def test_objects_can_be_seen(kind: str) -> None:
    """On average over samples, pixels change more across an object's outline than elsewhere."""
    rng = np.random.default_rng(5)
    across, elsewhere = [], []
    for _ in range(12):
        image, labels = synthetic_sample(rng, 128, kind)
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        outline = labels[:, 1:] != labels[:, :-1]
        if outline.any():
            across.append(step[outline].mean())
            elsewhere.append(step[~outline].mean())
    assert np.mean(across) > 1.2 * np.mean(elsewhere)


def test_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        synthetic_sample(np.random.default_rng(0), 16)
    with pytest.raises(ValueError, match="no kind of scene"):
        synthetic_sample(np.random.default_rng(0), 64, "unicorns")
