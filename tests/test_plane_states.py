"""Series of planes: which of them are annotated, and which are to be filled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotation import Answer, HandEdit, Plane, SamObject
from napari_sam.annotation.crossing import crossed, cut
from napari_sam.annotation.propagating import (
    Direction,
    PlaneState,
    annotated_masks,
    carried_over,
    is_annotated,
    plane_states,
    wanted_positions,
)
from napari_sam.annotation.series import Series
from napari_sam.annotation.territory import sections
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

SIZE = 6, 7
SHAPE = 9, *SIZE
EMPTY, PROPAGATED, ANNOTATED = PlaneState
ALONG_Z = Series.through(Plane((0, None, None)), SHAPE)


def z(at: int) -> Plane:
    return Plane((at, None, None))


def square(top: int = 1, left: int = 2, side: int = 2, size: tuple[int, int] = SIZE) -> Mask:
    return Mask((top, left), np.ones((side, side), dtype=bool), size)


def said(mask: Mask | None = None, **more: object) -> Answer:
    return Answer(((square() if mask is None else mask, 0.9),), **more)  # type: ignore[arg-type]


def states(item: SamObject, series: Series = ALONG_Z) -> str:
    """A letter for each plane."""
    return "".join(".pA"[state] for state in plane_states(item, series))


# Series


def test_planes_follow_each_other_along_one_axis() -> None:
    series = Series.through(Plane((3, None, 7, None)), (5, 6, 8, 9), axis=0)
    assert [str(plane) for plane in series] == [f"[{t}, :, 7, :]" for t in range(5)]
    assert series.size == (6, 9)
    assert [series.position(plane) for plane in series] == list(range(5))
    for other in (Plane((3, None, 6, None)), Plane((3, 0, None, None)), Plane((9, None, 7, None)), z(3)):
        assert series.position(other) is None


def test_a_series_is_the_same_whichever_of_its_planes_it_is_made_of() -> None:
    first, other = (Series.through(Plane((2, at, None, None)), (5, 6, 8, 9)) for at in (0, 4))
    assert first == other
    assert hash(first) == hash(other)
    assert first != Series.through(Plane((3, 0, None, None)), (5, 6, 8, 9))


@pytest.mark.parametrize(
    ("plane", "shape", "axis"),
    [
        ((0, 0, None, None), (3, 4, 8, 8), 1),
        ((0, 0, None, None), (3, 1, 8, 8), 0),
        ((None, 5, None), (3, 8, 8), 1),
        ((None, None, 5), (3, 8, 8), 2),
        ((0, None, 5, None), (3, 4, 8, 8), 2),
    ],
)
def test_without_an_axis_the_last_one_with_other_planes_is_meant(
    plane: tuple[int | None, ...], shape: tuple[int, ...], axis: int
) -> None:
    assert Series.through(Plane(plane), shape).axis == axis


@pytest.mark.parametrize(
    ("plane", "shape", "axis", "said"),
    [
        ((None, None), (8, 8), None, "one plane only"),
        ((0, None, None), (1, 8, 8), None, "one plane only"),
        ((0, None, None), (1, 8, 8), 0, "only one plane along axis 0"),
        ((0, None, None), (3, 8, 8), 1, "no neighbours along axis 1"),
        ((0, None, None), (3, 8, 8), 3, "no axis 3"),
    ],
)
def test_where_there_is_no_other_plane_that_is_said(
    plane: tuple[int | None, ...], shape: tuple[int, ...], axis: int | None, said: str
) -> None:
    with pytest.raises(AnnotationError, match=said):
        Series.through(Plane(plane), shape, axis)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), axis=st.sampled_from([1, 2]))
def test_a_plane_across_is_cut_out_of_masks_as_it_is_cut_into_them(seed: int, axis: int) -> None:
    volume = np.random.default_rng(seed).random(SHAPE) < 0.05
    masks = {z(at): Mask.from_array(volume[at]) for at in range(SHAPE[0])}
    series = Series.through(Plane(tuple(0 if a == axis else None for a in range(3))), SHAPE)
    for at, plane in enumerate(series):
        upright = cut(masks, plane, series.size)
        np.testing.assert_array_equal(upright.to_array(), volume.take(at, axis=axis))
        assert all((mask - masks[on]).is_empty for on, mask in sections(plane, upright, SHAPE).items())
    for on, mask in masks.items():
        rows = volume[on.index[0]].any(axis=2 - axis)
        assert crossed(on, mask, series) == np.flatnonzero(rows).tolist()


# States


def test_prompts_hands_and_masks_from_elsewhere_annotate_a_plane() -> None:
    prompts = Prompts.create(SIZE, points=[[3, 2]])
    item = SamObject(
        1,
        1,
        prompts={z(1): prompts},
        answers={z(1): said(prompts=prompts)},
        base={z(3): said(), z(4): said(propagated=True), z(5): said(propagated=True)},
        hand={z(5): HandEdit(square(), Mask.empty(SIZE)), z(6): HandEdit(Mask.empty(SIZE), square())},
        masks=dict.fromkeys([z(1), z(3), z(4), z(5)], square()),
    )
    assert states(item) == ".A.ApAA.."
    assert [is_annotated(item, plane) for plane in ALONG_Z] == [c == "A" for c in ".A.ApAA.."]
    assert carried_over(item) == {z(4)}
    assert annotated_masks(item, ALONG_Z) == {1: square(), 3: square(), 5: square(), 6: Mask.empty(SIZE)}


def test_a_prompt_on_a_propagated_plane_annotates_it_and_undoing_that_does_not() -> None:
    item = SamObject(1, 1, base={z(2): said(propagated=True)}, masks={z(2): square()})
    assert states(item) == "..p......"
    prompted = replace(item, prompts={z(2): Prompts.create(SIZE, points=[[3, 2]])})
    assert states(prompted) == "..A......"
    # What is there is displayed until the answer comes.
    assert annotated_masks(prompted, ALONG_Z) == {2: square()}


def test_masks_that_nobody_found_and_hands_that_did_nothing_annotate_nothing() -> None:
    nothing = Mask.empty(SIZE)
    item = SamObject(
        1,
        1,
        base={z(0): said(nothing), z(1): said(nothing, propagated=True)},
        hand={z(2): HandEdit.none(SIZE)},
    )
    assert states(item) == "." * 9
    assert annotated_masks(item, ALONG_Z) == {}


def test_prompts_that_wait_for_their_answer_say_nothing_yet_and_negative_ones_that_nothing_is_there() -> None:
    waiting, negative = (Prompts.create(SIZE, points=[[3, 2]], labels=[label]) for label in (1, 0))
    item = SamObject(1, 1, prompts={z(1): waiting, z(4): negative})
    assert states(item) == ".A..A...."
    assert annotated_masks(item, ALONG_Z) == {4: Mask.empty(SIZE)}


def test_what_an_object_gets_is_carried_on_not_what_it_claims() -> None:
    """A neighbour has part of it, and will have it on the other planes, too."""
    item = SamObject(1, 1, base={z(2): said(square(side=3))}, masks={z(2): square()})
    assert annotated_masks(item, ALONG_Z) == {2: square()}


def test_painted_masks_of_which_nothing_else_is_known_are_annotated() -> None:
    assert states(SamObject(1, 1, masks={z(3): square()})) == "...A....."


def test_planes_across_have_states_of_their_own() -> None:
    """Rows of xz planes are on planes of xy, and make none of these annotated."""
    along_y = Series.through(Plane((None, 0, None)), SHAPE)
    upright = square(size=(9, 7))
    rows = sections(Plane((None, 3, None)), upright, SHAPE)
    item = SamObject(1, 1, base={Plane((None, 3, None)): said(upright)}, masks=rows)
    assert states(item, along_y) == "...A.."
    assert states(item) == ".pp......"
    assert annotated_masks(item, along_y) == {3: upright}
    assert annotated_masks(item, ALONG_Z) == {}
    # A brush on a plane of xy annotates those that it crosses.
    painted = replace(item, hand={z(5): HandEdit(square(), Mask.empty(SIZE))})
    assert states(painted, along_y) == ".AAA.."
    assert [is_annotated(painted, plane) for plane in along_y] == [c == "A" for c in ".AAA.."]


def test_other_series_of_an_image_with_times_do_not_count() -> None:
    shape = (3, 4, *SIZE)
    item = SamObject(1, 1, base={Plane((1, 2, None, None)): said(), Plane((2, 3, None, None)): said()})
    assert states(item, Series.through(Plane((1, 0, None, None)), shape)) == "..A."
    assert states(item, Series.through(Plane((0, 3, None, None)), shape, 0)) == "..A"
    assert states(item, Series.through(Plane((0, 0, None, None)), shape)) == "...."


# What is to be filled


def known_at(*positions: int) -> SamObject:
    """Annotated there, and filled in between from an earlier propagation."""
    base = {z(at): said(propagated=at not in positions) for at in range(9)}
    return SamObject(1, 1, base=base)


@pytest.mark.parametrize(
    ("direction", "start", "stop", "filled"),
    [
        ("both", None, None, "##.##.###"),
        ("forward", None, None, "...##.###"),
        ("backward", None, None, "##.##...."),
        ("both", 2, None, "##.##...."),
        ("both", 5, None, "...##.###"),
        ("forward", 2, None, "...##...."),
        ("backward", 5, None, "...##...."),
        ("backward", 2, None, "##......."),
        ("forward", None, 6, "...##.#.."),
        ("forward", None, 3, "...#....."),
        ("forward", 5, 7, "......##."),
        ("backward", 5, 4, "....#...."),
        ("backward", None, 1, ".#.##...."),
        ("both", None, 7, "...##.##."),
        ("both", None, 1, ".#.##...."),
        ("both", None, 4, "...##...."),
        ("both", 5, 7, "......##."),
        ("both", 5, 0, "...##...."),
        ("forward", 5, 4, "........."),
        # A range that begins where nothing is annotated.
        ("forward", 4, 7, "....#.##."),
        ("forward", 6, None, "......###"),
        ("backward", 4, 0, "##.##...."),
        ("both", 7, 3, "...##.##."),
        ("both", 3, 7, "...##.##."),
    ],
)
def test_what_is_to_be_filled(direction: str, start: int | None, stop: int | None, filled: str) -> None:
    """Planes 2 and 5 of 9 are annotated."""
    found = wanted_positions(known_at(2, 5), ALONG_Z, direction, start=start, stop=stop)
    assert found == [at for at, mark in enumerate(filled) if mark == "#"]


@settings(max_examples=100, deadline=None)
@given(
    positions=st.sets(st.integers(0, 8), min_size=1),
    direction=st.sampled_from(Direction),
    start=st.none() | st.integers(0, 8),
    stop=st.none() | st.integers(0, 8),
)
def test_annotated_planes_are_never_to_be_filled(
    positions: set[int], direction: Direction, start: int | None, stop: int | None
) -> None:
    item = known_at(*positions)
    found = wanted_positions(item, ALONG_Z, direction, start=start, stop=stop)
    assert positions.isdisjoint(found)
    assert found == sorted(set(found))
    if direction != Direction.BOTH:
        both = wanted_positions(item, ALONG_Z, start=start if start in positions else None)
        assert set(found) <= set(both)


def test_an_object_that_is_annotated_nowhere_is_to_be_filled_nowhere() -> None:
    assert wanted_positions(known_at(), ALONG_Z) == []


@pytest.mark.parametrize("bad", [{"direction": "up"}, {"start": 9}, {"start": -1}, {"stop": 9}])
def test_what_cannot_be_meant_is_said(bad: dict[str, object]) -> None:
    with pytest.raises(AnnotationError, match=r"There is no direction 'up'|is not one of the 9"):
        wanted_positions(known_at(2), ALONG_Z, **bad)  # type: ignore[arg-type]
