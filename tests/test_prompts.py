from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from napari_sam.errors import PromptError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts, batch

SIZE = (100, 200)
MASK = Mask((10, 20), np.ones((5, 6), dtype=bool), SIZE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to segment"),
        ({"points": []}, "nothing to segment"),
        ({"points": [[1, 1]], "labels": [-1]}, "nothing to segment"),
        ({"points": [[np.nan, 1]]}, "finite"),
        ({"points": [[1, np.inf]]}, "finite"),
        ({"points": [["a", "b"]]}, "numbers"),
        ({"points": [1, 2]}, "shape"),
        ({"points": [[1, 2, 3]]}, "shape"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "1 points but 2 labels"),
        ({"points": [[1, 2]], "labels": [2]}, "not 2"),
        ({"points": [[1, 2]], "labels": [0.5]}, "not 0.5"),
        ({"labels": [1], "box": [1, 1, 2, 2]}, "without points"),
        ({"points": [[200, 50]]}, r"\(200, 50\) lies outside the image, which is 200 pixels wide"),
        ({"points": [[50, 50], [50, 100]]}, r"\(50, 100\) lies outside"),
        ({"points": [[-1, 50]]}, "outside"),
        ({"box": [10, 10, 10, 20]}, "no area"),
        ({"box": [10, 20, 30, 20]}, "no area"),
        ({"box": [10, 10, 20]}, "four numbers"),
        ({"box": [10, 10, np.nan, 20]}, "finite"),
        ({"box": [300, 10, 400, 20]}, "outside"),
        ({"box": [10, -30, 40, -20]}, "outside"),
        ({"mask_input": np.zeros((64, 64))}, "256"),
        ({"mask_input": np.zeros((3, 256, 256))}, "256"),
        ({"mask_input": np.full((256, 256), np.nan)}, "finite"),
        ({"mask_input": np.zeros((256, 256), dtype=bool)}, "logits"),
        ({"mask": Mask.empty(SIZE)}, "empty"),
        ({"mask": Mask((1, 1), MASK.bits, (50, 60))}, "50 x 60 pixels and the image has 100 x 200"),
        ({"mask": np.ones(SIZE, dtype=bool)}, "Mask.from_array"),
    ],
)
def test_prompts_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message) as raised:
        Prompts.create(SIZE, **given)
    assert str(raised.value).endswith(".")


def test_points_reach_to_the_edges_of_the_outer_pixels() -> None:
    corners = [[-0.5, -0.5], [199.5, 99.5]]
    np.testing.assert_array_equal(Prompts.create(SIZE, corners).points, corners)
    with pytest.raises(PromptError, match="outside"):
        Prompts.create(SIZE, [[199.6, 50]])


def test_labels_are_positive_unless_said_otherwise_and_padding_is_dropped() -> None:
    assert Prompts.create(SIZE, [[1, 2], [3, 4]]).labels.tolist() == [1, 1]
    # Padding may lie anywhere.
    prompts = Prompts.create(SIZE, [[1, 2], [-9, -9], [3, 4]], [0, -1, 1])
    assert prompts.points.tolist() == [[1, 2], [3, 4]]
    assert prompts.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "box", [[30, 40, 10, 20], [10, 40, 30, 20], [[10, 20, 30, 40]], [[30, 20], [10, 40]]]
)
def test_corners_are_put_in_order(box: Any) -> None:
    box = Prompts.create(SIZE, box=box).box
    assert box is not None
    assert box.tolist() == [10, 20, 30, 40]


def test_boxes_are_clipped_to_the_image() -> None:
    box = Prompts.create(SIZE, box=[-20, 30, 500, 60]).box
    assert box is not None
    assert box.tolist() == [-0.5, 30, 199.5, 60]
    whole_pixel = Prompts.create((1, 1), box=[-0.5, -0.5, 0.5, 0.5]).box
    assert whole_pixel is not None


def test_only_a_single_point_is_ambiguous() -> None:
    logits = np.zeros((1, 256, 256))
    assert Prompts.create(SIZE, [[1, 2]]).is_ambiguous
    assert Prompts.create(SIZE, [[1, 2], [5, 5]], [1, -1]).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2], [3, 4]]).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2]], box=[0, 0, 9, 9]).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2]], mask_input=logits).is_ambiguous
    assert not Prompts.create(SIZE, box=[0, 0, 9, 9]).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2]], mask=MASK).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2]], scribbles=[([[5, 5]], 1)]).is_ambiguous
    assert not Prompts.create(SIZE, [[1, 2]], lasso=[[0, 0], [9, 0], [0, 9]]).is_ambiguous


def test_a_batch_on_a_resized_plane_keeps_the_edges_of_the_image_in_place() -> None:
    given = Prompts.create(SIZE, [[-0.5, -0.5], [199.5, 99.5], [0, 0]], box=[-0.5, -0.5, 199.5, 99.5])
    boxless = Prompts.create(SIZE, [[9, 9]])
    bigger = batch([given, boxless], scale=(3.0, 2.0))
    assert bigger.points[0].tolist() == [[-0.5, -0.5], [399.5, 299.5], [0.5, 1.0]]
    assert bigger.boxes is not None
    assert bigger.boxes[0].tolist() == [-0.5, -0.5, 399.5, 299.5]
    assert bigger.boxes[1].isnan().all()
    assert bigger.labels[1].tolist() == [1, -1, -1]


def test_batch_pads_points_and_boxes() -> None:
    many = Prompts.create(SIZE, [[1, 2], [3, 4]], [1, 0])
    boxed = Prompts.create(SIZE, box=[5, 6, 7, 8])
    stacked = batch([many, boxed])
    assert len(stacked) == 2
    assert stacked.points.dtype == torch.float32
    assert stacked.points[0].tolist() == [[1, 2], [3, 4]]
    assert stacked.labels.tolist() == [[1, 0], [-1, -1]]
    assert stacked.boxes is not None
    assert stacked.boxes[0].isnan().all()
    assert stacked.boxes[1].tolist() == [5, 6, 7, 8]
    assert stacked.logits is None
    assert batch([many]).boxes is None


def test_batch_takes_mask_prompts_for_all_or_none() -> None:
    with_mask = Prompts.create(SIZE, mask_input=np.ones((1, 256, 256)))
    stacked = batch([with_mask, with_mask])
    assert stacked.logits is not None
    assert stacked.logits.shape == (2, 1, 256, 256)
    assert stacked.points.shape == (2, 0, 2)
    with pytest.raises(ValueError, match="all objects"):
        batch([with_mask, Prompts.create(SIZE, [[1, 1]])])
    with pytest.raises(ValueError, match="at least one"):
        batch([])
    with pytest.raises(ValueError, match="plain"):
        batch([Prompts.create(SIZE, mask=MASK)])


EVERYTHING: dict[str, Any] = {
    "points": [[1, 2], [3, 4]],
    "labels": [1, 0],
    "box": [5, 6, 70, 80],
    "mask_input": np.eye(256),
    "mask": MASK,
    "scribbles": [([[1, 1], [9, 9]], 1)],
    "lasso": [[0, 0], [9, 0], [0, 9]],
}
OTHERS: dict[str, Any] = {
    "points": [[1, 2], [3, 4.5]],
    "labels": [1, 1],
    "box": [5, 6, 70, 81],
    "mask_input": np.eye(256) * 2,
    "mask": Mask((10, 20), np.eye(5, 6, dtype=bool), SIZE),
    "scribbles": [([[1, 1], [9, 9]], 0)],
    "lasso": [[0, 0], [9, 1], [0, 9]],
}


def test_prompts_are_values() -> None:
    prompts = Prompts.create(SIZE, **EVERYTHING)
    for same in (
        Prompts.create(SIZE, **EVERYTHING),
        Prompts.create(SIZE, **{**EVERYTHING, "lasso": [[-0.0, 0], [9, 0], [0, 9]]}),
        copy.deepcopy(prompts),
        pickle.loads(pickle.dumps(prompts)),
    ):
        assert same == prompts
        assert hash(same) == hash(prompts)
    assert prompts != "prompts"


@pytest.mark.parametrize("name", EVERYTHING)
def test_prompts_that_differ_in_anything_differ(name: str) -> None:
    prompts = Prompts.create(SIZE, **EVERYTHING)
    assert Prompts.create(SIZE, **{**EVERYTHING, name: OTHERS[name]}) != prompts
    without = {key: value for key, value in EVERYTHING.items() if key != name}
    if name == "points":
        del without["labels"]
    assert Prompts.create(SIZE, **without) != prompts


def test_nobody_changes_prompts_from_outside() -> None:
    given = {name: np.array(EVERYTHING[name], dtype=float) for name in ("points", "box", "lasso")}
    prompts = Prompts.create(SIZE, **given)
    for array in given.values():
        array[...] = 33
    assert prompts == Prompts.create(SIZE, **{name: EVERYTHING[name] for name in given})
    for array in (prompts.points, prompts.labels, prompts.box, prompts.lasso):
        assert array is not None
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("given", "selects"),
    [
        ({"points": [[1, 2]]}, True),
        ({"points": [[1, 2], [3, 4]], "labels": [0, 0]}, False),
        ({"points": [[1, 2], [3, 4]], "labels": [0, 1]}, True),
        ({"scribbles": [([[1, 2]], 0)]}, False),
        ({"points": [[1, 2]], "labels": [0], "scribbles": [([[1, 2]], 1)]}, True),
        ({"box": [1, 2, 3, 4]}, True),
        ({"points": [[1, 2]], "labels": [0], "mask": MASK}, True),
        ({"lasso": [[0, 0], [9, 0], [0, 9]]}, True),
        ({"mask_input": np.zeros((256, 256))}, True),
    ],
)
def test_negative_prompts_alone_select_nothing(given: dict[str, Any], selects: bool) -> None:
    assert Prompts.create(SIZE, **given).selects_something == selects


def test_a_point_more() -> None:
    prompts = Prompts.create(SIZE, **EVERYTHING)
    more = prompts.with_point((7, 8), 0)
    assert more == Prompts.create(
        SIZE, **{**EVERYTHING, "points": [[1, 2], [3, 4], [7, 8]], "labels": [1, 0, 0]}
    )
    assert prompts == Prompts.create(SIZE, **EVERYTHING)
    for point, label in (((7, 8, 9), 1), ((7, np.nan), 1), ((7, 8), 2)):
        with pytest.raises(PromptError):
            prompts.with_point(point, label)


def test_another_mask() -> None:
    pointed = Prompts.create(SIZE, [[1, 2]])
    masked = pointed.with_mask(MASK)
    assert masked == Prompts.create(SIZE, [[1, 2]], mask=MASK)
    assert masked.with_mask(None) == pointed
    with pytest.raises(PromptError, match="empty"):
        pointed.with_mask(Mask.empty(SIZE))
    with pytest.raises(PromptError, match="50 x 60"):
        masked.with_mask(Mask((1, 1), MASK.bits, (50, 60)))
    with pytest.raises(PromptError, match="nothing to segment"):
        Prompts.create(SIZE, mask=MASK).with_mask(None)
