from __future__ import annotations

import csv
import gc
import io
import random
import time
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QContextMenuEvent, QGuiApplication, QIcon
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMenu, QWidget

from napari_sam.ui.object_columns import AREA, CLASS, COLUMNS, PARENT, PLANES, SIZE
from napari_sam.ui.object_table import ObjectTable, Row

ASCENDING, DESCENDING = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
FIELDS = tuple(column.field for column in COLUMNS)
HEAD = [
    *("id", "class", "area", "physical_area", "area_unit", "bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    *("planes", "predicted_iou", "stability", "source", "state"),
]
IOU = FIELDS.index("score")


def row(uid: int, **changed) -> Row:
    values = {
        "uid": uid,
        "id": uid,
        "class_name": "cell",
        "colour": (1.0, 0.0, 0.0, 1.0),
        "area": 10 * uid,
        "score": uid / 1000,
        "source": "clicked",
        "state": "accepted",
    }
    return Row(**(values | changed))


class Heard:
    """Everything that a table says."""

    def __init__(self, table: ObjectTable) -> None:
        self.said: list[tuple[str, object]] = []
        for name in ("picked", "opened", "delete_asked", "merge_asked", "split_asked"):
            getattr(table, name).connect(lambda value, name=name: self.said.append((name, value)))

    def take(self) -> list[tuple[str, object]]:
        said, self.said = self.said, []
        return said


@pytest.fixture
def table(qtbot) -> ObjectTable:
    table = ObjectTable()
    qtbot.addWidget(table)
    table.resize(320, 300)
    table.show()
    return table


@pytest.fixture
def heard(table: ObjectTable) -> Heard:
    return Heard(table)


def uids(table: ObjectTable) -> list[int]:
    return [one.uid for one in table.rows]


def cell(table: ObjectTable, uid: int, column: int = 0, role=Qt.ItemDataRole.DisplayRole):
    model = table.view.model()
    return model.data(model.index(uids(table).index(uid), column), role)


def click(table: ObjectTable, uid: int, modifier=Qt.KeyboardModifier.NoModifier, times: int = 1) -> None:
    spot = centre(table, uid)
    QTest.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, modifier, spot)
    if times == 2:
        QTest.mouseDClick(table.view.viewport(), Qt.MouseButton.LeftButton, modifier, spot)


def centre(table: ObjectTable, uid: int) -> QPoint:
    model = table.view.model()
    return table.view.visualRect(model.index(uids(table).index(uid), 1)).center()


def test_a_hint_as_long_as_there_is_nothing(table: ObjectTable) -> None:
    assert table.hint.isVisible()
    assert "as you click" in table.hint.text()
    table.set_rows([row(1)])
    assert table.view.isVisible()
    assert not table.hint.isVisible()
    table.update_rows([], [1])
    assert table.hint.isVisible()
    table.update_rows([row(2)])
    assert table.view.isVisible()


def test_what_the_cells_say(table: ObjectTable) -> None:
    seven = row(7, class_name="nucleus", area=1234567, score=None, size=12.345, box=(3, 40, 12, 9), planes=4)
    table.set_rows([seven, row(8, score=0.876, stability=0.912, size=1234.5)])
    assert [cell(table, 7, column) for column in range(len(COLUMNS))] == [
        "7",
        "nucleus",
        "1\u202f234\u202f567",
        "12.3",
        "3, 40, 12 × 9",
        "4",
        "–",
        "–",
        "clicked",
        "accepted",
        "–",
    ]
    assert cell(table, 8, IOU) == "0.88"
    assert cell(table, 8, FIELDS.index("stability")) == "0.91"
    assert cell(table, 8, SIZE) == "1\u202f234"
    assert cell(table, 8, FIELDS.index("box")) == "–"
    assert "nucleus" in cell(table, 7, 1, Qt.ItemDataRole.ToolTipRole)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        swatch = cell(table, 7, 0, Qt.ItemDataRole.DecorationRole).pixmap(10, 10, mode)
        assert swatch.toImage().pixelColor(5, 5).getRgb() == (255, 0, 0, 255)
    assert titles(table) == ["ID", "Class", "Area", "IoU", "Source"]


def titles(table: ObjectTable) -> list[str]:
    """Of the columns that are shown."""
    header = table.view.model()
    shown = (i for i in range(len(COLUMNS)) if not table.view.isColumnHidden(i))
    return [header.headerData(i, Qt.Orientation.Horizontal) for i in shown]


def choose_column(table: ObjectTable, title: str) -> None:
    """Open the menu of the columns with the right button, and choose a line."""
    header = table.view.horizontalHeader()
    spot = QPoint(10, header.height() // 2)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, spot, header.mapToGlobal(spot))
    QApplication.sendEvent(header.viewport(), event)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    (action,) = (one for one in menu.actions() if one.text() == title)
    action.trigger()
    menu.close()


def test_columns_are_chosen_in_the_menu_of_the_header(table: ObjectTable) -> None:
    table.set_rows([row(1, box=(1, 2, 3, 4)), row(2, box=(9, 0, 3, 4))])
    choose_column(table, "Box")
    choose_column(table, "Source")
    assert titles(table) == ["ID", "Class", "Area", "Box", "IoU"]
    table.view.sortByColumn(FIELDS.index("box"), ASCENDING)
    assert uids(table) == [2, 1]  # from top to bottom
    # What is shown does not matter for what is copied.
    table.select([1])
    assert table.csv().splitlines()[1] == "1,cell,10,,,1,2,3,4,1,0.001,,clicked,accepted"
    for column in range(len(COLUMNS)):
        table.view.show_column(column, False)
    assert len(titles(table)) == 1  # else there would be no header to bring them back


def test_physical_units_and_planes_are_offered_where_there_are_some(table: ObjectTable) -> None:
    table.set_rows([row(1, size=2.5), row(2)])
    assert not any("Size" in action.text() for action in table.view.columns_menu().actions())
    table.fit_image("µm", stack=True)
    assert titles(table) == ["ID", "Class", "µm²", "IoU", "Source"]
    choose_column(table, "Area")
    choose_column(table, "Planes")
    assert titles(table) == ["ID", "Class", "Area", "µm²", "Planes", "IoU", "Source"]
    assert cell(table, 1, SIZE, Qt.ItemDataRole.ToolTipRole) == "µm²: 2.5"
    table.select([1, 2])
    assert [line.split(",")[3:5] for line in table.csv().splitlines()[1:]] == [["2.5", "µm²"], ["", ""]]
    table.fit_image("", stack=False)
    assert titles(table) == ["ID", "Class", "Area", "IoU", "Source"]
    assert not table.view.isColumnHidden(AREA)
    assert table.view.isColumnHidden(PLANES)


def test_a_narrow_dock_needs_no_scrolling(table: ObjectTable) -> None:
    table.set_rows([row(1000 + i, class_name="nucleus", area=10**5) for i in range(50)])
    for unit in ("", "µm"):
        table.fit_image(unit, stack=True)
        for width, fits in ((400, True), (320, True), (150, False)):
            table.resize(width, 300)
            QApplication.processEvents()
            assert (table.view.horizontalScrollBar().maximum() == 0) == fits
            assert table.view.columnWidth(CLASS) >= 40


def test_numbers_are_sorted_as_numbers_and_unknown_ones_last(table: ObjectTable) -> None:
    table.set_rows([row(2, score=0.5), row(10, score=None), row(1, score=0.25), row(3, score=1.0)])
    assert uids(table) == [1, 2, 3, 10]
    table.view.sortByColumn(0, DESCENDING)
    assert uids(table) == [10, 3, 2, 1]
    table.view.sortByColumn(IOU, ASCENDING)
    assert uids(table) == [1, 2, 3, 10]
    table.view.sortByColumn(IOU, DESCENDING)
    assert uids(table) == [3, 2, 1, 10]


def test_a_click_on_a_header_sorts(table: ObjectTable) -> None:
    table.set_rows([row(1, class_name="b"), row(2, class_name="A"), row(3, class_name="c")])
    header = table.view.horizontalHeader()
    spot = QPoint(header.sectionViewportPosition(1) + 20, header.height() // 2)
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    assert uids(table) == [2, 1, 3]
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    assert uids(table) == [3, 1, 2]


def test_only_the_user_is_heard(table: ObjectTable, heard: Heard) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    table.select([2, 4, 99])
    assert table.selected == [2, 4]
    table.update_rows([row(2, id=50), row(9)], [4])
    assert table.selected == [2]
    table.set_rows([row(i) for i in (1, 2)])
    assert table.selected == [2]
    table.select([])
    assert heard.take() == []
    click(table, 1)
    assert heard.take() == [("picked", [1])]
    click(table, 2, Qt.KeyboardModifier.ControlModifier)
    assert heard.take() == [("picked", [1, 2])]
    QTest.keyClick(table.view, Qt.Key.Key_Up)
    assert heard.take() == [("picked", [1])]


def test_nothing_else_becomes_selected_when_the_selected_row_goes(table: ObjectTable, heard: Heard) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    click(table, 3)
    heard.take()
    table.update_rows([], [3])
    assert table.selected == []
    assert heard.take() == []


def test_keys_and_double_clicks(table: ObjectTable, heard: Heard) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_Return):
        QTest.keyClick(table.view, key)
    assert heard.take() == []
    click(table, 2, times=2)
    assert heard.take() == [("picked", [2]), ("opened", 2)]
    QTest.keyClick(table.view, Qt.Key.Key_Return)
    QTest.keyClick(table.view, Qt.Key.Key_Enter, Qt.KeyboardModifier.KeypadModifier)
    assert heard.take() == [("opened", 2)] * 2
    QTest.keyClick(table.view, Qt.Key.Key_Delete)
    QTest.keyClick(table.view, Qt.Key.Key_Backspace)
    assert heard.take() == [("delete_asked", [2])] * 2
    QTest.keyClick(table.view, Qt.Key.Key_Delete, Qt.KeyboardModifier.ShiftModifier)  # another command's
    table.select([2, 3])
    QTest.keyClick(table.view, Qt.Key.Key_Return)
    assert heard.take() == []


def test_letters_go_to_the_window(qtbot) -> None:
    """napari gets them there, and runs the shortcuts."""
    heard = []

    class Window(QWidget):
        def keyPressEvent(self, event) -> None:
            heard.append(event.key())

    window = Window()
    qtbot.addWidget(window)
    table = ObjectTable(window)
    table.set_rows([row(1, class_name="n"), row(2, class_name="n")])
    window.show()
    table.select([2])
    for key in (Qt.Key.Key_N, Qt.Key.Key_Q, Qt.Key.Key_Delete, Qt.Key.Key_Return):
        QTest.keyClick(table.view, key)
    assert heard == [Qt.Key.Key_N, Qt.Key.Key_Q]
    assert table.selected == [2]


@pytest.mark.parametrize(
    ("chosen", "enabled"),
    [
        ([], []),
        ([2], ["Open", "Split into parts", "Class", "Delete", "Copy as CSV"]),
        ([2, 3], ["Merge", "Class", "Delete", "Copy as CSV"]),
    ],
)
def test_the_menu_offers_what_can_be_done(table: ObjectTable, chosen: list[int], enabled: list[str]) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    table.select(chosen)
    menu = table.menu()
    assert [action.text() for action in menu.actions() if action.text() and action.isEnabled()] == enabled
    menu.close()


def test_the_menu_does_what_it_says(table: ObjectTable, heard: Heard) -> None:
    table.set_rows([row(i) for i in range(1, 6)])

    def choose(text: str) -> list:
        (action,) = (one for one in table.menu().actions() if one.text() == text)
        action.trigger()
        return heard.take()

    table.select([2])
    assert choose("Open") == [("opened", 2)]
    assert choose("Split into parts") == [("split_asked", 2)]
    table.select([4, 2])
    assert choose("Merge") == [("merge_asked", [2, 4])]
    assert choose("Delete") == [("delete_asked", [2, 4])]
    assert choose("Copy as CSV") == []
    assert QGuiApplication.clipboard().text().count("\n") == 3


def test_the_right_button_opens_the_menu(table: ObjectTable) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    viewport, spot = table.view.viewport(), centre(table, 2)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, spot, viewport.mapToGlobal(spot))
    QApplication.sendEvent(viewport, event)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    assert menu.actions()[0].text() == "Open"
    menu.close()


def test_csv_can_be_read_again(table: ObjectTable, heard: Heard) -> None:
    odd = 'a "cell", or\ntwo'
    table.set_rows([row(1, class_name=odd, score=None, area=1234567), row(2), row(3, score=0.5)])
    table.view.sortByColumn(0, DESCENDING)
    table.select([1, 3])
    QTest.keyClick(table.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert list(csv.reader(io.StringIO(QGuiApplication.clipboard().text()))) == [
        HEAD,
        ["3", "cell", "30", "", "", *[""] * 4, "1", "0.5", "", "clicked", "accepted"],
        ["1", odd, "1234567", "", "", *[""] * 4, "1", "", "", "clicked", "accepted"],
    ]


def test_parents_are_shown_where_there_are_any(table: ObjectTable, heard: Heard) -> None:
    table.set_rows([row(1), row(2)])
    assert not table.view.is_shown(PARENT)
    table.update_rows([row(2, parent=1)])
    assert table.view.is_shown(PARENT)
    assert [cell(table, uid, PARENT) for uid in (1, 2)] == ["–", "1"]
    table.select([1, 2])
    QTest.keyClick(table.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    read = list(csv.DictReader(io.StringIO(QGuiApplication.clipboard().text())))
    assert [one["parent"] for one in read] == ["", "1"]
    table.update_rows([], [2])
    assert not table.view.is_shown(PARENT)


def test_who_came_from_whom_is_said_in_the_menu(table: ObjectTable) -> None:
    said = []
    table.relate_asked.connect(lambda uids: said.append(("relate", uids)))
    table.unrelate_asked.connect(lambda uids: said.append(("unrelate", uids)))
    table.set_rows([row(1), row(2), row(3, parent=1)])
    table.select([1, 3])
    assert not any(action.text() == "No parent" for action in table.menu().actions())
    table.fit_image("", stack=True)
    for chosen, text, enabled in (
        ([1, 2], "No parent", False),
        ([1], "Mother and daughters", False),
        ([1, 3], "No parent", True),
        ([1, 3], "Mother and daughters", True),
    ):
        table.select(chosen)
        (action,) = (one for one in table.menu().actions() if one.text() == text)
        assert action.isEnabled() == enabled
        action.trigger()
    assert said == [("unrelate", [1, 3]), ("relate", [1, 3])]


def test_selecting_scrolls_if_asked(table: ObjectTable) -> None:
    table.set_rows([row(i) for i in range(1, 501)])
    table.select([400], scroll=False)
    assert table.view.rowAt(0) == 0
    table.select([400])
    assert table.view.viewport().rect().contains(centre(table, 400))


def test_what_is_looked_at_stays_in_place(table: ObjectTable) -> None:
    table.set_rows([row(i) for i in range(100, 600)])
    table.select([300])
    QApplication.processEvents()
    before = centre(table, 300).y()
    table.update_rows([row(i) for i in range(1, 6)])  # above
    QApplication.processEvents()
    assert centre(table, 300).y() == before
    table.update_rows([row(700)], [1, 2, 102, 103, 500])
    QApplication.processEvents()
    assert centre(table, 300).y() == before
    table.update_rows([], range(1, 250, 2))  # so many that the table is made anew
    QApplication.processEvents()
    assert centre(table, 300).y() == before
    assert table.selected == [300]
    table.view.verticalScrollBar().setValue(0)
    table.update_rows([row(1)])
    assert table.view.rowAt(0) == 0


rows = st.builds(
    row,
    st.integers(0, 40),
    id=st.integers(0, 9),
    class_name=st.sampled_from(["a", "B", "c"]),
    area=st.integers(0, 5),
    score=st.none() | st.floats(0, 1),
    box=st.none() | st.tuples(*[st.integers(0, 3)] * 4),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.lists(rows, unique_by=lambda one: one.uid),
    steps=st.lists(
        st.tuples(st.lists(rows, max_size=5), st.sets(st.integers(0, 40))), min_size=1, max_size=5
    ),
    column=st.integers(0, len(COLUMNS) - 1),
    order=st.sampled_from([ASCENDING, DESCENDING]),
    selected=st.sets(st.integers(0, 40)),
)
def test_any_changes_lead_to_what_is_there(
    table: ObjectTable, start, steps, column: int, order, selected
) -> None:
    """A table that was kept up to date is one that was made anew, and what was selected still is."""
    table.set_rows([])
    table.set_rows(start)
    table.view.sortByColumn(column, order)
    table.select(selected)
    expected = {one.uid: one for one in start}
    chosen = selected & expected.keys()
    for changed, removed in steps:
        table.update_rows(changed, removed)
        expected = {uid: one for uid, one in expected.items() if uid not in removed}
        expected |= {one.uid: one for one in changed}
        chosen &= expected.keys()
        assert {one.uid: one for one in table.rows} == expected
        assert table.view.model().rowCount() == len(expected)
        assert set(table.selected) == chosen
    kept = table.rows
    table.set_rows(list(expected.values()))
    assert table.rows == kept
    keys = [getattr(one, FIELDS[column]) for one in kept]
    known = [key.casefold() if isinstance(key, str) else key for key in keys if key is not None]
    if FIELDS[column] == "box":
        known = [(y, x, height, width) for x, y, width, height in known]
    assert known == sorted(known, reverse=order == DESCENDING)
    assert None not in keys[: len(known)]


def test_ten_thousand_rows_stay_quick(table: ObjectTable) -> None:
    """Budgets are wide, for a computer with much else to do."""
    many = [row(i, area=random.Random(i).randrange(10**6)) for i in range(10_000)]

    def taken(act, *arguments) -> float:
        start = time.perf_counter()
        act(*arguments)
        QApplication.processEvents()
        return time.perf_counter() - start

    assert taken(table.set_rows, many) < 1
    assert taken(table.view.sortByColumn, 2, ASCENDING) < 1
    table.select([5000])
    assert min(taken(table.update_rows, [many[i]._replace(area=i)]) for i in range(5)) < 0.3
    assert min(taken(table.update_rows, [row(20_000 + i)]) for i in range(5)) < 0.3
    assert min(taken(table.update_rows, [], [i]) for i in range(5)) < 0.3
    assert taken(table.update_rows, [], range(0, 10_000, 3)) < 1
    assert table.selected == [5000]


def test_nothing_is_left_behind(qapp) -> None:
    table = ObjectTable()
    table.set_rows([row(1), row(2)])
    table.select([1])
    table.show()
    table.menu().close()
    gone = weakref.ref(table)
    table.close()
    table.deleteLater()
    del table
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    QApplication.processEvents()
    gc.collect()
    assert gone() is None


def test_the_menu_gives_classes(table: ObjectTable, qtbot) -> None:
    table.set_rows([row(i) for i in range(1, 6)])
    table.classes = [(1, "nucleus"), (7, "debris")]
    table.select([2, 4])
    menu = table.menu()
    (inner,) = (action.menu() for action in menu.actions() if action.text() == "Class")
    assert [action.text() for action in inner.actions()] == ["none", "nucleus", "debris"]
    with qtbot.waitSignal(table.class_asked) as asked:
        inner.actions()[2].trigger()
    assert asked.args == [[2, 4], 7]
