"""Objects from what a dense head says of each pixel: here it says the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_sam.inference.engine import Prediction, see
from napari_sam.models.nano import Nano, NanoEmbedding, NanoLevel
from napari_sam.models.nano_encoder import EMBED_DIM, SKIP_DIMS, NanoFeatures
from napari_sam.training.data import dense_target


def truth(height: int, width: int) -> NDArray[np.int64]:
    """Two that touch, one in each of two corners, a small one."""
    labels = np.zeros((height, width), np.int64)
    labels[60:100, 50:90], labels[60:100, 90:140] = 1, 2
    labels[:31, :25], labels[-24:, -33:] = 3, 4
    labels[150:158, 60:69] = 5
    return labels


def level(labels: NDArray[np.int64]) -> NanoLevel:
    """What an ideal encoder says of a plane of up to 256 x 256 pixels, or of multiples of it."""
    height, width = labels.shape
    padded = torch.from_numpy(labels)
    padded = F.pad(padded, (0, -width % 256, 0, -height % 256))
    foreground, boundary, *way = dense_target(padded, "any/any")[:4]
    dense = torch.stack([foreground * 10 - 5, boundary * 10 - 5, *way], dim=-1)
    cells = padded.shape[0] // 8, padded.shape[1] // 8
    maps = (torch.zeros(cells[0] * n, cells[1] * n, c) for n, c in ((1, EMBED_DIM), (2, SKIP_DIMS[1])))
    skip2 = torch.zeros(cells[0] * 4, cells[1] * 4, SKIP_DIMS[0])
    return NanoLevel(NanoFeatures(*maps, skip2, dense), (height, width))


def seen(embedding: NanoEmbedding) -> tuple[NDArray[np.float64], list[Prediction]]:
    found = see(Nano(), embedding)
    return found.points, found.predictions(np.arange(len(found.points)))


def overlap(prediction: Prediction, mask: NDArray[np.bool_]) -> float:
    found = prediction.mask(0).to_array()
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("size", [(256, 256), (251, 203), (512, 300)])
def test_each_object_is_found_once_with_its_edges(size: tuple[int, int]) -> None:
    labels = truth(*size)
    points, predictions = seen(NanoEmbedding(size, (level(labels),), (1.0, 1.0), ()))
    assert len(predictions) == 5
    for number in range(1, 6):
        mask = labels == number
        (best,) = [i for i, one in enumerate(predictions) if overlap(one, mask) > 0.8]
        assert overlap(predictions[best], mask) > (0.93 if mask.sum() > 100 else 0.8)
        assert predictions[best].scores.item() > 0.95
        rows, columns = np.nonzero(mask)
        assert np.abs(points[best] - (columns.mean(), rows.mean())).max() < 3
    for number, row, column in ((3, 0, 0), (4, -1, -1)):
        (mask,) = [one.mask(0).to_array() for one in predictions if overlap(one, labels == number) > 0.8]
        assert mask[row].any()
        assert mask[:, column].any()


def test_what_is_larger_than_a_window_is_found_on_a_coarser_level() -> None:
    labels = np.zeros((512, 512), np.int64)
    labels[40:460, 60:480] = 1
    labels[2:20, 2:22] = 2
    levels = level(labels), level(labels[::2, ::2])
    points, predictions = seen(NanoEmbedding((1024, 1024), levels, (0.5, 0.5), ()))
    whole = labels.repeat(2, 0).repeat(2, 1)
    large = [one for one in predictions if overlap(one, whole == 1) > 0.95]
    assert len(large) == 1
    assert max(overlap(one, whole == 2) for one in predictions) > 0.9
    # The small one is seen on both levels.
    assert len(points) == 3


def test_pixels_that_point_elsewhere_make_objects_doubtful() -> None:
    plane = level(truth(256, 256))
    plane.features.dense[30:50, 25:35, 2:] = 3.0  # half of the first object
    _, predictions = seen(NanoEmbedding((256, 256), (plane,), (1.0, 1.0), ()))
    at = [overlap(one, truth(256, 256) == 1) for one in predictions]
    assert predictions[int(np.argmax(at))].scores.item() < 0.7


def test_nothing_is_there() -> None:
    points, predictions = seen(
        NanoEmbedding((99, 70), (level(np.zeros((99, 70), np.int64)),), (1.0, 1.0), ())
    )
    assert (len(points), predictions) == (0, [])
