"""Shapes and intensities in the table of objects: what is measured, when, and how it is shown."""

from __future__ import annotations

import csv
import io
import time

import dask.array
import numpy as np
import pytest
from canvas import settle, turn, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from skimage.measure import regionprops_table

from napari_sam.annotation import SamObject
from napari_sam.errors import FormatError
from napari_sam.formats import Segmentation, measure
from napari_sam.ui.measuring import Measuring
from napari_sam.ui.object_columns import COLUMNS, measured_columns
from napari_sam.ui.object_facts import measured
from napari_sam.ui.object_table import ObjectTable, Row
from napari_sam.ui.widget import SegmentWidget

MENU = "Measure shapes and intensities"
PLAIN = {
    "scale": (1.0, 1.0),
    "translate": (0.0, 0.0),
    "rotate": np.eye(2),
    "shear": np.zeros(1),
    "affine": np.eye(3),
    "units": ("pixel", "pixel"),
    "axis_labels": ("axis -2", "axis -1"),
}
MICRONS = PLAIN | {"scale": (0.5, 0.5), "translate": (10.0, 20.0), "units": ("micrometer", "micrometer")}


def objects_of(labels: np.ndarray) -> list[SamObject]:
    return Segmentation.of_labels(labels).to_document().objects


def told(facts, item: SamObject) -> dict[str, float | None]:
    return dict(zip(facts.names, facts.values[item.uid], strict=True))


# What is measured


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 999), in_microns=st.booleans(), is_dask=st.booleans())
def test_some_objects_of_a_window_are_what_the_whole_image_gives(data, seed, in_microns, is_dask) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (3, 4)), np.ones((3, 2), dtype=int))
    image = rng.normal(size=(*labels.shape, 3))
    items = objects_of(labels)
    if not items:
        return
    some = data.draw(st.lists(st.sampled_from(items), min_size=1, unique_by=lambda item: item.uid))
    pixels = dask.array.from_array(image, chunks=4) if is_dask else image
    facts = measured(some, labels.shape, pixels, coloured=True, place=MICRONS if in_microns else PLAIN)
    expected = regionprops_table(
        labels, image, properties=("label", "centroid", "perimeter", "intensity_mean", "intensity_max")
    )
    assert ("perimeter_um" in facts.names) == in_microns
    assert facts.values.keys() == {item.uid for item in some}
    for item in some:
        values = told(facts, item)
        at = expected["label"].tolist().index(item.id)
        for name in ("centroid-0", "centroid-1", "perimeter", "intensity_mean-0", "intensity_max-2"):
            assert values[name] == pytest.approx(expected[name][at], abs=1e-9)
        if in_microns:
            assert values["centroid-1_um"] == pytest.approx(20 + values["centroid-1"] / 2)


def test_a_whole_object_of_a_stack_is_measured() -> None:
    labels = np.zeros((3, 30, 40), dtype=int)
    labels[1:, 20:26, 30:34] = 4
    labels[0, 2, 3] = 9
    image = np.arange(labels.size).reshape(labels.shape)
    first, second = objects_of(labels)
    facts = measured([first, second], labels.shape, image)
    values = told(facts, first)
    assert [values[f"centroid-{axis}"] for axis in range(3)] == [1.5, 22.5, 31.5]
    assert values["intensity_sum"] == image[labels == 4].sum()
    assert values["solidity"] == pytest.approx(1)
    assert told(facts, second)["solidity"] is None
    titles = [column.title for column in measured_columns(facts.names)]
    assert titles[:3] == ["Centre z", "Centre y", "Centre x"]
    # By itself, it is read from its own window.
    assert told(measured([second], labels.shape, image), second)["centroid-2"] == 3


def test_an_object_at_several_times_has_intensities_and_no_shape() -> None:
    labels = np.zeros((3, 8, 8), dtype=int)
    labels[0, 1:3, 1:3] = labels[2, 4:8, 1:3] = 5
    labels[1, 4:7, 4:7] = 2
    image = np.random.default_rng(0).integers(0, 99, labels.shape)
    two, five = objects_of(labels)
    axes = {"axis_labels": ("t", "y", "x")}
    facts = measured([five, two], labels.shape, image, place=axes)
    inside = image[labels == 5]
    values = told(facts, five)
    assert values["intensity_mean"] == pytest.approx(inside.mean())
    assert (values["intensity_min"], values["intensity_max"]) == (inside.min(), inside.max())
    assert values["intensity_sum"] == inside.sum()
    assert values["perimeter"] is values["centroid-0"] is None
    assert told(facts, two)["centroid-0"] == 5
    assert told(facts, two)["intensity_sum"] == image[labels == 2].sum()


def test_what_is_turned_or_mirrored_is_measured_in_pixels() -> None:
    labels = np.zeros((6, 6), dtype=int)
    labels[1:4, 2:5] = 1
    (item,) = objects_of(labels)
    turn_by = np.array([[0.0, -1.0], [1.0, 0.0]])
    for place in (MICRONS | {"rotate": turn_by}, MICRONS | {"scale": (-0.5, 0.5)}):
        names = measured([item], labels.shape, labels, place=place).names
        assert "perimeter" in names
        assert not any(name.endswith("_um") for name in names)


def test_what_cannot_be_measured_is_one_sentence() -> None:
    labels = np.zeros((2, 2, 4, 4), dtype=int)
    labels[0, 0, 1, 1] = 1
    (item,) = objects_of(labels)
    with pytest.raises(FormatError, match="several could be the depth"):
        measured([item], labels.shape, labels)
    with pytest.raises(FormatError, match="does not fit"):
        measured(objects_of(labels[0, 0]), (4, 4), np.zeros((4, 3)))
    with pytest.raises(FormatError, match="complex"):
        measured(objects_of(labels[0, 0]), (4, 4), labels[0, 0].astype(complex))


def test_every_number_has_a_column_of_its_own() -> None:
    labels = np.eye(4, dtype=int)
    table = measure(Segmentation.of_labels(labels), np.zeros((4, 4, 4)), channel_axis=-1, per="object")
    columns = measured_columns(table.columns)
    assert {"perimeter", "solidity", "centroid-1", "intensity_sum-3"} < {one.field for one in columns}
    assert len({one.title for one in columns}) == len(columns)
    assert "Mean opacity" in [one.title for one in columns]
    (number,) = (one.text for one in columns if one.field == "intensity_sum-0")
    assert [number(value) for value in (None, 0.1234, 12345.6, -1e12, float("inf"))] == [
        "–",
        "0.123",
        "12\u202f346",
        "-1e+12",
        "inf",
    ]


# How it is shown


def row(uid: int) -> Row:
    return Row(uid, uid, "cell", (1.0, 0.0, 0.0, 1.0), 10 * uid, None, "clicked", "accepted")


@pytest.fixture
def table(qtbot) -> ObjectTable:
    table = ObjectTable()
    qtbot.addWidget(table)
    table.resize(320, 300)
    table.show()
    table.set_rows([row(1), row(2), row(3)])
    return table


NAMES = ("perimeter", "perimeter_um", "solidity")
VALUES = {1: (4.0, 2.0, None), 2: (1.0, 0.5, None)}


def titles(table: ObjectTable) -> list[str]:
    return [one.title for at, one in enumerate(table.view.columns) if not table.view.isColumnHidden(at)]


def cell(table: ObjectTable, uid: int, title: str, role=Qt.ItemDataRole.DisplayRole):
    number = [one.title for one in table.view.columns].index(title)
    model = table.view.model()
    return model.data(model.index([one.uid for one in table.rows].index(uid), number), role)


def test_measured_columns_are_sorted_shown_and_copied(table: ObjectTable) -> None:
    before = titles(table)
    table.select([1, 3])
    table.show_measured(NAMES, VALUES, {2}, {"solidity"})
    assert titles(table) == [*before, "Perimeter µm"]
    assert table.selected == [1, 3]
    assert cell(table, 1, "Perimeter µm") == "2"
    assert cell(table, 3, "Perimeter µm") == "–"
    assert isinstance(cell(table, 2, "Perimeter µm", Qt.ItemDataRole.ForegroundRole), QColor)
    assert cell(table, 1, "Perimeter µm", Qt.ItemDataRole.ForegroundRole) is None
    assert cell(table, 2, "ID", Qt.ItemDataRole.ForegroundRole) is None
    texts = [action.text() for action in table.view.columns_menu().actions()]
    assert "Perimeter" in texts
    assert "Solidity" not in texts
    table.view.sortByColumn(len(COLUMNS) + 1, Qt.SortOrder.AscendingOrder)
    assert [one.uid for one in table.rows] == [2, 1, 3]  # what is unknown comes last
    table.show_measured(NAMES, {**VALUES, 3: (0.0, 0.1, 1.0)}, set(), set())
    assert [one.uid for one in table.rows] == [3, 2, 1]
    assert titles(table) == [*before, "Perimeter µm", "Solidity"]
    assert table.selected == [3, 1]
    table.show_measured(NAMES, VALUES, {1}, {"solidity"})
    # Without what is not of the objects as they are, or of none of them.
    table.select([1, 2])
    lines = list(csv.reader(io.StringIO(table.csv())))
    assert [line[-3:] for line in lines] == [
        ["state", "perimeter", "perimeter_um"],
        ["accepted", "1.0", "0.5"],
        ["accepted", "", ""],
    ]


def test_columns_that_go_take_nothing_with_them(table: ObjectTable) -> None:
    before = titles(table)
    for number in range(1, len(COLUMNS)):
        table.view.show_column(number, False)
    table.show_measured(NAMES, VALUES)
    table.view.show_column(0, False)
    assert "ID" in titles(table)  # else there would be no header once they are gone
    table.view.show_column(len(COLUMNS), True)
    table.view.sortByColumn(len(COLUMNS) + 1, Qt.SortOrder.DescendingOrder)
    # Other columns: the same one sorts, and what was chosen stays so.
    table.show_measured(("eccentricity", *NAMES), {uid: (0.5, *values) for uid, values in VALUES.items()})
    assert titles(table) == ["ID", "Eccentricity", "Perimeter", "Perimeter µm", "Solidity"]
    assert [one.uid for one in table.rows] == [1, 2, 3]
    assert table.view.horizontalHeader().sortIndicatorSection() == len(COLUMNS) + 2
    table.select([2])
    table.show_measured((), {})
    assert titles(table) == ["ID"]
    assert table.view.horizontalHeader().sortIndicatorSection() == 0
    assert table.selected == [2]
    assert table.csv().splitlines()[0].endswith(",state")
    table.update_rows([row(4)], [1])
    assert [one.uid for one in table.rows] == [4, 3, 2]
    for number in range(1, len(COLUMNS)):
        table.view.show_column(number, COLUMNS[number].shown)
    assert titles(table) == before


# When it is measured


def choose(table: ObjectTable) -> None:
    (action,) = (one for one in table.view.columns_menu().actions() if one.text() == MENU)
    assert action.isChecked() == table.measures
    action.trigger()


@pytest.fixture
def boxes(viewer, open_widget) -> SegmentWidget:
    """Three rectangles that are objects, in an image of half micrometres."""
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[2:8, 3:13], labels[20:24, 30:40], labels[30:39, 50:53] = 1, 2, 3
    image = viewer.add_image(
        np.arange(labels.size, dtype=np.uint16).reshape(labels.shape), scale=(0.5, 0.5), units=("um", "um")
    )
    widget = open_widget(image=image)
    settle(widget.controller)
    widget.controller.set_result(viewer.add_labels(labels, scale=(0.5, 0.5), units=("um", "um")))
    settle(widget.controller)
    assert len(widget.objects.table.rows) == 3
    return widget


def waiting(measuring: Measuring) -> bool:
    return measuring._pause.isActive() or measuring._work.files.pending("measure")


def grey(table: ObjectTable) -> list[int]:
    role = Qt.ItemDataRole.ForegroundRole
    return [one.uid for one in table.rows if cell(table, one.uid, "Mean", role) is not None]


@pytest.mark.gui
def test_the_menu_of_the_header_measures(boxes: SegmentWidget, viewer) -> None:
    controller, table, document = boxes.controller, boxes.objects.table, boxes.controller.document
    image, measuring = controller.image, controller.measuring
    before = titles(table)
    assert not waiting(measuring)
    choose(table)
    settle(controller)
    assert table.measures
    uid = document.with_id(1).uid
    pixels = np.asarray(image.data)
    assert cell(table, uid, "Sum") == f"{pixels[2:8, 3:13].sum():,}".replace(",", "\u202f")
    assert cell(table, uid, "Centre x µm") == "3.8"
    assert {"Perimeter µm", "Major axis µm", "Mean"} < set(titles(table))
    assert "Perimeter" not in titles(table)
    assert grey(table) == []
    table.select([uid])
    (line,) = csv.DictReader(io.StringIO(table.csv()))
    assert float(line["intensity_max"]) == pixels[7, 12]
    assert float(line["centroid-1"]) == 7.5
    # What changed is grey until it is measured again, a moment later.
    layer = controller.result_layer
    layer.brush_size = 1
    layer.paint((8, 4), 1)
    turn()
    assert grey(table) == [uid]
    table.select([uid])
    assert next(csv.DictReader(io.StringIO(table.csv())))["intensity_max"] == ""
    measured_before = {other: measuring.values[other] for other in measuring.values if other != uid}
    until(lambda: not waiting(measuring))
    assert grey(table) == []
    assert next(csv.DictReader(io.StringIO(table.csv())))["intensity_max"] == str(float(pixels[8, 4]))
    # Only what changed was measured.
    assert all(measuring.values[other] is values for other, values in measured_before.items())
    controller.delete_objects([uid])
    until(lambda: not waiting(measuring))
    assert uid not in measuring.values
    controller.undo()
    until(lambda: not waiting(measuring))
    assert cell(table, uid, "Max") == f"{pixels[8, 4]}"
    # Another place, other pixels.
    image.scale = (2, 2)
    image.data = pixels + 1
    until(lambda: not waiting(measuring))
    assert cell(table, uid, "Max") == f"{pixels[8, 4] + 1}"
    # Off: nothing of it is left, and nothing happens any more.
    choose(table)
    assert titles(table) == before
    layer.paint((9, 3), 1)
    turn()
    assert not waiting(measuring)
    assert not measuring.values


@pytest.mark.gui
def test_an_error_is_said_once(boxes: SegmentWidget, viewer, open_widget) -> None:
    controller, table = boxes.controller, boxes.objects.table
    choose(table)
    settle(controller)
    stack = viewer.add_image(np.zeros((2, 2, 20, 20), dtype=np.uint8), name="stack")
    labels = np.zeros(stack.data.shape, dtype=np.uint8)
    labels[0, 0, 3:6, 3:6] = 1
    layer = viewer.add_labels(labels)
    controller.set_image(stack)
    controller.set_result(layer)
    with pytest.raises(FormatError, match="several could be the depth"):
        settle(controller)
    assert "several could be the depth" in controller.notice
    assert cell(table, table.rows[0].uid, "Mean") == "–"
    # Not again with each change.
    layer.brush_size = 1
    layer.paint((0, 0, 7, 3), 1)
    until(lambda: not waiting(controller.measuring))
    settle(controller)
    # Once the axes have names, it can be measured.
    stack.axis_labels = ("t", "z", "y", "x")
    until(lambda: not waiting(controller.measuring))
    settle(controller)
    assert cell(table, table.rows[0].uid, "Mean") == "0"


@pytest.mark.gui
def test_closing_in_the_middle(boxes: SegmentWidget, viewer) -> None:
    choose(boxes.objects.table)
    measuring = boxes.controller.measuring
    assert waiting(measuring)
    boxes.close_session()
    assert not measuring.on
    time.sleep(0.2)
    turn()
    assert not measuring.values


@pytest.mark.gui
def test_thousands_are_measured_while_the_window_lives(viewer, open_widget) -> None:
    """In pieces, so that files need not wait. Budgets are wide, for a computer with much else to do."""
    labels = np.kron(np.arange(1, 1601, dtype=np.uint16).reshape(40, 40), np.ones((4, 4), dtype=np.uint16))
    image = viewer.add_image(labels)
    layer = viewer.add_labels(labels.copy())
    widget = open_widget(image=image)
    widget.controller.set_result(layer)
    settle(widget.controller)
    measuring, pieces, longest = widget.controller.measuring, [], 0.0
    measuring.changed.connect(lambda: pieces.append(len(measuring.values)))
    choose(widget.objects.table)
    while waiting(measuring):
        begun = time.perf_counter()
        turn(1)
        longest = max(longest, time.perf_counter() - begun)
        time.sleep(0.001)
    assert pieces == [0, 1000, 1600]
    assert longest < 1
    assert {one.id for one in widget.controller.document.objects} == {
        measuring.values[uid][measuring.names.index("intensity_mean")] for uid in measuring.values
    }
