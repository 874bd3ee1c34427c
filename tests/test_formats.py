"""The core of exchange: what is exchanged, what would be lost, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.io import imsave

from napari_sam.annotation import Document
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.records import ObjectClass
from napari_sam.atomic import replacing
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import (
    FORMATS,
    Calibration,
    Feature,
    Item,
    Segmentation,
    convert,
    find_format,
    losses,
    read,
    write,
)
from napari_sam.formats.json_files import read_json
from napari_sam.inference.mask import Mask

SUFFIX = ".napari-sam.zip"


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64]),
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.integers(0, 9),
    )
)
def test_labels_come_back(labels: np.ndarray) -> None:
    found = Segmentation.of_labels(labels)
    np.testing.assert_array_equal(found.to_labels(), labels)
    np.testing.assert_array_equal(found.to_document().to_labels(), labels)
    again = Segmentation.of_snapshot(found.to_document().snapshot)
    assert [(i.id, dict(i.masks)) for i in again.items] == [(i.id, dict(i.masks)) for i in found.items]


def test_the_smallest_type_is_chosen() -> None:
    def kind(*ids: int) -> np.dtype:
        return Segmentation.of_labels(np.array([[0, *ids]], dtype=np.int64)).to_labels().dtype

    assert (kind(), kind(255), kind(256), kind(2**31)) == ("u1", "u1", "u2", "u4")
    assert (kind(-1), kind(-1, 200)) == ("i1", "i2")
    with pytest.raises(FormatError, match="uint8 cannot hold the ids 256 to 256"):
        Segmentation.of_labels(np.array([[0, 256]])).to_labels(np.uint8)


def two(score_of_second: float | None) -> Segmentation:
    """Two objects that share a pixel."""
    first = Mask((0, 0), np.ones((1, 2), dtype=bool), (1, 3))
    second = Mask((0, 1), np.ones((1, 2), dtype=bool), (1, 3))
    return Segmentation(
        (1, 3), [Item(4, {(): first}, score=0.5), Item(7, {(): second}, score=score_of_second)]
    )


def test_the_best_is_on_top() -> None:
    assert two(0.9).to_labels().tolist() == [[4, 7, 7]]
    assert two(0.5).to_labels().tolist() == [[4, 4, 7]]
    assert two(None).to_labels().tolist() == [[4, 4, 7]]


def test_classes_scores_and_sources_are_those_of_the_annotation() -> None:
    document = Document((2, 4, 4))
    document.set_classes([ObjectClass(3, "nucleus", "#ff0000")])
    labels = np.zeros((2, 4, 4), dtype=int)
    labels[:, 1:3, 1:3] = 8
    document.add_objects(drafts_of_labels(labels, class_id=3), keep_ids=True)
    (item,) = Segmentation.of_snapshot(document.snapshot).items
    assert (item.id, item.class_name, item.source, item.area) == (8, "nucleus", "imported", 8)
    assert list(item.masks) == [(0,), (1,)]


def family() -> Segmentation:
    """Object 3 came from 8, and 5 from 3; 6 says things that make no sense."""
    parents: dict[int, object] = {8: None, 3: 8, 5: 3.0, 6: "Eve"}
    return Segmentation(
        (1, 9),
        [
            Item(
                number,
                {(): Mask((0, number), np.ones((1, 1), dtype=bool), (1, 9))},
                attributes={} if parent is None else {"parent": parent},
            )
            for number, parent in parents.items()
        ],
    )


def test_parents_are_told_by_ids_and_become_those_of_the_annotation() -> None:
    document = family().to_document()
    uids = {item.uid: item.id for item in document.objects}
    assert {item.id: uids.get(item.parent) for item in document.objects} == {3: 8, 5: 3, 6: None, 8: None}
    assert document.undo_text == "Import objects"
    again = Segmentation.of_snapshot(document.snapshot)
    assert {item.id: item.attributes for item in again.items if item.attributes} == {
        3: {"parent": 8},
        5: {"parent": 3},
    }
    # One that is gone, or has no pixels, is nobody's parent in a file.
    document.delete([uid for uid, number in uids.items() if number == 8])
    assert [item.parent for item in Segmentation.of_snapshot(document.snapshot).items] == [0, 3, 0]


@pytest.mark.parametrize("parent", [None, True, 0, 4, 99, 2.5, float("nan"), float("inf"), 10**30, "8", [8]])
def test_whatever_is_called_a_parent_an_annotation_is_made(parent: object) -> None:
    mask = Mask((0, 0), np.ones((1, 1), dtype=bool), (1, 9))
    found = Segmentation((1, 9), [Item(4, {(): mask}, attributes={"parent": parent})])
    assert [item.parent for item in found.to_document().objects] == [0]
    assert found.items[0].parent in (0, 4, 99)


def test_objects_that_would_descend_from_themselves_have_no_parent() -> None:
    items = [replace(item, attributes={"parent": 11 - item.id}) for item in family().items[:2]]
    document = Segmentation((1, 9), items).to_document()
    assert sum(bool(item.parent) for item in document.objects) == 1


def test_items_must_fit() -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    with pytest.raises(FormatError, match="The id 0"):
        Segmentation((2, 2), [Item(0, {(): mask})])
    with pytest.raises(FormatError, match="The id 3 is there twice"):
        Segmentation((2, 2), [Item(3, {(): mask}), Item(3, {(): mask})])
    with pytest.raises(FormatError, match="does not fit an image"):
        Segmentation((3, 2), [Item(3, {(): mask})])
    with pytest.raises(FormatError, match="does not fit an image"):
        Segmentation((5, 2, 2), [Item(3, {(5,): mask})])
    with pytest.raises(FormatError, match="has more than 131,072 planes"):
        Segmentation((2**9, 2**9, 2, 2))
    with pytest.raises(FormatError, match="Sizes of pixels are positive"):
        Calibration("yx", (0.0, 1.0), (0.0, 0.0), ("", ""))


def test_what_would_be_lost_is_said() -> None:
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    parts = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    masks = [Mask.from_array(ring), Mask.from_array(parts)]
    items = [Item(2, {(0,): masks[0]}, "cell", 0.5), Item(1, {(0,): masks[1]})]
    calibration = Calibration("zyx", (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), ("", "", ""))
    found = Segmentation((1, 3, 3), items, calibration=calibration)
    nothing = replace(FORMATS["annotation"], title="Stone", holds=frozenset())
    assert losses([found], nothing) == [
        "Stone holds no ids: 2 objects will be numbered anew.",
        "Stone holds no classes: 1 object will lose theirs.",
        "Stone holds no scores: 1 object will lose theirs.",
        "Stone holds one object per pixel: where 2 objects overlap, the best one gets it.",
        "Stone holds no holes: those of 1 object will be filled.",
        "Stone holds objects of one part: 1 object will be cut into several.",
        "Stone holds planes: 2 objects will be told plane by plane.",
        "Stone holds no sizes of pixels: 2 objects will be in pixels.",
    ]
    assert losses([found], replace(nothing, holds=frozenset(Feature))) == []


def test_annotations_are_written_and_read(tmp_path: Path) -> None:
    labels = np.array([[0, 5, 5], [9, 0, 5]])
    path = write(tmp_path / f"Zellen äöü{SUFFIX}", labels)
    (found,) = read(path)
    np.testing.assert_array_equal(found.to_labels(), labels)
    with pytest.raises(FormatError, match="exists"):
        write(path, labels)
    assert write(path, found, overwrite=True) == path
    with pytest.warns(FormatWarning, match="2 objects overlap"):
        write(path, two(None), overwrite=True)


def test_errors_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"There is no file .*nowhere"):
        read(tmp_path / "nowhere.json")
    with pytest.raises(FormatError, match="is of no format"):
        find_format(tmp_path / "a.docx")
    with pytest.raises(FormatError, match="There is no format 'word'"):
        find_format(tmp_path / "a.docx", "word")
    with pytest.raises(FormatError, match=r"The folder .*missing does not exist"):
        write(tmp_path / "missing" / f"a{SUFFIX}", np.ones((2, 2), dtype=int))
    (tmp_path / f"b{SUFFIX}").mkdir()
    with pytest.raises(FormatError, match="is a folder"):
        write(tmp_path / f"b{SUFFIX}", np.ones((2, 2), dtype=int), overwrite=True)


def test_the_reader_says_what_is_wrong_where_the_name_leaves_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "real.tif", np.zeros((4, 5)))
    tifffile.imwrite(tmp_path / "real.ome.tif", np.zeros((4, 5)))
    tifffile.imwrite(tmp_path / "colour.tiff", np.zeros((4, 5, 3), dtype=np.uint8), photometric="rgb")
    imsave(tmp_path / "colour.png", np.zeros((4, 5, 3), dtype=np.uint8), check_contrast=False)
    texts = {"text.tif": "words", "words.txt": "some words", "a.zip": "words", "a.geojson": "{}"}
    texts |= {"a.coco.json": "[]", "a.sa1b.json": "{}", "a.json": '{"shapes": []}'}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "01_RES").mkdir()
    for name, sentence in {
        "real.tif": r"real\.tif .*its pixels are of type float64, where ids are whole numbers",
        "real.ome.tif": r"real\.ome\.tif .*float64, where ids are whole numbers",
        "colour.tiff": r"colour\.tiff is no label image: it has colours",
        "colour.png": r"colour\.png is no label image: it has colours",
        "text.tif": r"text\.tif is damaged or of another kind",
        "words.txt": r"words\.txt has no lines of YOLO: line 1 is not of numbers",
        "a.zip": r"a\.zip .*it is no whole zip file",
        "a.geojson": r"a\.geojson",
        "a.coco.json": r"a\.coco\.json",
        "a.sa1b.json": r"a\.sa1b\.json",
        "a.ome.zarr": r"a\.ome\.zarr has no labels",
        "01_RES": r"01_RES has neither res_track\.txt nor man_track\.txt",
    }.items():
        with pytest.raises(FormatError, match=sentence) as told:
            read(tmp_path / name, shape=(4, 5))
        assert "is of no format" not in str(told.value)
    # Several readers have such names.
    with pytest.raises(FormatError, match=r"a\.json is of no format that is known here"):
        read(tmp_path / "a.json")


def test_the_json_of_an_annotation_is_read_by_itself(tmp_path: Path) -> None:
    words = ("images", "annotations", "Feature", "cell")
    document = Document((3, 4))
    document.set_classes([ObjectClass(number, name, "#ff0000") for number, name in enumerate(words, 1)])
    document.add_objects(drafts_of_labels(np.eye(3, 4, dtype=int) * 5, class_id=4), keep_ids=True)
    with zipfile.ZipFile(write(tmp_path / f"a{SUFFIX}", document.snapshot)) as archive:
        path = Path(archive.extract("annotation.json", tmp_path))
    expected = read(tmp_path / f"a{SUFFIX}")
    assert find_format(path).name == "annotation"
    assert read(path) == expected
    # In one line, or with its members in another order.
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")), encoding="utf-8")
    assert read(path) == expected
    assert convert(path, tmp_path / "b.npz") == [tmp_path / "b.npz"]
    # Its name is one of others', which are written to it.
    path.unlink()
    assert find_format(path).name == "coco"
    write(path, Segmentation((3, 4), [Item(1, {}, "napari-sam annotation")]))
    assert find_format(path).name == "coco"
    write(path, Segmentation((3, 4), [Item(1, {}, "napari-sam annotation")]), "geojson", overwrite=True)
    assert find_format(path).name == "geojson"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder", [False, True])
def test_the_old_file_stays_whole(tmp_path: Path, error: BaseException, folder: bool) -> None:
    path = tmp_path / "mine"
    if folder:
        path.mkdir()
    kept = path / "kept" if folder else path
    kept.write_text("as it was")

    def begin() -> None:
        with replacing(path) as new:
            if folder:
                new.mkdir()
            (new / "half" if folder else new).write_text("half")
            raise error

    with pytest.raises(type(error)):
        begin()
    assert kept.read_text() == "as it was"
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.mkdir()
    (path / "old").touch()
    with replacing(path) as new:
        new.mkdir()
        (new / "new").touch()
    assert [one.name for one in path.iterdir()] == ["new"]
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, found: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(FORMATS, "annotation", replace(FORMATS["annotation"], write=full))
    with pytest.raises(FormatError, match=r"a b\.napari-sam\.zip cannot be written: No space left"):
        write(tmp_path / f"a b{SUFFIX}", np.ones((2, 2), dtype=int))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": [1, 2', "is not whole JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ("[" + "[]," * 12_000_000 + "[]]", "more than 1 GiB of memory"),
        ("1" * 5000, "cannot be read"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        ("", "is not whole JSON"),
    ],
    ids=["cut", "lists", "members", "many", "digits", "binary", "empty"],
)
def test_malformed_json_is_refused(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(FormatError, match=sentence):
        read_json(path)


def test_json_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, "ä", None, {"b": []}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    assert read_json(path) == content
