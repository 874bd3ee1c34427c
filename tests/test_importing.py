"""Label images of any kind become objects, and the document gives the same labels back."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from napari_sam.annotation import Document, Plane, Source
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.records import GREATEST_ID
from napari_sam.errors import AnnotationError

shapes = arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6)


@st.composite
def label_images(draw: st.DrawFn) -> NDArray[np.generic]:
    kind = np.dtype(draw(st.sampled_from(["bool", "u1", "i1", "<u2", ">i4", "u4", "i8", "u8"])))
    if kind.kind == "b":
        return draw(arrays.arrays(kind, shapes))
    low, high = np.iinfo(kind).min, min(np.iinfo(kind).max, GREATEST_ID)
    few = draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
    image = draw(arrays.arrays(kind, shapes, elements=st.sampled_from([0, *few])))
    return image[..., ::-1] if draw(st.booleans()) else image


@settings(max_examples=150, deadline=None)
@given(label_images())
def test_the_document_gives_the_labels_back(labels: NDArray[np.generic]) -> None:
    document = Document(labels.shape)
    added = document.add_objects(drafts_of_labels(labels), "Import labels", keep_ids=True)
    np.testing.assert_array_equal(document.to_labels(np.int64), labels.astype(np.int64))
    assert [item.id for item in added] == sorted(set(labels[labels != 0].tolist()))
    assert all(item.source == Source.IMPORTED and item.accepted for item in added)
    document.undo()
    assert not document.to_labels().any()


def test_a_label_that_is_too_large_for_an_id_is_refused_and_can_be_numbered_anew() -> None:
    labels = np.full((2, 2), GREATEST_ID + 1)
    document = Document(labels.shape)
    drafts = drafts_of_labels(labels)
    with pytest.raises(AnnotationError, match=rf"^The id {2**62} is too large: let the objects get new ones"):
        document.add_objects(drafts, keep_ids=True)
    assert not document.to_labels().any()
    document.add_objects(drafts)
    assert (document.to_labels() == 1).all()


class Lazy:
    """Reads planes as dask and zarr do, and counts."""

    def __init__(self, array: NDArray[np.integer]) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __getitem__(self, index: object) -> NDArray[np.integer]:
        part = self._array[index]  # type: ignore[index]
        self.most = max(self.most, part.size)
        return part


def test_one_plane_at_a_time_is_read() -> None:
    labels = np.zeros((3, 2, 7, 8), dtype=np.int32)
    labels[1:, 1, 2:5, 3:6] = 5
    lazy = Lazy(labels)
    (draft,) = drafts_of_labels(lazy)
    assert lazy.most == 7 * 8
    assert set(draft.base) == {Plane((1, 1, None, None)), Plane((2, 1, None, None))}
    assert [answer.mask.area for answer in draft.base.values()] == [9, 9]


def test_dask_arrays_are_read() -> None:
    dask = pytest.importorskip("dask.array")
    labels = np.arange(24).reshape(2, 3, 4) % 5
    document = Document(labels.shape)
    document.add_objects(drafts_of_labels(dask.from_array(labels, chunks=2)), keep_ids=True)
    np.testing.assert_array_equal(document.to_labels(), labels)


def test_an_imported_object_can_be_refined() -> None:
    labels = np.zeros((9, 9), dtype=np.uint8)
    labels[2:5, 2:5] = 3
    document = Document(labels.shape)
    (item,) = document.add_objects(drafts_of_labels(labels), keep_ids=True)
    document.open(item.uid)
    plane = Plane((None, None))
    assert document.refine(plane)
    assert document.current.prompts[plane].mask == item.masks[plane]


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (np.zeros((3, 3)), "whole numbers"),
        (np.zeros(3, dtype=int), "two axes"),
        (np.full((2, 2), 2**63, dtype=np.uint64), "63 bits"),
    ],
)
def test_what_is_no_label_image_is_an_error(labels: NDArray[np.generic], wrong: str) -> None:
    with pytest.raises(AnnotationError, match=wrong):
        drafts_of_labels(labels)


def many_objects(side: int, count: int) -> NDArray[np.int32]:
    """Discs in a grid, `count` of them along each axis."""
    cell = side // count
    y, x = np.mgrid[:cell, :cell] - (cell - 1) / 2
    ids = np.arange(1, count**2 + 1, dtype=np.int32).reshape(count, count)
    part = np.kron(ids, (x**2 + y**2 < (0.45 * cell) ** 2).astype(np.int32))
    return np.pad(part, (0, side - len(part)))


def test_thousands_of_objects_on_a_large_plane_take_little_time() -> None:
    labels = many_objects(4096, 71).astype(np.int64) * 10**9
    # A label in the background, too, as some programs write: its box is the whole plane.
    labels[labels == 0] = 1
    start = time.process_time()
    document = Document(labels.shape)
    added = document.add_objects(drafts_of_labels(labels), keep_ids=True)
    elapsed = time.process_time() - start
    assert len(added) == 71**2 + 1
    np.testing.assert_array_equal(document.to_labels(np.int64), labels)
    # About half a second; ten times the work would be a mistake.
    assert elapsed < 5
