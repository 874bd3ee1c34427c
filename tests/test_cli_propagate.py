"""napari-sam propagate: prompts on some planes become labels, annotations, tracks and tables of all."""

from __future__ import annotations

import csv
import json
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

import napari_sam
from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.archive import load_annotation
from napari_sam.annotation.planes import Planes
from napari_sam.cli import app
from napari_sam.errors import FormatError

Z, Y, X = np.mgrid[-3:4, :72, :88]
BALL = 500 - 30 * Z**2 - (Y - 30) ** 2 - (X - 40) ** 2 > 0
STACK = (30 + 170 * BALL).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack and what is known of it."""
    folder = tmp_path_factory.mktemp("propagate")
    tifffile.imwrite(folder / "stack.tif", STACK)
    annotation = Annotation(STACK, napari_sam.load_model("nano", device="cpu"))
    annotation.add_point(40, 30, plane=3)
    annotation.accept()
    annotation.add_point(80, 65, plane=3)
    annotation.accept()
    path = annotation.save(folder / "known.napari-sam.zip")
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("annotation.json"))
    for item in data["objects"]:
        item.update(answers=[], masks=[])
    (folder / "prompts.json").write_text(json.dumps(data))
    return folder


def run(folder: Path, output: Path, *arguments: object, prompts: str = "known.napari-sam.zip") -> Result:
    places = ["propagate", folder / "stack.tif", "--prompts", folder / prompts, "-o", output]
    return CliRunner().invoke(app, [*map(str, [*places, *arguments]), "--quiet", "--device", "cpu"])


@pytest.fixture
def expected(folder: Path) -> np.ndarray:
    annotation = Annotation.load(folder / "known.napari-sam.zip", STACK, device="cpu")
    annotation.propagate(1)
    return annotation.to_labels()


def test_labels_are_those_of_python_also_from_prompts_alone(
    folder: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    for prompts in ("known.napari-sam.zip", "prompts.json"):
        target = tmp_path / f"{prompts}.tif"
        done = run(folder, target, "--object", 1, prompts=prompts)
        assert done.exit_code == 0, done.output
        assert re.fullmatch(rf"{re.escape(str(target))}: 2 objects on 7 planes, [\d.]+ s\n", done.stdout)
        labels = tifffile.imread(target)
        np.testing.assert_array_equal(labels == 1, expected == 1)
    assert (labels[BALL] == 1).mean() > 0.9


def test_an_annotation_keeps_its_prompts_and_goes_on(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.napari-sam.zip"
    done = run(folder, target, "--direction", "forward", "--stop", 4, "--object", 1)
    assert done.exit_code == 0, done.output
    item = load_annotation(target)[0].objects[0]
    assert {plane.index[0] for plane in item.prompts} == {3}
    assert {plane.index[0] for plane in item.base} == {4}
    assert all(answer.propagated and answer.digest for answer in item.base.values())


def test_tracks_and_tables(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "01_RES", "--format", "ctc", "--object", 1, "--start", 3, "--stop", 5)
    assert done.exit_code == 0, done.output
    assert "warning: Cell Tracking Challenge holds no scores" in done.stderr
    assert (tmp_path / "01_RES" / "res_track.txt").read_text().splitlines()[0] == "1 3 5 0"
    assert len(list((tmp_path / "01_RES").glob("mask*.tif"))) == 7
    done = run(folder, tmp_path / "a.csv", "--object", 1, "--direction", "backward")
    assert done.exit_code == 0, done.output
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] == "1"]
    assert [row["axis-0"] for row in rows] == [str(at) for at in range(4)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--direction", "up"], "no direction 'up'"),
        (["--object", "9"], "no object 9"),
        (["--stop", "9"], "Plane 9 is not one of the 7"),
        (["--axis", "2"], "no neighbours along axis 2"),
        (["--format", "gif"], "no format 'gif'"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--format", "annotation"], ".napari-sam.zip"),
        (["--format", "png"], "has the shape (7, 72, 88)"),
        (["--format", "yolo"], "not of an image of the shape (7, 72, 88)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_nothing_is_written(
    folder: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = run(folder, tmp_path / "out.tif", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.startswith("napari-sam: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["l.png", "l.txt", "l.roi"])
def test_what_a_format_cannot_hold_is_told_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def propagate(*_: object, **__: object) -> None:
        pytest.fail("The work has begun.")

    monkeypatch.setattr(Annotation, "propagate", propagate)
    done = run(folder, tmp_path / name)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("napari-sam: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_at_last_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FormatError("The disk is full: make room.")

    monkeypatch.setattr("napari_sam.cli_propagate._write", full)
    (tmp_path / "l.napari-sam.zip").write_text("mine")
    done = run(folder, tmp_path / "l.tif", "--object", 1, "--stop", 4)
    kept = tmp_path / "l_2.napari-sam.zip"
    assert done.exit_code == 2
    assert done.stderr == f"napari-sam: The disk is full: make room; what was found is in {kept}.\n"
    assert {plane.index[0] for plane in load_annotation(kept)[0].objects[0].base} == {4}
    assert (tmp_path / "l.napari-sam.zip").read_text() == "mine"


def test_a_stack_is_not_replaced_by_its_labels(folder: Path, tmp_path: Path) -> None:
    for name in ("stack.tif", "known.napari-sam.zip"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    done = run(tmp_path, tmp_path / "stack.tif", "--force")
    assert done.exit_code == 2
    assert "is the image itself" in done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "stack.tif"), STACK)


def test_a_file_that_is_there_is_replaced_only_by_force(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    target.write_text("mine")
    done = run(folder, target)
    assert (done.exit_code, target.read_text()) == (2, "mine")
    assert f"{target} exists: choose another name, or use --force to replace it." in done.stderr


def test_another_image_is_refused_unless_it_is_forced(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "stack.tif", STACK // 2)
    (other / "known.napari-sam.zip").write_bytes((folder / "known.napari-sam.zip").read_bytes())
    done = run(other, tmp_path / "out.tif", "--object", 1)
    assert done.exit_code == 2
    assert "the pixels of this one are not the same" in done.stderr
    done = run(other, tmp_path / "out.tif", "--object", 1, "--stop", 4, "--force")
    assert done.exit_code == 0, done.output
    assert "the pixels of this one are not the same" in done.stderr


@pytest.mark.parametrize(
    ("error", "said"), [(OSError("the disk is gone"), "the disk is gone"), (KeyboardInterrupt(), "Stopped.")]
)
def test_what_was_done_before_a_plane_could_not_be_read_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    read = Planes.pixels

    class Damaged:
        def __init__(self, image: np.ndarray) -> None:
            self.image, self.shape, self.dtype, self.ndim = image, image.shape, image.dtype, image.ndim

        def __getitem__(self, key: tuple[int, ...]) -> np.ndarray:
            if key[0] == 5:
                raise error
            found: np.ndarray = self.image[key]
            return found

    def pixels(self: Planes, *arguments: object) -> np.ndarray:
        if not isinstance(self.image, Damaged):
            self.image = Damaged(self.image)
        return read(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Planes, "pixels", pixels)
    done = run(folder, tmp_path / "out.tif", "--object", 1)
    assert done.exit_code == 1
    assert said in done.stderr
    labels = tifffile.imread(tmp_path / "out.tif")
    assert [bool((plane == 1).any()) for plane in labels] == [False] * 3 + [True, True] + [False] * 2


def test_the_page_that_explains_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "propagate.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (script,) = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    # What the shell needs is made by the last block, of what the first one has.
    exec("\n".join([programs[0], programs[-1]]), {})
    for line in script.splitlines():
        program, *arguments = shlex.split(line)
        done = CliRunner().invoke(app, arguments)
        assert (program, done.exit_code) == ("napari-sam", 0), done.output
    assert {"labels.tif", "all.napari-sam.zip", "01_RES"} <= {file.name for file in tmp_path.iterdir()}
