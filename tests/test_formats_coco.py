from __future__ import annotations

import contextlib
import copy
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_segmentation import label_images, segmentations

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import (
    FORMATS,
    Calibration,
    Item,
    Segmentation,
    coco_masks,
    find_format,
    losses,
    read,
    write,
)
from napari_sam.inference.mask import Mask
from napari_sam.inference.rle import coco_rle, run_lengths

BOTH = pytest.mark.parametrize("name", ["coco", "coco-polygons"])
# pycocotools compares and decodes in ways that numpy 2 finds old-fashioned
OLD = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RING = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 2], [1, 1, 1, 2, 2]])
TWO = Segmentation(
    (3, 5),
    [
        Item(5, {(): Mask.from_array(RING == 1)}, "cell", 0.75, "clicked", {"stability_score": 0.5}),
        Item(2**31 - 1, {(): Mask.from_array(RING > 0)}, attributes={"parent": 5, "id": "x", "iscrowd": 1}),
    ],
    [ObjectClass(4, "cell", "#0a0b0c"), ObjectClass(2, "object", "#ffffff")],
    Calibration("yx", (0.5, 0.25), (-1.0, 2.0), ("micrometer", "micrometer")),
    "two ü.png",
)


def content(found: Any, path: Path, name: str = "coco") -> Any:
    """What is in a file."""
    write(path, found, name, overwrite=True)
    return json.loads(path.read_text())


def stored(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that every example writes anew."""
    return tmp_path_factory.mktemp("folder with ü") / "found.coco.json"


@BOTH
@settings(max_examples=40)
@given(found=segmentations())
@example(found=TWO)
def test_what_is_written_is_read_again(place: Path, name: str, found: Segmentation) -> None:
    assert losses([found], FORMATS[name]) == []
    write(place, found, name, overwrite=True)
    assert find_format(place).name == "coco"
    (again,) = read(place, shape=found.shape)
    assert again == found


@BOTH
def test_several_images_share_their_classes(place: Path, name: str) -> None:
    stack = Segmentation.of_labels(np.arange(24).reshape(2, 3, 4) % 5, Calibration.plain(3), "stack.tif")
    other = Segmentation(
        (2, 2),
        [Item(7, {(): Mask.from_array(np.eye(2))}, "nucleus")],
        [ObjectClass(4, "nucleus", "#010203"), ObjectClass(9, "cell", "#ffffff")],
    )
    write(place, [TWO, stack, other, TWO], name, overwrite=True)
    again = read(place)
    classes = (*TWO.classes, ObjectClass(5, "nucleus", "#010203"))
    assert [one.classes for one in again] == [classes] * 4
    for one, before in zip(again, (TWO, stack, other, TWO), strict=True):
        assert (one.shape, one.items, one.calibration, one.name) == (
            before.shape,
            before.items,
            before.calibration,
            before.name,
        )
    ids = [entry["id"] for entry in json.loads(place.read_text())["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_no_image_at_all_and_no_object(place: Path) -> None:
    assert content([TWO], place)["images"][0]["id"] == 1
    empty = Segmentation((4, 5))
    write(place, empty, "coco", overwrite=True)
    assert read(place) == [empty]
    with pytest.raises(FormatError, match="at least one"):
        write(place, Segmentation((0, 4, 5)), "coco", overwrite=True)


@OLD
@BOTH
@settings(max_examples=30)
@given(labels=label_images(most_axes=3))
def test_pycocotools_sees_the_same_pixels(place: Path, name: str, labels: np.ndarray) -> None:
    found = Segmentation.of_labels(labels)
    write(place, found, name, overwrite=True)
    api = COCO(place)
    planes = labels.reshape(-1, *labels.shape[-2:])
    seen = np.zeros_like(planes)
    for entry in api.loadAnns(api.getAnnIds()):
        mask = api.annToMask(entry).astype(bool)
        assert entry["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        assert entry["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        seen[entry["image_id"] - 1][mask] = entry["object_id"]
    np.testing.assert_array_equal(seen, planes)


@OLD
@BOTH
def test_cocoeval_finds_what_is_the_same(place: Path, name: str) -> None:
    found = [Item(n, i.masks, score=n / 10) for n, i in enumerate(Segmentation.of_labels(RING).items, 1)]
    write(place, Segmentation(RING.shape, found), name, overwrite=True)
    truth = COCO(place)
    scores = COCOeval(truth, truth.loadRes(copy.deepcopy(truth.dataset["annotations"])), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == 1


def test_members(place: Path) -> None:
    saved = content(TWO, place, "coco-polygons")
    first, second = saved["annotations"]
    assert first["id"] == first["object_id"] == 5
    assert (first["bbox"], first["area"], first["iscrowd"]) == ([0, 0, 3, 3], 8, 0)
    assert first["score"] == first["predicted_iou"] == 0.75
    assert first["segmentation"]["size"] == [3, 5]  # it has a hole
    assert second["attributes"] == {"parent": 5, "id": "x"}
    assert second["iscrowd"] == 1
    assert saved["categories"] == [
        {"id": 4, "name": "cell", "supercategory": "", "color": [10, 11, 12]},
        {"id": 2, "name": "object", "supercategory": "", "color": [255, 255, 255]},
        {"id": 5, "name": "object_", "supercategory": "", "no_class": True},
    ]
    alone = content(Segmentation.of_labels(RING == 2), place, "coco-polygons")["annotations"]
    assert alone[0]["segmentation"] == [[4, 1, 5, 1, 5, 3, 3, 3, 3, 2, 4, 2]]


def test_numbers_of_numpy_are_written_and_other_things_are_errors(place: Path) -> None:
    def item(value: Any) -> Segmentation:
        return Segmentation((1, 1), [Item(1, {(): Mask.from_array([[1]])}, attributes={"a": value})])

    write(place, item(np.float32(0.5)), "coco", overwrite=True)
    assert read(place)[0].items[0].attributes == {"a": 0.5}
    for wrong in (object(), float("nan")):
        with pytest.raises(FormatError, match="attribute"):
            write(place, item(wrong), "coco", overwrite=True)
    assert read(place)[0].items[0].attributes == {"a": 0.5}


FOREIGN: dict[str, Any] = {
    "info": {"year": 2017},
    "licenses": [],
    "images": [
        {"id": "a", "width": 6, "height": 5, "file_name": "a.jpg"},
        {"id": 0, "width": 4, "height": 4},
    ],
    "categories": [
        {"id": 0, "name": "cat", "supercategory": "animal", "color": "#FF0000"},
        {"id": 7, "name": "dog"},
        {"id": 8, "name": "cat"},
        {"id": 9, "name": " "},
    ],
    "annotations": [
        {
            "id": 0,
            "image_id": "a",
            "category_id": 8,
            "segmentation": [[0, 0, 2.0, 0, 2, 2, 0, 2], [1, 1, 4, 1, 4, 3, 1, 3]],
        },
        {"image_id": "a", "category_id": 7, "segmentation": {"size": [5, 6], "counts": [3, 4, 23]}},
        {
            "id": 3,
            "image_id": "a",
            "category_id": 9,
            "segmentation": coco_rle(Mask((1, 1), np.ones((2, 2), dtype=bool), (5, 6))),
            "iscrowd": 1,
            "attributes": {"occluded": False},
        },
        {"id": 3, "image_id": 0, "segmentation": [[-9, -9, 2, -9, 2, 99, -9, 99]], "predicted_iou": 0.5},
    ],
}


def test_files_of_others(tmp_path: Path) -> None:
    first, second = read(stored(tmp_path / "instances.json", FOREIGN))
    assert (first.shape, first.name, second.shape, second.name) == ((5, 6), "a.jpg", (4, 4), "")
    assert [(one.id, one.name) for one in first.classes] == [(10, "cat"), (7, "dog"), (9, "category 9")]
    assert first.classes[0].colour == "#ff0000"
    assert len({one.colour for one in first.classes}) == 3
    assert [(i.id, i.class_name) for i in first.items] == [(4, "cat"), (5, "dog"), (3, "category 9")]
    united = np.zeros((5, 6), dtype=bool)
    united[:2, :2] = united[1:3, 1:4] = True
    np.testing.assert_array_equal(first.items[0].masks[()].to_array(), united)
    assert run_lengths(first.items[1].masks[()])["counts"] == [3, 4, 23]
    assert first.items[2].attributes == {"occluded": False, "iscrowd": 1}
    assert second.items[0].masks[()].to_array().sum(axis=0).tolist() == [4, 4, 0, 0]
    assert (second.items[0].score, second.items[0].class_name) == (0.5, "")


def test_what_has_no_pixels_is_left_out_with_a_warning(tmp_path: Path) -> None:
    file = copy.deepcopy(FOREIGN)
    file["annotations"] = [
        {"id": 1, "image_id": "a", "segmentation": []},
        {"id": 2, "image_id": "a", "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": "a", "segmentation": {"size": [5, 6], "counts": [30]}},
        {"id": 4, "image_id": "a", "segmentation": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]},
    ]
    with pytest.warns(FormatWarning, match=r"4 objects of .*boxes\.json left out"):
        first, _ = read(stored(tmp_path / "boxes.json", file))
    assert first.items == ()


@pytest.mark.parametrize(
    "ring",
    [[], [1, 1], [1, 1, 2, 2], [9, 9, 12, 9, 12, 12], [-3, 0, -1, 0, -1, 4], [0, -5, 3, -5, 3, -1]],
    ids=repr,
)
def test_polygons_without_pixels_are_passed_over(tmp_path: Path, ring: list[float]) -> None:
    file = copy.deepcopy(FOREIGN)
    square = [1, 1, 3, 1, 3, 3, 1, 3]
    file["annotations"] = [
        {"id": 1, "image_id": "a", "segmentation": [ring, square, ring]},
        {"id": 2, "image_id": "a", "segmentation": [ring]},
        {"id": 3, "image_id": "a", "segmentation": [square]},
    ]
    with pytest.warns(FormatWarning, match=r"1 object of .*tiles\.json left out"):
        first, _ = read(stored(tmp_path / "tiles.json", file))
    assert [item.id for item in first.items] == [1, 3]
    assert first.items[0].masks == first.items[1].masks


def test_sizes_that_a_file_does_not_say(tmp_path: Path) -> None:
    file = copy.deepcopy(FOREIGN)
    file["images"] = [{"id": "a"}]
    del file["annotations"][3]
    path = stored(tmp_path / "a.json", file)
    assert read(path, shape=(5, 6))[0].shape == (5, 6)
    with pytest.raises(FormatError, match=r"a\.json is damaged \(images\[0\]\.height: missing"):
        read(path)
    with pytest.raises(FormatError, match=r"not \(6, 5\)|not the size"):
        read(path, shape=(6, 5))
    write(tmp_path / "b.json", TWO, "coco")
    with pytest.raises(FormatError, match=r"shape \(3, 5\), not \(5, 3\)"):
        read(tmp_path / "b.json", shape=(5, 3))


def polygon(*points: float) -> dict[str, Any]:
    return {"segmentation": [list(points)]}


def lengths(counts: Any, size: Any = (5, 6)) -> dict[str, Any]:
    return {"segmentation": {"size": size, "counts": counts}}


@pytest.mark.parametrize(
    "wrong",
    [
        *map(lengths, ([3, 4], [3, 4, 24], [-1, 31], [30.0], ["30"], [10**30], [2**63, 2**63], {}, None, 30)),
        *map(lengths, ("", "0", "P", "ü", "PPPPPPPPPPPP1", "5", "99999999", "o1", "ooooooo", "\x7f")),
        *(lengths([30], size) for size in ([6, 5], [5], [5, 6, 1], "56", None, [5, 1e400], [-5, -6])),
        *(polygon(*p) for p in ((1,), (1, 1, 2, 2, 3), (0, 0, 1, 1, 2, float("nan")), (0, float("nan")))),
        *(polygon(*p) for p in (("0", 1, 2, 3, 4, 5), (0, 0, 1, 1, 2, 10**400), (0, 0, 1, 1, 2, [2]))),
        *(polygon(*p) for p in ((0, 0, 5, 0, 5, 1e30), (-1e30, 0, -1, 0, -1, 4), (1e30, 0), ("0", "0"))),
        *({"segmentation": value} for value in (1, "x", True, [1, 2, 3, 4, 5, 6], {"size": [5, 6]})),
        *({"image_id": value} for value in (None, "b", [], 1.5)),
        *({"category_id": value} for value in ("cat", 1, [], 1.5)),
        *({"id": value} for value in ("x", 3.5, 2**80, [], True)),
        *({"score": value} for value in ("x", float("nan"), float("inf"), 10**400, [])),
        *({"stability_score": "x"}, {"attributes": {"a": float("inf")}}, {"crop_box": 3}),
    ],
    ids=repr,
)
def test_malformed_annotations_are_errors_that_name_the_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = copy.deepcopy(FOREIGN)
    file["annotations"][2] |= wrong
    path = stored(tmp_path / "wrong.json", file)
    with pytest.raises(FormatError, match=r"wrong\.json is damaged \(annotations\[2\]"):
        read(path)


OWN: dict[str, Any] = {
    "images": [
        {
            "id": 1,
            "width": 2,
            "height": 2,
            "napari_sam": {
                "image": 1,
                "plane": [1],
                "shape": [3, 2, 2],
                "axes": "zyx",
                "scale": [1, 1, 1],
                "translate": [0, 0, 0],
                "units": ["", "", ""],
            },
        }
    ],
    "categories": [{"id": 3, "name": "object", "no_class": True}],
    "annotations": [
        {
            "id": 1,
            "object_id": 8,
            "image_id": 1,
            "category_id": 3,
            "segmentation": [[0, 0, 2, 0, 2, 2]],
            "source": "clicked",
            "score": 0.5,
            "predicted_iou": 0.25,
            "stability_score": 1,
            "point_coords": [[1, 1]],
            "attributes": {"a": 1},
        }
    ],
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [3, 2]},
        {"shape": [1, 2, 2]},
        {"shape": [2**50, 2, 2]},
        {"shape": [3, 2, 3]},
        {"plane": [-1]},
        {"plane": []},
        {"axes": "zy"},
        {"axes": "abc"},
        {"scale": [0, 1, 1]},
        {"scale": [float("nan"), 1, 1]},
        {"units": [1, 2, 3]},
        {"image": "x"},
        {"translate": None},
    ],
    ids=repr,
)
def test_our_own_member_is_not_believed_either(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = copy.deepcopy(OWN)
    path = stored(tmp_path / "own.json", file)
    (found,) = read(path)
    assert (found.shape, found.items[0].id, list(found.items[0].masks)) == ((3, 2, 2), 8, [(1,)])
    file["images"][0]["napari_sam"] |= wrong
    stored(path, file)
    with pytest.raises(FormatError, match=r"own\.json"):
        read(path)


def test_one_plane_or_object_twice(tmp_path: Path) -> None:
    file = copy.deepcopy(OWN)
    file["annotations"] *= 2
    path = stored(tmp_path / "own.json", file)
    with pytest.raises(FormatError, match="on this plane already"):
        read(path)
    file["images"].append(file["images"][0] | {"id": 2})
    with pytest.raises(FormatError, match="a plane for the second time"):
        read(stored(path, file))
    file["images"][1]["id"] = 1
    with pytest.raises(FormatError, match="an id for the second time"):
        read(stored(path, file))
    file = copy.deepcopy(FOREIGN)
    file["annotations"][1]["id"] = 3
    with pytest.raises(FormatError, match="the id 3 for the second time"):
        read(stored(path, file))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [], ', '{"images": 3, "annotations": []}', "5"])
def test_what_is_no_coco_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "none.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"none\.json"):
        read(path, "coco")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few kilobytes that claim gigabytes, or hours."""
    side = 60_000
    image = {"id": 1, "width": side, "height": side}
    whole = {"image_id": 1, "segmentation": {"size": [side, side], "counts": [0, side * side]}}
    some = {"image_id": 1, "segmentation": {"size": [side, side], "counts": [0, 9 * side, 59_991 * side]}}
    zigzag = {"image_id": 1, "segmentation": [[0, 0, side, side] * 1000]}
    short = {"image_id": 1, "segmentation": [[0, 0, 2000, 0, 2000, 1]]}
    bombs = {
        r"\[0\].*too much memory": {"images": [image], "annotations": [whole]},
        r"\[0\].*outlines that are too long": {"images": [image], "annotations": [zigzag]},
        r"\[1\].*too much memory": {"images": [image], "annotations": [some] * 3},
        r"\[4\].*outlines that are too long": {"images": [image], "annotations": [short] * 5},
        "an image of": {"images": [image | {"width": 2**31}], "annotations": []},
        "too large": {"images": [image | {"width": 2**70}], "annotations": []},
    }
    tracemalloc.start()
    try:
        for told, bomb in bombs.items():
            path = stored(tmp_path / "bomb.json", bomb)
            if not told.startswith(r"\[0\]"):  # together
                monkeypatch.setattr(coco_masks, "_MOST_PIXELS", 10**6)
                monkeypatch.setattr(coco_masks, "_MOST_STEPS", 10**5)
            with pytest.raises(FormatError, match=told):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 6)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([10**400, "a", "P1", -1e300]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read_or_told(path: Path) -> list[Segmentation]:
    """What is in a file; nothing, if a sentence says what is wrong with it."""
    told = pytest.raises(FormatError, match=re.escape(str(path)))
    found: list[Segmentation] = []
    with contextlib.suppress(pytest.fail.Exception), told:
        found = read(path, "coco")
    return found


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A file in which one value, or its name, is another."""
    root = copy.deepcopy(draw(st.sampled_from([FOREIGN, OWN])))
    at: Any = root
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        inside = at[key]
        if not isinstance(inside, dict | list) or not inside or draw(st.integers(0, 5)) == 0:
            break
        at = inside
    if draw(st.booleans()):
        at[key] = draw(VALUES)
    elif draw(st.booleans()):
        del at[key]
    else:
        at[key] = copy.deepcopy(draw(st.sampled_from([root, root["annotations"], at])))
    return root


@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
@settings(max_examples=200)
@example(root=OWN | {"annotations": [OWN["annotations"][0] | {"source": []}]})
@given(root=damaged())
def test_damaged_files_are_read_or_told(place: Path, root: Any) -> None:
    stored(place, root)
    for one in read_or_told(place):
        one.to_document()
        write(place, one, "coco", overwrite=True)
        (again,) = read(place)
        assert again.items == one.items


@settings(max_examples=50)
@given(data=st.data())
def test_files_that_end_early_or_have_other_bytes_are_read_or_told(place: Path, data: st.DataObject) -> None:
    write(place, TWO, "coco-polygons", overwrite=True)
    whole = bytearray(place.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        place.write_bytes(whole[:at])
        with pytest.raises(FormatError):
            read(place, "coco")
    else:
        whole[at] = data.draw(st.integers(0, 255))
        place.write_bytes(whole)
        read_or_told(place)


@OLD
@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 30), width=st.integers(1, 30))
def test_run_lengths_of_others(place: Path, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.random((height, width)) < rng.random()
    plane[0, 0] = True
    theirs = coco.encode(np.asfortranarray(plane, np.uint8))
    theirs["counts"] = theirs["counts"].decode()
    counts = run_lengths(Mask.from_array(plane))["counts"]
    cut = [*counts[:1], 0, 0, *counts[1:]]  # runs of no pixels
    annotations = [
        {"image_id": 1, "segmentation": theirs},
        {"image_id": 1, "segmentation": {"size": [height, width], "counts": cut}},
    ]
    image = {"id": 1, "width": width, "height": height}
    (found,) = read(stored(place, {"images": [image], "annotations": annotations}))
    for item in found.items:
        np.testing.assert_array_equal(item.masks[()].to_array(), plane)
