"""The closer look of the embedded model: where, at what scale, what of it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from napari_sam import load_model
from napari_sam.evaluation.clicks import iou
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.inference.engine import decode, encode, segment_all
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import PromptBatch
from napari_sam.models.nano import Nano
from napari_sam.models.nano_closer import closer_frames, cut_out, finer_frames, halved, resampled

NONE = torch.tensor([[torch.inf, torch.inf, -torch.inf, -torch.inf]])


@pytest.fixture(scope="module")
def nano() -> Nano:
    model = load_model("nano", device="cpu", dtype="float32")
    assert isinstance(model, Nano)
    return model


def click(x: float, y: float) -> PromptBatch:
    return PromptBatch(torch.tensor([[[x, y]]]), torch.ones(1, 1, dtype=torch.long))


def square(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """A mask of 128 x 128 cells."""
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, y0:y1, x0:x1] = True
    return mask


def test_a_window_is_three_times_as_large_as_the_object() -> None:
    covered = torch.tensor([[100.0, 200.0, 356.0, 456.0]])  # two pixels to the cell
    found = square(50, 40, 90, 60)
    frames = closer_frames(found, covered, NONE, (2000, 3000))
    # 80 x 40 pixels around x = 240, y = 300
    assert frames.tolist() == [[120.0, 180.0, 360.0, 420.0]]
    # It is moved into the plane where it fits, and no longer than the plane.
    assert closer_frames(found, covered, NONE, (310, 3000)).tolist() == [[120.0, 70.0, 360.0, 310.0]]
    assert closer_frames(found, covered, NONE, (310, 330)).tolist() == [[90.0, 70.0, 330.0, 310.0]]
    assert closer_frames(found, covered, NONE, (230, 235)).tolist() == [[0.0, 0.0, 235.0, 235.0]]


def test_a_window_holds_prompts_and_is_not_too_small() -> None:
    covered = torch.tensor([[0.0, 0.0, 128.0, 128.0]])
    tiny = square(60, 60, 64, 64)
    assert closer_frames(tiny, covered, NONE, (999, 999)).tolist() == [[30.0, 30.0, 94.0, 94.0]]
    far = torch.tensor([[62.0, 62.0, 262.0, 62.0]])
    x0, y0, x1, y1 = closer_frames(tiny, covered, far, (999, 999))[0].tolist()
    assert x1 - x0 == pytest.approx(202 * 1.15)
    assert y1 - y0 == pytest.approx(202 * 1.15)
    assert x0 < 60
    assert x1 > 262
    # Where nothing was found, prompts say where to look; without any, it is everywhere.
    nothing = square(0, 0, 0, 0)
    point = torch.tensor([[500.5, 400.5, 500.5, 400.5]])
    assert closer_frames(nothing, covered, point, (999, 999)).tolist() == [[468.5, 368.5, 532.5, 432.5]]
    assert closer_frames(nothing, covered, NONE, (300, 500)).tolist() == [[0.0, 0.0, 500.0, 500.0]]


@pytest.mark.parametrize("side", [64.0, 200.0, 1200.0])
@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_what_is_cut_out_lies_where_it_should(side: float, kept: float) -> None:
    """Of a plane whose values are their own places, at any scale."""
    height, width = 1500, 1400
    y = (torch.arange(height * kept) + 0.5) / (height * kept) * 3 - 1.5
    x = (torch.arange(width * kept) + 0.5) / (width * kept) * 3 - 1.5
    plane = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))])
    frames = torch.tensor([[100.25, 150.0, 100.25 + side, 150.0 + side]])
    cut = cut_out(halved(plane), (height, width), frames)
    at = (torch.arange(256) + 0.5) / 256 * side
    torch.testing.assert_close(cut[0, 0, 9], (100.25 + at) / width * 3 - 1.5, rtol=0, atol=1e-3)
    torch.testing.assert_close(cut[0, 1, :, 9], (150 + at) / height * 3 - 1.5, rtol=0, atol=1e-3)


def test_beside_the_plane_is_nothing() -> None:
    frames = torch.tensor([[0.0, 0.0, 512.0, 512.0], [50.0, 0.0, 114.0, 64.0]])
    cut = cut_out(halved(torch.ones(1, 40, 300)), (40, 300), frames)
    assert cut.shape == (2, 1, 256, 256)
    assert (cut[0, :, :20, :150] == 1).all()
    assert (cut[0, :, 20:] == 0).all()
    assert (cut[0, :, :, 150:] == 0).all()
    assert (cut[1, :, :160] == 1).all()
    assert (cut[1, :, 160:] == 0).all()


def test_what_is_smaller_is_averaged_and_not_skipped() -> None:
    stripes = (torch.arange(2048) % 2 * 2.0 - 1).expand(1, 2048, -1)
    cut = cut_out(halved(stripes), (2048, 2048), torch.tensor([[0.0, 0.0, 2048.0, 2048.0]]))
    assert cut.abs().max() < 0.01


def test_logits_on_other_rectangles() -> None:
    logits = torch.randn(2, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([[10.0, 20.0, 138.0, 148.0], [0.0, 0.0, 256.0, 256.0]])
    torch.testing.assert_close(resampled(logits, frames, frames), logits, rtol=0, atol=1e-4)
    moved = resampled(logits, frames, frames + torch.tensor([64.0, 0.0, 64.0, 0.0]))
    torch.testing.assert_close(moved[0, :, :, :64], logits[0, :, :, 64:], rtol=0, atol=1e-4)
    assert (moved[0, :, :, 64:] == -10).all()


def test_masks_keep_the_finer_cells() -> None:
    wide, narrow = torch.tensor([[0.0, 0.0, 512.0, 512.0]]), torch.tensor([[100.0, 100.0, 356.0, 356.0]])
    inside, outside = square(30, 30, 80, 80), square(20, 30, 80, 80)
    assert torch.equal(finer_frames(inside, wide, narrow), narrow)
    assert torch.equal(finer_frames(outside, wide, narrow), wide)
    assert torch.equal(finer_frames(inside, narrow, wide), narrow)


def disk(shape: tuple[int, int], x: float, y: float, radius: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """A noisy disk on a plane (H, W, 3), uint8, and where it is."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    where = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    noise = np.random.default_rng(1).normal(0, 8, shape)
    plane = np.where(where, 150, 60) + noise
    return np.repeat(plane.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), where


def test_small_objects_on_large_planes_are_seen_in_full_resolution(nano: Nano) -> None:
    found: dict[bool, list[float]] = {False: [], True: []}
    for radius in (4.0, 6.0, 9.0):
        plane, truth = disk((300, 4096), 2050.3, 120.6, radius)
        embedding = encode(nano, plane)
        for closely, ious in found.items():
            prompts = [Prompts.create((300, 4096), points=[[2050, 121]])]
            (said,) = decode(nano, embedding, prompts, True, closely=closely)
            ious.append(iou(said.mask(int(said.scores.argmax())).to_array(), truth))
    assert min(found[True]) > 0.65
    assert all(np.array(found[True]) > np.array(found[False]) + 0.1)


def test_pixels_are_kept_once_and_bounded(nano: Nano) -> None:
    grey = torch.rand(1, 90, 5000)
    with torch.inference_mode():
        embedding = nano.encode(grey.expand(3, -1, -1))
        assert embedding.planes[0].shape == (1, 74, 4096)
        assert embedding.planes[-1].shape[-1] == 256
        assert all(plane.dtype == torch.int16 for plane in embedding.planes)
        assert sum(plane.nbytes for plane in embedding.planes) < 1.4 * embedding.planes[0].nbytes
        assert nano.encode(torch.rand(3, 90, 100)).planes[0].shape == (3, 90, 100)
        output = nano.decode(embedding, click(4990.0, 80.0), multimask=True)
    x0, y0, x1, y1 = output.frames[0].tolist()
    assert x0 < 4990 < x1
    assert y0 < 80 < y1


def test_whoever_gives_a_mask_has_looked_already(nano: Nano, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = []
    encoder = nano.image_encoder.forward
    monkeypatch.setattr(nano.image_encoder, "forward", lambda x: windows.append(len(x)) or encoder(x))
    plane = disk((200, 300), 140, 90, 20)[0]
    embedding = encode(nano, plane)
    windows.clear()
    prompts = Prompts.create((200, 300), points=[[140, 90]])
    (said,) = decode(nano, embedding, [prompts], False)
    assert windows == [1]
    again = Prompts.create((200, 300), points=[[140, 90]], mask_input=said.low_res_logits[0])
    decode(nano, embedding, [again], False)
    assert windows == [1]
    decode(nano, embedding, [prompts] * 20, False)
    assert windows == [1, 16, 4]


def test_the_single_mask_of_a_point_looks_both_ways(nano: Nano, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    decode_windows = Nano.decode_windows

    def watched(self: Nano, *told: Any) -> tuple[Tensor, Tensor]:
        seen.append(told[-1] is not None)
        return decode_windows(self, *told)

    monkeypatch.setattr(Nano, "decode_windows", watched)
    embedding = encode(nano, disk((200, 300), 140, 90, 20)[0])
    (one,) = decode(nano, embedding, [Prompts.create((200, 300), points=[[140, 90]])], True)
    assert seen == [False, True, False]
    seen.clear()
    decode(nano, embedding, [Prompts.create((200, 300), points=[[140, 90], [145, 95]])], True)
    assert seen == [False, True, True]
    # Its candidates are answers of their own: the mask that was seen did not make them alike.
    (first,) = decode(nano, embedding, [Prompts.create((200, 300), points=[[140, 90]])], True, closely=False)
    for closer, before in zip(one.masks[:2], first.masks[:2], strict=True):
        assert iou(closer.to_array(), before.to_array()) > iou(closer.to_array(), one.mask(2).to_array())


def test_the_last_of_three_masks_is_the_single_one(nano: Nano) -> None:
    embedding = encode(nano, disk((200, 300), 140, 90, 20)[0])
    prompts = [Prompts.create((200, 300), points=[[140, 90]])]
    (single,) = decode(nano, embedding, prompts, False)
    (three,) = decode(nano, embedding, prompts, True)
    assert len(three.masks) == 3
    assert three.masks[2] == single.masks[0]


def test_a_candidate_that_holds_everything_does_not_lead_away_from_a_nucleus(nano: Nano) -> None:
    embedding = encode(nano, data.immunohistochemistry())
    nuclei = [(297, 251), (316, 290)]
    prompts = [Prompts.create((512, 512), points=[at]) for at in nuclei]
    for segment in segment_all(nano, embedding, prompts):
        assert 20 < segment.mask.to_array().sum() < 1000


def test_a_piece_that_is_cut_off_by_a_window_is_not_wanted(nano: Nano) -> None:
    size = (512, 512)
    embedding = encode(nano, data.immunohistochemistry())
    (segment,) = segment_all(nano, embedding, [Prompts.create(size, points=[(234, 357)])])
    assert segment.index == 2
    rows, columns = np.nonzero(segment.prediction.masks[1].to_array())
    # The connective tissue goes on beyond a window of 256 pixels.
    assert np.ptp(rows) in range(252, 256)
    assert np.ptp(columns) in range(252, 256)
    assert segment.prediction.scores[1] < 0.3


def test_only_grids_are_answered_quickly(nano: Nano, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(embedding: object, prompts: PromptBatch, *, multimask: bool) -> object:
        asked.append(prompts.closely)
        return Nano.decode(nano, embedding, prompts, multimask=multimask)  # type: ignore[arg-type]

    monkeypatch.setattr(nano, "decode", watched)
    image = disk((200, 300), 140, 90, 20)[0]
    SamAutomaticMaskGenerator(nano, points_per_side=2).generate(image)
    assert asked == [False]
    asked.clear()
    SamAutomaticMaskGenerator(nano, prompts="centres").generate(image)
    assert set(asked) == {True}
