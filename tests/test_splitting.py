"""The connected parts of an object: the same whatever lies between them, for the memory of its masks."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.annotation import Answer, Document, Plane, SamObject
from napari_sam.annotation.splitting import parts
from napari_sam.inference.mask import Mask


def whole(parts_found: list[dict[Plane, Mask]], shape: tuple[int, ...]) -> np.ndarray:
    """The parts by their numbers, in one array."""
    labels = np.zeros(shape, dtype=np.int32)
    for number, part in enumerate(parts_found, 1):
        for plane, mask in part.items():
            labels[plane.slices][mask.slices][mask.bits] = number
    return labels


@settings(max_examples=150, deadline=None)
@given(
    leading=st.lists(st.integers(1, 4), max_size=3),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    density=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**31),
)
def test_parts_are_those_of_the_whole_array_largest_first(
    leading: list[int], size: tuple[int, int], density: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    bits = random.random((*leading, *size)) < density
    places = [tuple(int(i) for i in at) for at in random.permutation(list(np.ndindex(*leading)))]
    masks = {Plane((*at, None, None)): Mask.from_array(bits[at]) for at in places}
    masks = {plane: mask for plane, mask in masks.items() if not mask.is_empty}
    labels, count = ndimage.label(bits, structure=np.ones((3,) * bits.ndim))
    order = np.argsort(-np.bincount(labels.ravel(), minlength=count + 1)[1:], kind="stable")
    expected = np.append(0, np.argsort(order) + 1)[labels]
    found = parts(SamObject(1, 1, masks=masks))
    assert len(found) == count
    np.testing.assert_array_equal(whole(found, bits.shape), expected)


def test_parts_far_apart_need_no_memory_for_what_lies_between() -> None:
    """Two dots of 16 pixels took 1.2 GB and half a minute."""
    document, size = Document((100, 1000, 1000)), (1000, 1000)
    dot = np.ones((4, 4), dtype=bool)
    base = {
        Plane((0, None, None)): Answer(((Mask((0, 0), dot, size), None),)),
        Plane((99, None, None)): Answer(((Mask((990, 990), dot, size), None),)),
    }
    (item,) = document.add_objects([SamObject(0, 0, base=base)])
    # What is imported at the first time is not counted.
    parts(item)
    tracemalloc.start()
    found = document.split(item.uid)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [one.area for one in found] == [16, 16]
    assert peak < 2**20


def test_labels_of_planes_that_nobody_will_meet_are_not_kept() -> None:
    size = (400, 400)
    full = np.ones(size, dtype=bool)
    full[:, 200] = False
    masks = {Plane((z, None, None)): Mask.from_array(full) for z in range(60)}
    item = SamObject(1, 1, masks=masks)
    parts(item)
    tracemalloc.start()
    found = parts(item)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(part) for part in found] == [60, 60]
    # The parts themselves take 10 MB; labels of all planes would take 38 MB.
    assert peak < 18 * 2**20
