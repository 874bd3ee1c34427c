"""A document in a Labels layer, and what hands and scripts do there; without a viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_sam.annotation import Answer, Document, ObjectClass, Plane, SamObject, Source
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.ui.layers import point_layer, refusal, result_layer, shape_layer
from napari_sam.ui.painting import Canvas
from napari_sam.ui.result import Result

PLANE = Plane((None, None))
SHAPE = (20, 30)
_clicks = count()


def mask(top: int, left: int, height: int, width: int, shape: tuple[int, int] = SHAPE) -> Mask:
    return Mask((top, left), np.ones((height, width), dtype=bool), shape)


def click(document: Document, new: Mask | None, plane: Plane = PLANE) -> SamObject:
    """A prompt for the current object, and a model's answer to it; None takes all prompts away."""
    if new is None:
        document.set_prompts({}, "Delete point")
        return document.current
    prompts = Prompts.create(new.shape, points=[[next(_clicks) % 7, 1]])
    document.set_prompts({plane: prompts}, "Add point")
    assert document.answer(document.current.uid, plane, Answer(((new, 0.9),), prompts=prompts))
    return document.current


@pytest.fixture
def document() -> Document:
    return Document(SHAPE, first_id=5)


@pytest.fixture
def follow() -> Iterator[Callable[..., Canvas]]:
    """Lets a layer show a document for as long as the test runs: nobody else keeps it."""
    kept: list[Canvas] = []

    def start(layer: Labels, document: Document, **options: bool) -> Canvas:
        kept.append(Canvas(layer, document, **options))
        return kept[-1]

    yield start
    kept.clear()


@pytest.fixture
def labels(document: Document, follow: Callable[..., Canvas]) -> Labels:
    """A layer that shows the document."""
    layer = Labels(np.zeros(SHAPE, dtype=np.int32))
    follow(layer, document)
    return layer


def agree(labels: Labels, document: Document) -> None:
    np.testing.assert_array_equal(labels.data, document.to_labels())


def test_a_mask_replaces_the_one_before(document: Document, labels: Labels) -> None:
    for new in (mask(2, 3, 5, 6), mask(4, 5, 9, 9), mask(15, 20, 2, 2), mask(0, 0, *SHAPE)):
        click(document, new)
        np.testing.assert_array_equal(labels.data, np.where(new.to_array(), 5, 0))
    click(document, None)
    assert not labels.data.any()


def test_undo_and_redo_are_seen(document: Document, labels: Labels) -> None:
    click(document, mask(0, 0, 10, 10))
    document.accept()
    click(document, mask(5, 5, 10, 10))
    pictures = [labels.data.copy()]
    while document.undo():
        pictures.append(labels.data.copy())
    assert [np.unique(one).tolist() for one in pictures] == [[0, 5, 6], [0, 5], [0, 5], [0]]
    for picture in pictures[-2::-1]:
        assert document.redo()
        np.testing.assert_array_equal(labels.data, picture)


def test_the_labels_of_a_layer_are_objects_that_nothing_overwrites() -> None:
    before = np.zeros(SHAPE, dtype=np.uint16)
    before[5:10, 5:10] = 3
    layer = Labels(before.copy())
    result = Result(Image(np.zeros(SHAPE)), layer)
    document = result.document
    (imported,) = document.objects
    assert (imported.id, imported.area, imported.source, imported.accepted) == (3, 25, Source.IMPORTED, True)
    assert document.undo_text == ""
    click(document, mask(0, 0, 8, 8))
    np.testing.assert_array_equal(layer.data == 3, before == 3)
    assert (layer.data == 4).sum() == 64 - 9
    click(document, None)
    np.testing.assert_array_equal(layer.data, before)


def test_what_a_script_wrote_in_place_stays(document: Document, labels: Labels) -> None:
    """Nobody tells of an edit in place: it is found where the document is about to change something."""
    click(document, mask(0, 0, 10, 10))
    labels.data[0, 0] = 9  # another label on the object
    labels.data[1, 1] = 0  # erased
    labels.data[12, 12] = 5  # the object's own label, but not the object's doing
    click(document, mask(0, 0, 15, 15))
    assert (labels.data[0, 0], labels.data[1, 1], labels.data[12, 12]) == (9, 0, 5)
    agree(labels, document)
    assert document.with_id(9).source == Source.PAINTED
    click(document, mask(5, 5, 10, 10))
    assert (labels.data[0, 0], labels.data[1, 1], labels.data[12, 12]) == (9, 0, 5)
    agree(labels, document)


def test_another_array_is_taken_over(document: Document, labels: Labels) -> None:
    click(document, mask(0, 0, 10, 10))
    document.accept()
    other = np.zeros(SHAPE, dtype=np.uint8)
    other[0:10, 0:5], other[15:18, 15:18] = 5, 77
    labels.data = other.copy()
    np.testing.assert_array_equal(labels.data, other)
    agree(labels, document)
    assert [(item.id, item.area) for item in document.objects] == [(5, 50), (77, 9)]
    click(document, mask(0, 0, 20, 20))
    np.testing.assert_array_equal(labels.data == 77, other == 77)
    document.undo()
    assert document.undo() == "Paint"
    agree(labels, document)
    assert np.unique(labels.data).tolist() == [0, 5]
    assert (labels.data == 5).sum() == 100


def test_an_array_of_another_shape_is_left_alone(document: Document, labels: Labels) -> None:
    click(document, mask(0, 0, 10, 10))
    labels.data = np.ones((7, 7), dtype=np.int32)
    click(document, mask(0, 0, 10, 11))
    assert (labels.data == 1).all()
    labels.paint((3, 3), 2)
    assert document.current.area == 110
    labels.data = np.zeros(SHAPE, dtype=np.int32)
    assert document.current.area == 0
    assert document.undo() == "Erase"
    agree(labels, document)


def test_brush_bucket_and_eraser(document: Document, labels: Labels) -> None:
    click(document, mask(0, 0, 10, 10))
    labels.brush_size = 3
    labels.paint((15, 20), 5)  # the current object's label
    labels.paint((15, 25), 12)
    labels.paint((3, 3), 0)
    agree(labels, document)
    assert document.undo_text == "Erase"
    assert [item.id for item in document.objects] == [5, 12]
    assert document.with_id(12).source == Source.PAINTED
    painted = labels.data[13:18, 18:23] == 5
    click(document, mask(0, 0, 12, 12))
    np.testing.assert_array_equal(labels.data[13:18, 18:23] == 5, painted)
    assert labels.data[3, 3] == 0
    labels.fill((15, 25), 7)
    agree(labels, document)
    assert document.with_id(12) is None
    assert document.undo_text == "Paint"
    assert document.undo() == "Paint"
    agree(labels, document)
    assert document.with_id(12) is not None


def test_a_stroke_of_several_dabs_is_one_step(document: Document, labels: Labels) -> None:
    with labels.block_history():
        for column in range(3, 12):
            labels.paint((5, column), 5)
    agree(labels, document)
    assert document.undo() == "Paint"
    assert not labels.data.any()
    assert document.undo_text == ""
    assert document.redo() == "Paint"
    assert (labels.data[5, 3:12] == 5).all()


def test_an_object_gets_only_what_is_free(document: Document, labels: Labels) -> None:
    labels.data = np.full(SHAPE, 3, dtype=np.int32)
    click(document, mask(0, 0, 10, 10))
    assert (labels.data == 3).all()
    document.delete([document.with_id(3).uid])
    assert not labels.data.any()
    click(document, mask(0, 0, 10, 11))
    assert (labels.data == 5).sum() == 110


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_planes_of_a_stack(follow, axes: tuple[int, int]) -> None:
    layer = Labels(np.zeros((7, 8, 9), dtype=np.uint16))
    document = Document((7, 8, 9), first_id=5)
    follow(layer, document)
    plane = Plane(tuple(None if axis in axes else 4 for axis in range(3)))
    shape = layer.data[plane.slices].shape
    click(document, mask(1, 2, 3, 4, shape), plane)
    expected = np.zeros((7, 8, 9))
    expected[plane.slices][1:4, 2:6] = 5
    np.testing.assert_array_equal(layer.data, expected)
    agree(layer, document)
    click(document, None)
    assert not layer.data.any()


def test_painting_in_a_stack(follow) -> None:
    layer = Labels(np.zeros((4, 20, 30), dtype=np.int32))
    document = Document((4, 20, 30))
    follow(layer, document)
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 10, 10), 8)
    agree(layer, document)
    assert document.with_id(8).area == (layer.data == 8).sum() > 25
    assert len({plane.index[0] for plane in document.with_id(8).masks}) >= 3
    assert document.undo() == "Paint"
    assert not layer.data.any()


def test_objects_share_a_layer(document: Document, labels: Labels) -> None:
    click(document, mask(0, 0, 10, 10))
    document.accept()
    click(document, mask(5, 5, 10, 10))
    assert (labels.data == 5).sum() == 100
    assert (labels.data == 6).sum() == 75


def test_napari_remembers_strokes_but_not_masks(document: Document, labels: Labels) -> None:
    """A hundred masks in the history of the layer would take more memory than all objects."""
    labels.paint((15, 25), 12)
    for side in range(1, 15):
        click(document, mask(0, 0, side, side))
    assert len(labels._undo_history) == 1
    agree(labels, document)


class OtherHistory(Labels):
    """What it remembers is private, so that a version of napari may call it something else."""

    def _append_to_undo_history(self, item: list[object]) -> None:
        self.events.paint(value=item)

    def _reset_history(self, event: object = None) -> None:
        super()._reset_history(event)
        del self._undo_history


def test_masks_are_shown_whatever_napari_calls_its_history(follow, document: Document) -> None:
    layer = OtherHistory(np.zeros(SHAPE, dtype=np.int32))
    follow(layer, document)
    click(document, mask(0, 0, 5, 5))
    agree(layer, document)


def test_a_closed_canvas_listens_no_more(document: Document) -> None:
    layer = Labels(np.zeros(SHAPE, dtype=np.int32))
    before = len(layer.events.paint.callbacks), len(layer.events.data.callbacks), dict(layer.keymap)
    canvas = Canvas(layer, document)
    click(document, mask(0, 0, 10, 10))
    canvas.close()
    assert before == (len(layer.events.paint.callbacks), len(layer.events.data.callbacks), dict(layer.keymap))
    click(document, mask(0, 0, 12, 12))
    assert (layer.data == 5).sum() == 100
    layer.paint((15, 25), 12)
    assert document.with_id(12) is None


def test_classes_have_a_layer_of_their_own(follow, document: Document) -> None:
    layer = Labels(np.zeros(SHAPE, dtype=np.int32))
    click(document, mask(0, 0, 10, 10))
    document.set_classes([ObjectClass(1, "cell", "#ff0000"), ObjectClass(2, "gap", "#00ff00")])
    document.set_class([document.current.uid], 2)
    document.accept()
    follow(layer, document, classes=True).fill()
    assert np.unique(layer.data).tolist() == [0, 2]
    click(document, mask(15, 20, 3, 3))
    assert np.unique(layer.data).tolist() == [0, 2]
    document.set_class([document.current.uid], 1)
    np.testing.assert_array_equal(layer.data, document.to_labels(classes=True))
    assert (layer.data == 1).sum() == 9
    document.undo()
    np.testing.assert_array_equal(layer.data, document.to_labels(classes=True))


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
    for layer in (point_layer(image, 3), shape_layer(image, 1), result_layer(image)):
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


def test_an_id_that_the_layer_cannot_hold_is_not_painted_as_another(follow) -> None:
    layer = Labels(np.zeros(SHAPE, dtype=np.uint8))
    document = Document(SHAPE, first_id=255)
    canvas = follow(layer, document)
    click(document, mask(0, 0, 5, 5))
    document.accept()
    click(document, mask(10, 10, 5, 5))
    assert np.unique(layer.data).tolist() == [0, 255]
    assert canvas.greatest_id == 255
    layer.brush_size = 1
    layer.paint((11, 11), 255)
    assert document.with_id(256).area == 25 - 1
