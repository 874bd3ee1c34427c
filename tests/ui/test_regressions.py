"""What went wrong once, by the way in which it did."""

from __future__ import annotations

import numpy as np
import pytest
from canvas import Canvas, settle, turn

from napari_sam.ui.controller import Controller

pytestmark = pytest.mark.gui


def test_clicks_before_and_after_another_image_are_two_steps(
    on_coins: Controller, canvas: Canvas, centres, coins
) -> None:
    image = on_coins.image
    canvas.click(image, centres[3])
    settle(on_coins)
    on_coins.set_image(on_coins.viewer.add_image(coins[::-1].copy(), name="other"))
    settle(on_coins)
    on_coins.set_image(image)
    settle(on_coins)
    canvas.click(image, np.add(centres[3], 6))
    settle(on_coins)
    assert len(on_coins.session.prompts.points.data) == 2
    on_coins.undo()
    settle(on_coins)
    assert len(on_coins.session.prompts.points.data) == 1


def test_a_layer_that_is_full_takes_the_last_object_without_an_error(
    on_coins: Controller, canvas: Canvas, centres
) -> None:
    full = np.zeros(on_coins.image.data.shape, dtype=np.uint8)
    full[0, :254] = np.arange(1, 255)
    assert on_coins.set_result(on_coins.viewer.add_labels(full, name="full"))
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    on_coins.accept()
    turn()
    assert on_coins.document.current.id == 256
    assert "another id" in on_coins.status
    canvas.click(on_coins.image, centres[4])
    settle(on_coins)
    assert on_coins.labels.max() == 255
