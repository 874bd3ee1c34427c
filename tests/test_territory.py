"""Who has which pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotation import Plane
from napari_sam.annotation.territory import (
    Territory,
    canonical_planes,
    is_canonical,
    planes_of_pixels,
    sections,
)
from napari_sam.inference.mask import Mask

FLAT = Plane((None, None))


def block(top: int, left: int, height: int, width: int, size: tuple[int, int] = (20, 20)) -> Mask:
    return Mask((top, left), np.ones((height, width), dtype=bool), size)


def at(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return slice(top, top + height), slice(left, left + width)


@pytest.mark.parametrize(
    ("index", "expected"),
    [((None, None), True), ((3, None, None), True), ((None, 3, None), False), ((None, None, 3), False)],
)
def test_canonical_planes_are_those_of_the_last_two_axes(
    index: tuple[int | None, ...], expected: bool
) -> None:
    assert is_canonical(Plane(index)) is expected


def test_all_canonical_planes_come_in_order() -> None:
    assert [plane.index for plane in canonical_planes((2, 2, 5, 5))] == [
        (0, 0, None, None),
        (0, 1, None, None),
        (1, 0, None, None),
        (1, 1, None, None),
    ]
    assert list(canonical_planes((5, 5))) == [FLAT]


def test_an_upright_mask_is_cut_into_rows() -> None:
    """Rows of plane [:, 3, :] are z, columns are x."""
    bits = np.array([[True, True, False], [False, False, False], [False, True, True]])
    found = sections(Plane((None, 3, None)), Mask((1, 4), bits, (5, 9)), (5, 7, 9))
    assert found == {
        Plane((1, None, None)): Mask((3, 4), np.ones((1, 2)), (7, 9)),
        Plane((3, None, None)): Mask((3, 5), np.ones((1, 2)), (7, 9)),
    }


@pytest.mark.parametrize(
    "index", [(None, 2, 1, None), (1, None, None, 4), (None, None, 3, 2), (0, 1, None, None)]
)
def test_sections_have_the_same_pixels(index: tuple[int | None, ...]) -> None:
    shape = 3, 4, 5, 6
    plane = Plane(index)
    size = tuple(n for n, i in zip(shape, index, strict=True) if i is None)
    drawn = np.random.default_rng(1).random(size) < 0.4
    expected, found = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    expected[plane.slices] = drawn
    for section, mask in sections(plane, Mask.from_array(drawn), shape).items():
        assert is_canonical(section)
        assert not mask.is_empty
        found[section.slices] |= mask.to_array()
    np.testing.assert_array_equal(found, expected)


def test_nothing_has_no_sections() -> None:
    assert sections(Plane((None, 3, None)), Mask.empty((5, 9)), (5, 7, 9)) == {}
    assert list(planes_of_pixels([np.array([], dtype=int)] * 3)) == []


def test_pixels_are_found_by_their_boxes() -> None:
    territory = Territory()
    territory.set(7, FLAT, block(2, 2, 3, 3))
    territory.set(8, FLAT, block(10, 10, 3, 3))
    assert set(territory.near(FLAT, at(0, 0, 20, 20))) == {7, 8}
    assert set(territory.near(FLAT, at(4, 4, 2, 2))) == {7}
    # Boxes that touch do not meet.
    assert territory.near(FLAT, at(5, 0, 5, 20)) == {}
    assert territory.near(Plane((1, None, None)), at(0, 0, 20, 20)) == {}


def test_the_owner_of_a_pixel() -> None:
    territory = Territory()
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    territory.set(7, FLAT, Mask((2, 2), ring, (20, 20)))
    territory.set(8, FLAT, block(3, 3, 1, 1))
    assert [territory.owner_at(FLAT, *place) for place in ((2, 2), (3, 3), (5, 5), (19, 19))] == [
        7,
        8,
        None,
        None,
    ]


def test_values_of_a_box_that_masks_reach_out_of() -> None:
    territory = Territory()
    territory.set(7, FLAT, block(0, 0, 5, 5))
    territory.set(8, FLAT, block(5, 3, 10, 1))
    values = territory.values_in(FLAT, at(3, 2, 4, 4), {7: 70, 8: -8})
    assert values.tolist() == [[70, 70, 70, 0], [70, 70, 70, 0], [0, -8, 0, 0], [0, -8, 0, 0]]
    assert values.dtype == np.int64


def test_planes_without_masks_are_forgotten() -> None:
    territory, other = Territory(), Plane((1, None, None))
    territory.set(7, other, block(0, 0, 1, 1))
    territory.set(7, other, None)
    territory.set(7, other, None)
    territory.set(7, FLAT, None)
    assert territory.planes == []


def test_many_owners_come_move_and_go() -> None:
    """What is found is what a search through all of them finds."""
    random = np.random.default_rng(2)
    territory, expected = Territory(), {}
    for _ in range(400):
        owner = int(random.integers(40))
        if random.random() < 0.3:
            territory.set(owner, FLAT, None)
            expected.pop(owner, None)
        else:
            top, left, height, width = (
                random.integers(0, 15),
                random.integers(0, 15),
                *random.integers(1, 5, 2),
            )
            expected[owner] = block(int(top), int(left), int(height), int(width))
            territory.set(owner, FLAT, expected[owner])
        rows, columns = box = at(*(int(n) for n in random.integers(0, 15, 2)), 4, 4)
        found = {owner for owner, mask in expected.items() if mask.bits_in(rows, columns).any()}
        assert set(territory.near(FLAT, box)) == found
