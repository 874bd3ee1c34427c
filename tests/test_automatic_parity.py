"""Automatic masks against the official generators, with the same random weights.

Networks are built for images of 256 pixels, which costs a sixteenth. Random weights make maps that cover most
of the image, far from any threshold, with predicted IoUs around 0: the last layers are shifted and stretched,
so that masks are spots of many sizes, and thresholds are taken from the quantiles of what comes out.
"""

from __future__ import annotations

import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.measure import label
from torch import nn

from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.models.base import PromptableModel
from napari_sam.models.sam import Sam
from napari_sam.models.sam2 import build_sam2
from napari_sam.models.sam_image_encoder import ImageEncoderViT, ViTSize

official = pytest.importorskip("segment_anything", reason="the official package is not installed")

# the official code does without its CUDA extension and says so, and uses TorchScript, which is deprecated
pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = np.ascontiguousarray(astronaut()[40:240, 100:400])
SIDE = 256
Pair = tuple[nn.Module, PromptableModel]


@torch.no_grad()
def _stretch(decoder: Any, shift: float) -> None:
    """Make masks spots, and predicted IoUs numbers around one half."""
    decoder.output_upscaling[3].bias[0] = 3
    for layer in (mlp.layers[-1] for mlp in decoder.output_hypernetworks_mlps):
        layer.weight.mul_(160)
        layer.bias[0] = -shift
    decoder.iou_prediction_head.layers[-1].weight.mul_(5)
    decoder.iou_prediction_head.layers[-1].bias.add_(0.5)


@pytest.fixture(scope="module")
def sam() -> Pair:
    from segment_anything import modeling

    torch.manual_seed(0)
    size = ViTSize(64, 1, 2, ())
    encoder = modeling.ImageEncoderViT(
        img_size=SIDE,
        embed_dim=size.dim,
        depth=size.depth,
        num_heads=size.heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=size.global_blocks,
    )
    prompts = modeling.PromptEncoder(256, (SIDE // 16, SIDE // 16), (SIDE, SIDE), mask_in_chans=16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = modeling.MaskDecoder(transformer_dim=256, transformer=transformer)
    network = modeling.Sam(encoder, prompts, decoder, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    _stretch(decoder, 9)
    ours = Sam(ImageEncoderViT(size, image_size=SIDE))
    ours.load_state_dict(network.state_dict(), strict=True)
    return network.eval(), ours.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def sam2() -> Pair:
    build = pytest.importorskip("sam2.build_sam", reason="the official package is not installed")
    name = "configs/sam2.1/sam2.1_hiera_t.yaml"
    torch.manual_seed(0)
    network = build.build_sam2(name, device="cpu", hydra_overrides_extra=[f"++model.image_size={SIDE}"])
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            if parameter.ndim == 1 or "embed" in label:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    _stretch(network.sam_mask_decoder, 0)
    ours = build_sam2("hiera_tiny", image_size=SIDE)
    ours.load_state_dict(network.state_dict(), strict=True)
    return network, ours.prepare(torch.device("cpu"), torch.float32)


def _official(network: nn.Module, **options: Any) -> Any:
    if isinstance(network, official.modeling.Sam):
        return official.SamAutomaticMaskGenerator(network, **options)
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    generator = SAM2AutomaticMaskGenerator(network, **options)
    if network.image_size == SIDE:
        generator.predictor._bb_feat_sizes = [(SIDE // 4,) * 2, (SIDE // 8,) * 2, (SIDE // 16,) * 2]
    return generator


def _full(segmentation: Any) -> np.ndarray:
    """A mask in any of the output modes."""
    if isinstance(segmentation, np.ndarray):
        return segmentation
    if isinstance(segmentation["counts"], list):
        values = np.arange(len(segmentation["counts"])) % 2 == 1
        return np.repeat(values, segmentation["counts"]).reshape(segmentation["size"][::-1]).T
    from pycocotools import mask as coco

    return coco.decode(segmentation).astype(bool)


def agree(pair: Pair, image: np.ndarray = IMAGE, **options: Any) -> list[dict[str, Any]]:
    """Both give the same records; these are ours."""
    network, model = pair
    theirs, ours = (
        # Boxes of one row or column have no area for the official code, which keeps all their duplicates.
        [record for record in generator.generate(image) if min(record["bbox"][2:]) > 0]
        for generator in (_official(network, **options), SamAutomaticMaskGenerator(model, **options))
    )
    assert len(ours) == len(theirs) > 1
    assert theirs[0].keys() == ours[0].keys()
    left = list(ours)
    for record in theirs:
        mask = _full(record["segmentation"])
        scores = ("predicted_iou", "stability_score")
        # With the same scores, or rather: with the nearest.
        found = min(left, key=lambda own: sum(abs(own[name] - record[name]) for name in scores))
        left.remove(found)
        own = _full(found["segmentation"])
        assert own.dtype == bool
        assert (own & mask).sum() > 0.99 * (own | mask).sum()
        assert own.sum() == found["area"]
        assert type(found["segmentation"]) is type(record["segmentation"])
        assert found["crop_box"] == record["crop_box"]
        np.testing.assert_allclose(found["bbox"], record["bbox"], atol=1)
        np.testing.assert_allclose(found["point_coords"], record["point_coords"], rtol=1e-6)
        for name in scores:
            # Two pixels whose logit is the threshold up to rounding are much of a small mask.
            tolerance = 1e-3 + (2 / record["area"] if name == "stability_score" else 0)
            assert found[name] == pytest.approx(record[name], abs=tolerance)
    return ours


def _regions(image: np.ndarray, connectivity: int) -> tuple[int, np.ndarray, np.ndarray, None]:
    """What the official code calls of OpenCV, which is not there: connected regions and their areas."""
    assert connectivity == 8
    labels, count = label(image, connectivity=2, return_num=True)
    return count + 1, labels, np.bincount(labels.ravel(), minlength=count + 1)[:, None], None


LENIENT = {"points_per_side": 6, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}


def test_every_mask_that_reaches_the_thresholds(sam: Pair) -> None:
    everything = agree(sam, **LENIENT, box_nms_thresh=1.0)
    assert 20 < len(everything) < 58
    kept = agree(sam, **LENIENT)
    assert len(kept) < len(everything)
    assert len(agree(sam, **LENIENT, box_nms_thresh=0.3)) < len(kept)


@pytest.mark.parametrize("mode", ["uncompressed_rle", "coco_rle"])
def test_run_lengths(sam: Pair, mode: str) -> None:
    agree(sam, **LENIENT, output_mode=mode)


def test_another_offset_and_batches_that_do_not_come_out_even(sam: Pair) -> None:
    agree(sam, **{**LENIENT, "stability_score_thresh": 0.6}, stability_score_offset=0.5, points_per_batch=7)


def test_crops_with_grids_of_their_own(sam: Pair) -> None:
    options = {"pred_iou_thresh": 0.1, "stability_score_thresh": 0.05, "crop_n_layers": 1}
    found = agree(sam, **options, points_per_side=6, crop_n_points_downscale_factor=2, crop_overlap_ratio=0.3)
    assert len({tuple(record["crop_box"]) for record in found}) > 1
    rng = np.random.default_rng(0)
    grids = [rng.uniform(size=(9, 2)), rng.uniform(size=(5, 2))]
    agree(sam, **options, points_per_side=None, point_grids=grids, crop_nms_thresh=0.4)


@pytest.mark.parametrize("least", [10, 400])
def test_small_regions(sam: Pair, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(connectedComponentsWithStats=_regions))
    plain = SamAutomaticMaskGenerator(sam[1], **LENIENT).generate(IMAGE)
    cleaned = agree(sam, **LENIENT, min_mask_region_area=least)
    assert {record["area"] for record in cleaned} != {record["area"] for record in plain}


def test_an_image_that_is_upsampled_in_two_steps(sam: Pair) -> None:
    agree(sam, np.ascontiguousarray(astronaut()[:411, :300]), **LENIENT)


QUANTILES = {"points_per_side": 5, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.9}


def test_sam2(sam2: Pair) -> None:
    agree(sam2, **QUANTILES, box_nms_thresh=1.0)
    crops = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    thresholds = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.1, "box_nms_thresh": 0.9}
    agree(sam2, points_per_side=4, **thresholds, **crops, output_mode="coco_rle")


def test_sam2_with_one_mask_for_each_point(sam2: Pair) -> None:
    thresholds = {"pred_iou_thresh": 0.1, "stability_score_thresh": 0.1, "box_nms_thresh": 1.0}
    agree(sam2, points_per_side=6, multimask_output=False, **thresholds)


def test_sam2_with_another_threshold_of_masks(sam2: Pair) -> None:
    thresholds = {"pred_iou_thresh": 0.1, "stability_score_thresh": 0.1, "box_nms_thresh": 1.0}
    lower, higher = (
        agree(sam2, points_per_side=3, mask_threshold=level, **thresholds) for level in (-2.0, 2.0)
    )
    assert sum(one["area"] for one in lower) > sum(one["area"] for one in higher)


def test_sam2_with_masks_given_back(sam2: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam.inference.engine.LOW_RES_SIZE", SIDE // 4)
    thresholds = {"pred_iou_thresh": 0.1, "stability_score_thresh": 0.1, "box_nms_thresh": 1.0}
    agree(sam2, points_per_side=3, use_m2m=True, **thresholds)
