"""The strip of planes: what is drawn where, and where the mouse and the keys lead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QColor, QHelpEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolTip

from napari_sam.ui.plane_strip import PlaneStrip, cells

LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier
STYLE = "QWidget {{ background-color: {}; color: {} }}"
THEMES = {"dark": ("#262930", "#f0f1f2"), "light": ("#efebe9", "#3b3a39")}


@pytest.fixture
def strip(qtbot) -> Iterator[PlaneStrip]:
    strip = PlaneStrip()
    qtbot.addWidget(strip)
    strip.resize(320, 30)
    strip.setStyleSheet(STYLE.format(*THEMES["dark"]))
    strip.show()
    strip.said = []
    strip.picked.connect(strip.said.append)
    yield strip
    strip.close()


def show(strip: PlaneStrip, states: object, position: int | None = 0) -> None:
    strip.show_planes(np.array(states, dtype=np.uint8), position, "z", "object 3")


def heights(strip: PlaneStrip) -> list[int]:
    """How many pixels of each column look like something, but for the mark of the displayed plane."""
    picture = strip.grab().toImage()
    ground = picture.pixelColor(2, 4)
    return [
        sum(_difference(picture.pixelColor(x, y), ground) > 60 for y in range(9, picture.height()))
        for x in range(picture.width())
    ]


def _difference(one: QColor, other: QColor) -> int:
    return sum(abs(a - b) for a, b in zip(one.getRgb()[:3], other.getRgb()[:3], strict=True))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=300), st.integers(1, 200))
def test_every_plane_is_in_a_cell_and_the_most_is_shown(states: list[int], width: int) -> None:
    edges, shown = cells(np.array(states, dtype=np.uint8), width)
    assert len(shown) == min(len(states), width)
    assert edges[0] == 0
    assert edges[-1] == width
    assert (np.diff(edges) > 0).all()
    assert shown.max() == max(states)
    assert shown.min() >= min(states)
    if len(states) <= width:
        assert shown.tolist() == states


@pytest.mark.parametrize("theme", THEMES)
def test_states_have_different_heights_and_strengths(strip: PlaneStrip, theme: str) -> None:
    strip.setStyleSheet(STYLE.format(*THEMES[theme]))
    show(strip, [0] * 10 + [1] * 10 + [2] * 10, None)
    seen = heights(strip)
    # In the middle of a cell of each state.
    empty, propagated, annotated = (seen[strip.pixel_of(position)] for position in (5, 15, 25))
    assert empty < propagated < annotated
    assert annotated >= 15
    picture = strip.grab().toImage()
    ground = picture.pixelColor(2, 4)
    below = [picture.pixelColor(strip.pixel_of(position), 26) for position in (5, 15, 25)]
    strengths = [_difference(colour, ground) for colour in below]
    assert strengths == sorted(strengths)
    assert strengths[2] > 1.5 * strengths[1] > 0


def test_a_single_annotated_plane_among_thousands_is_seen(strip: PlaneStrip) -> None:
    states = np.ones(5000, dtype=np.uint8)
    states[3210] = 2
    show(strip, states, None)
    seen = heights(strip)
    at = strip.pixel_of(3210)
    assert max(seen[at - 1 : at + 2]) >= 15
    inner = seen[2:-2]
    assert inner.count(max(inner)) == 1


def test_the_displayed_plane_is_marked(strip: PlaneStrip) -> None:
    show(strip, [0] * 40, 30)
    picture = strip.grab().toImage()
    orange = [
        x
        for x in range(picture.width())
        for y in range(picture.height())
        if picture.pixelColor(x, y).red() > 200 and picture.pixelColor(x, y).blue() < 60
    ]
    assert abs(np.mean(orange) - strip.pixel_of(30)) < 2


def test_a_click_goes_to_the_plane_below_it(strip: PlaneStrip) -> None:
    show(strip, [0, 1, 2, 1, 0, 0, 0, 0])
    for position in (5, 1, 7):
        QTest.mouseClick(strip, LEFT, NONE, QPoint(strip.pixel_of(position), 15))
    assert strip.said == [5, 1, 7]
    # Dragged, it follows; beyond the ends, it stays at them.
    strip.said.clear()
    QTest.mousePress(strip, LEFT, NONE, QPoint(strip.pixel_of(2), 15))
    for position in (3, 4):
        QTest.mouseMove(strip, QPoint(strip.pixel_of(position), 15))
        QApplication.processEvents()
    QTest.mouseRelease(strip, LEFT, NONE, QPoint(strip.pixel_of(4), 15))
    assert strip.said[0] == 2
    assert strip.position_at(-100) == 0
    assert strip.position_at(10_000) == 7


def test_the_right_button_goes_nowhere(strip: PlaneStrip) -> None:
    show(strip, [0] * 8)
    QTest.mouseClick(strip, Qt.MouseButton.RightButton, NONE, QPoint(200, 15))
    assert strip.said == []


@pytest.mark.parametrize(
    ("key", "modifier", "where"),
    [
        (Qt.Key.Key_Right, NONE, 11),
        (Qt.Key.Key_Left, NONE, 9),
        (Qt.Key.Key_PageDown, NONE, 20),
        (Qt.Key.Key_PageUp, NONE, 0),
        (Qt.Key.Key_End, NONE, 29),
        (Qt.Key.Key_Home, NONE, 0),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier, 15),
        (Qt.Key.Key_Left, Qt.KeyboardModifier.ControlModifier, 4),
    ],
)
def test_keys_go_to_other_planes(strip: PlaneStrip, key, modifier, where: int) -> None:
    show(strip, [0] * 5 + [1] * 10 + [2] + [0] * 14, 10)
    QTest.keyClick(strip, key, modifier)
    assert strip.said == [where]


def test_keys_stop_at_the_ends(strip: PlaneStrip) -> None:
    show(strip, [0, 1], 1)
    QTest.keyClick(strip, Qt.Key.Key_Right)
    QTest.keyClick(strip, Qt.Key.Key_PageDown)
    assert strip.said == []


def test_it_says_what_is_where(strip: PlaneStrip) -> None:
    show(strip, [0, 1, 2], 1)
    assert strip.accessibleName() == "Planes of object 3"
    assert strip.accessibleDescription() == "z 1: propagated"
    spot = QPoint(strip.pixel_of(2), 15)
    QApplication.sendEvent(strip, QHelpEvent(QEvent.Type.ToolTip, spot, strip.mapToGlobal(spot)))
    assert QToolTip.text() == "z 2: annotated"
    QToolTip.hideText()
    # Where several planes share a pixel, all of them are told of.
    show(strip, [0] * 3100, 0)
    first, last = strip.describe(1000).removeprefix("z ").removesuffix(": empty").split(" to ")
    assert int(first) <= 1000 <= int(last)
    assert 8 <= int(last) - int(first) <= 11


def test_without_planes_there_is_nothing_to_pick(strip: PlaneStrip) -> None:
    show(strip, [], None)
    strip.grab()
    QTest.mouseClick(strip, LEFT, NONE, QPoint(100, 15))
    QTest.keyClick(strip, Qt.Key.Key_Right)
    assert strip.said == []
