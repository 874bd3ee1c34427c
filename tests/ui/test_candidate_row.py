from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_sam.inference.mask import Mask
from napari_sam.ui.candidate_row import CandidateRow, common_square, thumbnail

SHAPE = (100, 120)
WHOLE, PART, SUBPART = (
    (Mask((10, 20), np.ones((40, 40), dtype=bool), SHAPE), 0.934),
    (Mask((10, 20), np.ones((20, 40), dtype=bool), SHAPE), 0.871),
    (Mask((12, 24), np.ones((4, 4), dtype=bool), SHAPE), 0.5),
)
THREE = [WHOLE, PART, SUBPART]


@pytest.fixture
def row(qtbot) -> Iterator[CandidateRow]:
    """Between two other widgets, as in a dock."""
    window = QWidget()
    layout = QVBoxLayout(window)
    row = CandidateRow()
    for widget in (QLineEdit(), row, QLabel("below")):
        layout.addWidget(widget)
    layout.addStretch(1)
    qtbot.addWidget(window)
    window.show()
    row.said = []
    row.picked.connect(row.said.append)
    yield row
    window.close()


def checked(row: CandidateRow) -> list[bool]:
    return [button.isChecked() for button in row.buttons]


def coloured(button) -> int:
    """Pixels of the button that look like a mask."""
    picture = button.grab().toImage()
    side = picture.width()
    seen = (picture.pixelColor(x, y) for y in range(picture.height()) for x in range(side))
    return sum(colour.blue() - colour.red() > 120 and colour.green() > 120 for colour in seen)


def test_three_masks_with_their_scores(row: CandidateRow) -> None:
    row.show_candidates(THREE, 1)
    assert row.isVisible()
    assert [button.text() for button in row.buttons] == ["0.93", "0.87", "0.50"]
    assert checked(row) == [False, True, False]
    assert "1\u202f600 pixels" in row.buttons[0].toolTip()
    assert "predicted IoU 0.87" in row.buttons[1].toolTip()
    whole, part, subpart = map(coloured, row.buttons)
    assert 0.4 * whole < part < 0.6 * whole
    assert 0 < subpart < 0.05 * whole


@pytest.mark.parametrize("candidates", [[], [WHOLE]])
def test_no_choice_takes_as_much_room(row: CandidateRow, candidates) -> None:
    row.show_candidates(THREE, 0)
    QApplication.processEvents()
    below = row.window().findChild(QLabel)
    before = below.geometry()
    row.show_candidates(candidates, 0)
    QApplication.processEvents()
    assert not row.isVisible()
    assert below.geometry() == before
    row.show_candidates(THREE[:2], 0)
    QApplication.processEvents()
    assert row.isVisible()
    assert [button.isVisible() for button in row.buttons] == [True, True, False]
    assert below.geometry() == before


def test_a_click_picks(row: CandidateRow) -> None:
    row.show_candidates(THREE, 0)
    for number in (0, 2, 2, 1):
        QTest.mouseClick(row.buttons[number], Qt.MouseButton.LeftButton)
    assert row.said == [2, 1]
    assert checked(row) == [False, True, False]
    row.show_candidates(THREE, 2)
    row.show_candidates(THREE, -1)
    assert checked(row) == [False] * 3
    assert row.said == [2, 1]
    QTest.mouseClick(row.buttons[2], Qt.MouseButton.LeftButton)
    assert row.said == [2, 1, 2]


def test_the_keyboard_stays_where_it_is(row: CandidateRow) -> None:
    row.show_candidates(THREE, 0)
    edit = row.window().findChild(QLineEdit)
    edit.setFocus()
    QTest.mouseClick(row.buttons[1], Qt.MouseButton.LeftButton)
    assert row.window().focusWidget() is edit
    assert {button.focusPolicy() for button in row.buttons} == {Qt.FocusPolicy.NoFocus}


def test_more_than_three_are_refused(row: CandidateRow) -> None:
    with pytest.raises(ValueError, match="room for 3 candidates, not for 4"):
        row.show_candidates([*THREE, WHOLE], 0)


def test_other_masks_are_drawn_anew(row: CandidateRow) -> None:
    row.show_candidates([WHOLE, PART], 0)
    before = coloured(row.buttons[1])
    row.show_candidates([WHOLE, SUBPART], 0)
    assert coloured(row.buttons[1]) < before
    assert row.buttons[1].text() == "0.50"
    row.show_candidates([(Mask.empty(SHAPE), 0.1), (Mask.empty(SHAPE), 0.2)], 0)
    assert coloured(row.buttons[1]) == 0


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_chosen_one_stands_out_in_every_theme(row: CandidateRow, theme: str) -> None:
    from napari._qt.qt_resources import get_stylesheet

    row.window().setStyleSheet(get_stylesheet(theme))
    row.show_candidates(THREE, 1)
    QApplication.processEvents()
    corners = [button.grab().toImage().pixelColor(2, 30).getRgb()[:3] for button in row.buttons]
    colours = get_theme(theme)
    assert corners[0] == corners[2] == colours.primary.as_rgb_tuple()[:3]
    assert corners[1] == colours.current.as_rgb_tuple()[:3]
    text = row.buttons[0].palette().buttonText().color()
    assert text.getRgb()[:3] == colours.text.as_rgb_tuple()[:3]
    assert min(map(coloured, row.buttons[:2])) > 100


@settings(max_examples=50, deadline=None)
@given(
    top=st.integers(0, 80),
    left=st.integers(0, 80),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
)
def test_a_picture_shows_what_the_mask_covers(top: int, left: int, height: int, width: int) -> None:
    """A filled rectangle: as large a part of the picture as of the square, and about its middle."""
    mask = Mask((top, left), np.ones((height, width), dtype=bool), (400, 400))
    square = common_square([mask])
    picture = thumbnail(mask, square, 48) / 255
    assert picture.shape == (48, 48)
    lengths = np.array([height, width]) / square[2] * 48
    np.testing.assert_allclose(picture.sum(), lengths.prod(), atol=lengths.sum() + 1)
    seen = [(picture.max(axis=axis) > 0).sum() for axis in (1, 0)]
    assert (np.abs(seen - lengths) <= 2).all()
    rows, columns = np.nonzero(picture)
    np.testing.assert_allclose((rows.mean(), columns.mean()), 23.5, atol=1)
    assert not picture[[0, -1]].any()
    assert not picture[:, [0, -1]].any()


def test_pictures_share_a_square() -> None:
    square = common_square([mask for mask, _ in THREE])
    pictures = [thumbnail(mask, square, 48) for mask, _ in THREE]
    assert (pictures[0].astype(int) >= pictures[1]).all()
    assert (pictures[1].astype(int) >= pictures[2]).all()
    far = Mask((3000, 3000), np.ones((2, 2), dtype=bool), (4096, 4096))
    large = Mask((0, 0), np.ones((2000, 2000), dtype=bool), (4096, 4096))
    square = common_square([far, large, Mask.empty((4096, 4096))])
    assert thumbnail(far, square, 48).any()  # however small
    assert not thumbnail(Mask.empty((4096, 4096)), square, 48).any()
    assert not thumbnail(Mask.empty((10, 10)), common_square([]), 48).any()


def test_large_masks_are_drawn_at_once() -> None:
    """Reading every pixel would take far longer than this wide budget."""
    large = Mask((0, 0), np.ones((4096, 4096), dtype=bool), (4096, 4096))
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        thumbnail(large, common_square([large]), 96)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.005, f"{1000 * min(taken):.1f} ms"


def test_nothing_is_left_behind(qapp) -> None:
    row = CandidateRow()
    row.show_candidates(THREE, 0)
    QTest.mouseClick(row.buttons[1], Qt.MouseButton.LeftButton)
    gone = weakref.ref(row)
    row.close()
    row.deleteLater()
    del row
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    QApplication.processEvents()
    gc.collect()
    assert gone() is None
