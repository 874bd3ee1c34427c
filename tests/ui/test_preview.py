from __future__ import annotations

import gc
import time
import weakref
from itertools import permutations

import numpy as np
import pytest
from canvas import Canvas, turn
from napari.layers import Labels
from napari.settings import get_settings
from qtpy.QtTest import QTest

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask
from napari_sam.ui.coordinates import displayed_plane
from napari_sam.ui.layers import point_layer
from napari_sam.ui.plane import image_shape
from napari_sam.ui.preview import PreviewLayer

pytestmark = pytest.mark.gui

PLANE = Plane((None, None))


def square(shape=(60, 80), top=10, left=20, side=15) -> Mask:
    return Mask((top, left), np.ones((side, side), dtype=bool), shape)


@pytest.fixture
def preview_of(viewer):
    """Makes previews, and closes them before the next test."""
    made = []

    def make(image, below=()):
        made.append(PreviewLayer(viewer, image, lambda: below))
        return made[-1]

    yield make
    for preview in made:
        preview.close()


def drawn(viewer) -> np.ndarray:
    """The canvas as it is on the screen."""
    turn()
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)


def colour_at(viewer, canvas: Canvas, layer, at) -> np.ndarray:
    spot = canvas.pixel(layer, at)
    picture = drawn(viewer)
    factor = picture.shape[1] / canvas._canvas.native.width()
    return picture[round(spot.y() * factor), round(spot.x() * factor)]


def test_masks_replace_each_other(viewer, preview_of) -> None:
    preview = preview_of(viewer.add_image(np.zeros((60, 80)), name="image"))
    assert preview.layer is None
    ring = np.ones((20, 20), dtype=bool)
    ring[5:15, 5:15] = False
    for positive, mask in (
        (True, square()),
        (False, Mask((15, 25), ring, (60, 80))),
        (True, square(side=60, top=0, left=0)),
        (True, Mask.empty((60, 80))),
    ):
        preview.show(mask, PLANE, positive)
        np.testing.assert_array_equal(preview.layer.data, mask.to_array() * (1 if positive else 2))
    preview.show(square(), PLANE)
    preview.clear()
    assert not preview.layer.data.any()
    preview.show(square(), PLANE)
    assert preview.layer.data.sum() == 225


def test_what_is_drawn(viewer, canvas, preview_of) -> None:
    image = viewer.add_image(np.zeros((60, 80)), name="image")
    viewer.reset_view()
    preview = preview_of(image)
    inside, outside = (17, 27), (40, 60)
    background = colour_at(viewer, canvas, image, inside)
    preview.show(square(), PLANE)
    red, green, blue = colour_at(viewer, canvas, image, inside) - background
    assert red < 20 < 80 < green < blue
    np.testing.assert_array_equal(colour_at(viewer, canvas, image, outside), background)
    preview.show(square(), PLANE, positive=False)
    red, green, blue = colour_at(viewer, canvas, image, inside) - background
    assert red > green > 20 > blue
    preview.clear()
    np.testing.assert_array_equal(colour_at(viewer, canvas, image, inside), background)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_plane_of_a_transformed_stack(viewer, canvas, preview_of, order) -> None:
    """A pixel of the mask lies where the same pixel of the image lies, and on that slice only."""
    image = viewer.add_image(
        np.zeros((7, 8, 9)),
        name="stack",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=20 if order[0] == 0 else 0,
        shear=(0, 0, 0.1) if order[0] == 0 else None,
        affine=np.array([[1, 0, 0, 4], [0, 2, 0, -1], [0, 0, 3, 0], [0, 0, 0, 1]]),
        units=("um", "um", "um"),
    )
    viewer.dims.order = order
    preview = preview_of(image)
    viewer.reset_view()
    ranges, view = viewer.dims.range, (viewer.scene.camera.center, viewer.scene.camera.zoom)
    for at in (3, 5):
        viewer.dims.set_point(order[0], image.data_to_world((at, at, at))[order[0]])
        plane = displayed_plane(viewer.dims, image, image_shape(image))
        assert plane.index[order[0]] == at
        shape = tuple(np.delete(image.data.shape, order[0]))
        preview.show(Mask((2, 3), np.ones((2, 3), dtype=bool), shape), plane)
        turn()
        layer = preview.layer
        assert layer.data.size == np.prod(shape)
        there = np.argwhere(layer.data)
        wanted = np.array([[at if i is None else i for i in plane.index]] * 6)
        wanted[:, list(plane.axes)] = np.add(np.argwhere(np.ones((2, 3))), (2, 3))
        for mine, pixel in zip(there, wanted, strict=True):
            np.testing.assert_allclose(layer.data_to_world(mine), image.data_to_world(pixel), atol=1e-9)
            world = image.data_to_world(pixel)
            assert layer.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed)) == 1
        assert layer.units == image.units
    np.testing.assert_allclose(viewer.dims.range, ranges)
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == view
    # Nothing of it on another slice, even if nobody clears it.
    viewer.dims.set_point(order[0], image.data_to_world((1, 1, 1))[order[0]])
    assert layer.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed)) in (None, 0)


def test_more_axes_rgb_and_levels(viewer, preview_of) -> None:
    five = viewer.add_image(np.zeros((2, 3, 4, 20, 30)), name="5-D")
    preview = preview_of(five)
    preview.show(square((20, 30), 1, 2, 5), Plane((1, 2, 3, None, None)))
    assert preview.layer.data.shape == (1, 1, 1, 20, 30)
    np.testing.assert_array_equal(preview.layer.translate, (1, 2, 3, 0, 0))
    rgb = viewer.add_image(np.zeros((20, 30, 3), dtype=np.uint8), rgb=True, name="rgb")
    other = preview_of(rgb)
    other.show(square((20, 30), 1, 2, 5), PLANE)
    assert other.layer.data.shape == (20, 30)
    levels = viewer.add_image([np.zeros((40, 60)), np.zeros((20, 30))], multiscale=True, name="levels")
    third = preview_of(levels)
    third.show(square((40, 60), 1, 2, 5), PLANE)
    assert third.layer.data.shape == (40, 60)
    turn()


def test_it_follows_the_image(viewer, preview_of) -> None:
    image = viewer.add_image(np.zeros((4, 20, 30)), name="image")
    preview = preview_of(image)
    preview.show(square((20, 30), 1, 2, 5), Plane((2, None, None)))
    image.scale, image.translate, image.rotate = (3, 2, 1), (7, 8, 9), 30
    image.affine = np.diag([1.0, 2, 2, 1])
    np.testing.assert_allclose(preview.layer.data_to_world((0, 4, 5)), image.data_to_world((2, 4, 5)))
    image.data = np.zeros((4, 25, 35))
    preview.show(square((25, 35), 20, 30, 5), Plane((2, None, None)))
    assert preview.layer.data.shape == (1, 25, 35)
    assert not preview.layer.editable


def test_nothing_else_is_disturbed(viewer, preview_of) -> None:
    image = viewer.add_image(np.zeros((60, 80)), name="image")
    result = viewer.add_labels(np.zeros((60, 80), dtype=int), name="objects")
    first, second = (viewer.add_layer(point_layer(image, 3)) for _ in range(2))
    viewer.add_labels(np.zeros((60, 80), dtype=int), name="of somebody else")
    selection = viewer.layers.selection
    heard = []
    for selected in ({first}, {image, second}, set()):
        selection.clear()
        selection.update(selected)
        turn()
        active = selection.active
        for event in (selection.events.active, selection.events.changed):
            event.connect(heard.append)
        preview = preview_of(image, [second, first, Labels(np.zeros((2, 2), dtype=int))])
        preview.show(square(), PLANE)
        turn()
        assert selection == selected
        assert selection.active is active
        assert viewer.layers[2:5] == [preview.layer, first, second]
        assert viewer.layers[1] is result
        assert preview.owns(preview.layer)
        assert not preview.owns(None)
        assert not preview.owns(result)
        assert not preview.layer.editable
        preview.close()
        turn()
        assert selection == selected
        # napari tells of empty changes, too.
        assert not [event for event in heard if event.type == "active" or event.added or event.removed]
        for event in (selection.events.active, selection.events.changed):
            event.disconnect(heard.append)
    preview = preview_of(image)
    preview.show(square(), PLANE)
    assert viewer.layers[-1] is preview.layer


def test_it_is_known_as_ours_when_it_is_announced(viewer, preview_of) -> None:
    preview = preview_of(viewer.add_image(np.zeros((60, 80)), name="image"))
    known = []
    listener = viewer.layers.events.inserted.connect(lambda event: known.append(preview.owns(event.value)))
    preview.show(square(), PLANE)
    viewer.layers.events.inserted.disconnect(listener)
    assert known == [True]


def test_layers_come_and_go_only_when_they_must(viewer, preview_of) -> None:
    preview = preview_of(viewer.add_image(np.zeros((3, 60, 80)), name="image"))
    changes = []
    for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
        event.connect(changes.append)
    for at in (0, 1, 1, 2):
        preview.show(square(left=at), Plane((at, None, None)))
        preview.clear()
        preview.clear()
    assert len(changes) == 1
    before = preview.layer
    viewer.layers.remove(before)
    preview.clear()
    turn()
    assert len(changes) == 2
    preview.show(square(), Plane((2, None, None)))
    assert preview.layer is not before
    assert preview.layer in viewer.layers
    assert preview.layer.data.sum() == 225
    preview.close()
    preview.close()
    assert preview.layer is None
    assert [layer.name for layer in viewer.layers] == ["image"]
    for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
        event.disconnect(changes.append)


def test_closing_can_leave_the_layer(viewer, preview_of) -> None:
    preview = preview_of(viewer.add_image(np.zeros((60, 80)), name="image"))
    preview.show(square(), PLANE)
    layer = preview.layer
    preview.close(keep_layer=True)
    assert layer in viewer.layers


def test_lazy_slicing(viewer, canvas, preview_of) -> None:
    settings = get_settings().experimental
    settings.async_ = True
    try:
        image = viewer.add_image(np.zeros((60, 80)), name="image")
        viewer.reset_view()
        QTest.qWait(50)
        preview = preview_of(image)
        background = colour_at(viewer, canvas, image, (17, 27))
        for left in range(20):
            preview.show(square(left=left), PLANE)
        QTest.qWait(100)
        assert (colour_at(viewer, canvas, image, (17, 27)) - background)[2] > 80
        np.testing.assert_array_equal(colour_at(viewer, canvas, image, (17, 70)), background)
    finally:
        settings.async_ = False


def test_a_large_image_is_no_slower(viewer, preview_of) -> None:
    """The budget is wide: a full refresh of a layer of this size takes several hundred milliseconds."""
    side = 8192
    preview = preview_of(viewer.add_image(np.zeros((side, side), dtype=np.uint8), name="large"))
    masks = [square((side, side), top, top, 200) for top in range(0, 4000, 100)]
    preview.show(masks[0], PLANE)
    taken = []
    for mask in masks[1:]:
        start = time.perf_counter()
        preview.show(mask, PLANE)
        taken.append(time.perf_counter() - start)
    assert np.median(taken) < 0.05, f"{1000 * np.median(taken):.1f} ms"


def test_nothing_is_left_behind(viewer) -> None:
    image = viewer.add_image(np.zeros((60, 80)), name="image")
    preview = PreviewLayer(viewer, image, list)
    preview.show(square(), PLANE)
    turn()
    gone = weakref.ref(preview), weakref.ref(preview.layer)
    preview.close()
    del preview
    turn()
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is None
