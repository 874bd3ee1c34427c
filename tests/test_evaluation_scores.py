"""Numbers of clicks, means and tables, computed by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_sam.evaluation.automatic import AutomaticResult
from napari_sam.evaluation.instances import IOU_THRESHOLDS
from napari_sam.evaluation.interactive import InteractiveResult, ObjectResult
from napari_sam.evaluation.report import automatic_table, interactive_table, tables, write_csv, write_json
from napari_sam.evaluation.scores import Evaluation, ImageResult, Level


def clicked(*objects: ObjectResult, encode: float = 1.0) -> InteractiveResult:
    return InteractiveResult(objects, encode, 0.01, 2.0)


def image(
    dataset: str, name: str, *objects: ObjectResult, modality: str = "", encode: float = 1.0
) -> ImageResult:
    return ImageResult(dataset, name, modality, {"m": clicked(*objects, encode=encode)}, {})


def automatic(right: list[bool], missed: int) -> AutomaticResult:
    """So many objects that are found perfectly or not at all, and some that are missed."""
    hits = sum(right)
    accuracy = hits / (len(right) + missed) if right or missed else 1.0
    return AutomaticResult(
        np.linspace(0.9, 0.8, len(right)),
        np.tile(right, (len(IOU_THRESHOLDS), 1)).astype(bool),
        np.full(len(IOU_THRESHOLDS), accuracy),
        np.array([1.0] * hits + [0.0] * missed),
        seconds=1.0,
    )


def test_the_number_of_clicks_is_that_of_the_first_that_is_good_enough() -> None:
    climbing = ObjectResult(1, 9, 0.5, (0.2, 0.86, 0.84, 0.90, 0.95))
    never = ObjectResult(2, 9, 0.5, (0.1, 0.2, 0.3, 0.4, 0.5))
    at_once = ObjectResult(3, 9, 0.5, (0.99,) * 5)
    assert [one.clicks_to(0.85) for one in (climbing, never, at_once)] == [2, 5, 1]
    assert [one.clicks_to(0.90) for one in (climbing, never, at_once)] == [4, 5, 1]
    (line,) = Evaluation([image("d", "n", climbing, never, at_once)]).per_dataset()
    assert line.interactive is not None
    assert line.interactive.noc85 == pytest.approx(8 / 3)
    assert line.interactive.noc90 == pytest.approx(10 / 3)


def test_means_are_over_objects_then_over_data_sets() -> None:
    found = Evaluation(
        [
            image("a", "p", ObjectResult(1, 9, 0.5, (0.2, 0.9))),
            image(
                "a", "q", ObjectResult(1, 9, 0.8, (0.4, 0.8)), ObjectResult(2, 9, 0.8, (0.6, 1)), encode=3.0
            ),
            image("b", "r", *(ObjectResult(n, 9, 1.0, (0.9, 1.0)) for n in range(1, 5))),
            image("nothing", "s"),
        ]
    )
    first, second, nothing, mean = (line.interactive for line in found.per_dataset())
    assert nothing is None
    assert first is not None
    assert second is not None
    assert mean is not None
    assert (first.objects, first.box, first.noc85) == (3, pytest.approx(0.7), 2.0)
    assert first.clicks == pytest.approx((0.4, 0.9))
    assert first.encode_seconds == 2.0
    assert (second.noc85, second.noc90) == (1.0, 1.0)
    assert (mean.objects, mean.box, mean.noc85) == (7, pytest.approx(0.85), 1.5)
    assert mean.clicks == pytest.approx((0.65, 0.95))
    assert [line.level for line in found.per_dataset()] == [Level.DATASET] * 3 + [Level.MEAN]
    assert [line.images for line in found.per_dataset()] == [2, 1, 1, 4]
    assert [line.interactive is None for line in found.per_image()] == [False] * 3 + [True]


def test_automatic_means() -> None:
    found = Evaluation(
        [
            ImageResult("a", "p", "", {}, {"m": automatic([True], 0)}),
            ImageResult("a", "q", "", {}, {"m": automatic([], 3)}),
            ImageResult("b", "r", "", {}, {"m": automatic([True], 0)}),
            ImageResult("empty", "s", "", {}, {"m": automatic([False], 0)}),
        ]
    )
    first, second, empty, mean = (line.automatic for line in found.per_dataset())
    assert first is not None
    assert second is not None
    assert empty is not None
    assert mean is not None
    assert (first.objects, first.found, first.sa50, first.msa) == (4, 1, 0.5, 0.5)
    # One of four is found, so 26 of the recalls 0, 0.01, ... 1 are reached, with a precision of 1.
    assert (first.ap50, first.ap) == (pytest.approx(26 / 101), pytest.approx(26 / 101))
    assert first.seg == 0.25
    assert (second.ap75, second.msa, second.seg) == (1, 1, 1)
    assert np.isnan(empty.ap)
    assert empty.msa == 0
    # A data set without objects has no precision, but an accuracy.
    assert mean.ap == pytest.approx((26 / 101 + 1) / 2)
    assert mean.msa == pytest.approx(0.5)
    assert (mean.objects, mean.found) == (5, 3)


def test_modalities_have_lines_of_their_own_if_asked_for() -> None:
    one = ObjectResult(1, 9, 0.5, (0.5,))
    found = Evaluation(
        [
            image("a", "p", one, modality="bright"),
            image("a", "q", one, one, modality="dark"),
            image("b", "r", one, modality="dark"),
        ]
    )
    assert [line.level for line in found.per_dataset()] == [Level.DATASET, Level.DATASET, Level.MEAN]
    lines = found.per_dataset(modalities=True)
    assert [(line.level, line.dataset, line.modality, line.images) for line in lines] == [
        (Level.MODALITY, "a", "bright", 1),
        (Level.MODALITY, "a", "dark", 1),
        (Level.DATASET, "a", "", 2),
        (Level.DATASET, "b", "dark", 1),
        (Level.MEAN, "", "", 3),
    ]
    assert "| a, dark " in interactive_table(lines)


def test_tables_on_the_screen_and_in_files(tmp_path: Path) -> None:
    found = Evaluation(
        [
            ImageResult("a", "empty", "", {"m": clicked()}, {"m": automatic([], 0)}),
            ImageResult(
                *("a", "p", ""),
                {"m": clicked(ObjectResult(7, 9, 0.51234567, (0.2, 0.9)))},
                {"m": automatic([True], 1), "other": automatic([True, True], 0)},
            ),
        ]
    )
    lines = found.per_dataset()
    text = tables(lines)
    assert text.count("\n\n") == 3
    for table in (interactive_table(lines), automatic_table(lines)):
        assert table in text
        assert len({len(line) for line in table.splitlines()}) == 1
    header, _, only = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in interactive_table(lines).splitlines()
    )
    row = dict(zip(header, only, strict=True))
    assert (row["data"], row["1 point"], row["box"], row["2 points"]) == ("a", "0.200", "0.512", "0.900")
    assert (row["NoC@90"], row["encode ms"], row["click ms"]) == ("2.00", "1000", "10")

    write_csv(tmp_path / "table.csv", found)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["level"], row["image"], row["method"], row["box"], row["click_2"]) for row in rows] == [
        ("image", "empty", "m", "", ""),
        ("image", "p", "m", "0.512346", "0.9"),
        ("image", "p", "other", "", ""),
        ("data set", "", "m", "0.512346", "0.9"),
        ("data set", "", "other", "", ""),
    ]
    assert rows[0]["ap50"] == ""  # nothing was there to be found
    assert rows[0]["msa"] == "1.0"

    write_json(tmp_path / "all.json", found, about={"seed": 3})
    record = json.loads((tmp_path / "all.json").read_text())
    assert record["seed"] == 3
    assert record["images"][0]["automatic"]["ap"] is None
    assert record["images"][1]["objects"] == [{"label": 7, "area": 9, "box": 0.512346, "clicks": [0.2, 0.9]}]
    assert record["summary"][0]["automatic"]["objects"] == 2
    assert tables([]) == ""
