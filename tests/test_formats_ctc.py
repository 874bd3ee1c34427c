"""Masks of the Cell Tracking Challenge."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from random_label_images import label_images

from napari_sam import formats
from napari_sam.annotation import Plane
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import Calibration, Item, Segmentation, losses
from napari_sam.formats.ctc import FORMAT
from napari_sam.inference.mask import Mask


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ctc")


def read(path: Path) -> Segmentation:
    assert FORMAT.read is not None
    (one,) = FORMAT.read(path, None)
    return one


def back(folder: Path, found: Segmentation) -> Segmentation:
    path = folder / "01_RES"
    shutil.rmtree(path, ignore_errors=True)
    FORMAT.write(path, [found])
    assert FORMAT.fits(path)
    assert FORMAT.recognises is not None
    assert FORMAT.recognises(path)
    return read(path)


def without_gaps(item: Item) -> bool:
    times = {index[0] for index in item.masks}
    return len(times) == max(times) - min(times) + 1


@given(label_images(axes=("tyx", "tzyx", "qyx", "qqyx"), ids=st.integers(1, 65535), plain=True))
def test_it_comes_back(place: Path, found: Segmentation) -> None:
    kept = [item for item in found.items if without_gaps(item)]
    # Each but the first comes from the first, if it began later.
    for number, item in enumerate(kept[1:], 1):
        if max(i[0] for i in kept[0].masks) < min(i[0] for i in item.masks):
            kept[number] = Item(item.id, item.masks, attributes={"parent": kept[0].id})
    found = Segmentation(found.shape, kept, calibration=found.calibration)
    again = back(place, found)
    assert (again.shape, again.items) == (found.shape, found.items)
    assert again.calibration.axes == {3: "tyx", 4: "tzyx"}[len(found.shape)]


@given(label_images(axes=("tyx", "tzyx"), ids=st.integers(1, 65535), plain=True))
def test_files_are_those_of_the_challenge(place: Path, found: Segmentation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FormatWarning)
        back(place, found)
    names = sorted(path.name for path in (place / "01_RES").glob("*.tif"))
    assert names == [f"mask{time:03}.tif" for time in range(found.shape[0])]
    frames = [tifffile.imread(place / "01_RES" / name) for name in names]
    labels = np.reshape(np.stack(frames), found.shape)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels > 0, found.to_labels() > 0)
    text = (place / "01_RES" / "res_track.txt").read_text()
    lines = [tuple(map(int, line.split())) for line in text.splitlines()]
    assert sorted(line[0] for line in lines) == np.unique(labels[labels > 0]).tolist()
    end_of = {label: end for label, _, end, _ in lines}
    for label, begin, end, parent in lines:
        # The rules: there at each of its times and at no other, and its parent only before.
        there = np.flatnonzero((labels == label).any(axis=tuple(range(1, labels.ndim))))
        assert there.tolist() == list(range(begin, end + 1))
        assert parent == 0 or end_of[parent] < begin


def test_gaps_become_tracks_with_parents(tmp_path: Path) -> None:
    labels = np.zeros((6, 2, 2), dtype=int)
    labels[[0, 1, 3], 0, 0] = 1
    labels[5, 0, 0] = 1
    labels[5, 1, 1] = 2
    labels[2, 1, 1] = 4
    found = Segmentation.of_labels(labels, Calibration("tyx", (1.0,) * 3, (0.0,) * 3, ("",) * 3))
    # 2 comes from 1, which was last seen before in its second part; 4 from one that there is not.
    parents = {1: {}, 2: {"parent": 1}, 4: {"parent": 9}}
    items = [Item(item.id, item.masks, attributes=parents[item.id]) for item in found.items]
    with pytest.warns(FormatWarning) as told:
        again = back(tmp_path, Segmentation(found.shape, items, calibration=found.calibration))
    assert [str(one.message) for one in told] == [
        "In the Cell Tracking Challenge, objects would have a gap in time: 2 new ids were given.",
        "In the Cell Tracking Challenge, objects have a parent that is not there before them: "
        "1 parents were left out.",
    ]
    text = (tmp_path / "01_RES" / "res_track.txt").read_text()
    assert text == "1 0 1 0\n2 5 5 3\n3 3 3 1\n4 2 2 0\n5 5 5 3\n"
    assert [item.id for item in again.items] == [1, 2, 3, 4, 5]


def test_who_came_from_whom_is_written_by_ids_and_read_again(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 12), dtype=int)
    labels[:2, :2, :6], labels[2:, :2, :2], labels[2:, :2, 4:6] = 7, 7, 7
    labels[3, 3, 9:] = 8
    document = Segmentation.of_labels(labels).to_document()
    (mother, other) = document.objects
    children = document.divide(mother.uid, Plane((2, None, None)))
    document.set_parent([other.uid], children[0].uid)
    # Object 8 is there at the same time as its parent, which the challenge has no place for.
    with pytest.warns(FormatWarning, match="1 parents were left out"):
        formats.write(tmp_path / "01_RES", document.snapshot, "ctc")
    text = (tmp_path / "01_RES" / "res_track.txt").read_text()
    assert text == "7 0 1 0\n8 3 3 0\n9 2 3 7\n10 2 3 7\n"
    (found,) = formats.read(tmp_path / "01_RES")
    again = found.to_document()
    family = {item.id: again.parent_of(item.uid) for item in again.objects}
    assert {number: item and item.id for number, item in family.items()} == {7: None, 8: None, 9: 7, 10: 7}
    assert again.undo_text == "Import objects"


def test_what_is_lost_and_what_cannot_be_written(tmp_path: Path) -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    pixels = Calibration("tyx", (2.0, 1.0, 1.0), (0.0,) * 3, ("",) * 3)
    found = Segmentation((1, 2, 2), [Item(5, {(0,): mask}, "cell", 0.5)], calibration=pixels)
    assert losses([found], FORMAT) == [
        "Cell Tracking Challenge holds no classes: 1 object will lose theirs.",
        "Cell Tracking Challenge holds no scores: 1 object will lose theirs.",
        "Cell Tracking Challenge holds no sizes of pixels: 1 object will be in pixels.",
    ]
    stack = Calibration("zyx", (1.0,) * 3, (0.0,) * 3, ("",) * 3)
    for refused in (
        Segmentation((2, 2)),
        Segmentation((1, 2, 2), calibration=stack),
        Segmentation((1,) * 5),
    ):
        with pytest.raises(FormatError, match="planes or stacks in time"):
            FORMAT.write(tmp_path / "a_res", [refused])


def test_ground_truth_is_read(tmp_path: Path) -> None:
    for time in range(2):
        tifffile.imwrite(tmp_path / f"man_track{time:03}.tif", np.full((3, 4), 7, "u2"))
    (tmp_path / "man_track.txt").write_bytes(b"7 0 1 0\r\n")
    found = read(tmp_path)
    assert (found.shape, [item.area for item in found.items]) == ((2, 3, 4), [24])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = np.zeros((3, 4, 5), dtype=int)
    labels[:, 1:3, 1:3] = 7
    FORMAT.write(tmp_path / "01_RES", [Segmentation.of_labels(labels)])
    return tmp_path / "01_RES"


@pytest.mark.parametrize(
    "text",
    [
        "7 0 2\n",
        "7 0 2 0 0",
        "7 0 2 -1",
        "a b c d",
        "7 2 0 0",
        "7 0 2 7",
        "7 0 2 8",
        "0 0 2 0",
        "7 0 2 0\n7 0 2 0",
        "7 0 99999999999999999999 0",
        "7 0 2 ²",
        "7 0 2 \0",
    ],
)
def test_wrong_tracks_give_a_sentence(folder: Path, text: str) -> None:
    (folder / "res_track.txt").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"res_track\.txt"):
        read(folder)


def test_wrong_images_give_a_sentence(folder: Path) -> None:
    tifffile.imwrite(folder / "mask002.tif", np.zeros((4, 6), "u2"))
    with pytest.raises(FormatError, match="another shape"):
        read(folder)
    (folder / "mask001.tif").unlink()
    with pytest.raises(FormatError, match="lacks images"):
        read(folder)
    for file in folder.glob("*.tif"):
        file.unlink()
    with pytest.raises(FormatError, match=r"has no mask000\.tif"):
        read(folder)
    (folder / "res_track.txt").unlink()
    assert FORMAT.recognises is not None
    assert not FORMAT.recognises(folder)
    with pytest.raises(FormatError, match="neither"):
        read(folder)


@given(st.binary(max_size=60), st.binary(max_size=400))
def test_anything_gives_a_sentence(place: Path, text: bytes, image: bytes) -> None:
    path = place / "fuzz_res"
    path.mkdir(exist_ok=True)
    (path / "res_track.txt").write_bytes(text)
    (path / "mask000.tif").write_bytes(image)
    with contextlib.suppress(FormatError):
        read(path)
    (path / "res_track.txt").write_bytes(b"1 0 0 0")
    with pytest.raises(FormatError, match="mask000"):
        read(path)
