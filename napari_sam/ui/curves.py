"""Curves of numbers over steps, drawn in a widget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Curve", "Curves"]

_GAP = 6
_TICKS = 4


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes
    ----------
    name : str
        For the legend; none if empty.
    colour : str
    points : sequence of (float, float)
        In the order of their first numbers.
    marked : bool
        Draw a dot at each point, since there are few.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


class Curves(QWidget):
    """Some curves over the same axes, with a title.

    Parameters
    ----------
    title : str
    bounds : tuple of float, optional
        What the vertical axis shows at the least; it grows with the numbers.
    """

    def __init__(self, title: str, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        self._title, self._bounds = title, bounds
        self._curves: Sequence[Curve] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(90)
        self.setAccessibleName(title)

    @property
    def curves(self) -> Sequence[Curve]:
        """What is drawn."""
        return self._curves

    def show_curves(self, curves: Sequence[Curve]) -> None:
        """Draw these instead."""
        self._curves = curves
        self.update()

    def sizeHint(self) -> QSize:
        """Wide enough for the dock widget."""
        return QSize(320, 130)

    def paintEvent(self, _: QPaintEvent | None) -> None:
        """Draw title, legend, axes and curves."""
        painter = QPainter(self)
        try:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            font = painter.font()
            font.setPointSizeF(font.pointSizeF() * 0.85)
            painter.setFont(font)
            self._draw(painter)
        finally:
            painter.end()

    def _draw(self, painter: QPainter) -> None:
        metrics = QFontMetricsF(painter.font())
        line = metrics.height()
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        pale = QColor(ink)
        pale.setAlphaF(0.25)
        points = [point for curve in self._curves for point in curve.points]
        painter.setPen(ink)
        painter.drawText(QPointF(0, metrics.ascent()), self._title)
        self._draw_legend(painter, metrics)
        if not points:
            painter.setPen(pale)
            painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter, "not yet")
            return
        low, high = _rounded([y for _, y in points], self._bounds)
        ticks = _ticks(low, high)
        words = [f"{tick:g}" for tick in ticks]
        left = max(metrics.horizontalAdvance(word) for word in words) + _GAP
        frame = QRectF(left, line + _GAP, self.width() - left - _GAP, self.height() - 2.3 * line - _GAP)
        for tick, word in zip(ticks, words, strict=True):
            y = frame.bottom() - (tick - low) / (high - low) * frame.height()
            painter.setPen(pale)
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
            painter.setPen(ink)
            painter.drawText(
                QPointF(left - _GAP - metrics.horizontalAdvance(word), y + metrics.ascent() / 2 - 1), word
            )
        last = max(x for x, _ in points)
        foot = frame.bottom() + metrics.ascent() + 3
        painter.drawText(QPointF(frame.left(), foot), "step 0")
        word = f"{last:,.0f}"
        painter.drawText(QPointF(frame.right() - metrics.horizontalAdvance(word), foot), word)
        for curve in self._curves:
            placed = QPolygonF(
                [
                    QPointF(
                        frame.left() + x / max(last, 1) * frame.width(),
                        frame.bottom() - (y - low) / (high - low) * frame.height(),
                    )
                    for x, y in curve.points
                ]
            )
            painter.setPen(QPen(QColor(curve.colour), 1.8))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolyline(placed)
            if curve.marked or len(curve.points) == 1:
                painter.setBrush(QColor(curve.colour))
                for point in curve.points:
                    x = frame.left() + point[0] / max(last, 1) * frame.width()
                    y = frame.bottom() - (point[1] - low) / (high - low) * frame.height()
                    painter.drawEllipse(QPointF(x, y), 2.5, 2.5)

    def _draw_legend(self, painter: QPainter, metrics: QFontMetricsF) -> None:
        x = float(self.width()) - _GAP
        for curve in reversed(self._curves):
            if not curve.name:
                continue
            x -= metrics.horizontalAdvance(curve.name)
            painter.setPen(QColor(curve.colour))
            painter.drawText(QPointF(x, metrics.ascent()), curve.name)
            x -= 2 * _GAP


def _rounded(values: Sequence[float], bounds: tuple[float, float] | None) -> tuple[float, float]:
    """What an axis shows: all values, and a little more, between round numbers."""
    known = [*values, *(bounds or ())] or [0.0, 1.0]
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _step(low, high)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    count = round((high - low) / step)
    return [round(low + step * number, 10) for number in range(count + 1)]


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are about four steps."""
    rough = (high - low) / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
