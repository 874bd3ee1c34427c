from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_sam.annotation import Annotation, Plane, SamObject
from napari_sam.inference.mask import Mask
from napari_sam.ui.layers import box_layer, first_free_id, point_layer, refusal, result_layer
from napari_sam.ui.painting import Painter

PLANE = Plane((None, None))


def mask(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (20, 30)) -> Mask:
    return Mask((top, left), np.ones((height, width), dtype=bool), shape)


@pytest.fixture
def document() -> Annotation:
    return Annotation(first_id=5)


def show(painter: Painter, document: Annotation, new: Mask | None, plane: Plane = PLANE) -> SamObject:
    item = document.current
    document.set_mask(item, plane, new, 1.0)
    painter.paint(item, plane)
    return item


def test_a_mask_replaces_the_one_before(document: Annotation) -> None:
    labels = Labels(np.zeros((20, 30), dtype=np.int32))
    painter = Painter(labels)
    for new in (mask(2, 3, 5, 6), mask(4, 5, 9, 9), mask(15, 20, 2, 2), mask(0, 0, 20, 30)):
        show(painter, document, new)
        np.testing.assert_array_equal(labels.data, np.where(new.to_array(), 5, 0))
    show(painter, document, None)
    assert not labels.data.any()


def test_other_labels_are_never_overwritten(document: Annotation) -> None:
    before = np.zeros((20, 30), dtype=np.int32)
    before[5:10, 5:10] = 3
    labels = Labels(before.copy())
    painter = Painter(labels)
    show(painter, document, mask(0, 0, 8, 8))
    np.testing.assert_array_equal(labels.data == 3, before == 3)
    assert (labels.data == 5).sum() == 64 - 9
    show(painter, document, None)
    np.testing.assert_array_equal(labels.data, before)


def test_what_is_painted_by_hand_stays(document: Annotation) -> None:
    labels = Labels(np.zeros((20, 30), dtype=np.int32))
    painter = Painter(labels)
    show(painter, document, mask(0, 0, 10, 10))
    by_hand = labels.data.copy()
    by_hand[0, 0] = 9  # another label on the object
    by_hand[1, 1] = 0  # erased
    by_hand[12, 12] = 5  # the object's own label, but not the object's doing
    labels.data[...] = by_hand
    show(painter, document, mask(5, 5, 10, 10))
    assert labels.data[0, 0] == 9
    assert labels.data[12, 12] == 5
    show(painter, document, None)
    assert np.argwhere(labels.data).tolist() == [[0, 0], [12, 12]]


def test_an_object_may_take_what_became_free(document: Annotation) -> None:
    labels = Labels(np.full((20, 30), 3, dtype=np.int32))
    painter = Painter(labels)
    show(painter, document, mask(0, 0, 10, 10))
    assert (labels.data == 3).all()
    labels.data[...] = 0
    show(painter, document, mask(0, 0, 10, 11))
    assert (labels.data == 5).sum() == 110


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_planes_of_a_stack(document: Annotation, axes: tuple[int, int]) -> None:
    labels = Labels(np.zeros((7, 8, 9), dtype=np.uint16))
    painter = Painter(labels)
    plane = Plane(tuple(None if axis in axes else 4 for axis in range(3)))
    shape = labels.data[plane.slices].shape
    show(painter, document, mask(1, 2, 3, 4, shape), plane)
    expected = np.zeros((7, 8, 9))
    expected[plane.slices][1:4, 2:6] = 5
    np.testing.assert_array_equal(labels.data, expected)
    show(painter, document, None, plane)
    assert not labels.data.any()


def test_objects_share_a_layer(document: Annotation) -> None:
    labels = Labels(np.zeros((20, 30), dtype=np.int32))
    painter = Painter(labels)
    show(painter, document, mask(0, 0, 10, 10))
    document.accept()
    show(painter, document, mask(5, 5, 10, 10))
    assert (labels.data == 5).sum() == 100
    assert (labels.data == 6).sum() == 75


def test_undo_of_the_labels_layer_takes_a_mask_back(document: Annotation) -> None:
    labels = Labels(np.zeros((20, 30), dtype=np.int32))
    painter = Painter(labels)
    show(painter, document, mask(0, 0, 10, 10))
    labels.undo()
    assert not labels.data.any()
    show(painter, document, mask(0, 0, 10, 11))
    assert (labels.data == 5).sum() == 110


def test_prompt_and_result_layers_lie_on_the_image() -> None:
    image = Image(
        np.zeros((4, 20, 30), dtype=np.uint8),
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=20,
        shear=(0, 0, 0.1),
        affine=np.diag([1, 2, 2, 1]),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        name="stack",
    )
    for layer in (point_layer(image, 3), box_layer(image, 1), result_layer(image)):
        assert layer.ndim == 3
        for position in ((0, 0, 0), (1, 5, 9), (3, 19, 29)):
            np.testing.assert_allclose(layer.data_to_world(position), image.data_to_world(position))
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels
        assert layer.name.startswith("stack: ")


def test_result_layers_leave_out_colours_and_levels() -> None:
    assert result_layer(Image(np.zeros((20, 30, 3), dtype=np.uint8), rgb=True)).data.shape == (20, 30)
    levels = [np.zeros((40, 60)), np.zeros((20, 30))]
    assert result_layer(Image(levels, multiscale=True)).data.shape == (40, 60)


def test_which_labels_layers_can_be_used() -> None:
    import dask.array

    image = Image(np.zeros((20, 30)))
    fitting = np.zeros((20, 30), dtype=np.int32)
    assert refusal(image, Labels(fitting)) is None
    assert "shape (20, 31)" in str(refusal(image, Labels(np.zeros((20, 31), dtype=np.int32))))
    assert "multiscale" in str(refusal(image, Labels([fitting, fitting[::2, ::2]])))
    assert "dask" in str(refusal(image, Labels(dask.array.from_array(fitting))))


def test_the_first_free_id_is_above_all_that_are_used() -> None:
    data = np.zeros((20, 30), dtype=np.int32)
    assert first_free_id(Labels(data)) == 1
    data[3, 4] = 41
    assert first_free_id(Labels(data)) == 42


def test_an_id_that_the_layer_cannot_hold_is_not_painted_as_another() -> None:
    labels = Labels(np.zeros((20, 30), dtype=np.uint8))
    document, painter = Annotation(first_id=255), Painter(labels)
    show(painter, document, mask(0, 0, 5, 5))
    document.accept()
    show(painter, document, mask(10, 10, 5, 5))
    assert np.unique(labels.data).tolist() == [0, 255]
    assert painter.greatest_id == 255
