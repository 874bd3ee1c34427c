from __future__ import annotations

import gc
import time
import weakref

import numpy as np
import pytest
from canvas import CTRL, LEFT, Canvas, turn
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QEnterEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.ui.hover import Hover
from napari_sam.ui.layers import point_layer

pytestmark = pytest.mark.gui

NO_BUTTON = Qt.MouseButton.NoButton


class Asker:
    """Collects what is asked, and how often the mouse left."""

    def __init__(self, viewer, image) -> None:
        self.questions: list[tuple[np.ndarray, frozenset[str]]] = []
        self.left = 0
        self.hover = Hover(viewer, image, lambda at, keys: self.questions.append((at, keys)))
        self.hover.left.connect(self._on_left)

    def _on_left(self) -> None:
        self.left += 1

    @property
    def pixels(self) -> list[tuple[int, ...]]:
        return [tuple(np.round(at).astype(int).tolist()) for at, _ in self.questions]


@pytest.fixture
def asker(viewer):
    """Makes askers on images, and closes them before the next test."""
    made = []

    def make(image) -> Asker:
        viewer.reset_view()
        turn()
        made.append(Asker(viewer, image))
        return made[-1]

    yield make
    for one in made:
        one.hover.close()


@pytest.fixture
def image(viewer):
    return viewer.add_image(np.zeros((60, 80)), name="image")


def move_to(canvas: Canvas, layer, *at, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    move(canvas, canvas.pixel(layer, at), modifier)


def move(canvas: Canvas, spot: QPointF, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    QApplication.sendEvent(canvas._canvas.native, hovering(canvas, spot, modifier))
    QTest.qWait(25)  # vispy and napari hold back moves that follow each other faster


def hovering(canvas: Canvas, spot: QPointF, modifier=Qt.KeyboardModifier.NoModifier) -> QMouseEvent:
    there = canvas._canvas.native.mapToGlobal(spot)
    return QMouseEvent(QEvent.Type.MouseMove, spot, there, NO_BUTTON, NO_BUTTON, modifier)


def test_one_question_at_a_time_and_the_newest_waits(image, canvas, asker) -> None:
    one = asker(image)
    for column in range(10, 60, 10):
        move_to(canvas, image, 20, column)
    assert one.pixels == [(20, 10)]
    assert one.hover.finished()
    assert one.pixels == [(20, 10), (20, 50)]
    assert one.hover.finished()
    assert len(one.questions) == 2
    at, keys = one.questions[-1]
    assert at.shape == (2,)
    assert at.dtype == np.float64
    np.testing.assert_allclose(at, (20, 50), atol=0.2)
    assert keys == frozenset()
    assert one.left == 0


def test_a_place_is_asked_once(image, canvas, asker) -> None:
    one = asker(image)
    for _ in range(3):
        move_to(canvas, image, 20, 10)
        one.hover.finished()
    assert one.pixels == [(20, 10)]
    move_to(canvas, image, 20, 10, modifier=CTRL)
    one.hover.finished()
    assert [keys for _, keys in one.questions] == [frozenset(), frozenset({"Control"})]
    one.hover.refresh()
    assert one.pixels == [(20, 10)] * 3
    one.hover.refresh()
    one.hover.finished()
    assert one.pixels == [(20, 10)] * 4


def test_another_place_on_the_same_pixel_is_asked_too(image, canvas, asker) -> None:
    # A click there would otherwise wait for a mask that could have been ready.
    one = asker(image)
    for column in (10.0, 10.3, 9.8):
        move_to(canvas, image, 20, column)
        one.hover.finished()
    assert one.pixels == [(20, 10)] * 3
    assert len({at[1] for at, _ in one.questions}) == 3


def test_an_answer_may_come_at_once(viewer, image, canvas, asker) -> None:
    one = asker(image)
    seen = []

    def answer(at, _) -> None:
        seen.append(tuple(np.round(at).astype(int).tolist()))
        assert hover.finished()

    hover = Hover(viewer, image, answer)
    for column in (10, 20, 30):
        move_to(canvas, image, 20, column)
    hover.close()
    assert seen == [(20, 10), (20, 20), (20, 30)]
    assert one.pixels == [(20, 10)]


def test_a_question_that_fails_does_not_block_the_next(viewer, image, canvas) -> None:
    asked = []

    def fail_once(*_) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("no answer")

    viewer.reset_view()
    turn()
    hover = Hover(viewer, image, fail_once)
    hover.paused = True
    move_to(canvas, image, 20, 10)
    with pytest.raises(RuntimeError, match="no answer"):
        hover.paused = False
    hover.refresh()
    hover.close()
    assert len(asked) == 2


def test_outside_the_image(image, canvas, asker) -> None:
    one = asker(image)
    move_to(canvas, image, -3, 10)
    assert one.questions == []
    assert one.left == 0
    move_to(canvas, image, 3, 10)
    move_to(canvas, image, 5, 10)
    assert one.hover.wanted
    move_to(canvas, image, -3, 10)
    move_to(canvas, image, -3, 20)
    assert one.left == 1
    assert not one.hover.finished()  # the answer is of no use, and what waited is not asked
    assert one.pixels == [(3, 10)]
    move_to(canvas, image, 59.4, 79.4)
    assert one.pixels == [(3, 10), (59, 79)]
    assert one.hover.finished()


def test_leaving_the_canvas(image, canvas, asker) -> None:
    one = asker(image)
    native = canvas._canvas.native
    spot = canvas.pixel(image, (20, 10))
    QApplication.sendEvent(native, QEnterEvent(spot, spot, spot))
    move(canvas, spot)
    one.hover.finished()
    # While the event loop is busy, napari holds a move back, and delivers it after the mouse left.
    for shift in (20, 40):
        time.sleep(0.02)
        QApplication.sendEvent(native, hovering(canvas, spot + QPointF(shift, 0)))
    QApplication.sendEvent(native, QEvent(QEvent.Type.Leave))
    QTest.qWait(60)
    assert one.left == 1
    assert one.hover.finished() is False
    one.hover.refresh()
    count = len(one.questions)
    QApplication.sendEvent(native, QEnterEvent(spot, spot, spot))
    move_to(canvas, image, 30, 30)
    assert one.pixels[count:] == [(30, 30)]


def test_clicks_and_drags(viewer, image, canvas, asker) -> None:
    points = viewer.add_layer(point_layer(image, 2))
    one = asker(image)
    move_to(canvas, image, 20, 10)
    move_to(canvas, image, 20, 12)  # waits
    canvas.press(canvas.pixel(image, (20, 12)))
    assert one.hover.finished()
    assert one.pixels == [(20, 10)]
    assert one.left == 0  # the preview stays where one clicks
    canvas.release(canvas.pixel(image, (20, 12)))
    np.testing.assert_allclose(points.data, [(20, 12)], atol=0.3)
    assert one.pixels == [(20, 10)]  # not before the click was dealt with
    one.hover.refresh()
    assert one.pixels == [(20, 10), (20, 12)]
    one.hover.finished()
    points.mode = "pan_zoom"
    canvas.drag(image, (20, 12), (30, 30), (40, 40))
    assert one.left == 1
    assert len(one.questions) == 2
    move_to(canvas, image, 30, 30)
    assert one.pixels[2:] == [(30, 30)]


def test_a_drag_in_the_middle_of_a_question(viewer, image, canvas, asker) -> None:
    points = viewer.add_layer(point_layer(image, 2))
    points.mode = "select"
    one = asker(image)
    move_to(canvas, image, 20, 12)
    canvas.drag(image, (20, 12), (30, 30), release=False)
    one.hover.refresh()
    assert not one.hover.finished()
    assert one.pixels == [(20, 12)]
    canvas.release(canvas.pixel(image, (30, 30)))
    assert one.pixels == [(20, 12)]
    one.hover.refresh()
    assert one.pixels == [(20, 12), (30, 30)]


def test_clicks_are_the_same_with_and_without(viewer, image, canvas, asker) -> None:
    points = viewer.add_layer(point_layer(image, 2))
    seen = []

    def on_drag(_, event):
        seen.append((event.type, event.handled))
        yield
        while event.type == "mouse_move":
            seen.append((event.type, event.handled))
            yield
        seen.append((event.type, event.handled))

    points.mouse_drag_callbacks.append(on_drag)
    viewer.reset_view()
    turn()
    spots = ((20, 10), (30, 40), (50, 70))

    def act() -> tuple[list, np.ndarray]:
        seen.clear()
        points.data = np.empty((0, 2))
        for at in spots:
            move_to(canvas, image, *at)
            canvas.click(image, at)
            canvas.click(image, np.add(at, 4), modifier=CTRL)
        return list(seen), points.data.copy()

    without = act()
    asker(image)
    with_hover = act()
    assert with_hover[0] == without[0]
    np.testing.assert_array_equal(with_hover[1], without[1])
    assert len(without[1]) == 6


def test_switched_off_and_paused(image, canvas, asker) -> None:
    one = asker(image)
    hover = one.hover
    move_to(canvas, image, 20, 10)
    hover.paused = True
    assert hover.paused
    move_to(canvas, image, 20, 20)
    assert hover.finished()
    move_to(canvas, image, 20, 30)
    assert one.pixels == [(20, 10)]
    hover.paused = False
    assert one.pixels == [(20, 10), (20, 30)]
    assert hover.enabled
    hover.enabled = False
    assert one.left == 1
    assert not hover.finished()
    move_to(canvas, image, 20, 40)
    hover.refresh()
    assert len(one.questions) == 2
    hover.enabled = True
    assert one.pixels[2:] == [(20, 40)]
    assert one.left == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_slices_of_a_transformed_stack(viewer, canvas, asker, order) -> None:
    image = viewer.add_image(np.zeros((7, 8, 9)), name="stack", scale=(2, 0.5, 0.25), translate=(1, 2, 3))
    viewer.add_image(np.zeros((2, 20, 20, 20)), name="other")
    viewer.dims.order = (0, *(axis + 1 for axis in order))
    one = asker(image)
    sliced = order[0]
    for at in (3, 5):
        viewer.dims.set_point(sliced + 1, image.data_to_world((at, at, at))[sliced])
        where = np.full(3, 4)
        where[sliced] = at
        move_to(canvas, image, *where)
        one.hover.finished()
        assert one.pixels[-1] == tuple(where)
    assert one.left == 1
    # The mouse rests, another slice is shown.
    viewer.dims.set_point(sliced + 1, image.data_to_world((2, 2, 2))[sliced])
    assert one.left == 2
    one.hover.refresh()
    where[sliced] = 2
    assert one.pixels[-1] == tuple(where)
    count = len(one.questions)
    viewer.dims.set_point(sliced + 1, image.data_to_world((12, 12, 12))[sliced])
    one.hover.finished()
    one.hover.refresh()  # the slice lies beyond the image
    assert len(one.questions) == count


def test_other_axes_and_3d(viewer, canvas, asker) -> None:
    image = viewer.add_image(np.zeros((7, 8, 9)), name="stack")
    one = asker(image)
    move_to(canvas, image, 3, 4, 4)
    one.hover.finished()
    viewer.dims.order = (2, 1, 0)
    assert one.left == 1
    one.hover.refresh()
    viewer.dims.ndisplay = 3
    turn()
    size = canvas._canvas.native.size()
    move(canvas, QPointF(size.width() / 2, size.height() / 2))
    assert one.pixels == [(3, 4, 4)]


def test_rgb_and_levels(viewer, canvas, asker) -> None:
    levels = viewer.add_image([np.zeros((40, 60)), np.zeros((20, 30))], multiscale=True, name="levels")
    one = asker(levels)
    move_to(canvas, levels, 39, 59)
    assert one.pixels == [(39, 59)]
    rgb = viewer.add_image(np.zeros((40, 60, 3), dtype=np.uint8), rgb=True, name="rgb")
    other = asker(rgb)
    move_to(canvas, rgb, 38, 58)
    assert other.pixels == [(38, 58)]


def test_nothing_is_left_behind(viewer, image, canvas) -> None:
    moves, drags = list(viewer.mouse_move_callbacks), list(viewer.mouse_drag_callbacks)
    one = Asker(viewer, image)
    viewer.reset_view()
    turn()
    move_to(canvas, image, 20, 10)
    move_to(canvas, image, 20, 20)
    one.hover.close()
    one.hover.close()
    assert not one.hover.finished()
    move_to(canvas, image, 20, 30)
    assert one.pixels == [(20, 10)]
    assert list(viewer.mouse_move_callbacks) == moves
    assert list(viewer.mouse_drag_callbacks) == drags
    gone = weakref.ref(one.hover)
    del one
    gc.collect()
    assert gone() is None


def test_closing_while_a_button_is_down(viewer, image, canvas) -> None:
    one = Asker(viewer, image)
    viewer.reset_view()
    turn()
    move_to(canvas, image, 20, 10)
    spot = canvas.pixel(image, (20, 10))
    canvas.press(spot)
    one.hover.close()
    canvas.move(spot + QPointF(20, 20), LEFT)
    canvas.release(spot)
    gone = weakref.ref(one.hover)
    del one
    gc.collect()
    assert gone() is None
