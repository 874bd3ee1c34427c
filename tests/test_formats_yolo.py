from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from random_segmentation import label_images, segmentations
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError
from napari_sam.formats import FORMATS, Item, Segmentation, find_format, losses, read, write, yolo
from napari_sam.inference.mask import Mask

LOSSES = pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every example writes anew."""
    return tmp_path_factory.mktemp("found")


def solid_parts(found: Segmentation) -> list[tuple[str, Mask]]:
    """What YOLO holds of objects: 4-connected parts without holes, by their first pixels."""
    kept = []
    for item, _, mask in found.masks():
        parts, count = ndimage.label(mask.bits)
        for number in range(1, count + 1):
            bits = ndimage.binary_fill_holes(parts == number)
            kept.append((item.class_name, Mask(mask.origin, bits, mask.shape)))
    return kept


@LOSSES
@settings(max_examples=40)
@given(found=segmentations(most_axes=2, attributes=False))
def test_solid_parts_and_names_of_classes_come_back(place: Path, found: Segmentation) -> None:
    folder = place / "set.yolo"
    write(folder, found, overwrite=True)
    assert find_format(folder).name == "yolo-folder"
    (again,) = read(folder, shape=found.shape)
    assert again.shape == found.shape
    assert [(item.class_name, item.masks[()]) for item in again.items] == solid_parts(found)
    assert [item.id for item in again.items] == list(range(1, len(again.items) + 1))
    assert [one.name for one in again.classes] == [one.name for one in found.classes]


@LOSSES
@settings(max_examples=25)
@given(labels=label_images(most_axes=2))
def test_a_file_alone_has_outlines(place: Path, labels: np.ndarray) -> None:
    found = Segmentation.of_labels(labels)
    path = place / "alone" / "image.txt"
    path.parent.mkdir(exist_ok=True)
    write(path, found, overwrite=True)
    (again,) = read(path, "yolo", shape=labels.shape)
    assert [item.masks[()] for item in again.items] == [mask for _, mask in solid_parts(found)]
    assert {item.class_name for item in again.items} <= {"class 0"}
    assert find_format(path).name == "yolo"
    with pytest.raises(FormatError, match="give the shape"):
        read(path, "yolo")


def test_an_image_without_objects_comes_back(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.txt", np.zeros((3, 4), dtype=int))
    assert path.read_bytes() == b""
    assert read(path, shape=(3, 4)) == [Segmentation((3, 4), name="empty")]
    with pytest.raises(FormatError, match=r"empty\.txt .*: give the shape of the image"):
        read(path)


def test_a_folder_without_labels_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.yolo").mkdir()
    with pytest.raises(FormatError, match=r"a\.yolo has no labels"):
        read(tmp_path / "a.yolo")
    # One of other programs may have its files in itself.
    (tmp_path / "a.yolo" / "image.txt").write_text(SQUARE)
    assert [one.name for one in read(tmp_path / "a.yolo", shape=(4, 4))] == ["image"]


def test_outlines_are_those_of_others(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), dtype=int)
    labels[3:11, 4:17] = 1
    labels[7:9, 10:25] = 1
    write(tmp_path / "a.txt", Segmentation.of_labels(labels), "yolo")
    words = (tmp_path / "a.txt").read_text().split()
    assert words[0] == "0"
    points = np.array(words[1:], dtype=float).reshape(-1, 2) * (30, 20) - 0.5
    np.testing.assert_array_equal(polygon2mask((20, 30), points[:, ::-1]), labels == 1)


def test_losses() -> None:
    ring = np.pad(np.zeros((1, 1), dtype=int), 1, constant_values=7)
    ring = np.concatenate([ring, np.zeros((3, 1), dtype=int), ring], axis=1)
    one = Segmentation.of_labels(ring)
    item = Item(7, one.items[0].masks, "cell", 0.5)
    found = Segmentation((3, 7), [item], [ObjectClass(3, "cell", "#ffffff")])
    folder, file = losses([found], FORMATS["yolo-folder"]), losses([found], FORMATS["yolo"])
    assert len(folder) == 4
    assert len(file) == 5
    for word in ("ids", "scores", "holes", "one part"):
        assert any(word in told for told in folder)
    assert any("classes" in told for told in file)


@LOSSES
def test_a_folder_of_images_and_planes(tmp_path: Path) -> None:
    stack = Segmentation.of_labels(np.arange(24).reshape(2, 3, 4) % 2, name="a/b/stack ü.tif")
    eye = Item(4, {(): Mask.from_array(np.eye(2))}, 'dog: "a"\n\x85')
    plain = Segmentation((2, 2), [eye], name="../../etc/passwd")
    write(tmp_path / "x.yolo", [stack, plain, plain, Segmentation((1, 9))], "yolo-folder")
    files = sorted(path.name for path in (tmp_path / "x.yolo" / "labels").iterdir())
    assert files == ["image.txt", "passwd-2.txt", "passwd.txt", "stack ü_0000.txt", "stack ü_0001.txt"]
    content = yaml.safe_load((tmp_path / "x.yolo" / "data.yaml").read_text("utf-8"))
    assert content["names"] == {0: 'dog: "a"\n\x85', 1: "object"}
    again = {one.name: one for one in read(tmp_path / "x.yolo")}
    assert [one.shape for one in again.values()] == [(1, 9), (2, 2), (2, 2), (3, 4), (3, 4)]
    assert [item.class_name for item in again["passwd"].items] == ['dog: "a"\n\x85'] * 2
    assert {item.class_name for item in again["stack ü_0001"].items} == {""}
    with pytest.raises(FormatError, match="write a yolo-folder"):
        write(tmp_path / "stack.txt", stack, "yolo")


@pytest.mark.parametrize("names", ["names: [cell, ' ']\n", "names: {1: ~, 0: cell}\n", "", None])
def test_names_of_classes_are_looked_for(tmp_path: Path, names: str | None) -> None:
    folder = tmp_path / "labels" / "train"
    folder.mkdir(parents=True)
    path = folder / "image.txt"
    path.write_text(SQUARE + "\n2 .25 .25 1.005 .25 .75 .75 0.5\n")
    if names:
        (tmp_path / "data.yaml").write_text(names)
    elif names is None:
        (folder / "classes.txt").write_text("cell\n\n")
    (found,) = read(path, shape=(4, 4))
    assert found.items[0].class_name == ("class 0" if names == "" else "cell")
    assert (found.items[1].class_name, found.items[1].score) == ("class 2", 0.5)
    assert found.items[0].masks[()] == Mask((1, 1), np.ones((2, 2), dtype=bool), (4, 4))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 .5 .5 .2 .2", "line 1: it is a box"),
        (SQUARE + "0 .5 .5 .2 .2 .9", "line 2: it is a box"),
        ("0 1 1", "three points"),
        ("cell 0 0 1 1 0 1", "not of numbers"),
        ("0 0 0 1 1 0 nan", "not finite"),
        ("0 0 0 1 1 0 1e999", "not finite"),
        ("0 0 0 1 1 0 1.1", "outside the image"),
        ("0 0 -9 1 1 0 1", "outside the image"),
        ("0.5 0 0 1 1 0 1", "0.5 is no class"),
        ("-1 0 0 1 1 0 1", "-1 is no class"),
        ("1e9 0 0 1 1 0 1", "is no class"),
        ("0" * 2**22, "too long"),
        (b"\xff\xfe\x00", "not of numbers"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_malformed_files_are_errors_that_name_the_file(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FormatError, match=rf"wrong\.txt .*{told}"):
        read(path, "yolo", shape=(4, 4))


def test_the_shape_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(SQUARE)
    with pytest.raises(FormatError, match="of one plane"):
        read(path, shape=(3, 4, 4))
    (tmp_path / "data.yaml").write_text("sizes: {a: [4, 4]}")
    assert read(path)[0].shape == (4, 4)
    with pytest.raises(FormatError, match=r"shape \(4, 4\), not \(5, 4\)"):
        read(path, shape=(5, 4))
    with pytest.raises(FormatError, match="is no folder"):
        read(path, "yolo-folder")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.txt"
    path.write_text("0 0 0 1 0 1 1 0 1\n")
    with pytest.raises(FormatError, match=r"bomb\.txt .*line 1 would take too much memory"):
        read(path, shape=(2**31, 2**31))
    monkeypatch.setattr(yolo, "_MOST_CROSSINGS", 1000)
    path.write_text("0" + " 0 0 1 1" * 60)
    with pytest.raises(FormatError, match="line 1 would take too much memory or time"):
        read(path, shape=(100, 100))
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FormatError, match="split it into smaller files"):
        read(path, "yolo", shape=(4, 4))


BILLION = "a: &a [l]\n" + "".join(
    f"{x}: &{x} [{', '.join([f'*{y}'] * 9)}]\n" for y, x in zip("abcdef", "bcdefg", strict=False)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BILLION, "aliases"),
        ("names: [", "whole YAML"),
        ("- a", "no names"),
        ("names: 3", "neither a list nor numbered"),
        ("names: {a: b}", "neither a list nor numbered"),
        ("names: [[a]]", "no text"),
        ("x: 2001-99-99", "whole YAML"),
        ("x: !!python/object/apply:os.getcwd []", "whole YAML"),
        ("[" * 2**17, "nested too deeply"),
        ("x" * 2**19, "too large"),
        ("\0", "whole YAML"),
        (b"\xff", "UTF-8"),
        ("? [a]\n: b", "whole YAML"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_malformed_names_are_errors_that_name_their_file(
    tmp_path: Path, text: str | bytes, told: str
) -> None:
    (tmp_path / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "a.txt").write_text(SQUARE)
    with pytest.raises(FormatError, match=rf"data\.yaml .*{told}"):
        read(tmp_path / "a.txt", shape=(4, 4))


WORDS = st.sampled_from(["0", "1", "0.5", "-1", "nan", "1e400", "x", "", "\n", "0.25", "7", "\x00", "1_0"])


@LOSSES
@settings(max_examples=100)
@given(words=st.lists(WORDS, max_size=20), names=st.text(max_size=20))
def test_any_text_is_read_or_told(place: Path, words: list[str], names: str) -> None:
    folder = place / "any"
    folder.mkdir(exist_ok=True)
    path = folder / "a.txt"
    path.write_text(" ".join(words))
    (folder / "data.yaml").write_text(f"names: {names}", encoding="utf-8", errors="replace")
    find_format(path) if FORMATS["yolo"].recognises(path) else None  # type: ignore[misc]
    try:
        (found,) = read(path, "yolo", shape=(4, 4))
        told = str(folder)
        found.to_document()
    except FormatError as error:
        told = str(error)
    assert str(folder) in told
