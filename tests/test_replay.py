"""A saved annotation is reproduced: by the engine that made it, exactly; by another, with a number."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.data import coins

import napari_sam
from napari_sam.annotation import Plane, SamObject, Source
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.archive import save_annotation
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.replay import replay
from napari_sam.annotation.state import Snapshot
from napari_sam.cli import app
from napari_sam.errors import AnnotationError, ModelError
from napari_sam.models.base import PromptableModel

IMAGE = coins()
PLANE = Plane((None, None))
COIN, OTHER, THIRD = (100, 56), (102, 196), (45, 124)
WEIGHTS = Path(napari_sam.models.__file__).parent / "weights" / "nano.safetensors"


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def annotation(nano: PromptableModel) -> Annotation:
    """Every way in which a mask comes about."""
    annotation = Annotation(IMAGE, nano)
    annotation.add_point(COIN)
    annotation.choose(0)
    annotation.accept()
    annotation.add_points([OTHER, THIRD], class_name="coin")
    annotation.add_box([230, 20, 290, 90])
    annotation.add_point(235, 25, positive=False)
    annotation.accept()
    annotation.look = replace(annotation.look, contrast_limits=(20.0, 220.0), gamma=0.9)
    annotation.add_lasso([[130, 100], [180, 100], [180, 150], [130, 150]])
    annotation.add_scribble([[150, 120], [160, 122]])
    annotation.accept()
    labels = np.zeros(IMAGE.shape, dtype=np.int32)
    labels[280:300, 5:40] = 20
    annotation.add_labels(labels)
    annotation.open(20)
    annotation.add_point(20, 290)
    annotation.accept()
    annotation.document.paint(PLANE, (slice(0, 3), slice(0, 4)), np.full((3, 4), 30))
    return annotation


@pytest.fixture(scope="module")
def saved(annotation: Annotation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotation.save(tmp_path_factory.mktemp("saved") / "coins.napari-sam.zip")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    np.save(tmp_path / "coins.npy", IMAGE)
    return tmp_path / "coins.npy"


def test_what_was_saved_is_reproduced(annotation: Annotation, saved: Path) -> None:
    found = replay(saved, IMAGE, device="cpu")
    assert [result.id for result in found.results] == [1, 2, 3, 4, 5, 20]
    assert (found.identical, found.mean_iou, found.doubts) == (6, 1.0, [])
    assert found.unprompted == 1  # what was painted
    np.testing.assert_array_equal(found.document.to_labels(), annotation.to_labels())
    # All answers were given anew; nothing else is different.
    new, old = found.document.snapshot, annotation.document.snapshot
    for one, other in zip(new.objects, old.objects, strict=True):
        assert replace(one, answers={}) == replace(other, answers={})
    assert [r.answer.score for r in found.results] == pytest.approx(
        [r.saved.score for r in found.results], abs=1e-5
    )


def edited(saved: Path, annotation: Annotation, number: int, **changes: object) -> Path:
    """The same file with another answer of one object."""
    item = annotation[number]
    answer = replace(item.answers[PLANE], **changes)  # type: ignore[arg-type]
    return save_as(saved, annotation, replace(item, answers={PLANE: answer}))


def save_as(saved: Path, annotation: Annotation, item: SamObject) -> Path:
    snapshot: Snapshot = annotation.document.snapshot
    objects = tuple(item if one.uid == item.uid else one for one in snapshot.objects)
    path = saved.with_name("edited.napari-sam.zip")
    return save_annotation(path, replace(snapshot, objects=objects), ImageIdentity.of(IMAGE), overwrite=True)


def test_a_mask_that_is_not_reproduced_has_an_iou_and_changes(annotation: Annotation, saved: Path) -> None:
    answer = annotation[1].answers[PLANE]
    whole = annotation[2].answers[PLANE].mask
    candidates = ((whole, 0.5), *answer.candidates[1:])
    found = replay(edited(saved, annotation, 1, candidates=candidates), IMAGE, device="cpu")
    assert found.identical == 5
    first = found.results[0]
    assert (first.id, first.iou, first.answer.chosen) == (1, 0.0, 0)
    assert first.answer.mask == answer.mask
    # The document has what the model says now.
    np.testing.assert_array_equal(found.document.to_labels(), annotation.to_labels())


def test_other_weights_and_other_images_are_told(annotation: Annotation, saved: Path) -> None:
    other = edited(saved, annotation, 2, digest="sha256:" + "0" * 64)
    (doubt,) = replay(other, IMAGE, device="cpu").doubts
    assert doubt.startswith("The weights of nano are not those")
    with pytest.raises(AnnotationError, match="another image"):
        replay(saved, IMAGE[::-1])
    assert "another image" in replay(saved, IMAGE[::-1], force=True, device="cpu").doubts[0]


def test_a_checkpoint_that_is_gone_can_be_replaced(nano: PromptableModel, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS, mine)
    annotation = Annotation(IMAGE, mine, device="cpu")
    annotation.add_point(COIN)
    path = annotation.save(tmp_path / "coins.napari-sam.zip")
    mine.unlink()
    with pytest.raises(ModelError):
        replay(path, IMAGE)
    found = replay(path, IMAGE, model="nano", device="cpu")
    assert (found.identical, found.doubts) == (1, [])  # the weights are the same


def test_planes_of_a_stack_come_with_the_prompts(nano: PromptableModel, tmp_path: Path) -> None:
    crop = IMAGE[:128, :160]
    stack = np.stack([crop, crop[:, ::-1], crop[::-1]])
    annotation = Annotation(stack, nano)
    annotation.add_point(100, 56, plane=0)
    annotation.add_point(60, 56, plane=1)
    annotation.add_box([40, 0, 100, 2], plane=(None, None, 50))  # x is y here, and y is z
    path = annotation.save(tmp_path / "stack.napari-sam.zip")
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    with pytest.raises(SystemExit) as done:
        app(["replay", str(path), str(tmp_path / "stack.tif"), "-o", str(tmp_path / "out.tif")])
    assert not done.value.code
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), annotation.to_labels())


def test_nothing_to_ask(tmp_path: Path) -> None:
    annotation = Annotation(IMAGE, labels=np.eye(*IMAGE.shape, dtype=int))
    assert annotation[1].source == Source.IMPORTED
    found = replay(annotation.save(tmp_path / "eye.napari-sam.zip"), IMAGE)
    assert (found.results, found.mean_iou, found.unprompted) == ([], None, 1)
    assert found.document.snapshot == annotation.document.snapshot


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def _catch(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def call(self, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            app(["replay", *map(str, arguments)], prog_name="napari-sam")
        captured = self._capsys.readouterr()
        return int(done.value.code or 0), captured.out, captured.err

    def test_a_table_and_labels(
        self, annotation: Annotation, saved: Path, image: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "labels.tif"
        code, printed, errors = self.call(saved, image, "-o", out, "--device", "cpu")
        assert (code, errors) == (0, "")
        np.testing.assert_array_equal(tifffile.imread(out), annotation.to_labels())
        lines = printed.splitlines()
        assert lines[0].split() == ["id", "plane", "IoU", "score", "saved", "pixels", "saved"]
        assert lines[1].split()[:4] == ["1", "[:,", ":]", "1.0000"]
        assert lines[-2:] == [
            "6 of 6 masks are identical, mean IoU 1.0000.",
            "1 without prompts stayed as saved.",
        ]
        code, _, errors = self.call(saved, image, "-o", out)
        assert code == 2
        assert "--force" in errors

    def test_json(self, annotation: Annotation, saved: Path, image: Path) -> None:
        code, printed, _ = self.call(saved, image, "--json", "--device", "cpu")
        said = json.loads(printed)
        assert (code, said["mean_iou"], said["identical"], said["without_prompts"]) == (0, 1.0, 6, 1)
        first = said["objects"][0]
        assert (first["id"], first["plane"], first["model"]) == (1, [None, None], "nano")
        assert first["area"] == first["saved_area"] == annotation[1].answers[PLANE].mask.area

    def test_another_image_ends_with_code_2_unless_forced(self, saved: Path, image: Path) -> None:
        np.save(image, IMAGE[::-1])
        code, printed, errors = self.call(saved, image)
        assert (code, printed) == (2, "")
        assert errors.count("\n") == 1
        assert "another image" in errors
        code, printed, errors = self.call(saved, image, "--force", "--device", "cpu")
        assert code == 0
        assert "another image" in errors
        assert "mean IoU" in printed

    @pytest.mark.parametrize("wrong", ["annotation", "image", "model"])
    def test_what_is_wrong_is_said_in_one_sentence(self, saved: Path, image: Path, wrong: str) -> None:
        code, _, errors = self.call(
            saved.with_name("none.napari-sam.zip") if wrong == "annotation" else saved,
            image.with_name("none.npy") if wrong == "image" else image,
            *(["--model", "no-such-model"] if wrong == "model" else []),
        )
        assert code == 2
        assert errors.startswith("napari-sam: ")
        assert errors.count("\n") == 1
