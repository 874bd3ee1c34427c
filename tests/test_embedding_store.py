"""Embeddings on disk: found again by pixels and weights, bounded, and never in the way."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam import Annotation
from napari_sam.inference import embedding_store, engine
from napari_sam.inference.embedding_store import STORE_BYTES, EmbeddingStore, encode, usual_store
from napari_sam.inference.prompts import Prompts
from napari_sam.models import load_model
from napari_sam.models.base import Embedding, PromptableModel
from napari_sam.models.sam import Sam
from napari_sam.models.sam2 import build_sam2
from napari_sam.models.sam_image_encoder import ImageEncoderViT, ViTSize

PROMPTS = [Prompts.create((60, 80), points=[[40, 30]], labels=[1])]
NBYTES = 256 * 16 * 16 * 4
"""Of the features of the small SAM."""


def in_file(model: PromptableModel, path: Path) -> PromptableModel:
    """A model as it is when its weights were read from a file."""
    torch.save(model.state_dict(), path)
    model.source = path
    return model.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    """A SAM of 256 pixels, with random weights."""
    torch.manual_seed(3)
    encoder = ImageEncoderViT(ViTSize(32, 2, 2, (1,)), image_size=256)
    return in_file(Sam(encoder), tmp_path_factory.mktemp("sam") / "sam.pth")


@pytest.fixture(params=["sam", "sam2"])
def model(
    request: pytest.FixtureRequest, sam: PromptableModel, tmp_path_factory: pytest.TempPathFactory
) -> PromptableModel:
    if request.param == "sam":
        return sam
    torch.manual_seed(3)
    return in_file(build_sam2("hiera_tiny", image_size=256), tmp_path_factory.mktemp("sam2") / "sam2.pt")


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "embeddings")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the planes that were really encoded."""
    seen: list[tuple[int, ...]] = []
    real = engine.encode

    def counted(model: PromptableModel, plane: NDArray[np.uint8]) -> Embedding:
        seen.append(plane.shape)
        return real(model, plane)

    monkeypatch.setattr(engine, "encode", counted)
    return seen


def plane(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (60, 80, 3)).astype(np.uint8)


def test_it_is_computed_once_and_the_masks_are_the_same(
    model: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]]
) -> None:
    first = store.encode(model, plane())
    again = EmbeddingStore(store.folder).encode(model, plane().copy())
    assert encoded == [(60, 80, 3)]
    for one, other in zip(first.tensors, again.tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert again.original_size == first.original_size
    assert again.low_res_frame == first.low_res_frame
    before, after = (engine.decode(model, one, PROMPTS, multimask=True)[0] for one in (first, again))
    np.testing.assert_allclose(before.low_res_logits, after.low_res_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(before.scores, after.scores, rtol=1e-4, atol=1e-4)


def test_other_pixels_or_weights_are_another_embedding(
    sam: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]]
) -> None:
    store.encode(sam, plane())
    store.encode(sam, plane(1))
    store.encode(sam, plane().astype(np.float32) / 255)
    store.encode(sam, np.ascontiguousarray(plane().transpose(1, 0, 2)))
    other = deepcopy(sam)
    torch.nn.init.ones_(other.get_parameter("image_encoder.patch_embed.proj.bias"))
    store.encode(in_file(other, store.folder / "other.pth"), plane())
    assert len(encoded) == 5


def test_gray_planes_are_told_from_colour_ones(
    sam: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]]
) -> None:
    gray = np.broadcast_to(plane()[..., :1], (60, 80, 3))
    store.encode(sam, gray)
    store.encode(sam, gray)
    assert len(encoded) == 1


@pytest.mark.parametrize("damage", [b"", b"no tensors", "half", "other tensors"])
def test_a_damaged_file_is_computed_again(
    sam: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]], damage: bytes | str
) -> None:
    from safetensors.torch import save_file

    store.encode(sam, plane())
    (path,) = store.folder.iterdir()
    if damage == "half":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "other tensors":
        save_file({"features": torch.zeros(3)}, path)
    else:
        assert isinstance(damage, bytes)
        path.write_bytes(damage)
    store.encode(sam, plane())
    store.encode(sam, plane())
    assert len(encoded) == 2


def test_what_was_not_used_for_the_longest_time_makes_room(
    sam: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]]
) -> None:
    store.limit = int(NBYTES * 2.5)
    for seed in 0, 1:
        store.encode(sam, plane(seed))
        for path in store.folder.iterdir():  # all that there is was used a while ago
            times = path.stat().st_mtime_ns - 10**9
            os.utime(path, ns=(times, times))
    store.encode(sam, plane(0))  # used again
    store.encode(sam, plane(2))
    assert len(list(store.folder.iterdir())) == 2
    assert store.nbytes <= store.limit
    del encoded[:]
    store.encode(sam, plane(0))
    store.encode(sam, plane(2))
    assert encoded == []
    store.encode(sam, plane(1))
    assert len(encoded) == 1


def test_nano_is_as_fast_without(tmp_path: Path, encoded: list[tuple[int, ...]]) -> None:
    nano = load_model("nano", device="cpu")
    store = EmbeddingStore(tmp_path / "embeddings")
    store.encode(nano, plane())
    assert not store.folder.exists()
    assert len(encoded) == 1


def test_weights_that_nobody_can_name_are_not_kept(
    sam: PromptableModel, store: EmbeddingStore, encoded: list[tuple[int, ...]]
) -> None:
    made = deepcopy(sam)
    made.source = None
    store.encode(made, plane())
    store.encode(made, plane())
    assert not store.folder.exists()
    assert len(encoded) == 2


def test_a_folder_that_cannot_be_made_is_done_without(sam: PromptableModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file" / "embeddings")
    assert store.encode(sam, plane()).original_size == (60, 80)
    assert store.nbytes == 0


def test_the_limit_is_that_of_the_user(
    sam: PromptableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[tuple[int, ...]]
) -> None:
    monkeypatch.setenv(embedding_store.FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert usual_store().limit == STORE_BYTES
    embedding_store.set_embedding_limit(0)
    try:
        encode(sam, plane())
        assert not (tmp_path / "mine").exists()
        monkeypatch.setenv(embedding_store.LIMIT_VARIABLE, "0.5")
        assert usual_store().limit == 2**29
        encode(sam, plane())
        encode(sam, plane())
    finally:
        embedding_store.set_embedding_limit(None)
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert len(encoded) == 2


def test_an_annotation_has_it_from_disk(
    sam: PromptableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[tuple[int, ...]]
) -> None:
    monkeypatch.setenv(embedding_store.FOLDER_VARIABLE, str(tmp_path))
    masks = []
    for _ in range(2):
        annotation = Annotation(plane(), sam)
        masks.append(annotation.add_point(40, 30).masks)
    assert encoded == [(60, 80, 3)]
    assert masks[0] == masks[1]
    Annotation(plane(), sam, gamma=2).add_point(40, 30)  # looks different
    assert len(encoded) == 2
