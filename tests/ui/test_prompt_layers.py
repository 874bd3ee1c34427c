"""The layers of prompts by themselves, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.annotation import Plane
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import Scribble
from napari_sam.ui.prompt_layers import PromptLayers

SHAPE = 5, 60, 70
ACROSS, ALONG, BESIDE = Plane((1, None, None)), Plane((None, None, 4)), Plane((None, 7, None))


@pytest.fixture
def layers() -> PromptLayers:
    viewer = ViewerModel()
    return PromptLayers(viewer, viewer.add_image(np.zeros(SHAPE, dtype=np.uint8)))


@pytest.fixture
def everything() -> dict[Plane, Prompts]:
    """Every kind of prompt, of both polarities, on planes that lie in three ways."""
    size = ACROSS.size_in(SHAPE)
    scribbles = [Scribble.create(size, [[1, 1], [9, 9]], 0), Scribble.create(size, [[1.3, 1]], 1)]
    points = [[1, 2], [3, 4.5], [5, 6]]
    return {
        ACROSS: Prompts.create(size, points=points, labels=[0, 1, 0], scribbles=scribbles),
        ALONG: Prompts.create(ALONG.size_in(SHAPE), points=[[1, 2]], labels=[1], box=[0, 1, 4, 3]),
        BESIDE: Prompts.create(BESIDE.size_in(SHAPE), lasso=[[0, 0], [20, 0], [30, 4]]),
    }


def test_what_is_written_is_read_and_coloured(layers: PromptLayers, everything: dict[Plane, Prompts]) -> None:
    for prompts in (everything, {}, everything):
        layers.write(prompts)
        assert layers.read() == (prompts, [])
        for layer in (layers.points, layers.shapes):
            assert len(layer.features) == len(layer.data)
            assert not layer.selected_data
    assert layers.points.features["polarity"].tolist() == ["negative", "positive", "negative", "positive"]
    assert layers.shapes.features["kind"].tolist() == ["scribble", "scribble", "box", "lasso"]
    for layer, colours in (
        (layers.points, layers.points.face_color),
        (layers.shapes, layers.shapes.edge_color),
    ):
        negative = (layer.features["polarity"] == "negative").to_numpy()
        np.testing.assert_array_equal(colours[:, 0] > colours[:, 1], negative)


def test_the_next_prompts_are_like_before(layers: PromptLayers, everything: dict[Plane, Prompts]) -> None:
    layers.polarity = "negative"
    layers.set_plane(ACROSS)
    layers.write(everything)
    layers.points.add([[1, 30, 31]])
    assert layers.points.face_color[-1, 0] > layers.points.face_color[-1, 1]
    read, ignored = layers.read()
    assert not ignored
    before, after = everything[ACROSS], read[ACROSS]
    np.testing.assert_array_equal(after.points, [*before.points.tolist(), [31, 30]])
    assert after.labels.tolist() == [*before.labels.tolist(), 0]
    assert after.scribbles[0] == before.scribbles[0]


def test_many_prompts_are_added_at_once(layers: PromptLayers) -> None:
    size, rng = ACROSS.size_in(SHAPE), np.random.default_rng(0)
    paths = [Scribble.create(size, rng.uniform(1, 59, (9, 2)), n % 2) for n in range(20)]
    points, labels = rng.uniform(1, 59, (100, 2)), rng.integers(0, 2, 100)
    calls: list[object] = []
    for layer in (layers.points, layers.shapes):
        layer.events.data.connect(lambda event: calls.append(event.source))
    prompts = {ACROSS: Prompts.create(size, points=points, labels=labels, scribbles=paths)}
    layers.write(prompts)
    # What comes before and after each call: napari takes milliseconds for one, whatever it adds.
    assert calls.count(layers.points) == calls.count(layers.shapes) == 2
    assert layers.read()[0] == prompts
