"""Objects carried through real stacks by the real model, from Python: what is known is never changed."""

from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import napari_sam
from napari_sam.annotation import Document, Plane
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.propagating import PlaneState, plane_states
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.annotation.series import Series
from napari_sam.errors import AnnotationError, Cancelled, ImageError
from napari_sam.models.base import PromptableModel
from napari_sam.models.hiera import HieraSize
from napari_sam.models.sam2 import build_sam2

DEPTH, HEIGHT, WIDTH = 7, 72, 96


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


def disc(y: float, x: float, radius: float = 14) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    found: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return found


ONE = np.stack([disc(24, 30 + z) for z in range(DEPTH)])
OTHER = np.stack([disc(46, 66 - z) for z in range(DEPTH)])
STACK = (30 + 170 * (ONE | OTHER)).astype(np.uint8)
"""Two discs that move towards each other."""


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def states(
    annotation: Annotation, number: int = 1, plane: Plane | None = None, axis: int | None = None
) -> str:
    series = Series.through(plane or Plane((0, None, None)), annotation.shape, axis)
    return "".join(".pA"[state] for state in plane_states(annotation[number], series))


def clicked(model: PromptableModel, at: int = 3, stack: Any = STACK) -> Annotation:
    """An object that was clicked on one plane and accepted."""
    annotation = Annotation(stack, model)
    annotation.add_point(30 + at, 24, plane=at)
    annotation.accept()
    return annotation


def test_one_click_segments_an_object_on_all_planes_and_one_undo_takes_that_back(
    nano: PromptableModel,
) -> None:
    annotation = clicked(nano)
    told: list[tuple[int, int]] = []
    (item,) = annotation.propagate(1, progress=lambda *count: told.append(count))
    assert iou(annotation.to_labels() == 1, ONE) > 0.9
    assert states(annotation) == "pppAppp"
    assert item.accepted
    assert item == annotation[1]
    assert {answer.model for answer in item.base.values()} == {"nano"}
    assert all((answer.score or 0) > 0.5 and answer.prompts is None for answer in item.base.values())
    assert told == [(count, 6) for count in range(1, 7)]
    assert annotation.undo() == "Propagate object 1"
    assert states(annotation) == "...A..."
    assert annotation.undo_text == "Accept object 1"
    annotation.redo()
    assert annotation[1] == item


def test_several_objects_are_carried_on_in_one_step_and_share_no_pixel(nano: PromptableModel) -> None:
    annotation = clicked(nano)
    annotation.add_point(66, 46, plane=0)
    annotation.accept()
    annotation.propagate()
    labels = annotation.to_labels()
    assert iou(labels == 1, ONE) > 0.9
    assert iou(labels == 2, OTHER) > 0.9
    assert states(annotation, 2) == "Apppppp"
    assert annotation.undo() == "Propagate 2 objects"
    assert [states(annotation, number) for number in (1, 2)] == ["...A...", "A......"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"direction": "forward"}, "...Appp"),
        ({"direction": "backward"}, "pppA..."),
        ({"direction": "forward", "stop": 5}, "...App."),
        ({"stop": 1}, ".ppA..."),
        ({"start": -4, "stop": -2}, "...App."),
    ],
)
def test_it_goes_where_it_is_told(nano: PromptableModel, arguments: dict[str, Any], said: str) -> None:
    annotation = clicked(nano)
    annotation.propagate(1, **arguments)
    assert states(annotation) == said


def test_it_goes_on_from_where_objects_are_and_leaves_the_others_out(nano: PromptableModel) -> None:
    """Between the objects and a plane without them, a hole was left."""
    annotation = clicked(nano)
    annotation.propagate(1, "forward", stop=5)
    annotation.add_point(66, 24, plane=0)
    annotation.accept()
    annotation.propagate([1, 2], "forward", start=5)
    assert [states(annotation, number) for number in (1, 2)] == ["...Appp", "A......"]
    annotation.undo()
    with pytest.raises(AnnotationError, match="None of the objects has a mask on plane 6"):
        annotation.propagate([1, 2], start=6)


def test_a_correction_is_never_overwritten_and_changes_only_what_follows(nano: PromptableModel) -> None:
    annotation = clicked(nano, 1)
    annotation.propagate(1)
    before = annotation.to_labels()
    annotation.open(1)
    # From here on, it is another object.
    annotation.document.paint(
        Plane((4, None, None)),
        (slice(0, HEIGHT), slice(0, WIDTH)),
        OTHER[4].astype(np.int64),
    )
    annotation.accept()
    annotation.propagate(1, "forward", start=4)
    labels = annotation.to_labels() == 1
    np.testing.assert_array_equal(labels[:4], before[:4] == 1)
    np.testing.assert_array_equal(labels[4], OTHER[4])
    assert iou(labels[5:], OTHER[5:]) > 0.9
    assert states(annotation) == "pAppApp"
    # Both ways, what lies between is done again, and what is known still holds.
    annotation.propagate(1)
    again = annotation.to_labels() == 1
    np.testing.assert_array_equal(again[[1, 4]], labels[[1, 4]])


def test_a_prompt_on_a_propagated_plane_starts_from_its_mask(nano: PromptableModel) -> None:
    annotation = clicked(nano)
    annotation.propagate(1, "forward")
    carried = annotation[1].base[Plane((5, None, None))].mask
    annotation.open(1)
    item = annotation.add_point(5, 5, positive=False, plane=5)
    assert item.prompts[Plane((5, None, None))].mask == carried
    annotation.accept()
    assert states(annotation) == "...ApAp"
    kept = annotation[1].masks
    annotation.propagate(1, start=5)
    planes = [Plane((z, None, None)) for z in (3, 5)]
    assert [annotation[1].masks[plane] for plane in planes] == [kept[plane] for plane in planes]


def test_an_erased_plane_says_that_the_object_has_ended(nano: PromptableModel) -> None:
    annotation = clicked(nano, 2)
    annotation.propagate(1)
    nothing = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    annotation.document.paint(Plane((4, None, None)), (slice(0, HEIGHT), slice(0, WIDTH)), nothing)
    annotation.propagate(1, start=4)
    assert states(annotation) == "ppApA.."
    assert not annotation.to_labels()[4:].any()


def test_what_a_hand_painted_is_something_to_start_from(nano: PromptableModel) -> None:
    annotation = Annotation(STACK, nano)
    annotation.document.paint(
        Plane((3, None, None)), (slice(0, HEIGHT), slice(0, WIDTH)), ONE[3].astype(np.int64) * 7
    )
    annotation.propagate(7, "forward")
    assert iou(annotation.to_labels()[3:] == 7, ONE[3:]) > 0.9
    assert states(annotation, 7) == "...Appp"


def test_labels_of_some_planes_are_carried_to_the_others(nano: PromptableModel) -> None:
    labels = np.zeros(STACK.shape, dtype=np.uint8)
    labels[0], labels[-1] = ONE[0] * 5 + OTHER[0] * 9, ONE[-1] * 5 + OTHER[-1] * 9
    annotation = Annotation(STACK, nano, labels=labels)
    annotation.propagate()
    assert iou(annotation.to_labels() == 5, ONE) > 0.9
    assert states(annotation, 9) == "ApppppA"


# What goes wrong


def test_what_was_done_before_it_was_cancelled_is_kept_and_is_one_undo(nano: PromptableModel) -> None:
    annotation = clicked(nano)
    cancelled = threading.Event()

    def stop(done: int, _: int) -> None:
        if done == 2:
            cancelled.set()

    with pytest.raises(Cancelled):
        annotation.propagate(1, "forward", progress=stop, cancelled=cancelled)
    assert states(annotation) == "...App."
    assert annotation.undo() == "Propagate object 1"
    assert states(annotation) == "...A..."


class Damaged:
    """An image of which one plane cannot be read: like dask, it is read when it is asked for."""

    shape, dtype, ndim = STACK.shape, STACK.dtype, STACK.ndim
    damage = True

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if self.damage and key[0] == 5:
            raise OSError("block 17 is gone")
        return STACK[key]


def test_what_was_done_before_a_plane_could_not_be_read_is_kept(nano: PromptableModel) -> None:
    image = Damaged()
    annotation = clicked(nano, 3, image)
    with pytest.raises(ImageError, match=r"5.* cannot be read \(block 17 is gone\)"):
        annotation.propagate(1)
    assert states(annotation) == "...Ap.."
    assert annotation.undo_text == "Propagate object 1"
    # Repaired, the rest is done, and joins nothing.
    image.damage = False
    annotation.propagate(1)
    assert states(annotation) == "pppAppp"


def test_on_a_plane_of_one_value_an_object_ends_and_comes_back_where_it_is_prompted(
    nano: PromptableModel,
) -> None:
    stack = STACK.copy()
    stack[4] = 30
    annotation = clicked(nano, 3, stack)
    annotation.propagate(1, "forward")
    assert states(annotation) == "...A..."
    # What comes back is known from the other side.
    annotation.open(1)
    annotation.add_point(36, 24, plane=6)
    annotation.propagate(1)
    assert states(annotation) == "pppA.pA"
    assert iou(annotation.to_labels()[5:] == 1, ONE[5:]) > 0.9


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (1, HEIGHT, WIDTH), (1, 1, HEIGHT, WIDTH)])
def test_an_image_of_one_plane_has_none_to_go_on_to(nano: PromptableModel, shape: tuple[int, ...]) -> None:
    annotation = Annotation(STACK[0].reshape(shape), nano)
    annotation.add_point(30, 24)
    with pytest.raises(AnnotationError, match="one plane only"):
        annotation.propagate()
    assert annotation.undo_text == "Add point"


def test_what_cannot_be_propagated_is_said_and_nothing_is_changed(nano: PromptableModel) -> None:
    annotation = Annotation(STACK, nano)
    with pytest.raises(AnnotationError, match="nothing to propagate"):
        annotation.propagate()
    annotation.add_point(33, 24, plane=3)
    before = annotation.document.snapshot
    for arguments, said in [
        ({"objects": 9}, "no object 9"),
        ({"direction": "up"}, "no direction 'up'"),
        ({"start": 7}, "Plane 7 is not one of the 7"),
        ({"start": -9}, "Plane -9 is not one of the 7"),
        ({"stop": -8}, "Plane -8 is not one of the 7"),
        ({"start": 1.5}, "Plane 1.5 is not given in whole numbers"),
        ({"stop": True}, "Plane True is not given in whole numbers"),
        ({"start": 5}, "Object 1 has no mask on plane 5: start from a plane where there is one"),
        ({"start": -2, "direction": "forward", "stop": 5}, "Object 1 has no mask on plane 5"),
        ({"axis": 1}, "no neighbours along axis 1"),
        ({"plane": (None, 3, None)}, "has no mask to start from"),
    ]:
        with pytest.raises(AnnotationError, match=said):
            annotation.propagate(**arguments)  # type: ignore[arg-type]
    assert annotation.document.snapshot == before


# Other axes


def test_along_depth_and_time_of_a_stack_in_time(nano: PromptableModel) -> None:
    times = np.stack([STACK, STACK, np.roll(STACK, 2, axis=2)])
    truth = np.stack([ONE, ONE, np.roll(ONE, 2, axis=2)])
    annotation = Annotation(times[:, :3], nano, rgb=False)
    annotation.add_point(31, 24, plane=(0, 1))
    annotation.accept()
    annotation.propagate(1)
    labels = annotation.to_labels() == 1
    assert iou(labels[0], truth[0, :3]) > 0.9
    assert not labels[1:].any()
    # Along time, from each of the planes of depth that are annotated: that is one.
    annotation.propagate(1, axis=0)
    labels = annotation.to_labels() == 1
    assert iou(labels[:, 1], truth[:, 1]) > 0.9
    assert not labels[1:, [0, 2]].any()
    place = Plane((0, 1, None, None))
    assert (states(annotation, 1, place, 0), states(annotation, 1, place, 1)) == ("App", "pAp")


def test_along_depth_at_several_times_in_one_step(nano: PromptableModel) -> None:
    annotation = Annotation(np.stack([STACK[:3], STACK[:3]]), nano, rgb=False)
    for time in (0, 1):
        annotation.add_point(31, 24, plane=(time, 1))
    annotation.accept()
    annotation.propagate(1)
    assert iou(annotation.to_labels() == 1, np.stack([ONE[:3], ONE[:3]])) > 0.9
    annotation.undo()
    annotation.propagate(1, plane=(1, 0))
    labels = annotation.to_labels()
    assert [labels[at].any() for at in np.ndindex(2, 3)] == [False, True, False, True, True, True]


def test_along_an_axis_of_the_last_two_on_upright_planes(nano: PromptableModel) -> None:
    rod = np.zeros((64, 6, 64), dtype=bool)
    rod[20:44, :, 22:46] = True
    annotation = Annotation((30 + 170 * rod).astype(np.uint8), nano)
    annotation.add_box([21, 19, 46, 44], plane=(None, 2, None))
    annotation.accept()
    annotation.propagate(1)
    assert iou(annotation.to_labels() == 1, rod) > 0.9
    assert states(annotation, 1, Plane((None, 0, None))) == "ppAppp"
    annotation.undo()
    assert {plane.index[0] for plane in annotation[1].masks} == set(range(20, 44))


def test_images_with_colours_are_propagated_in_colours(nano: PromptableModel) -> None:
    annotation = Annotation(np.stack([STACK] * 3, axis=-1), nano)
    annotation.add_point(33, 24, plane=3)
    annotation.propagate(stop=4)
    assert states(annotation) == "...Ap.."


# By memory


def test_a_sam2_carries_objects_by_its_memory(nano: PromptableModel) -> None:
    """Untrained: where objects are is no matter, what becomes of what it says is."""
    torch.manual_seed(0)
    model = build_sam2(HieraSize(16, 1, (1, 2, 3, 1), (4,)), image_size=128)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5)
    annotation = Annotation(STACK, model.prepare(torch.device("cpu"), torch.float32))
    labels = np.zeros(STACK.shape, dtype=np.uint8)
    labels[2] = ONE[2] * 1 + OTHER[2] * 2
    annotation.add_labels(labels)
    annotation.propagate(direction="forward", stop=4)
    series = Series.through(Plane((0, None, None)), annotation.shape)
    for item in annotation.objects:
        kept = plane_states(item, series)
        assert kept[2] == PlaneState.ANNOTATED
        assert not kept[[0, 1, 5, 6]].any()
        assert all(one.model == annotation.model.name for one in item.base.values() if one.propagated)
    np.testing.assert_array_equal(annotation.to_labels()[2], labels[2])
    assert annotation.undo() == "Propagate 2 objects"


# Files


def test_prompts_without_masks_in_a_file_are_answered_first(nano: PromptableModel, tmp_path: Path) -> None:
    annotation = clicked(nano)
    wanted = annotation[1]
    path = annotation.save(tmp_path / "a.napari-sam.zip")
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("annotation.json"))
    data["objects"][0].update(answers=[], masks=[], base=[])
    loaded = Annotation(STACK, nano)
    loaded.document = Document.of(from_json(data)[0])
    loaded.propagate(1, stop=4)
    assert loaded[1].masks[Plane((3, None, None))] == wanted.masks[Plane((3, None, None))]
    assert states(loaded) == "...Ap.."
    assert loaded.undo() == "Propagate object 1"
    assert not loaded[1].masks


def test_what_was_propagated_is_saved_and_goes_on_when_it_is_loaded(
    nano: PromptableModel, tmp_path: Path
) -> None:
    annotation = clicked(nano)
    annotation.propagate(1, "forward", stop=4)
    path = annotation.save(tmp_path / "a.napari-sam.zip")
    loaded = Annotation.load(path, STACK, nano)
    assert states(loaded) == "...Ap.."
    loaded.propagate(1, "forward")
    assert states(loaded) == "...Appp"
    assert {answer.digest for answer in loaded[1].base.values()} == {nano.digest}
    data = to_json(loaded.document.snapshot)
    assert sum("propagated" in answer for answer in data["objects"][0]["base"]) == 3


def test_a_cell_that_divides_is_followed_through_both_its_daughters(nano: PromptableModel) -> None:
    """A click on the mother, one on the daughters together, and everything else is propagation."""
    cells = np.zeros((7, HEIGHT, WIDTH), dtype=bool)
    for time in range(3):
        cells[time] = disc(36, 44 + 2 * time, 15)
    for time in range(3, 7):
        cells[time] = disc(36, 28 - 2 * time + 2, 11) | disc(36, 58 + 3 * time - 2, 10)
    annotation = Annotation((30 + 170 * cells).astype(np.uint8), nano)
    annotation.add_point(44, 36, plane=0)
    annotation.propagate(stop=2)
    annotation.document.paint(
        Plane((3, None, None)), (slice(0, HEIGHT), slice(0, WIDTH)), cells[3].astype(np.int64)
    )
    annotation.accept()
    left, right = annotation.divide(1, 3)
    annotation.propagate()
    labels = annotation.to_labels()
    assert iou(labels[:3] == 1, cells[:3]) > 0.9
    assert not (labels[3:] == 1).any()
    assert not np.isin(labels[:3], [left.id, right.id]).any()
    for time in range(3, 7):
        assert iou(labels[time, :, :43] == left.id, cells[time, :, :43]) > 0.85
        assert iou(labels[time, :, 43:] == right.id, cells[time, :, 43:]) > 0.85
    assert {item.id: item.parent for item in annotation.objects} == {1: 0, 2: left.parent, 3: left.parent}


def test_divisions_are_told_by_ids(nano: PromptableModel) -> None:
    labels = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    labels[0], labels[1:] = ONE[0] * 5, (ONE[0] | OTHER[0]) * 5
    annotation = Annotation(STACK[:3], nano, labels=labels)
    children = annotation.divide(5, 1)
    assert [child.id for child in annotation.children_of(5)] == [child.id for child in children] == [6, 7]
    assert annotation.parent_of(6) == annotation[5]
    annotation.set_parent([6, 7], None)
    assert annotation.parent_of(6) is None
    assert annotation.undo() == "Parent of 2 objects: none"
