"""What makes no sense is said at once, in one sentence, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_sam
from napari_sam.annotation import Document, SamObject
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.errors import AnnotationError, ImageError, ModelError, NapariSamError, PromptError

SHAPE = 30, 40
IMAGE = np.arange(30 * 40, dtype=np.uint16).reshape(SHAPE)
LABELS = np.zeros(SHAPE, dtype=np.int32)
LABELS[3:9, 3:9], LABELS[20:26, 20:26] = 1, 2


@pytest.fixture
def annotation() -> Annotation:
    """No model is asked."""
    return Annotation(IMAGE, "no such model", labels=LABELS)


@pytest.mark.parametrize(
    "limits", [(5,), (1, 2, 3), ("a", "b"), 7, (float("nan"), 3), (0, np.inf), (3, 1), "ab"]
)
def test_contrast_limits_are_two_numbers(limits: Any) -> None:
    with pytest.raises(ImageError, match="Contrast limits must be two finite numbers in rising order, not "):
        Annotation(IMAGE, contrast_limits=limits)


@pytest.mark.parametrize("gamma", [None, -1, 0, float("nan"), "x", (1, 2)])
def test_gamma_is_a_number_above_0(gamma: Any) -> None:
    with pytest.raises(ImageError, match="Gamma must be a number greater than 0, not "):
        Annotation(IMAGE, gamma=gamma)


def test_limits_may_be_given_as_any_sequence() -> None:
    look = Annotation(IMAGE, contrast_limits=np.array([1, 7]), gamma=np.float32(0.5)).look  # type: ignore[arg-type]
    assert (look.contrast_limits, look.gamma) == ((1.0, 7.0), 0.5)


def test_rows_of_an_image_are_equally_long(annotation: Annotation, tmp_path: Path) -> None:
    path = annotation.save(tmp_path / "a.napari-sam.zip")
    for call in (lambda: Annotation([[1, 2], [3]]), lambda: Annotation.load(path, [[1, 2], [3]])):
        with pytest.raises(ImageError, match="The image is no array"):
            call()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("foo", "There is no type 'foo' of labels"),
        (float, "Labels of type float64 cannot hold ids: choose int32"),
        (bool, "Labels of type bool cannot hold ids"),
        (np.uint8, "Labels of type uint8 cannot hold the id 300"),
    ],
)
def test_labels_are_of_a_type_that_holds_them(annotation: Annotation, kind: Any, said: str) -> None:
    again = np.zeros_like(LABELS)
    again[0, 0] = 300
    annotation.add_labels(again)
    with pytest.raises(AnnotationError, match=said):
        annotation.to_labels(kind)


def test_the_id_that_does_not_fit_is_named() -> None:
    annotation = Annotation(IMAGE, labels=np.where(LABELS == 1, -3, LABELS))
    with pytest.raises(AnnotationError, match="uint16 cannot hold the id -3"):
        annotation.to_labels(np.uint16)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda a: a.set_class(1, 5), AnnotationError, "A class has a text for a name, not 5"),
        (lambda a: a.set_class(1, " "), AnnotationError, "A class needs a name"),
        (lambda a: a.set_class(9, "new"), AnnotationError, "There is no object 9"),
        (lambda a: a.add_point(3, 3, plane=True), AnnotationError, "not given in whole numbers"),
        (lambda a: a.add_lasso(None), PromptError, "Lasso coordinates must be"),
        (lambda a: a.add_box(None), PromptError, "Box coordinates must be"),
        (lambda a: a.add_scribble(None), PromptError, "Scribbles must be"),
        (
            lambda a: a.add_labels(np.full(SHAPE, 2**62, dtype=np.int64), class_name="new"),
            AnnotationError,
            "too large",
        ),
        (lambda a: a.add_labels(LABELS, class_name=""), AnnotationError, "A class needs a name"),
        (lambda a: a.add_labels(LABELS, class_name=5), AnnotationError, "A class has a text for a name"),
    ],
)
def test_what_fails_changes_nothing(
    annotation: Annotation, call: Callable[[Annotation], object], error: type[NapariSamError], said: str
) -> None:
    """A class, and a step that made it, were left behind."""
    before = annotation.document.snapshot
    with pytest.raises(error, match=said):
        call(annotation)
    assert annotation.document.snapshot == before
    assert annotation.undo_text == ""


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.add_labels(np.zeros_like(LABELS), class_name="new"),
        lambda a: a.set_class([], "new"),
        lambda a: a.add_points([], class_name="new"),
    ],
)
def test_where_there_is_nothing_to_do_no_class_is_made(
    annotation: Annotation, call: Callable[[Annotation], object]
) -> None:
    call(annotation)
    assert (annotation.classes, annotation.undo_text) == ((), "")


def test_a_class_and_the_objects_that_have_it_are_one_step(annotation: Annotation) -> None:
    (added,) = annotation.add_labels(np.pad([[7]], ((0, 29), (39, 0))), class_name="corner")
    assert added.class_id == annotation.classes[0].id == 1
    assert annotation.undo() == "Import labels"
    assert (annotation.classes, len(annotation)) == ((), 2)


# Models


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonexistent", "no model or checkpoint 'nonexistent': choose nano or "),
        ("vit_hh", "choose vit_h or "),
        ("missing.pth", "no model or checkpoint 'missing.pth'"),
        (Path("nano"), "no model or checkpoint 'nano'"),
        (5, "not by 5"),
        (b"nano", "not by b'nano'"),
    ],
)
def test_a_model_that_is_not_there_is_said_when_it_is_set_and_the_good_one_stays(
    name: Any, said: str
) -> None:
    model = napari_sam.load_model("nano", device="cpu")
    annotation = Annotation(IMAGE, model)
    with pytest.raises(ModelError, match=said):
        annotation.model = name
    assert annotation.model is model


@pytest.mark.parametrize("name", ["nano", "default", "sam2.1_hiera_tiny"])
def test_models_are_set_by_their_names_and_loaded_when_they_are_needed(
    annotation: Annotation, name: str
) -> None:
    annotation.model = name
    assert repr(annotation).endswith(f"model {name}>")
    assert annotation._segmenter.loaded is None


def test_a_checkpoint_is_set_by_its_path(annotation: Annotation, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.touch()
    annotation.model = path
    assert repr(annotation).endswith(f"model {path}>")


# Objects of an annotation


def test_an_annotation_is_a_collection_of_objects_by_their_ids(annotation: Annotation) -> None:
    """It was gone through from 0, and there is no object 0."""
    assert [item.id for item in annotation] == [item.id for item in list(annotation)] == [1, 2]
    assert 1 in annotation
    assert np.int64(2) in annotation
    assert all(other not in annotation for other in (0, 3, "1", None, [1], annotation[1]))
    assert list(Annotation(IMAGE)) == []


def test_imported_labels_take_no_pixel_from_others_even_if_prompts_do(annotation: Annotation) -> None:
    annotation.document.overwrite = True
    annotation.add_labels(np.where(LABELS, 0, 7))
    assert [annotation[number].area for number in (1, 2)] == [36, 36]
    over = np.zeros_like(LABELS)
    over[:12, :12] = 9
    annotation.add_labels(over)
    assert [annotation[number].area for number in (1, 2)] == [36, 36]
    assert annotation.document.overwrite


# Documents


@pytest.mark.parametrize("first", [0, -4])
def test_ids_begin_above_0(first: int) -> None:
    with pytest.raises(AnnotationError, match="Ids begin at 1 or later"):
        Document(SHAPE, first_id=first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["objects"][0].update({"class": 7}), "of a class that there is not"),
        (lambda data: data["opened"].update({"class": 7}), "opened: of a class that there is not"),
        (
            lambda data: data["classes"].append({"id": 2, "name": "cell", "colour": "#000000"}),
            "the same name",
        ),
        (lambda data: data["classes"].append({"id": 1, "name": "new", "colour": "#000000"}), "the same id"),
        (lambda data: data.update(next_id=0), "next_id: too small"),
    ],
)
def test_files_that_would_make_commands_go_wrong_are_refused(
    change: Callable[[dict[str, Any]], object], said: str
) -> None:
    document = Document(SHAPE)
    document.class_named("cell")
    items = document.add_objects(drafts_of_labels(LABELS), keep_ids=True)
    document.open(items[1].uid)
    data = to_json(document.snapshot)
    assert from_json(data)[0] == document.snapshot
    change(data)
    with pytest.raises(AnnotationError, match=said):
        from_json(data)


def test_a_class_of_new_objects_is_made_with_them() -> None:
    document = Document(SHAPE)
    drafts = drafts_of_labels(LABELS)
    assert document.add_objects([], class_name="cell") == []
    assert document.classes == ()
    added = document.add_objects(drafts, class_name="cell")
    assert [item.class_id for item in added] == [1, 1]
    with pytest.raises(AnnotationError, match="taken"):
        document.add_objects([SamObject(0, 1, base=drafts[0].base)], keep_ids=True, class_name="other")
    assert [one.name for one in document.classes] == ["cell"]
    assert document.undo() == "Add objects"
    assert document.classes == ()
