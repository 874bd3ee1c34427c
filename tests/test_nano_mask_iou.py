"""The head of ``nano`` that judges masks by what lies beneath them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_sam import load_model
from napari_sam.models.base import PromptableModel, PromptBatch
from napari_sam.models.nano import Nano
from napari_sam.models.nano_encoder import CENTRE_UNIT
from napari_sam.models.nano_mask_iou import MaskIoUHead, _beneath, _largest, _overlaps

SIDE = 128


def disc(row: float, column: float, radius: float) -> Tensor:
    """A disc of cells, shape (128, 128), bool."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def as_masks(*masks: Tensor) -> Tensor:
    return torch.stack(masks)[None].float()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two discs that touch."""
    return disc(64, 40, 16), disc(64, 73, 16)


def ways(*masks: Tensor) -> Tensor:
    """What the encoder says where every pixel of a mask points to its centroid, shape (1, 4, 128, 128)."""
    dense = torch.zeros(1, 4, SIDE, SIDE)
    for mask in masks:
        rows, columns = torch.nonzero(mask, as_tuple=True)
        dense[0, 2, rows, columns] = (columns.float().mean() - columns) * 2 / CENTRE_UNIT
        dense[0, 3, rows, columns] = (rows.float().mean() - rows) * 2 / CENTRE_UNIT
    return dense


def test_means_are_those_of_the_mask_and_of_its_rims(pair: tuple[Tensor, Tensor]) -> None:
    left, right = pair
    maps = torch.stack([left, right]).float()[None]
    seen = _beneath(as_masks(left, left | right), [maps], torch.zeros(1, 4, SIDE, SIDE))
    inside, outer, inner = seen[0, :, :9].unflatten(-1, (3, 3)).unbind(1)
    torch.testing.assert_close(inside[0], torch.tensor([1.0, 0.0, 1.0]), atol=0.01, rtol=0)
    share = float(left.sum() / (left | right).sum())
    torch.testing.assert_close(inside[1, :2], torch.tensor([share, 1 - share]), atol=0.01, rtol=0)
    assert outer[0, 0] == 0  # beyond the left disc there is none of it
    assert outer[0, 1] > 0.01  # but some of the one that touches it
    assert inner[0, 0] > 0.9


def test_two_objects_are_wider_than_one_and_point_to_two_centres(pair: tuple[Tensor, Tensor]) -> None:
    left, right = pair
    seen = _beneath(as_masks(left, left | right), [torch.zeros(1, 1, SIDE, SIDE)], ways(left, right))
    own, towards = seen[0, :, -4], seen[0, :, -3]
    # The variance of a disc along both axes together is its area over 2 pi.
    torch.testing.assert_close(own[0], torch.tensor(1 / (2 * torch.pi)), atol=0.01, rtol=0)
    assert own[1] > 1.5 * own[0]
    assert towards[0] < 0.01
    assert towards[1] > 0.1


def test_the_largest_nearby_is_that_of_max_pooling() -> None:
    values = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_largest(values), torch.nn.functional.max_pool2d(values, 5, 1, 2))


def test_how_masks_agree(pair: tuple[Tensor, Tensor]) -> None:
    left, right = pair
    overlaps = _overlaps(as_masks(left, left | right, right))[0]
    share = float(left.sum() / (left | right).sum())
    expected = torch.tensor([[1, share, 0], [share, 1, 1 - share], [0, 1 - share, 1]])
    torch.testing.assert_close(overlaps, expected, atol=0.01, rtol=0)


def test_an_empty_mask_and_one_of_everything_are_judged() -> None:
    torch.manual_seed(0)
    head = MaskIoUHead(3, 8, 2)
    none = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    logits = (as_masks(none, ~none) * 2 - 1) * 50
    maps, dense = [torch.rand(1, 3, SIDE, SIDE)], torch.randn(1, 4, SIDE, SIDE)
    judged = head(logits, maps, dense, torch.randn(1, 3, 8), torch.zeros(1, 2))
    assert judged.shape == (1, 2)
    assert judged.isfinite().all()


def test_judging_does_not_change_masks() -> None:
    torch.manual_seed(0)
    model = Nano().eval()
    features = model.image_encoder(torch.rand(1, 3, 256, 256))
    points, labels = torch.tensor([[[80.0, 128.0]]]), torch.ones(1, 1, dtype=torch.long)
    _, scores = model.decode_windows(features, points, labels, torch.full((1, 4), torch.nan), None)
    scores.sum().backward()
    head = model.mask_decoder.mask_iou_head
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert all(p.grad is None for p in model.mask_decoder.up2.parameters())
    assert all(p.grad is None for p in model.mask_decoder.hypernetworks.parameters())


def test_nano_prefers_one_nucleus_to_two_that_touch(pair: tuple[Tensor, Tensor]) -> None:
    model: PromptableModel = load_model("nano", device="cpu", dtype="float32")
    assert isinstance(model, Nano)
    left, right = (mask.float().repeat_interleave(2, 0).repeat_interleave(2, 1) for mask in pair)
    # Blurred discs with a dark seam, as two nuclei that touch.
    plane = torch.nn.functional.avg_pool2d((left + right - 0.3 * (left * right))[None, None], 5, 1, 2)
    noise = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * 0.02
    pixels = (0.1 + 0.6 * plane[0] + noise).clamp(0, 1).expand(3, -1, -1)
    level = model.encode(pixels).levels[1]  # half of the working size: one pixel here is one of the plane
    features = tuple(part.permute(2, 0, 1)[None] for part in level.features)
    prompts = PromptBatch(torch.tensor([[[80.0, 128.0]]]), torch.ones(1, 1, dtype=torch.long))
    head, judged = model.mask_decoder.mask_iou_head, {}
    real = (as_masks(pair[0], pair[0], pair[0] | pair[1], pair[1]) * 2 - 1) * 6

    def judging(logits: Tensor, *others: Tensor) -> Tensor:
        judged["scores"] = MaskIoUHead.forward(head, real, *others)
        return judged["scores"]

    head.forward = judging  # type: ignore[method-assign]
    try:
        none = torch.full((1, 4), torch.nan)
        with torch.no_grad():
            model.decode_windows(type(level.features)(*features), prompts.points, prompts.labels, none, None)
    finally:
        del head.forward
    _, one, both, other = judged["scores"][0].tolist()
    assert one > both
    assert one > other
