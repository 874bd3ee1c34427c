"""Many objects in one call: those that get no pixel are left out, and a warning says so."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from skimage.data import coins

import napari_sam
from napari_sam.annotation import Answer, Look, Plane, SamObject
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.asking import newest_answer
from napari_sam.annotation.state import Snapshot
from napari_sam.inference.mask import Mask
from napari_sam.models.base import PromptableModel

IMAGE = coins()
COIN, OTHER = (100, 56), (102, 196)


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


def test_what_gets_no_pixel_is_left_out_and_told(nano: PromptableModel) -> None:
    """Objects without a pixel were returned, and nobody said so."""
    annotation = Annotation(IMAGE, nano)
    with pytest.warns(UserWarning, match="1 of 3 points was left out: other objects have all its") as told:
        added = annotation.add_points([COIN, OTHER, COIN], class_name="coin")
    assert told[0].filename == __file__
    assert [(item.id, item.area > 0) for item in added] == [(1, True), (2, True)]
    assert annotation.current.id == 3
    assert annotation.undo() == "Segment 3 points"
    assert (len(annotation), annotation.classes) == (0, ())


def test_where_nothing_is_left_nothing_is_done(nano: PromptableModel) -> None:
    annotation = Annotation(IMAGE, nano, labels=np.ones(IMAGE.shape, dtype=np.uint8))
    before = annotation.document.snapshot
    with pytest.warns(UserWarning, match="2 of 2 boxes were left out: other objects have all their pixels"):
        assert annotation.add_boxes([[75, 30, 125, 80], [78, 170, 130, 222]], class_name="coin") == []
    assert annotation.document.snapshot == before
    assert annotation.undo_text == ""


def test_with_overwriting_the_later_ones_have_the_pixels(nano: PromptableModel) -> None:
    annotation = Annotation(IMAGE, nano, labels=np.ones(IMAGE.shape, dtype=np.uint8))
    annotation.document.overwrite = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (added,) = annotation.add_points([COIN])
    assert added.area > 500
    with pytest.warns(UserWarning, match="1 of 2 points was left out"):
        (added,) = annotation.add_points([OTHER, OTHER])
    assert added.area > 500


# The newest answer


def test_loading_goes_on_with_the_model_and_look_of_the_current_object(
    nano: PromptableModel, tmp_path: Path
) -> None:
    """Those of the object that was begun last were taken, though another one was being worked on."""
    annotation = Annotation(IMAGE, nano, gamma=2)
    annotation.add_point(COIN)
    annotation.accept()
    annotation.add_point(OTHER)
    annotation.accept()
    annotation.open(1)
    annotation.look = Look(None, 0.5)
    annotation.add_point(104, 58)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    assert Annotation.load(path, IMAGE).look == Look(None, 0.5)
    annotation.reject()
    annotation.save(path, overwrite=True)
    assert Annotation.load(path, IMAGE).look == Look(None, 2)


def test_of_the_answers_of_an_object_the_newest_is_the_last_also_if_it_is_another_one(
    nano: PromptableModel, tmp_path: Path
) -> None:
    annotation = Annotation(np.stack([IMAGE, IMAGE]), nano)
    annotation.add_point(COIN, plane=0)
    annotation.add_point(COIN, plane=1)
    annotation.look = Look(None, 0.5)
    annotation.add_point(104, 58, plane=0)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    assert Annotation.load(path, np.stack([IMAGE, IMAGE])).look == Look(None, 0.5)


def test_an_answer_that_no_model_gave_is_not_the_newest() -> None:
    def item(uid: int, model: str) -> SamObject:
        answer = Answer(((Mask.empty((4, 4)), None),), model=model)
        return SamObject(uid, uid, answers={Plane((None, None)): answer})

    def newest(current: int, *items: SamObject) -> str | None:
        answer = newest_answer(Snapshot((4, 4), items, current=current, next_uid=9))
        return None if answer is None else answer.model

    assert newest(1) is None
    assert newest(5, item(1, ""), SamObject(2, 2)) is None
    assert newest(5, item(1, "a"), item(2, "b"), item(3, "")) == "b"
    assert newest(1, item(1, "a"), item(2, "b")) == "a"
    assert newest(1, item(1, ""), item(2, "b")) == "b"
