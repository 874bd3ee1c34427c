from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest
from canvas import Canvas, check, settle, turn
from napari import Viewer
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from skimage import data, filters, segmentation

from napari_sam.ui.controller import Controller
from napari_sam.ui.widget import SegmentWidget


@pytest.fixture(scope="session")
def coins() -> NDArray[np.uint8]:
    return data.coins()


@pytest.fixture(scope="session")
def true_coins(coins: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One label per coin, by watershed on the edges (scikit-image's well-known example)."""
    markers = np.zeros(coins.shape, dtype=np.int32)
    markers[coins < 30], markers[coins > 150] = 1, 2
    filled = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(coins), markers) == 2)
    labels, count = ndimage.label(filled)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = np.flatnonzero(sizes > 500)[1:]
    return np.where(np.isin(labels, kept), labels, 0).astype(np.int32)


@pytest.fixture(scope="session")
def centres(true_coins: NDArray[np.int32]) -> list[tuple[float, float]]:
    """Row and column of the middle of each coin."""
    ids = np.unique(true_coins)[1:]
    return [
        (float(row), float(column)) for row, column in ndimage.center_of_mass(true_coins > 0, true_coins, ids)
    ]


@pytest.fixture(scope="session")
def window(qapp: QApplication) -> Iterator[Viewer]:
    """One real viewer on the screen for all tests: opening one takes longer than most of them."""
    viewer = Viewer(show=True)
    viewer.window.resize(1200, 800)
    turn()
    yield viewer
    viewer.close()
    turn()


@pytest.fixture
def viewer(window: Viewer) -> Iterator[Viewer]:
    """The viewer as it is when it was just opened."""
    yield window
    window.layers.clear()
    turn()
    window.dims.ndisplay = 2
    window.dims.order = (0, 1)
    window.dims.ndim = 2
    turn()


@pytest.fixture
def canvas(viewer: Viewer) -> Canvas:
    return Canvas(viewer)


@pytest.fixture
def open_widget(viewer: Viewer) -> Iterator[Callable[..., SegmentWidget]]:
    """Opens docked widgets; afterwards, checks what must always hold and closes those that are still open."""
    opened: list[SegmentWidget] = []

    def open_one(**options: object) -> SegmentWidget:
        widget = SegmentWidget(viewer, **options)
        viewer.window.add_dock_widget(widget, name=f"Segment {len(opened)}", area="right")
        opened.append(widget)
        turn()
        return widget

    yield open_one
    try:
        for widget in opened:
            check(widget.controller)
    finally:
        _close(viewer, opened)


def _close(viewer: Viewer, opened: list[SegmentWidget]) -> None:
    for widget in opened:
        with suppress(LookupError):  # the test closed it
            viewer.window.remove_dock_widget(widget)
        widget.deleteLater()
    turn()


@pytest.fixture
def widget(
    viewer: Viewer, coins: NDArray[np.uint8], open_widget: Callable[..., SegmentWidget]
) -> SegmentWidget:
    """The widget on the coins, ready for clicks."""
    viewer.add_image(coins, name="coins")
    widget = open_widget()
    viewer.reset_view()
    settle(widget.controller)
    return widget


@pytest.fixture
def on_coins(widget: SegmentWidget) -> Controller:
    """What the widget on the coins talks to."""
    return widget.controller
