"""Tracks of objects: their centres, their graph, and the layer that shows them."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Tracks
from numpy.typing import NDArray

from napari_sam.annotation import Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.ui.tracks import Centres, tracks_of
from napari_sam.ui.tracks_layer import TracksLayer

SIZE = (40, 50)


def blob(rng: np.random.Generator) -> Mask:
    """A mask of any shape at any place."""
    bits = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < 0.6
    bits[0, 0] = True
    row, column = rng.integers(0, 30, 2)
    return Mask((int(row), int(column)), bits, SIZE)


def square(row: int, column: int, side: int = 3) -> Mask:
    return Mask((row, column), np.ones((side, side), dtype=bool), SIZE)


def moving(uid: int, times, *, parent: int = 0, number: int | None = None) -> SamObject:
    masks = {Plane((t, None, None)): square(2 * uid, 3 * t) for t in times}
    return SamObject(uid, uid if number is None else number, masks=masks, parent=parent)


def family() -> list[SamObject]:
    return [
        moving(1, range(3)),
        moving(2, range(3, 6), parent=1),
        moving(3, range(3, 5), parent=1),
        SamObject(4, 4, parent=9),
    ]


def by_hand(items: list[SamObject], time: int) -> NDArray[np.float64]:
    """The same with the pixels of whole images."""
    rows = []
    for item in items:
        full: dict[int, list[tuple[int, ...]]] = {}
        for plane, mask in item.masks.items():
            for y, x in np.argwhere(mask.to_array()):
                full.setdefault(plane.index[time], []).append((*plane.index[time + 1 : -2], y, x))
        rows += [(item.id, t, *np.mean(full[t], axis=0)) for t in sorted(full)]
    return np.array(rows)


def test_centres_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(3)
    items = [
        SamObject(
            uid, 10 - uid, masks={Plane((t, z, None, None)): blob(rng) for t in range(4) for z in (0, 2, 5)}
        )
        for uid in range(1, 6)
    ]
    tracks = tracks_of(items, 0, (0, 0, None, None))
    np.testing.assert_allclose(tracks.data, by_hand(sorted(items, key=lambda item: item.id), 0))
    assert tracks.properties["area"].sum() == sum(item.area for item in items)
    # Along z, at one time, the others do not count.
    there = [
        SamObject(item.uid, item.id, masks={p: m for p, m in item.masks.items() if p.index[0] == 2})
        for item in items
    ]
    tracks = tracks_of(items, 1, (2, 0, None, None))
    np.testing.assert_allclose(tracks.data, by_hand(sorted(there, key=lambda item: item.id), 1))


def test_daughters_have_their_mother() -> None:
    tracks = tracks_of(family(), 0, (0, None, None))
    assert tracks.graph == {2: [1], 3: [1]}
    assert dict(zip(tracks.properties["id"].tolist(), tracks.properties["parent"].tolist(), strict=True)) == {
        1: 0,
        2: 1,
        3: 1,
    }
    # A mother that is nowhere is no node of the graph.
    items = family()
    items[0] = SamObject(1, 1)
    assert tracks_of(items, 0, (0, None, None)).graph == {}


def test_nothing_makes_no_tracks() -> None:
    for items in ([], [SamObject(1, 1)]):
        tracks = tracks_of(items, 0, (0, None, None))
        assert tracks.data.shape == (0, 4)
        assert tracks.graph == {}


def test_great_ids_get_other_numbers() -> None:
    items = [moving(1, range(3), number=7), moving(2, range(3, 6), parent=1, number=2**60)]
    tracks = tracks_of(items, 0, (0, None, None))
    assert np.unique(tracks.data[:, 0]).tolist() == [1, 2]
    assert np.unique(tracks.properties["id"]).tolist() == [7, 2**60]
    assert tracks.graph == {2: [1]}


def test_what_is_known_is_not_computed_again_and_what_changed_is() -> None:
    centres, items = Centres(), family()
    first = tracks_of(items, 0, (0, None, None), centres)
    again = tracks_of(items, 0, (0, None, None), centres)
    np.testing.assert_array_equal(first.data, again.data)
    masks = dict(items[1].masks)
    masks[Plane((4, None, None))] = square(30, 40, 5)
    del masks[Plane((5, None, None))]
    items[1] = SamObject(2, 2, masks=masks, parent=1)
    changed = tracks_of(items, 0, (0, None, None), centres)
    np.testing.assert_array_equal(changed.data, tracks_of(items, 0, (0, None, None)).data)
    assert [2, 4, 32, 42] in changed.data.tolist()
    assert len(changed.data) == len(first.data) - 1


# The layer


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def layer_of(viewer: ViewerModel, shape=(6, *SIZE), **options) -> TracksLayer:
    image = viewer.add_image(np.zeros(shape, dtype=np.uint8), name="film", **options)
    return TracksLayer(viewer, image, shape, list)


def test_the_layer_lies_on_the_image(viewer: ViewerModel) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    shown = layer_of(
        viewer, scale=(2, 0.5, 0.25), translate=(1, 10, 20), affine=affine, units=("s", "um", "um")
    )
    assert shown.show(family(), Plane((0, None, None)))
    (tracks,) = (layer for layer in viewer.layers if isinstance(layer, Tracks))
    image = viewer.layers["film"]
    for at in ((0, 0, 0), (3, 10, 20)):
        np.testing.assert_allclose(tracks.data_to_world(at), image.data_to_world(at))
    image.translate, image.scale = (0, 5, 5), (1, 3, 3)
    np.testing.assert_allclose(tracks.data_to_world((3, 10, 20)), image.data_to_world((3, 10, 20)))
    assert tracks.units == image.units


def test_of_a_volume_in_time_either_axis_can_be_followed(viewer: ViewerModel) -> None:
    shown = layer_of(viewer, (4, 6, *SIZE), scale=(5, 2, 0.5, 0.5), translate=(0, 7, 0, 0))
    image = viewer.layers["film"]
    masks = {Plane((t, z, None, None)): square(z, t + z) for t in range(4) for z in range(6)}
    item = SamObject(1, 1, masks=masks)
    shown.show([item], Plane((2, 3, None, None)), 0)
    assert shown.layer.data.tolist() == [[1, t, 2.5, 3.5, t + 3.5] for t in range(4)]
    np.testing.assert_allclose(shown.layer.data_to_world((1, 2, 3, 4)), image.data_to_world((1, 2, 3, 4)))
    shown.show([item], Plane((2, 3, None, None)), 1)
    (tracks,) = (layer for layer in viewer.layers if isinstance(layer, Tracks))
    assert tracks.data.tolist() == [[1, z, z + 1, z + 3] for z in range(6)]
    np.testing.assert_allclose(tracks.data_to_world((2, 3, 4)), image.data_to_world((0, 2, 3, 4))[1:])
    assert not shown.is_of(Plane((3, 3, None, None)), 1)
    assert shown.is_of(Plane((2, 5, None, None)), 1)


def test_an_image_of_many_axes_has_no_tracks(viewer: ViewerModel) -> None:
    shown = layer_of(viewer, (4, 1, 1, 1, *SIZE))
    assert not shown.show(family(), Plane((0, 0, 0, 0, None, None)), 0)
    assert len(viewer.layers) == 1


def test_how_tracks_look_stays_when_they_change(viewer: ViewerModel) -> None:
    shown = layer_of(viewer)
    plane = Plane((0, None, None))
    shown.show(family(), plane)
    layer = shown.layer
    layer.color_by, layer.tail_width, layer.name = "area", 5, "mine"
    shown.show(family()[:1], plane)
    assert shown.layer is layer
    assert (layer.color_by, layer.tail_width, layer.name) == ("area", 5, "mine")
    assert layer.graph == {}
    assert len(layer.data) == 3
    shown.show(family(), plane)
    assert layer.graph == {2: [1], 3: [1]}
    assert layer.properties["parent"].max() == 1


def test_only_its_own_layer_is_touched(viewer: ViewerModel) -> None:
    mine = viewer.add_tracks(np.array([[1, 0, 2, 3], [1, 1, 2, 4]]), name="film: tracks")
    shown = layer_of(viewer)
    active = viewer.layers.selection.active = viewer.layers["film"]
    shown.show(family(), Plane((0, None, None)))
    assert viewer.layers.selection.active is active
    assert len(mine.data) == 2
    assert sum(isinstance(layer, Tracks) for layer in viewer.layers) == 2
    # Without an object that is somewhere there is nothing to show.
    shown.show([], Plane((0, None, None)))
    assert list(viewer.layers) == [mine, active]
    shown.show(family(), Plane((0, None, None)))
    viewer.layers.remove(shown.layer)
    assert shown.was_removed
    shown.close()
    assert mine in viewer.layers


def test_a_layer_can_be_left_behind(viewer: ViewerModel) -> None:
    shown = layer_of(viewer)
    shown.show(family(), Plane((0, None, None)))
    layer = shown.layer
    shown.close(keep_layer=True)
    assert layer in viewer.layers
    viewer.layers["film"].translate = (0, 9, 9)
    assert not np.allclose(layer.translate, (0, 9, 9))
