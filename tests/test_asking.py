"""What a model said, as the document keeps it: all candidates, who said it, about which prompts."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.data import coins

import napari_sam
from napari_sam.annotation import Document, Look, Plane, Source
from napari_sam.annotation.asking import to_answer, with_digests
from napari_sam.annotation.batch import (
    prompts_of_boxes,
    prompts_of_masks,
    prompts_of_points,
    segment_many,
)
from napari_sam.errors import PromptError
from napari_sam.inference.engine import encode, segment
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.models import digest
from napari_sam.models.base import Embedding, PromptableModel
from napari_sam.models.zoo import ZOO

IMAGE = coins()
SIZE = (IMAGE.shape[0], IMAGE.shape[1])
PLANE = Plane((None, None))
CENTRES = [[100, 56], [102, 196], [45, 124]]
WEIGHTS = Path(napari_sam.models.__file__).parent / "weights" / "nano.safetensors"


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def embedding(nano: PromptableModel) -> Embedding:
    return encode(nano, as_rgb(IMAGE))


def test_an_answer_has_all_candidates_and_says_who_gave_it(
    nano: PromptableModel, embedding: Embedding
) -> None:
    prompts = Prompts.create(SIZE, [[100, 56]])
    found = segment(nano, embedding, prompts)
    answer = to_answer(found, prompts, nano, Look((0, 200), 0.5))
    assert (answer.mask, answer.score) == (found.mask, found.score)
    assert [mask for mask, _ in answer.candidates] == found.prediction.masks
    assert [score for _, score in answer.candidates] == found.prediction.scores.tolist()
    assert (answer.prompts, answer.model, answer.look) == (prompts, "nano", Look((0, 200), 0.5))
    assert answer.digest == f"sha256:{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}"


def test_the_digest_of_a_published_model_is_that_of_the_table(tmp_path: Path) -> None:
    assert digest.digest_of("vit_b", tmp_path / "not-read.pth") == ZOO["vit_b"].digest
    assert digest.digest_of("vit_b", None) == ""


def test_a_large_file_is_read_only_when_somebody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"weights")
    monkeypatch.setattr(digest, "_SMALL", 6)
    said = f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert digest.digest_of("mine", path, wait=False) == ""
    assert digest.digest_of("mine", path) == said
    assert digest.digest_of("mine", path, wait=False) == said
    path.write_bytes(b"other weights")
    assert digest.digest_of("mine", path, wait=False) == ""
    path.unlink()
    assert digest.digest_of("mine", path) == ""


def test_digests_that_had_to_wait_are_there_when_an_annotation_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS, path)
    model = napari_sam.load_model(path, device="cpu")
    monkeypatch.setattr(digest, "_SMALL", 0)
    document = Document(SIZE)
    drafts = segment_many(
        model, encode(model, as_rgb(IMAGE)), prompts_of_points(CENTRES[:1], SIZE).prompts, PLANE
    )
    document.add_objects(drafts)
    document.open(document.objects[0].uid)
    assert document.current.answers[PLANE].digest == ""
    saved = with_digests(document.snapshot, model)
    (item,) = saved.objects
    assert item.answers[PLANE].model == str(path)
    assert item.answers[PLANE].digest == model.digest != ""
    assert saved.opened is not None
    assert saved.opened.answers[PLANE].digest == model.digest
    assert with_digests(saved, model) == saved


def test_many_points_give_what_each_gives_alone(nano: PromptableModel, embedding: Embedding) -> None:
    prompts, skipped = prompts_of_points(CENTRES, SIZE)
    assert skipped == ""
    look = Look((0, 255))
    drafts = segment_many(nano, embedding, prompts, PLANE, look, source=Source.AUTOMATIC, class_id=4)
    for draft, asked in zip(drafts, prompts, strict=True):
        alone = to_answer(segment(nano, embedding, asked), asked, nano, look)
        assert draft.prompts == {PLANE: asked}
        assert draft.answers[PLANE].mask == alone.mask
        assert draft.answers[PLANE].look == look
        assert (draft.source, draft.class_id) == (Source.AUTOMATIC, 4)
    document = Document(SIZE)
    document.add_objects(drafts, "Segment 3 points")
    labels = document.to_labels()
    assert [labels[y, x] for x, y in CENTRES] == [1, 2, 3]
    assert document.undo() == "Segment 3 points"
    assert len(document) == 0


def test_boxes_and_masks_are_prompts_too(nano: PromptableModel, embedding: Embedding) -> None:
    boxes, _ = prompts_of_boxes([[75, 30, 125, 80], [130, 220, 78, 170]], SIZE)
    drafts = segment_many(nano, embedding, boxes, PLANE)
    masks = [draft.answers[PLANE].mask for draft in drafts]
    refined, _ = prompts_of_masks(masks)
    again = segment_many(nano, embedding, refined, PLANE)
    for mask, draft in zip(masks, again, strict=True):
        better = draft.answers[PLANE].mask
        assert (mask & better).area / (mask | better).area > 0.8


def test_objects_that_the_model_does_not_find_are_left_out(
    nano: PromptableModel, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Raising the model's threshold is the surest way to an empty mask.
    decode = nano.decode

    def nothing_in_the_first(*args: object, **options: object) -> object:
        output = decode(*args, **options)  # type: ignore[arg-type]
        output.logits[0] = -1
        return output

    monkeypatch.setattr(nano, "decode", nothing_in_the_first)
    prompts, _ = prompts_of_points(CENTRES, SIZE)
    assert [d.prompts[PLANE] for d in segment_many(nano, embedding, prompts, PLANE)] == prompts[1:]
    assert segment_many(nano, embedding, [], PLANE) == []


def test_what_makes_no_sense_is_skipped_and_told_in_one_sentence() -> None:
    size = (10, 20)
    prompts, skipped = prompts_of_points([[3, 3], [25, 3], [4, 4], [3, 11]], size)
    assert [p.points.tolist() for p in prompts] == [[[3, 3]], [[4, 4]]]
    assert skipped == (
        "2 of 4 points were skipped: the point (25, 3) lies outside the image, "
        "which is 20 pixels wide and 10 high."
    )
    prompts, skipped = prompts_of_boxes([[1, 1, 5, 5], [2, 2, 2, 8]], size)
    assert len(prompts) == 1
    assert skipped.startswith("1 of 2 boxes was skipped: the box from (2, 2) to (2, 8) has no area")
    full = Mask.from_array(np.eye(5))
    prompts, skipped = prompts_of_masks([full, Mask.empty((5, 5))])
    assert [p.mask for p in prompts] == [full]
    assert skipped.startswith("1 of 2 masks was skipped: the mask to start from is empty")
    assert prompts_of_points([], size) == ([], "")


@pytest.mark.parametrize("points", [[1, 2], [[1, 2, 3]], [["a", 2]], [[np.nan, 2]]])
def test_what_are_no_points_is_an_error(points: object) -> None:
    with pytest.raises(PromptError):
        prompts_of_points(points, (10, 10))  # type: ignore[arg-type]


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [[1, 2, 3]]])
def test_what_are_no_boxes_is_an_error(boxes: object) -> None:
    with pytest.raises(PromptError, match=r"shape \(N, 4\)"):
        prompts_of_boxes(boxes, (10, 10))  # type: ignore[arg-type]
