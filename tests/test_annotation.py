"""The Python face: prompts give masks at once, and everything can be taken back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.data import coins
from skimage.data import immunohistochemistry as tissue

import napari_sam
from napari_sam.annotation import Plane, Source
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.classes import new_class
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.records import ObjectClass
from napari_sam.cli import app
from napari_sam.errors import AnnotationError, ImageError, ModelError, NapariSamError, PromptError
from napari_sam.inference.engine import encode
from napari_sam.inference.image import as_rgb
from napari_sam.inference.predictor import SamPredictor
from napari_sam.models.base import Embedding, PromptableModel

IMAGE = coins()
PLANE = Plane((None, None))
COIN, OTHER = (100, 56), (102, 196)
BOX = [75, 30, 125, 80]


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def embedding(nano: PromptableModel) -> Embedding:
    return encode(nano, as_rgb(IMAGE))


@pytest.fixture
def annotation(nano: PromptableModel, embedding: Embedding) -> Annotation:
    annotation = Annotation(IMAGE, nano)
    # Each test would compute it again.
    annotation._segmenter._embeddings[PLANE, annotation.look] = embedding
    return annotation


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


# Planes


@given(st.lists(st.integers(0, 50), min_size=2, max_size=5), st.data())
def test_a_plane_indexes_two_axes_of_the_array(index: list[int], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(index) - 1), min_size=2, max_size=2, unique=True))
    plane = Plane(tuple(None if axis in axes else i for axis, i in enumerate(index)))
    assert plane.axes == tuple(sorted(axes))
    array = np.broadcast_to(np.float32(0), [60 + axis for axis in range(len(index))])
    assert array[plane.slices].shape == tuple(60 + axis for axis in sorted(axes))


@pytest.mark.parametrize("index", [(1, 2), (None,), (None, None, None), ()])
def test_a_plane_has_two_axes(index: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="exactly two axes"):
        Plane(index)


@pytest.mark.parametrize(
    ("shape", "given", "index"),
    [
        ((9, 8), None, (None, None)),
        ((1, 1, 9, 8), None, (0, 0, None, None)),
        ((5, 9, 8), 3, (3, None, None)),
        ((5, 9, 8), -1, (4, None, None)),
        ((5, 9, 8), (None, -2, None), (None, 7, None)),
        ((5, 6, 9, 8), (2, 5), (2, 5, None, None)),
        ((5, 6, 9, 8), Plane((2, None, None, 7)), (2, None, None, 7)),
        ((5, 9, 8, 3), np.int64(2), (2, None, None)),
    ],
)
def test_a_plane_is_named_by_what_comes_before_it(
    shape: tuple[int, ...], given: object, index: tuple[int | None, ...]
) -> None:
    planes = Planes(np.zeros(shape, dtype=np.uint8))
    assert planes.named(given) == Plane(index)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, (), 5, -6, (1, 1), (None, None, None), Plane((None, None))])
def test_what_names_no_plane_is_an_error(given: object) -> None:
    with pytest.raises(AnnotationError):
        Planes(np.zeros((5, 9, 8))).named(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [1.5, "1", True, (1.0,), (False,), [2.5, None, None], Plane((1.5, None, None)), np.array(1), slice(1)],
    ids=repr,
)
def test_planes_are_given_in_whole_numbers(given: object) -> None:
    with pytest.raises(AnnotationError, match="not given in whole numbers: give 1 indices"):
        Planes(np.zeros((5, 9, 8))).named(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "rgb"), [((9,), None), ((9, 0), None), ((9, 8), True), ((4, 3), True)])
def test_what_has_no_planes_is_an_error(shape: tuple[int, ...], rgb: bool | None) -> None:
    with pytest.raises(ImageError):
        Annotation(np.zeros(shape), rgb=rgb)


# Prompts


@pytest.mark.parametrize(
    ("points", "labels", "box"),
    [
        ([COIN], [1], None),
        ([COIN, (80, 30), (98, 60)], [1, 0, 1], None),
        (None, None, BOX),
        ([COIN], [1], BOX),
    ],
)
def test_the_masks_are_those_of_the_predictor_and_of_the_command_line(
    annotation: Annotation,
    nano: PromptableModel,
    tmp_path: Path,
    points: list[tuple[float, float]] | None,
    labels: list[int] | None,
    box: list[float] | None,
) -> None:
    for (x, y), label in zip(points or [], labels or [], strict=True):
        annotation.add_point(x, y, positive=label == 1)
    if box is not None:
        annotation.add_box(box)
    mask = annotation.to_labels() == 1
    assert mask.any()
    (answer,) = annotation.current.answers.values()

    predictor = SamPredictor(nano)
    predictor.set_image(IMAGE)
    masks, scores, _ = predictor.predict(
        None if points is None else np.array(points),
        None if labels is None else np.array(labels),
        None if box is None else np.array(box),
        multimask_output=len(answer.candidates) > 1,
    )
    best = int(np.argmax(scores))
    np.testing.assert_array_equal(mask, masks[best])
    assert answer.score == scores[best]
    for (candidate, _), full in zip(answer.candidates, masks, strict=True):
        np.testing.assert_array_equal(candidate.to_array(), full)

    image, out = tmp_path / "coins.npy", tmp_path / "mask.npy"
    np.save(image, IMAGE)
    arguments = ["predict", str(image), "-o", str(out), "--device", "cpu"]
    for (x, y), label in zip(points or [], labels or [], strict=True):
        arguments += ["--point", f"{x},{y},{label}"]
    if box is not None:
        arguments += ["--box", ",".join(map(str, box))]
    with pytest.raises(SystemExit) as done:
        app(arguments, prog_name="napari-sam")
    assert not done.value.code
    np.testing.assert_array_equal(np.load(out) == 1, mask)


def test_a_prompt_and_its_mask_are_one_step(annotation: Annotation) -> None:
    first = annotation.add_point(COIN)
    before = annotation.to_labels()
    annotation.add_point(80, 30, positive=False)
    assert annotation.undo_text == "Add point"
    assert len(annotation.current.prompts[PLANE].points) == 2
    annotation.undo()
    assert annotation.current == first
    np.testing.assert_array_equal(annotation.to_labels(), before)
    annotation.undo()
    assert (annotation.undo_text, annotation.objects) == ("", [])
    assert not annotation.to_labels().any()
    assert [annotation.redo(), annotation.redo(), annotation.redo()] == ["Add point", "Add point", ""]
    assert len(annotation.current.prompts[PLANE].points) == 2


def test_scribble_and_lasso_find_the_coin(annotation: Annotation) -> None:
    annotation.add_box(BOX)
    coin = annotation.to_labels() == 1
    annotation.reject()
    annotation.add_scribble([[90, 50], [110, 60]])
    assert iou(annotation.to_labels() == 1, coin) > 0.8
    annotation.add_scribble([[70, 20], [90, 25]], positive=False)
    assert [s.label for s in annotation.current.prompts[PLANE].scribbles] == [1, 0]
    annotation.reject()
    annotation.add_lasso([[75, 30], [125, 30], [125, 80], [75, 80]])
    assert iou(annotation.to_labels() == 1, coin) > 0.8
    annotation.add_point(COIN)
    assert annotation.current.prompts[PLANE].lasso is not None


def test_a_box_takes_the_place_of_the_one_before(annotation: Annotation) -> None:
    annotation.add_box([10, 10, 30, 30])
    annotation.add_box(BOX)
    assert annotation.current.prompts[PLANE].box.tolist() == BOX  # type: ignore[union-attr]
    alone = Annotation(IMAGE, annotation.model)
    alone.add_box(BOX)
    np.testing.assert_array_equal(annotation.to_labels(), alone.to_labels())


def test_the_same_box_again_is_no_step(annotation: Annotation) -> None:
    annotation.add_box(BOX)
    annotation.add_box(BOX)
    annotation.undo()
    assert annotation.undo_text == ""


def test_another_candidate_can_be_chosen(annotation: Annotation) -> None:
    item = annotation.add_point(COIN)
    answer = item.answers[PLANE]
    assert len(answer.candidates) == 3
    other = (answer.chosen + 1) % 3
    annotation.choose(other)
    np.testing.assert_array_equal(annotation.to_labels() == 1, answer.candidates[other][0].to_array())
    assert annotation.undo() == "Choose another candidate"
    with pytest.raises(AnnotationError, match="no candidate 4"):
        annotation.choose(3)


def test_a_negative_point_alone_asks_nobody(annotation: Annotation) -> None:
    annotation.add_point(COIN, positive=False)
    assert annotation.current.answers == {}
    annotation.add_point(OTHER)
    labels = annotation.to_labels()
    assert (labels[196, 102], labels[56, 100]) == (1, 0)


def test_a_mask_can_be_refined(annotation: Annotation) -> None:
    with pytest.raises(AnnotationError, match="no mask to refine"):
        annotation.refine()
    coin = annotation.add_box(BOX).masks[PLANE]
    annotation.refine()
    assert annotation.current.prompts[PLANE].mask == coin
    assert annotation.undo_text == "Refine mask"
    annotation.reject()
    rough = np.zeros(IMAGE.shape, dtype=bool)
    rough[35:76, 80:121] = True
    annotation.refine(rough)
    assert iou(annotation.to_labels() == 1, coin.to_array()) > iou(rough, coin.to_array())


def test_nothing_is_changed_when_something_fails(annotation: Annotation, tmp_path: Path) -> None:
    annotation.add_point(COIN)
    before = annotation.document.snapshot
    checkpoint = tmp_path / "none.pth"
    checkpoint.write_bytes(b"no weights")
    annotation.model = checkpoint
    failing = [
        (lambda: annotation.add_point(OTHER), ModelError),
        (lambda: annotation.add_points([OTHER]), ModelError),
        (annotation.refine, ModelError),
        (lambda: annotation.refine(np.ones((2, *IMAGE.shape))), AnnotationError),
        (lambda: annotation.add_point(1000, 3), PromptError),
        (lambda: annotation.add_points([[1000, 3]]), PromptError),
        (lambda: annotation.add_box([1, 2, 3]), PromptError),
        (lambda: annotation.add_point(*COIN, plane=0), AnnotationError),
        (lambda: annotation.add_labels(np.zeros((3, 3), dtype=int)), AnnotationError),
        (lambda: annotation.open(9), AnnotationError),
    ]
    for call, error in failing:
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value, NapariSamError)
    assert annotation.document.snapshot == before
    assert annotation.undo() == "Add point"


def test_contrast_limits_are_what_the_model_sees(nano: PromptableModel) -> None:
    raw = IMAGE.astype(np.uint16) * 100
    plain = Annotation(raw, nano, contrast_limits=(0, 25500))
    plain.add_point(COIN)
    assert plain.current.answers[PLANE].look.contrast_limits == (0, 25500)
    bytewise = Annotation(IMAGE, nano)
    bytewise.add_point(COIN)
    assert iou(plain.to_labels() == 1, bytewise.to_labels() == 1) > 0.95
    blind = Annotation(raw, nano, contrast_limits=(60000, 65000))
    blind.add_point(COIN)
    assert iou(blind.to_labels() == 1, bytewise.to_labels() == 1) < 0.8


def test_planes_of_a_stack_are_segmented_where_they_are(nano: PromptableModel) -> None:
    stack = np.stack([np.zeros_like(IMAGE), IMAGE])
    annotation = Annotation(stack, nano)
    with pytest.raises(AnnotationError, match=r"2 planes: .* plane=0"):
        annotation.add_point(COIN)
    annotation.add_point(COIN, plane=1)
    flat = Annotation(IMAGE, nano)
    flat.add_point(COIN)
    np.testing.assert_array_equal(annotation.to_labels()[1], flat.to_labels())
    assert not annotation.to_labels()[0].any()
    annotation.add_point((98, 60), plane=-1)
    assert set(annotation.current.prompts) == {Plane((1, None, None))}


def test_colours_are_seen(nano: PromptableModel) -> None:
    image = tissue()[:200, :220]
    annotation = Annotation(image, nano)
    annotation.add_point(100, 100)
    assert annotation.shape == (200, 220)
    predictor = SamPredictor(nano)
    predictor.set_image(image)
    masks, scores, _ = predictor.predict(np.array([[100, 100]]), np.array([1]))
    np.testing.assert_array_equal(annotation.to_labels() == 1, masks[np.argmax(scores)])
    gray = Annotation(image, nano, rgb=False)
    assert gray.shape == (200, 220, 3)


def test_few_embeddings_are_kept(nano: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.stack([IMAGE[:64, :64]] * 3)
    annotation = Annotation(stack, nano)
    segmenter = annotation._segmenter
    for z in (0, 1, 2, 0):
        annotation.add_point(32, 32, plane=z)
    assert [plane.index[0] for plane, _ in segmenter._embeddings] == [1, 2, 0]
    monkeypatch.setattr("napari_sam.annotation.segmenting.CACHE_BYTES", 1)
    annotation.add_point(30, 30, plane=2)
    assert [plane.index[0] for plane, _ in segmenter._embeddings] == [2]
    annotation.model = nano
    assert not segmenter._embeddings


# Deciding


def test_accepted_objects_are_opened_again(annotation: Annotation) -> None:
    annotation.add_point(COIN)
    assert annotation.accept().id == 1
    annotation.add_point(OTHER)
    annotation.accept()
    assert [item.id for item in annotation.objects] == [1, 2]
    assert annotation.open(1).prompts[PLANE].points.tolist() == [list(COIN)]
    before = annotation[1]
    annotation.add_point(80, 30, positive=False)
    annotation.reject()
    assert annotation[1].answers == before.answers
    assert annotation.current.id == 3


def test_delete_merge_split_and_undo(annotation: Annotation) -> None:
    annotation.add_points([COIN, OTHER, (45, 124)])
    labels = annotation.to_labels()
    assert annotation.merge([2, 3]).id == 2
    assert set(np.unique(annotation.to_labels())) == {0, 1, 2}
    assert [part.area for part in annotation.split(2)] == sorted(
        [(labels == 2).sum(), (labels == 3).sum()], reverse=True
    )
    annotation.delete(1)
    annotation.delete([2, 4])
    assert not annotation.to_labels().any()
    while annotation.undo_text != "Segment 3 points":
        annotation.undo()
    np.testing.assert_array_equal(annotation.to_labels(), labels)
    with pytest.raises(AnnotationError, match="no object 7"):
        annotation.delete([1, 7])
    assert len(annotation) == 3


def test_classes_are_made_when_they_are_named(annotation: Annotation) -> None:
    annotation.add_points([COIN, OTHER], class_name="coin")
    annotation.set_class(1, "silver")
    assert [(c.id, c.name) for c in annotation.classes] == [(1, "coin"), (2, "silver")]
    classes = annotation.to_labels(classes=True)
    assert (classes[56, 100], classes[196, 102]) == (2, 1)
    assert annotation.undo() == "New class: silver"
    assert [c.name for c in annotation.classes] == ["coin"]
    annotation.set_class([1, 2], None)
    assert not annotation.to_labels(classes=True).any()
    annotation.undo()
    annotation.undo()
    assert (annotation.classes, annotation.objects) == ((), [])


def test_colours_of_classes_differ() -> None:
    classes: list[ObjectClass] = []
    for number in range(60):
        classes.append(new_class(classes, f"class {number}"))
    assert len({one.colour for one in classes}) == 60
    assert all(len(one.colour) == 7 for one in classes)
    with pytest.raises(AnnotationError, match="already"):
        new_class(classes, "class 3")
    with pytest.raises(AnnotationError, match="name"):
        new_class(classes, " ")


# Many at once


def test_many_points_are_one_step_and_what_is_outside_is_told(annotation: Annotation) -> None:
    with pytest.warns(UserWarning, match="1 of 3 points was skipped") as told:
        added = annotation.add_points([COIN, (1000, 5), OTHER])
    assert told[0].filename == __file__
    assert [item.id for item in added] == [1, 2]
    assert all(item.accepted and item.prompts for item in added)
    assert annotation.undo() == "Segment 2 points"
    assert annotation.objects == []
    assert annotation.add_points([]) == []
    assert annotation.undo_text == ""


def test_many_boxes(annotation: Annotation) -> None:
    added = annotation.add_boxes([BOX, [78, 170, 130, 222]])
    labels = annotation.to_labels()
    assert [item.id for item in added] == [labels[56, 100], labels[196, 102]] == [1, 2]


def test_labels_of_others_become_objects_that_can_be_refined(nano: PromptableModel) -> None:
    labels = np.zeros(IMAGE.shape, dtype=np.uint16)
    labels[40:71, 85:116] = 300
    annotation = Annotation(IMAGE, nano, labels=labels)
    np.testing.assert_array_equal(annotation.to_labels(np.uint16), labels)
    assert (annotation.undo_text, annotation.current.id) == ("", 301)
    assert annotation[300].source == Source.IMPORTED
    annotation.open(300)
    annotation.add_point(COIN)
    assert annotation[300].prompts[PLANE].mask is not None
    annotation.accept()
    again = np.zeros_like(labels)
    again[0, 0] = 300
    (added,) = annotation.add_labels(again, class_name="corner")
    assert (added.id, added.class_id) == (301, 1)


# Files


def test_save_and_load_are_the_identity(
    annotation: Annotation, nano: PromptableModel, tmp_path: Path
) -> None:
    annotation.add_points([OTHER, (45, 124)], class_name="coin")
    annotation.add_point(COIN)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    again = Annotation.load(path, IMAGE, device="cpu")
    assert again.document.snapshot == annotation.document.snapshot
    assert again.model.name == "nano"
    again.add_point(80, 30, positive=False)
    annotation.add_point(80, 30, positive=False)
    np.testing.assert_array_equal(again.to_labels(), annotation.to_labels())
    with pytest.raises(AnnotationError, match="exists"):
        annotation.save(path)
    annotation.save(path, overwrite=True)
    assert Annotation.load(path, IMAGE, nano).document.snapshot == annotation.document.snapshot


@pytest.mark.parametrize(
    ("draw", "drawn"),
    [
        ("add_point", COIN),
        ("add_box", BOX),
        ("add_scribble", [[90, 50], [110, 60]]),
        ("add_lasso", [[75, 30], [125, 30], [125, 80], [75, 80]]),
        ("refine", np.pad(np.ones((40, 40)), ((36, 227), (80, 264)))),
    ],
)
def test_each_kind_of_prompt_is_saved_and_loaded(
    annotation: Annotation, tmp_path: Path, draw: str, drawn: object
) -> None:
    getattr(annotation, draw)(drawn)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    assert Annotation.load(path, IMAGE).document.snapshot == annotation.document.snapshot


def test_loading_goes_on_with_the_look_that_was_saved(nano: PromptableModel, tmp_path: Path) -> None:
    annotation = Annotation(IMAGE, nano, contrast_limits=(10, 200), gamma=0.8)
    annotation.add_point(COIN)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    assert Annotation.load(path, IMAGE).look == annotation.look
    assert Annotation.load(path, IMAGE, gamma=1).look.gamma == 1


def test_an_annotation_of_another_image_is_loaded_by_force_only(
    annotation: Annotation, tmp_path: Path
) -> None:
    annotation.add_point(COIN)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    other = 255 - IMAGE
    with pytest.raises(AnnotationError, match="another image"):
        Annotation.load(path, other)
    with pytest.warns(UserWarning, match="another image"):
        forced = Annotation.load(path, other, force=True)
    assert forced.document.snapshot == annotation.document.snapshot
    with pytest.raises(AnnotationError, match="shape"):
        Annotation.load(path, IMAGE[:200], force=True)


def test_a_colour_image_is_known_by_its_annotation(nano: PromptableModel, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 40, 3), dtype=np.uint8)
    for rgb, shape in ((True, (5, 40)), (False, (5, 40, 3))):
        annotation = Annotation(image, nano, rgb=rgb)
        path = annotation.save(tmp_path / f"{rgb}.napari-sam.zip")
        assert Annotation.load(path, image).shape == shape
        with pytest.warns(UserWarning, match="another image"):  # of whole numbers of 64 bits
            assert Annotation.load(path, image.tolist(), force=True).shape == shape


@pytest.mark.parametrize("shape", [(10, 40, 50), (2, 10, 40, 3), (40,)])
def test_an_image_of_other_axes_is_not_that_of_an_annotation(
    nano: PromptableModel, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = Annotation(np.zeros((40, 50)), nano).save(tmp_path / "flat.napari-sam.zip")
    with pytest.raises((AnnotationError, ImageError), match=re.escape(str(shape))) as caught:
        Annotation.load(path, np.zeros(shape))
    assert "rgb" not in str(caught.value)


def test_it_is_a_name_of_the_package_and_cheap_until_the_first_prompt() -> None:
    code = (
        "import sys, numpy, napari_sam\n"
        "annotation = napari_sam.Annotation(numpy.zeros((9, 9)), 'no such model')\n"
        "annotation.add_labels(numpy.eye(9, dtype=int))\n"
        "assert annotation.to_labels().sum() == 9\n"
        "print(*[name for name in ('torch', 'napari', 'qtpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
