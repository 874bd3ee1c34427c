"""The masks that an ambiguous click can mean, as pictures to choose from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, QRect, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

from napari_sam.inference.mask import Mask

__all__ = ["CandidateRow", "common_square", "thumbnail"]

_COUNT = 3
_SIDE = 48
_GAP = 4
_COLOUR = (0, 190, 220)
"""Red, green, blue: of the preview's hue, and dark enough for a light theme."""

_FINER = 3
"""Pixels of a mask that are read along each side of a pixel of its picture."""


def common_square(masks: Sequence[Mask]) -> tuple[float, float, float]:
    """The square around all masks: first row and column, and side, in pixels; with a little air around.

    Examples
    --------
    >>> common_square([Mask((10, 20), np.ones((10, 20), dtype=bool), (100, 100))])
    (4.0, 19.0, 22.0)
    """
    boxes = np.array([box for mask in masks if (box := mask.box_xyxy) is not None], dtype=float)
    if not len(boxes):
        return 0.0, 0.0, 1.0
    x0, y0 = boxes[:, :2].min(axis=0)
    x1, y1 = boxes[:, 2:].max(axis=0) + 1
    side = 1.1 * max(x1 - x0, y1 - y0)
    return float((y0 + y1 - side) / 2), float((x0 + x1 - side) / 2), float(side)


def thumbnail(mask: Mask, square: tuple[float, float, float], side: int) -> NDArray[np.uint8]:
    """How much of each pixel of a picture a mask covers.

    Only a few pixels of the mask are read for each of the picture, so that its size does not matter.

    Parameters
    ----------
    mask : Mask
    square : tuple of float
        First row and column and side of what the picture shows, in pixels of the mask's plane.
    side : int
        Of the picture, in its own pixels.

    Returns
    -------
    ndarray, shape (side, side), uint8
        255 where all is covered.
    """
    top, left, size = square
    steps = (np.arange(side * _FINER) + 0.5) * (size / (side * _FINER))
    fine = np.zeros((side * _FINER, side * _FINER), dtype=np.uint8)
    rows, bit_rows = _seen(top + steps, mask.origin[0], mask.bits.shape[0])
    columns, bit_columns = _seen(left + steps, mask.origin[1], mask.bits.shape[1])
    fine[np.ix_(rows, columns)] = mask.bits[np.ix_(bit_rows, bit_columns)]
    share = fine.reshape(side, _FINER, side, _FINER).mean(axis=(1, 3))
    return np.round(255 * share).astype(np.uint8)


def _seen(
    positions: NDArray[np.floating], first: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of the positions along an axis lie on `count` pixels from `first`, and on which of these."""
    pixels = np.floor(positions).astype(int) - first
    there = np.flatnonzero((pixels >= 0) & (pixels < count))
    if count and not there.size:
        # Narrower than the space between positions: still there for the eye.
        there = np.array([np.abs(pixels).argmin()])
        return there, np.zeros(1, dtype=int)
    return there, pixels[there]


class CandidateRow(QWidget):
    """A button for each of up to three candidates: its mask, and the predicted IoU below.

    While there is nothing to choose from it is invisible, but keeps its place, so that nothing jumps.

    Parameters
    ----------
    parent : QWidget, optional
    """

    picked = Signal(int)
    """The user chose another candidate: its number, from 0."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._candidates: list[tuple[Mask, float]] = []
        self._chosen = -1
        self._group = QButtonGroup(self)
        self._group.idClicked.connect(self._on_click)
        self.buttons = [_Picture() for _ in range(_COUNT)]
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for number, button in enumerate(self.buttons):
            self._group.addButton(button, number)
            layout.addWidget(button)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        policy.setRetainSizeWhenHidden(True)
        self.setSizePolicy(policy)
        self.hide()

    def show_candidates(self, candidates: Sequence[tuple[Mask, float]], chosen: int) -> None:
        """Show what there is to choose from.

        Parameters
        ----------
        candidates : sequence of (Mask, float)
            Masks of one plane and their predicted IoUs; three, or fewer than two where there is no choice.
        chosen : int
            The number of the one that is the object's mask now; any other number if none is.

        Raises
        ------
        ValueError
            If there are more than three.
        """
        if len(candidates) > _COUNT:
            raise ValueError(f"There is room for {_COUNT} candidates, not for {len(candidates)}.")
        if list(candidates) != self._candidates:
            self._candidates = list(candidates)
            self._draw()
        self._chosen = chosen
        # A group of which one button must be checked would keep the one before.
        self._group.setExclusive(False)
        for number, button in enumerate(self.buttons):
            button.setChecked(number == chosen and number < len(candidates))
        self._group.setExclusive(True)
        self.setVisible(len(candidates) > 1)

    def _draw(self) -> None:
        square = common_square([mask for mask, _ in self._candidates])
        count = len(self._candidates)
        for number, button in enumerate(self.buttons):
            button.setVisible(number < count)
            if number < count:
                mask, score = self._candidates[number]
                button.show_mask(mask, square)
                button.setText(f"{score:.2f}")
                area = f"{mask.area:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
                button.setToolTip(
                    f"Candidate {number + 1} of {count}: {area} pixels, predicted IoU {score:.2f}.\n"
                    "Click to make it the object's mask."
                )

    def _on_click(self, number: int) -> None:
        if number != self._chosen:
            self._chosen = number
            self.picked.emit(number)


class _Picture(QPushButton):
    """A button as the theme has them, with a mask above the text."""

    def __init__(self) -> None:
        super().__init__("0.00")
        self._image = QImage()
        self.setCheckable(True)
        # The canvas keeps the keyboard, so that shortcuts work right after a button was clicked.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_mask(self, mask: Mask, square: tuple[float, float, float]) -> None:
        """Draw another mask."""
        ratio = self.devicePixelRatioF()
        side = round(_SIDE * ratio)
        picture = np.empty((side, side, 4), dtype=np.uint8)
        picture[..., :3], picture[..., 3] = _COLOUR, thumbnail(mask, square, side)
        image = QImage(picture.tobytes(), side, side, 4 * side, QImage.Format.Format_RGBA8888)
        # Its own pixels: Qt does not keep those that it was given alive.
        self._image = image.copy()
        self._image.setDevicePixelRatio(ratio)
        self.update()

    def sizeHint(self) -> QSize:
        """Room for the picture and a line of text."""
        return QSize(_SIDE + 2 * _GAP, _SIDE + self.fontMetrics().height() + 3 * _GAP)

    def minimumSizeHint(self) -> QSize:
        """Room for the picture and a line of text."""
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        """Draw the button without its text, then picture and text."""
        option = QStyleOptionButton()
        self.initStyleOption(option)
        option.text = ""
        painter = QStylePainter(self)
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QPoint((self.width() - _SIDE) // 2, _GAP), self._image)
        painter.setPen(self.palette().color(QPalette.ColorRole.ButtonText))
        below = QRect(0, _SIDE + _GAP, self.width(), self.height() - _SIDE - _GAP)
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, self.text())
        painter.end()
