"""SAM 2 against the official ``sam2`` package, with random weights in the layout of its checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut, coins

from napari_sam import load_model
from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.fpn_neck import FpnNeck
from napari_sam.models.hiera import HIERA_SIZES, Hiera, HieraSize
from napari_sam.models.sam2 import Sam2, Sam2Embedding, build_sam2
from napari_sam.models.sam_mask_decoder import blocks

pytest.importorskip("sam2", reason="the official package is not installed")

from sam2.build_sam import build_sam2 as build_official
from sam2.modeling.backbones.hieradet import Hiera as OfficialHiera
from sam2.modeling.backbones.image_encoder import FpnNeck as OfficialNeck
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.sam2_image_predictor import SAM2ImagePredictor

TOLERANCE = 1e-4
IMAGE = np.repeat(coins()[..., None], 3, axis=2)
MASK = np.linspace(-8, 8, 256 * 256, dtype=np.float32).reshape(1, 256, 256)
PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": np.array([[100, 80]]), "point_labels": np.array([1])},
    "points": {"point_coords": np.array([[100, 80], [30, 40], [9, 9]]), "point_labels": np.array([1, 0, 1])},
    "box": {"box": np.array([20, 30, 200, 210])},
    "both": {
        "point_coords": np.array([[100, 80]]),
        "point_labels": np.array([0]),
        "box": np.array([20, 30, 200, 210]),
    },
    "mask": {"mask_input": MASK},
    "point and mask": {
        "point_coords": np.array([[100, 80]]),
        "point_labels": np.array([1]),
        "mask_input": MASK,
    },
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@torch.no_grad()
def _randomise(network: torch.nn.Module) -> None:
    """Give values to what starts as zero or one, so that nothing is left out of the comparison unseen."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 or "embed" in name:
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    # Small, or else its sigmoid is flat.
    for layer in (
        network.sam_mask_decoder.iou_prediction_head.layers if hasattr(network, "no_obj_ptr") else ()
    ):
        layer.weight.mul_(0.7)


def _official(version: str, **overrides: int) -> Any:
    name = f"configs/sam{version}/sam{version}_hiera_t.yaml"
    changes = [f"++model.{key}={value}" for key, value in overrides.items()]
    network = build_official(name, device="cpu", hydra_overrides_extra=changes)
    _randomise(network)
    return network


def _official_predictor(network: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses TorchScript, which PyTorch has deprecated
        return SAM2ImagePredictor(network)


def _assert_close(ours: Any, theirs: Any) -> None:
    ours, theirs = torch.as_tensor(ours).float(), torch.as_tensor(theirs).float()
    assert ours.shape == theirs.shape
    assert theirs.numel() == 1 or theirs.std() > 0
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def _assert_same_embedding(ours: Any, theirs: Any) -> None:
    assert isinstance(ours, Sam2Embedding)
    _assert_close(ours.features, theirs["image_embed"])
    fine, coarse = theirs["high_res_feats"]
    _assert_close(ours.skips.coarse, blocks(coarse, 1))
    _assert_close(ours.skips.fine, blocks(fine, 2))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, SamPredictor]:
    """Hiera tiny at its real size, both with an image set."""
    network = _official("2.1")
    path: Path = tmp_path_factory.mktemp("sam2") / "official.pt"
    torch.save({"model": network.state_dict()}, path)
    theirs = _official_predictor(network)
    ours = SamPredictor(load_model(path, device="cpu", dtype="float32"))
    for predictor in (theirs, ours):
        predictor.set_image(IMAGE)
    return theirs, ours


def test_embedding(tiny: tuple[Any, SamPredictor]) -> None:
    theirs, ours = tiny
    _assert_same_embedding(ours._embedding, theirs._features)
    _assert_close(ours.get_image_embedding(), theirs.get_image_embedding())


def _assert_same_masks(theirs: Any, ours: SamPredictor, prompts: dict[str, Any], multimask: bool) -> None:
    expected = theirs.predict(**prompts, multimask_output=multimask, return_logits=True)
    found = ours.predict(**prompts, multimask_output=multimask, return_logits=True)
    for one, other in zip(found, expected, strict=True):
        _assert_close(one, other)
    first, second = expected[0] > 0, ours.predict(**prompts, multimask_output=multimask)[0]
    assert first.any()
    assert (first & second).sum() > 0.999 * (first | second).sum()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", PROMPTS)
def test_masks(tiny: tuple[Any, SamPredictor], kind: str, multimask: bool) -> None:
    """Random masks are never stable, so that asking for one gives the best of three."""
    _assert_same_masks(*tiny, PROMPTS[kind], multimask)


def test_a_stable_mask_and_the_limit_of_logits(tiny: tuple[Any, SamPredictor]) -> None:
    """Logits are so large that the mask is stable; as a mask prompt they come back between -32 and 32."""
    theirs, ours = tiny
    networks = [predictor.model.sam_mask_decoder.output_hypernetworks_mlps[0] for predictor in tiny]
    for net in networks:
        for parameter in net.layers[-1].parameters():
            parameter.mul_(300)
    try:
        prompts = PROMPTS["points"]
        _assert_same_masks(theirs, ours, prompts, multimask=False)
        single = theirs.predict(**prompts, multimask_output=False, return_logits=True)
        assert np.abs(single[0]).max() > 50
        assert np.abs(single[2]).max() == 32
    finally:
        for net in networks:
            for parameter in net.layers[-1].parameters():
                parameter.div_(300)


def test_boxes_in_a_batch(tiny: tuple[Any, SamPredictor]) -> None:
    theirs, ours = tiny
    boxes = np.array([[20, 30, 200, 210], [100, 90, 140, 130], [0, 0, 383, 302]])
    expected, scores, _ = theirs.predict(box=boxes, multimask_output=True, return_logits=True)
    corners = ours.transform.apply_boxes_torch(torch.from_numpy(boxes), IMAGE.shape[:2])
    masks, ious, _ = ours.predict_torch(None, None, corners, return_logits=True)
    _assert_close(masks, expected)
    _assert_close(ious, scores)


@pytest.fixture(scope="module")
def reduced() -> tuple[Any, Sam2]:
    """Hiera tiny of SAM 2 for images of 256 x 256 pixels."""
    network = _official("2", image_size=256)
    predictor = _official_predictor(network)
    predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    model = build_sam2("hiera_tiny", version="2", image_size=256)
    model.load_state_dict(network.state_dict(), strict=True)
    return predictor, model.prepare(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    "image",
    [
        astronaut()[:300],
        astronaut()[:, 100:350],
        astronaut(),
        np.tile(astronaut(), (3, 4, 1))[:1300],
        astronaut()[:20, :30],
        astronaut()[:1, :1],
    ],
    ids=["wide", "high", "square", "large", "small", "pixel"],
)
def test_images_of_all_shapes(reduced: tuple[Any, Sam2], image: Any) -> None:
    theirs, ours = reduced
    theirs.set_image(np.ascontiguousarray(image))
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    _assert_same_embedding(ours.encode(pixels), theirs._features)


@pytest.mark.parametrize(
    "size",
    [
        HIERA_SIZES["hiera_small"],
        HIERA_SIZES["hiera_base_plus"],
        HieraSize(144, 2, (1, 2, 4, 2), (4,), windows=(8, 4, 16, 8)),
    ],
    ids=["small", "base_plus", "large, but shallow"],
)
def test_encoders(size: HieraSize) -> None:
    """On a smaller image, whose windows are cut short at the edges, too."""
    trunk = OfficialHiera(
        embed_dim=size.dim,
        num_heads=size.heads,
        stages=size.stages,
        global_att_blocks=size.global_blocks,
        window_pos_embed_bkg_spatial_size=(size.positions, size.positions),
        window_spec=size.windows,
    ).eval()
    neck = OfficialNeck(
        PositionEmbeddingSine(256),
        256,
        list(size.dims[::-1]),
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    ).eval()
    _randomise(trunk)
    _randomise(neck)
    side = 320
    ours, our_neck = Hiera(size, side).eval(), FpnNeck(size.dims).eval()
    ours.load_state_dict(trunk.state_dict(), strict=True)
    our_neck.load_state_dict(neck.state_dict(), strict=True)
    image = torch.randn(1, 3, side, side)
    expected, stages = trunk(image), ours(image)
    for stage, features in zip(stages, expected, strict=True):
        _assert_close(stage.tokens[stage.raster].permute(2, 0, 1)[None], features)
    _assert_close(our_neck(*stages[2:]).permute(2, 0, 1)[None], neck(expected)[0][2])
