"""Objects carried from plane to plane by the embedded model: what comes of it, and what can go wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dask.array
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import napari_sam
from napari_sam.errors import Cancelled, ImageError, PromptError
from napari_sam.inference import engine
from napari_sam.inference.mask import Mask
from napari_sam.inference.propagation import Carried, StopRule, propagate
from napari_sam.inference.propagation_spans import spans_of
from napari_sam.inference.video_frames import open_video
from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch
from napari_sam.models.sam import build_sam
from napari_sam.models.sam_image_encoder import ViTSize

SIZE = (72, 112)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
Answers = dict[tuple[int, int], tuple[Mask, float] | None]


def _disc(y: float, x: float, radius: float) -> NDArray[np.bool_]:
    return np.hypot(Y - y, X - x) < radius


def _photographed(planes: Iterable[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    stack = np.stack([plane * 150.0 + 30 for plane in planes])
    return np.clip(stack + rng.normal(0, 6, stack.shape), 0, 255).astype(np.uint8)


# A ball, cut into nine planes, its middle moving to the right; on the first and the last plane it is not.
RADII = [0, 8, 12, 14, 15, 14, 12, 8, 0]
BALL = [_disc(34, 30 + 3 * z, radius) for z, radius in enumerate(RADII)]
STACK = _photographed(BALL)
MASKS = {z: Mask.from_array(plane) for z, plane in enumerate(BALL)}
# Two discs that move towards each other.
LEFT = [_disc(30, 20 + 2 * t, 12) for t in range(5)]
RIGHT = [_disc(40, 92 - 3 * t, 14) for t in range(5)]
PAIR = _photographed([one | other for one, other in zip(LEFT, RIGHT, strict=True)])


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def embed(model: PromptableModel) -> Callable[[int], Embedding]:
    """Embeddings of STACK."""
    frames, kept = open_video(STACK), {}

    def embedding(position: int) -> Embedding:
        if position not in kept:
            kept[position] = engine.encode(model, frames.read(position))
        return kept[position]

    return embedding


def _answers(carried: Iterable[Carried]) -> Answers:
    """By object and position; each comes once."""
    found: Answers = {}
    for plane in carried:
        for obj_id, answer in plane.masks.items():
            assert (obj_id, plane.position) not in found
            found[obj_id, plane.position] = answer
    return found


def _iou(one: Mask, other: Mask) -> float:
    common = (one & other).area
    return common / (one.area + other.area - common)


def _quality(found: Answers, truth: Mapping[int, NDArray[np.bool_]], obj_id: int = 1) -> list[float]:
    return [
        _iou(answer[0], Mask.from_array(truth[position]))
        for (obj, position), answer in found.items()
        if obj == obj_id and answer is not None
    ]


def test_a_ball_is_found_from_its_middle_and_ends_where_it_ends(
    model: PromptableModel, embed: Callable[[int], Embedding]
) -> None:
    found = _answers(propagate(model, open_video(STACK), {1: {4: MASKS[4]}}, {1: range(9)}, embed=embed))
    assert sorted(found) == [(1, z) for z in range(9) if z != 4]
    assert found[1, 0] is None
    assert found[1, 8] is None
    assert min(_quality(found, dict(enumerate(BALL)))) > 0.7
    assert len(_quality(found, dict(enumerate(BALL)))) == 6


def test_between_two_annotated_planes_it_comes_from_both_sides(
    model: PromptableModel, embed: Callable[[int], Embedding]
) -> None:
    carried = list(
        propagate(model, open_video(STACK), {1: {1: MASKS[1], 6: MASKS[6]}}, {1: range(1, 7)}, embed=embed)
    )
    assert [plane.position for plane in carried] == [2, 3, 5, 4]
    assert min(_quality(_answers(carried), dict(enumerate(BALL)))) > 0.8


def test_objects_in_one_pass_are_those_of_one_pass_each(model: PromptableModel) -> None:
    frames = open_video(PAIR)
    annotated = {1: {0: Mask.from_array(LEFT[0])}, 2: {4: Mask.from_array(RIGHT[4])}}
    both = _answers(propagate(model, frames, annotated, {1: range(5), 2: range(5)}))
    together = {key: answer for key, answer in both.items() if answer is not None}
    for obj_id, truth in ((1, LEFT), (2, RIGHT)):
        alone = _answers(propagate(model, frames, annotated, {obj_id: range(5)}))
        for key, answer in alone.items():
            # Batches of another size round differently: of pixels on the outline, one may differ.
            assert answer is not None
            assert _iou(together[key][0], answer[0]) > 0.99
            assert together[key][1] == pytest.approx(answer[1], abs=1e-3)
        quality = _quality(both, dict(enumerate(truth)), obj_id)
        assert len(quality) == 4
        assert min(quality) > 0.85


def test_a_plane_is_encoded_once_for_all_objects_and_only_where_something_is_wanted(
    model: PromptableModel,
) -> None:
    frames, asked = open_video(PAIR), Counter[int]()

    def embed(position: int) -> Embedding:
        asked[position] += 1
        return engine.encode(model, frames.read(position))

    annotated = {1: {0: Mask.from_array(LEFT[0])}, 2: {1: Mask.from_array(RIGHT[1])}, 3: {4: MASKS[4]}}
    found = _answers(propagate(model, frames, annotated, {1: [0, 2], 2: [1, 3], 3: []}, embed=embed))
    assert set(found) == {(1, 2), (2, 3)}
    assert asked == {1: 1, 2: 1, 3: 1}


def test_how_an_object_looks_elsewhere_is_no_measure(model: PromptableModel) -> None:
    """Bright on the first planes and faint on the last: each way compares with what it came through."""
    rng = np.random.default_rng(0)
    disc = _disc(34, 40, 12)
    brightness = [200.0] * 5 + [16.0] * 7
    noisy = [20 + disc * by + rng.normal(0, 1, SIZE) for by in brightness]
    frames = open_video(np.clip(np.stack(noisy), 0, 255).astype(np.uint8))
    mask = Mask.from_array(disc)
    faint, bright = [9, 10, 11], [1, 2]

    def found(annotated: list[int], wanted: list[int]) -> Answers:
        return _answers(propagate(model, frames, {1: dict.fromkeys(annotated, mask)}, {1: wanted}))

    expected = found([8], faint)
    assert min(_quality(expected, dict.fromkeys(faint, disc))) > 0.7
    assert len(_quality(expected, dict.fromkeys(faint, disc))) == 3
    # In another span, and from the other side.
    assert found([0, 8], bright + faint) == found([0, 8], bright) | expected
    assert found([0, 8], faint) == expected
    backward = found([0, 11], [1, 2, 8, 9, 10])
    assert all(answer is not None for answer in backward.values())


def test_an_annotated_plane_need_not_be_readable(model: PromptableModel) -> None:
    def load(block: NDArray[np.uint8], block_info: Any = None) -> NDArray[np.uint8]:
        if block_info[None]["chunk-location"][0] == 4:
            raise OSError(5, "Input/output error")
        return block

    video = dask.array.map_blocks(
        load, dask.array.from_array(STACK, chunks=(1, *SIZE)), dtype=np.uint8, meta=STACK[:0]
    )
    found = _answers(propagate(model, open_video(video), {1: {4: MASKS[4]}}, {1: [5, 6]}))
    assert min(_quality(found, {5: BALL[5], 6: BALL[6]})) > 0.7


def test_an_annotated_plane_without_the_object_is_its_end(
    model: PromptableModel, embed: Callable[[int], Embedding]
) -> None:
    annotated = {1: {3: MASKS[3], 5: Mask.empty(SIZE)}}
    found = _answers(propagate(model, open_video(STACK), annotated, {1: [4, 5, 6, 7]}, embed=embed))
    assert set(found) == {(1, 4), (1, 6), (1, 7)}
    assert found[1, 4] is not None
    assert found[1, 6] is None
    assert found[1, 7] is None


def test_an_object_that_vanishes_ends_and_comes_back_where_it_is_annotated(model: PromptableModel) -> None:
    planes = [_disc(34, 40, 13) if t not in (3, 4, 5) else np.zeros(SIZE, dtype=bool) for t in range(9)]
    frames, mask = open_video(_photographed(planes)), Mask.from_array(planes[0])
    forward = _answers(propagate(model, frames, {1: {0: mask}}, {1: range(9)}))
    assert [forward[1, t] is None for t in range(1, 9)] == [False] * 2 + [True] * 6
    both = _answers(propagate(model, frames, {1: {0: mask, 8: mask}}, {1: range(9)}))
    assert [both[1, t] is None for t in range(1, 8)] == [False] * 2 + [True] * 3 + [False] * 2
    assert min(_quality(both, dict(enumerate(planes)))) > 0.8


def test_who_ends_on_the_way_is_taken_over_from_the_other_side(model: PromptableModel) -> None:
    """Nothing is on plane 2 (then 6), so that from the other end it goes on beyond the middle, which is 4."""
    planes = [_disc(34, 40, 13) if t != 2 else np.zeros(SIZE, dtype=bool) for t in range(9)]
    mask = Mask.from_array(planes[0])
    for stack in (_photographed(planes), _photographed(planes[::-1])):
        found = _answers(propagate(model, open_video(stack), {1: {0: mask, 8: mask}}, {1: range(9)}))
        assert [position for (_, position), answer in found.items() if answer is None] in ([2], [6])


def test_planes_of_one_value_hold_nothing(model: PromptableModel) -> None:
    stack = np.full((4, *SIZE), 77, dtype=np.uint8)
    stack[0][BALL[4]] = 200
    found = _answers(propagate(model, open_video(stack), {1: {0: MASKS[4]}}, {1: range(4)}))
    assert found == {(1, 1): None, (1, 2): None, (1, 3): None}


def test_a_stack_of_one_plane_has_nothing_to_carry_to(model: PromptableModel) -> None:
    assert list(propagate(model, open_video(STACK[4:5]), {1: {0: MASKS[4]}}, {1: [0]})) == []


def test_what_was_yielded_before_a_broken_frame_stays(model: PromptableModel) -> None:
    def read(block_info: Any = None) -> NDArray[np.uint8]:
        position = block_info[None]["chunk-location"][0]
        if position == 6:
            raise OSError(5, "Input/output error")
        return STACK[position : position + 1]

    video = dask.array.map_blocks(
        read,
        chunks=((1,) * 9, *((side,) for side in SIZE)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
    )
    found: list[int] = []
    with pytest.raises(ImageError, match=r"Frame 6 cannot be read \(.*Input/output error\)"):
        found.extend(
            p.position for p in propagate(model, open_video(video), {1: {4: MASKS[4]}}, {1: range(9)})
        )
    assert found == [5]


@pytest.mark.parametrize("layer", ["image_encoder", "mask_decoder"])
def test_cancelled_within_a_plane(model: PromptableModel, layer: str) -> None:
    cancelled = threading.Event()
    carried = propagate(model, open_video(STACK), {1: {4: MASKS[4]}}, {1: range(9)}, cancelled=cancelled)
    assert next(carried).position == 5
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda *_: cancelled.set())
    try:
        with pytest.raises(Cancelled, match="Cancelled on the way to plane 6: what is done is kept"):
            next(carried)
    finally:
        handle.remove()


def test_cancelled_between_planes(model: PromptableModel) -> None:
    cancelled = threading.Event()
    carried = propagate(model, open_video(STACK), {1: {4: MASKS[4]}}, {1: range(9)}, cancelled=cancelled)
    next(carried)
    cancelled.set()
    with pytest.raises(Cancelled):
        next(carried)


@pytest.mark.parametrize(
    ("annotated", "wanted", "message"),
    [
        ({}, {1: [2]}, "Object 1 has no mask to start from: segment it on a plane first"),
        ({1: {3: Mask.empty(SIZE)}}, {1: [2]}, "Object 1 has no mask to start from"),
        ({1: {4: MASKS[4]}}, {1: [9]}, "There is no plane 9: there are 9, counted from 0"),
        ({1: {-1: MASKS[4]}}, {1: [2]}, "There is no plane -1"),
        (
            {1: {4: Mask((0, 0), np.ones((2, 2), bool), (9, 9))}},
            {1: [2]},
            "has 9 x 9 pixels and the planes have",
        ),
    ],
)
def test_what_cannot_be_carried_is_said_at_once(
    model: PromptableModel, annotated: dict[int, dict[int, Mask]], wanted: dict[int, list[int]], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        propagate(model, open_video(STACK), annotated, wanted)


def test_a_rule_decides_when_an_object_has_ended(
    model: PromptableModel, embed: Callable[[int], Embedding]
) -> None:
    def carried(rule: StopRule) -> int:
        found = propagate(model, open_video(STACK), {1: {4: MASKS[4]}}, {1: range(9)}, rule=rule, embed=embed)
        return sum(answer is not None for answer in _answers(found).values())

    lenient = StopRule(min_predicted_iou=0, min_overlap=0, max_area_change=1e9, min_contrast=0)
    assert carried(lenient) >= 6
    assert carried(StopRule(1, 0, 1e9, 0)) == 0
    assert carried(StopRule(0, 1, 1e9, 0)) == 0
    assert carried(StopRule(0, 0, 1.01, 0)) == 0


@pytest.mark.parametrize("values", [(1.1, 0.5, 2), (0.5, -0.1, 2), (0.5, 0.5, 0.9), (0.5, 0.5, float("nan"))])
def test_a_rule_that_makes_no_sense(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="at which an object ends"):
        StopRule(*values)


def test_published_models_are_asked_with_box_point_and_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = build_sam(ViTSize(64, 2, 2, (1,))).prepare(torch.device("cpu"), torch.float32)
    asked: list[PromptBatch] = []
    decode = sam.decode

    def listened(embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        assert not multimask
        asked.append(prompts)
        return decode(embedding, prompts, multimask=multimask)

    monkeypatch.setattr(sam, "decode", listened)
    lenient = StopRule(0, 0, 1e9, 0)
    annotated = {1: {0: MASKS[4]}, 2: {0: MASKS[2]}}
    first = next(propagate(sam, open_video(STACK[3:6]), annotated, {1: [1], 2: [1]}, rule=lenient))
    assert set(first.masks) == {1, 2}
    (prompts,) = asked
    assert prompts.boxes is not None
    assert prompts.logits is not None
    assert prompts.boxes[0].tolist() == [
        value + side for value, side in zip(MASKS[4].box_xyxy or (), (-0.5, -0.5, 0.5, 0.5), strict=True)
    ]
    assert prompts.points[0].tolist() == [[42.0, 34.0]]
    # On a square of 112 pixels, at the end of a slope that crosses 0 on the outline.
    logits = prompts.logits[0, 0].numpy()
    assert logits.shape == (256, 256)
    assert (logits.max(), logits.min()) == (10, -10)
    inside = (logits > 0)[: 256 * 72 // 112].sum() * (112 / 256) ** 2
    assert inside == pytest.approx(MASKS[4].area, rel=0.05)


def test_spans_go_halfway_only_between_two_planes_with_the_object() -> None:
    known = {2: MASKS[2], 7: MASKS[7], 9: Mask.empty(SIZE)}
    before, between, after, behind = spans_of({1: known}, {1: [0, 3, 4, 5, 6, 8, 11]})
    assert (before.goal(-1, halfway=True), before.before) == (0, None)
    assert (between.goal(1, halfway=True), between.goal(-1, halfway=True)) == (4, 5)
    assert (between.goal(1, halfway=False), between.goal(-1, halfway=False)) == (6, 3)
    assert (after.goal(1, halfway=True), after.after) == (8, None)
    assert (behind.before, behind.after) == (None, None)
