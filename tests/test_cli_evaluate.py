"""``napari-sam evaluate`` and its Python face: nano on coins, and what is said of images that are wrong."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from skimage.data import coins
from skimage.io import imsave
from typer.testing import CliRunner, Result

import napari_sam
from napari_sam.cli import app
from napari_sam.demo import CLICKS
from napari_sam.errors import ImageError
from napari_sam.evaluation import LabelledFile, Sample, evaluate, list_folders
from napari_sam.evaluation.scores import Failure, Level
from napari_sam.evaluation.watershed import watershed_baseline
from napari_sam.models.base import PromptableModel

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "evaluate.md"
PART = np.ascontiguousarray(coins()[150:, :200])
"""Six coins."""


def six_coins() -> np.ndarray:
    """Discs of the coins' size where they are: labels from 1 on."""
    y, x = np.mgrid[: PART.shape[0], : PART.shape[1]]
    labels = np.zeros(PART.shape, dtype=np.uint8)
    inside = [(cx, cy - 150) for cx, cy in CLICKS if cx < 170 and cy > 170]
    for number, (cx, cy) in enumerate(inside, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= 20**2] = number
    return labels


@pytest.fixture(scope="module")
def nano() -> PromptableModel:
    return napari_sam.load_model("nano", device="cpu", dtype="float32")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, name, array in (
        ("images", "coins.png", PART),
        ("labels", "coins.png", six_coins()),
        ("images", "corner.png", PART[:100, :100]),
        ("labels", "corner_labels.png", six_coins()[:100, :100]),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        imsave(tmp_path / folder / name, array, check_contrast=False)
    return tmp_path


def run(data: Path, *arguments: object) -> Result:
    given = ["--images", data / "images", "--labels", data / "labels"]
    if "--index" in arguments:
        given = []
    whole = ["evaluate", *given, "--device", "cpu", "--clicks", 3, *arguments]
    return CliRunner().invoke(app, [str(part) for part in whole])


def test_both_protocols_in_one_command(data: Path) -> None:
    table, everything = data / "table.csv", data / "all.json"
    done = run(data, "--baselines", "--csv", table, "--json", everything, "--max-objects", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Interactive: ")
    assert "\nAutomatic: " in done.stdout
    assert "| images | nano " in done.stdout
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    methods = ["nano", "flood fill", "random walker", "watershed"]
    assert [(row["level"], row["image"], row["method"]) for row in rows] == [
        *((Level.IMAGE, image, method) for image in ("coins", "corner") for method in methods),
        *((Level.DATASET, "", method) for method in methods),
    ]
    total = rows[-4]
    assert (total["images"], total["clicked_objects"], total["objects"]) == ("2", "4", "8")
    assert float(total["click_1"]) > 0.7
    assert float(total["box"]) > 0.7
    assert 1 <= float(total["noc85"]) <= float(total["noc90"]) <= 3
    assert float(total["ap50"]) > 0.6
    assert float(total["seg"]) > 0.6
    assert rows[-1]["box"] == rows[-2]["ap50"] == ""

    record = json.loads(everything.read_text())
    assert (record["model"], record["clicks"], record["failures"]) == ("nano", 3, [])
    (summary, *_) = record["summary"]
    assert summary["interactive"]["clicks"][0] == pytest.approx(float(total["click_1"]))
    coin = record["images"][0]
    assert (coin["image"], len(coin["objects"])) == ("coins", 2)
    mean = np.mean([one["clicks"][0] for one in coin["objects"]])
    assert coin["interactive"]["clicks"][0] == pytest.approx(mean, abs=1e-5)


def test_one_protocol_on_some_files_of_an_index(data: Path) -> None:
    (data / "index.csv").write_text(
        "dataset,id,split,modality,image,labels\n"
        "money,c,val,gold,images/corner.png,labels/corner_labels.png\n"
        "money,d,val,silver,images/corner.png,labels/corner_labels.png\n"
        "change,e,val,,images/corner.png,labels/corner_labels.png\n"
        "change,f,train,,images/nowhere.png,labels/nowhere.png\n"
    )
    done = run(data, "--index", data, "--only", "automatic", "--modalities")
    assert done.exit_code == 0, done.output
    assert "Interactive" not in done.output
    names = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert names == ["data", "money, gold", "money, silver", "money", "change", "mean of data sets"]
    done = run(data, "--index", data, "--only", "interactive", "--datasets", "money", "--max-images", 1)
    assert done.exit_code == 0, done.output
    assert "Automatic" not in done.output
    assert "| money | nano   |      1 |" in done.stdout


def test_a_bad_image_is_told_and_the_others_are_measured(data: Path) -> None:
    imsave(data / "images" / "bare.png", PART, check_contrast=False)
    imsave(data / "images" / "other.png", PART, check_contrast=False)
    imsave(data / "labels" / "other.png", six_coins()[:9], check_contrast=False)
    (data / "images" / "torn.png").write_bytes((data / "images" / "coins.png").read_bytes()[:200])
    imsave(data / "labels" / "torn.png", six_coins(), check_contrast=False)
    done = run(data, "--only", "interactive", "--max-objects", 1)
    assert done.exit_code == 1
    bare, other, torn = done.stderr.splitlines()
    assert bare == "napari-sam: bare.png has no labels: give label images of the same names."
    assert other.startswith("napari-sam: other.png has the shape (153, 200) and its labels (9, 200): ")
    assert "torn.png cannot be read" in torn
    assert "| images | nano   |      2 |" in done.stdout


def test_classical_methods_are_measured_without_a_model(data: Path) -> None:
    done = run(data, "--model", "none", "--baselines", "--max-objects", 1)
    assert done.exit_code == 0, done.output
    methods = [line.split("|")[2].strip() for line in done.stdout.splitlines() if line.startswith("| images")]
    assert methods == ["flood fill", "random walker", "watershed"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--index", "nowhere"], "There is no index.csv in nowhere"),
        (["--labels", "nowhere"], "There is no folder nowhere"),
        (["--index", "there", "--labels", "there"], "Give either --images and --labels, or --index."),
        (["--csv", "nowhere/table.csv"], "The folder nowhere does not exist"),
        (["--json", "."], ". is a folder"),
        (["--model", "nowhere.pt"], "nowhere.pt"),
        (["--model", "none"], "add --baselines"),
        (["--datasets", "foo"], "--split and --datasets choose from an index"),
        (["--split", "test"], "--split and --datasets choose from an index"),
        (["--csv", "x.csv", "--json", "./x.csv"], "--csv and --json are both x.csv"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_sentence(data: Path, arguments: list[str], sentence: str) -> None:
    done = run(data, *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("napari-sam: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_results_are_replaced_only_if_asked_for(data: Path) -> None:
    table = data / "table.csv"
    table.write_text("mine")
    assert "--force" in run(data, "--csv", table).stderr
    assert table.read_text() == "mine"
    assert run(data, "--csv", table, "--force", "--only", "interactive", "--max-objects", 1).exit_code == 0
    assert table.read_text() != "mine"


def test_images_without_any_object_are_no_ground_truth(data: Path) -> None:
    for path in (data / "labels").iterdir():
        imsave(path, np.zeros_like(six_coins())[:100, :100], check_contrast=False)
    imsave(data / "labels" / "coins.png", np.zeros_like(six_coins()), check_contrast=False)
    done = run(data, "--only", "interactive")
    assert done.exit_code == 2
    assert "None of the images has an object" in done.stderr
    for path in (data / "images").iterdir():
        path.write_text("no image")
    done = run(data, "--only", "interactive")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 2


def test_evaluate_takes_arrays_and_tells_how_far_it_is(nano: PromptableModel, data: Path) -> None:
    whole = Sample("arrays", "coins", PART, six_coins())
    cut = Sample("arrays", "cut", PART, six_coins()[1:])
    told: list[tuple[int, int | None, str]] = []
    failures: list[Failure] = []
    found = evaluate(
        nano,
        [whole, cut, *list_folders(data / "images", data / "labels")[:1]],
        only="interactive",
        clicks=1,
        name="mine",
        progress=lambda *where: told.append(where),
        failed=failures.append,
    )
    assert told == [(0, 3, "coins"), (1, 3, "cut"), (2, 3, "coins")]
    assert [one.name for one in failures] == ["cut"]
    assert found.failures == failures
    first, second, mean = found.per_dataset()
    assert (first.dataset, second.dataset, mean.level) == ("arrays", "images", Level.MEAN)
    assert first.interactive is not None
    assert second.interactive is not None
    assert first.method == "mine"
    assert first.interactive.clicks == second.interactive.clicks
    assert [line.image for line in found.per_image()] == ["coins", "coins"]
    with pytest.raises(ImageError, match="None of the images"):
        evaluate(nano, [Sample("a", "b", PART, np.zeros_like(six_coins()))], only="automatic")
    with pytest.raises(ValueError, match="1 to 20 clicks"):
        evaluate(nano, [whole], clicks=0)
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate(None, [whole])
    with pytest.raises(ValueError, match="manual"):
        evaluate(nano, [whole], only="manual")


def test_an_iterator_of_files_is_enough(nano: PromptableModel, data: Path) -> None:
    volume = np.stack([PART[:100, :100]] * 3)
    np.save(data / "volume.npy", volume)
    np.save(data / "truth.npy", np.stack([six_coins()[:100, :100]] * 3))
    file = LabelledFile("d", "v", data / "volume.npy", data / "truth.npy")
    found = evaluate(nano, iter([file]), only="interactive", clicks=1, max_objects=1, plane_step=2)
    assert [one.name for one in found.images] == ["v/1"]


def test_the_watershed_agrees_with_itself(nano: PromptableModel) -> None:
    part = PART[:100, :100]
    found = evaluate(
        nano, [Sample("a", "b", part, watershed_baseline(part))], only="automatic", baselines=True
    )
    ours, watershed = (line.automatic for line in found.per_dataset())
    assert watershed is not None
    assert ours is not None
    assert (watershed.ap, watershed.msa, watershed.seg) == (1, 1, 1)
    assert ours.msa < 1


def test_the_commands_of_the_how_to_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    (data / "images" / "coins.png").unlink()
    (script,) = re.findall(r"^```sh\n(.*?)^```", HOW_TO.read_text(), flags=re.MULTILINE | re.DOTALL)
    for program, *arguments in map(shlex.split, script.splitlines()):
        assert program == "napari-sam"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert {"table.csv", "all.json"} <= {file.name for file in data.iterdir()}
