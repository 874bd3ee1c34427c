"""Where the mouse is, for a preview that follows it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.ui.plane import image_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

__all__ = ["Hover"]

_Position = tuple[tuple[float, ...], frozenset[str]]
"""Where the mouse is in the world, and the keys that are held."""


class _Question(NamedTuple):
    at: NDArray[np.float64]
    modifiers: frozenset[str]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what needs the same answer: a click on the same place, not only on the same pixel."""
        return (*self.at.tolist(), self.modifiers)


class Hover:
    """Asks what lies under the mouse, for one position at a time: the newest.

    While an answer is awaited, moves replace each other, and :meth:`finished` asks for the last of them.
    Nothing is asked while a mouse button is down, so that a click never waits for a preview.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    ask : callable
        Is given a position in data coordinates, shape (ndim,), float64, and the names of the modifiers that
        are held ("Control", "Shift", "Alt", "Meta"). Each call must be followed by one of :meth:`finished`.
    """

    left = Signal()
    """The last question is pointless: the mouse left the image or the canvas, or began to drag, or the viewer
    shows another slice."""

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        ask: Callable[[NDArray[np.float64], frozenset[str]], None],
    ) -> None:
        self._viewer, self._image, self._ask = viewer, image, ask
        self._enabled, self._paused = True, False
        self._mouse: _Position | None = None
        self._waiting: _Question | None = None
        self._last: _Question | None = None
        self._asked = self._wanted = self._pressed = self._gone = False
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.events.mouse_over_canvas.connect(self._on_canvas)
        viewer.dims.events.point.connect(self._on_slice)
        for emitter in self._axis_events():
            emitter.connect(self._on_axes)

    def _axis_events(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.order, events.ndisplay, events.ndim

    def close(self) -> None:
        """Follow the mouse no longer. Closing twice is fine."""
        for callbacks, callback in (
            (self._viewer.mouse_move_callbacks, self._on_move),
            (self._viewer.mouse_drag_callbacks, self._on_press),
        ):
            if callback in callbacks:
                callbacks.remove(callback)
        self._viewer.events.mouse_over_canvas.disconnect(self._on_canvas)
        self._viewer.dims.events.point.disconnect(self._on_slice)
        for emitter in self._axis_events():
            emitter.disconnect(self._on_axes)
        self._enabled = False
        self._mouse = self._waiting = self._last = None
        self._wanted = False

    # What the user of this class says

    @property
    def enabled(self) -> bool:
        """Whether the mouse is followed at all."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value != self._enabled:
            self._enabled = value
            if value:
                self.refresh()
            else:
                self._leave()

    @property
    def paused(self) -> bool:
        """Whether positions wait, because something more important is being computed."""
        return self._paused

    @paused.setter
    def paused(self, value: bool) -> None:
        self._paused = value
        self._go_on()

    @property
    def wanted(self) -> bool:
        """Whether the mouse has not :attr:`left` since the last question was asked."""
        return self._wanted

    def finished(self) -> bool:
        """Say that the answer came, or will not come; the next position is asked.

        Returns
        -------
        bool
            Whether the answer is still :attr:`wanted`: show it only then.
        """
        wanted, self._asked = self._wanted, False
        self._go_on()
        return wanted

    def refresh(self) -> None:
        """Ask again for where the mouse is: something else than its position changed."""
        if self._mouse is not None:
            self._consider(*self._mouse, again=True)

    def forget(self) -> None:
        """Ask again when the mouse moves next, even if it stays where it is."""
        self._waiting = self._last = None
        self._wanted = False

    # What the viewer says

    def _on_move(self, _: ViewerModel, event: Any) -> None:
        # Not called during a drag, so that no button is down, even if nobody told of its release.
        self._pressed = False
        # When napari is busy, it holds moves back, and delivers the last one after the mouse left.
        if not self._gone:
            self._mouse = _position(event)
            self._consider(*self._mouse)

    def _on_press(self, _: ViewerModel, event: Any) -> Generator[None, None, None]:
        # What is under a click is about to change; its preview stays until the object is there.
        self._pressed, self._waiting = True, None
        yield
        if event.type == "mouse_move":
            self._leave()
            while event.type == "mouse_move":
                yield
        self._pressed, self._mouse = False, _position(event)

    def _on_canvas(self) -> None:
        self._gone = not self._viewer.mouse_over_canvas
        if self._gone:
            self._mouse = None
            self._leave()

    def _on_slice(self) -> None:
        self._leave()

    def _on_axes(self) -> None:
        self._mouse = None
        self._leave()

    # What follows

    def _consider(
        self, position: tuple[float, ...], modifiers: frozenset[str], *, again: bool = False
    ) -> None:
        if not self._enabled:
            return
        question = self._question(position, modifiers)
        if question is None:
            self._leave()
        elif again or self._last is None or question.key != self._last.key:
            self._waiting = self._last = question
            self._go_on()

    def _question(self, position: tuple[float, ...], modifiers: frozenset[str]) -> _Question | None:
        """What to ask for a position in the world; None where there is nothing to ask."""
        dims = self._viewer.dims
        if dims.ndisplay != 2 or len(position) != dims.ndim:
            return None
        # The slice may be another one than when the mouse moved.
        world = [at if axis in dims.displayed else dims.point[axis] for axis, at in enumerate(position)]
        at = np.asarray(self._image.world_to_data(world), dtype=np.float64)
        size = np.asarray(image_shape(self._image))
        # A slice at the very end may be beyond it by rounding.
        inside = np.all((at >= -0.5 - 1e-6) & (at <= size - 0.5 + 1e-6))
        return _Question(at, modifiers) if inside else None

    def _go_on(self) -> None:
        if self._waiting is None or self._asked or self._paused or self._pressed or not self._enabled:
            return
        question, self._waiting = self._waiting, None
        self._asked = self._wanted = True
        try:
            self._ask(question.at, question.modifiers)
        except BaseException:
            self._asked = self._wanted = False
            raise

    def _leave(self) -> None:
        was_there = self._last is not None
        self._waiting = self._last = None
        self._wanted = False
        if was_there:
            self.left.emit()


def _position(event: Any) -> _Position:
    return tuple(event.position), frozenset(str(key.name) for key in event.modifiers)
