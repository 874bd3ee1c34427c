from __future__ import annotations

import json
import time
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_segmentation import segmentations
from shapely.geometry import shape as shape_of

from napari_sam.annotation.archive import load_annotation, save_annotation
from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import FORMATS, Calibration, Item, Segmentation, find_format, losses, read, write
from napari_sam.inference.mask import Mask

RING = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 2], [1, 1, 1, 2, 2]])
TWO = Segmentation(
    (3, 5),
    [
        Item(5, {(): Mask.from_array(RING == 1)}, "cell", 0.75, "automatic", {"stability_score": 0.5}),
        Item(-(2**61), {(): Mask.from_array(RING == 2)}, attributes={"name": "7", "objectType": "tile"}),
    ],
    [ObjectClass(4, "cell", "#0a0b0c"), ObjectClass(2, "nobody", "#ffffff")],
    Calibration("yx", (0.5, 0.25), (-1.0, 2.0), ("micrometer", "micrometer")),
    "two ü.png",
)
SQUARE = [[[1, 1], [4, 1], [4, 4], [1, 4], [1, 1]]]
# As QuPath 0.5 writes it.
QUPATH: dict[str, Any] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "d5a6bd1c-8b0b-4b0c-9a59-5ad14d1bb0dd",
            "geometry": {"type": "Polygon", "coordinates": SQUARE},
            "properties": {
                "objectType": "annotation",
                "name": "left one",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "isLocked": True,
                "measurements": {"Area µm^2": 9.5, "Empty": float("nan"), "predicted_iou": 0.5},
            },
        },
        {
            "type": "Feature",
            "id": "4c6ac75e-4a46-4b0c-a9b1-b1c3a8a2c6c3",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [
                        [[5.5, 0], [9, 0], [9, 3.25], [5.5, 3.25], [5.5, 0]],
                        [[6, 1], [7, 1], [7, 2], [6, 2], [6, 1]],
                    ],
                    [[[0, 5], [2, 5], [2, 6], [0, 6], [0, 5]]],
                ],
            },
            "properties": {"objectType": "detection", "name": "12", "classification": {"names": ["A", "B"]}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [3, 3]},
            "properties": {"objectType": "annotation"},
        },
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": [[3, 3], [5, 5]]},
            "properties": {},
        },
    ],
}


def feature(geometry: Any = None, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": SQUARE} if geometry is None else geometry
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: Any, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **more}


def stored(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that every example writes anew."""
    return tmp_path_factory.mktemp("folder with ü") / "found.geojson"


@settings(max_examples=60)
@given(found=segmentations())
@example(found=TWO)
@example(found=Segmentation((4, 5)))
def test_what_is_written_is_read_again(place: Path, found: Segmentation) -> None:
    assert losses([found], FORMATS["geojson"]) == []
    write(place, found, overwrite=True)
    assert find_format(place).name == "geojson"
    assert read(place) == read(place, shape=found.shape) == [found]


def test_json_is_looked_into(place: Path) -> None:
    assert find_format(write(place.with_suffix(".json"), TWO, "geojson")).name == "geojson"
    with pytest.raises(FormatError, match="of the shape"):
        read(place.with_suffix(".json"), shape=(3, 6))


@settings(max_examples=30)
@given(found=segmentations())
@example(found=TWO)
def test_shapely_sees_valid_polygons_of_the_same_pixels(place: Path, found: Segmentation) -> None:
    write(place, found, overwrite=True)
    text = place.read_text()
    whole = shapely.from_geojson(text)
    assert whole.area == sum(mask.area for _, _, mask in found.masks())
    for one, (_, _, mask) in zip(json.loads(text)["features"], found.masks(), strict=True):
        seen = shape_of(one["geometry"])
        assert seen.is_valid
        y, x = np.indices(mask.shape) + 0.5
        np.testing.assert_array_equal(shapely.contains_xy(seen, x, y), mask.to_array())


def test_what_qupath_looks_for(place: Path) -> None:
    write(place, TWO, overwrite=True)
    first, second = json.loads(place.read_text())["features"]
    assert uuid.UUID(first["id"]) != uuid.UUID(second["id"])
    assert first["properties"] == {
        "objectType": "detection",
        "name": "5",
        "classification": {"name": "cell", "color": [10, 11, 12]},
        "measurements": {"predicted_iou": 0.75, "stability_score": 0.5},
        "object_id": 5,
        "score": 0.75,
        "source": "automatic",
        "attributes": {"stability_score": 0.5},
    }
    assert (second["properties"]["objectType"], second["properties"]["name"]) == ("tile", "7")
    assert first["geometry"]["type"] == "Polygon"
    assert "plane" not in first["geometry"]
    ids = [one["id"] for one in json.loads(place.read_text())["features"]]
    write(place, TWO, overwrite=True)
    assert [one["id"] for one in json.loads(place.read_text())["features"]] == ids


@pytest.mark.parametrize(
    ("axes", "planes"),
    [
        ("zyx", [{"c": -1, "z": 1, "t": 0}]),
        ("tyx", [{"c": -1, "z": 0, "t": 1}]),
        ("qyx", [{"c": -1, "z": 1, "t": 0}]),
        ("czyx", [{"c": 1, "z": 2, "t": 0}]),
        ("qqqyx", [{"c": 3, "z": 1, "t": 2}]),
        ("qqqqyx", [{"c": 3, "z": 1, "t": 2}]),
    ],
)
def test_planes_are_where_qupath_looks_for_them(place: Path, axes: str, planes: list[Any]) -> None:
    count = len(axes) - 2
    index = tuple(range(1, count + 1))
    whole = Calibration(axes, (1.0,) * (count + 2), (0.0,) * (count + 2), ("",) * (count + 2))
    item = Item(3, {index: Mask.from_array(np.ones((2, 2)))})
    found = Segmentation((*(at + 2 for at in index), 2, 2), [item], calibration=whole)
    write(place, found, overwrite=True)
    assert [one["geometry"]["plane"] for one in json.loads(place.read_text())["features"]] == planes
    assert read(place) == [found]


def test_what_qupath_writes(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.geojson", QUPATH)
    with pytest.warns(FormatWarning, match=r"2 objects of .*a.geojson left out: they are no polygons"):
        (found,) = read(path)
    assert found.shape == (6, 9)
    assert found.classes == (
        ObjectClass(1, "Tumor", "#c80000"),
        ObjectClass(2, "A: B", found.classes[1].colour),
    )
    left, right = found.items
    # Centres of four columns in three rows, but for the hole, and two pixels more.
    assert (right.id, right.class_name, right.area) == (12, "A: B", 4 * 3 - 1 + 2)
    assert right.attributes == {"objectType": "detection"}
    assert (left.id, left.class_name, left.score, left.area) == (13, "Tumor", 0.5, 9)
    assert left.attributes == {"Area µm^2": 9.5, "name": "left one", "objectType": "annotation"}
    with pytest.warns(FormatWarning):
        (larger,) = read(path, shape=(20, 30))
    assert larger.shape == (20, 30)
    assert [item.area for item in larger.items] == [item.area for item in found.items]


def test_what_qupath_made_of_our_file(place: Path) -> None:
    # It keeps neither our member nor properties that it does not know.
    write(place, TWO, overwrite=True)
    root = json.loads(place.read_text())
    del root["napari_sam"]
    for one in root["features"]:
        for key in ("object_id", "score", "source", "attributes"):
            one["properties"].pop(key, None)
    (found,) = read(stored(place, root), shape=(3, 5))
    assert [item.id for item in found.items] == [5, 7]
    assert found.items[0].score == 0.75
    assert [dict(item.masks) for item in found.items] == [dict(item.masks) for item in TWO.items]


def test_older_files(tmp_path: Path) -> None:
    old = feature(
        measurements=[{"name": "Area", "value": 3}],
        classification={"name": "Stroma", "colorRGB": -16711936},
    )
    (found,) = read(stored(tmp_path / "old.json", [old, feature(classification="Stroma")]))
    assert found.classes == (ObjectClass(1, "Stroma", "#00ff00"),)
    assert [item.attributes for item in found.items] == [{"Area": 3}, {}]
    (alone,) = read(stored(tmp_path / "alone.json", feature()))
    assert alone.items[0].area == 9


def test_planes_of_others(tmp_path: Path) -> None:
    def at(**plane: int) -> dict[str, Any]:
        return feature({"type": "Polygon", "coordinates": SQUARE, "plane": plane}, name="4")

    path = stored(tmp_path / "a.geojson", collection(at(c=-1, z=0, t=0), at(c=-1, z=2, t=0)))
    (found,) = read(path)
    assert (found.shape, found.calibration.axes) == ((3, 4, 4), "zyx")
    assert [(item.id, list(item.masks)) for item in found.items] == [(4, [(0,), (2,)])]
    (found,) = read(path, shape=(5, 3, 2, 8, 8))
    assert (found.calibration.axes, list(found.items[0].masks)) == ("tzcyx", [(0, 0, 0), (0, 2, 0)])
    for shape, sentence in [((8, 8), "at several z"), ((2, 8, 8), "outside of an image")]:
        with pytest.raises(FormatError, match=sentence):
            read(path, shape=shape)


def test_what_holds_no_pixel_is_left_out(tmp_path: Path) -> None:
    thin = {"type": "Polygon", "coordinates": [[[1, 1], [4, 1], [4, 1.2], [1, 1]]]}
    path = stored(tmp_path / "a.geojson", collection(feature(thin), feature(name="3")))
    with pytest.warns(FormatWarning, match="1 object of .* too small"):
        (found,) = read(path)
    assert [item.id for item in found.items] == [3]


FAR = [[[10**9, 10**9], [10**9 + 4, 10**9], [10**9, 10**9 + 4]]]
WHOLE = {
    "shape": [8, 8],
    "axes": "yx",
    "scale": [1, 1],
    "translate": [0, 0],
    "units": ["", ""],
    "name": "",
    "classes": [],
}


@pytest.mark.parametrize(
    "root",
    [
        collection(),
        collection(feature({"type": "Point", "coordinates": [1, 2]})),
        {"type": "FeatureCollection"},
        {"type": "Topology"},
        [1],
        7,
        "FeatureCollection",
        collection({"type": "Feature", "geometry": 3, "properties": {}}),
        collection(feature({"type": "Sphere", "coordinates": []})),
        collection(feature({"type": "Polygon"})),
        collection(feature({"type": "Polygon", "coordinates": [[1, 2, 3]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[1], [2], [3]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[["1", "2"], ["2", "3"]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[1, 2], [2, 3, 4]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[1, None], [2, 3]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[float("nan"), 1], [2, 3], [5, 5]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[1e308, 1], [2, 3], [5, 1e308]]]})),
        collection(feature({"type": "Polygon", "coordinates": [[[10**400, 1], [2, 3], [5, 5]]]})),
        collection(feature({"type": "MultiPolygon", "coordinates": SQUARE})),
        collection(feature({"type": "Polygon", "coordinates": SQUARE, "plane": {"z": 1.5}})),
        collection(feature({"type": "Polygon", "coordinates": SQUARE, "plane": {"z": -7}})),
        collection(feature({"type": "Polygon", "coordinates": SQUARE, "plane": {"z": 2**31, "t": 2**31}})),
        collection(feature(object_id=0)),
        collection(feature(object_id="7")),
        collection(feature(object_id=2**64)),
        collection(feature(object_id=7), feature(object_id=7)),
        collection(feature(object_id=7, plane_index=[1])),
        collection(feature(object_id=7, attributes=[])),
        collection(feature(object_id=7, attributes={"a": float("inf")})),
        collection(feature(score="high")),
        collection(feature(classification=4)),
        collection(feature(classification={"name": "a", "color": [1, 2]})),
        collection(feature(measurements=[{"name": 3}])),
        collection(feature(), napari_sam=3),
        collection(feature(), napari_sam={**WHOLE, "shape": [8]}),
        collection(feature(), napari_sam={**WHOLE, "shape": [2**40, 2**40]}),
        collection(feature(), napari_sam={**WHOLE, "shape": [-8, 8]}),
        collection(feature(), napari_sam={**WHOLE, "axes": "xyz"}),
        collection(feature(), napari_sam={**WHOLE, "scale": [0, 1]}),
        collection(feature(), napari_sam={**WHOLE, "classes": [{"id": 1, "name": "a", "color": "red"}]}),
        collection(feature({"type": "Polygon", "coordinates": FAR}), napari_sam=WHOLE),
    ],
)
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_malformed_files_are_errors_that_name_the_file(tmp_path: Path, root: Any) -> None:
    path = stored(tmp_path / "a.geojson", root)
    with pytest.raises(FormatError, match=r"a\.geojson.*\.$"):
        read(path, "geojson")


def test_bombs(tmp_path: Path) -> None:
    far = [[0, 0], [10**6, 0], [10**6, 10**6], [0, 10**6]]
    zigzag = [[0, 0], [1, 10**6]] * 2000
    for ring, count, sentence in [(far, 3, "more than 1 GiB"), (zigzag, 1, "too often")]:
        features = [feature({"type": "Polygon", "coordinates": [ring]})] * count
        path = stored(tmp_path / "a.geojson", collection(*features))
        tracemalloc.start()
        try:
            with pytest.raises(FormatError, match=sentence):
                read(path)
            assert tracemalloc.get_traced_memory()[1] < 2**26
        finally:
            tracemalloc.stop()
    deep = tmp_path / "deep.geojson"
    deep.write_text('{"type": "FeatureCollection", "features": ' + "[" * 10**6)
    with pytest.raises(FormatError):
        read(deep)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([10**400, -(2**63)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_damaged_files_are_read_or_told(place: Path, data: st.DataObject) -> None:
    """Some value of a good file is replaced by anything."""
    write(place, TWO, overwrite=True)
    root = data.draw(st.sampled_from([json.loads(place.read_text()), json.loads(json.dumps(QUPATH))]))
    holder: Any = None
    value: Any = root
    for _ in range(data.draw(st.integers(0, 9))):
        keys = (
            list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        )
        if not keys:
            break
        holder, key = value, data.draw(st.sampled_from(keys))
        value = holder[key]
    if holder is None:
        root = data.draw(VALUES)
    else:
        holder[key] = data.draw(VALUES)
    path = stored(place, root)
    try:
        (found,) = read(path, "geojson")
    except FormatError as error:
        told = str(error)
    else:
        told = str(write(path, found, overwrite=True))
        assert read(path) == [found]
    assert str(path) in told


@settings(max_examples=60)
@given(data=st.data())
def test_files_that_end_early_are_told(place: Path, data: st.DataObject) -> None:
    write(place, TWO, overwrite=True)
    whole = place.read_bytes()
    place.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
    with pytest.raises(FormatError):
        read(place, "geojson")


def test_thousands_of_objects(place: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((40, 40)) - 19.5
    items = []
    for number in range(1, 1001):
        radii = rng.uniform(5, 19, 2)
        bits = (y / radii[0]) ** 2 + (x / radii[1]) ** 2 < 1
        mask = Mask(tuple(rng.integers(0, 4056, 2).tolist()), bits, (4096, 4096))
        items.append(Item(number, {(): mask}))
    found = Segmentation((4096, 4096), items)
    started = time.process_time()
    write(place, found, overwrite=True)
    assert time.process_time() - started < 2
    assert read(place) == [found]


@pytest.mark.parametrize(
    ("said", "kept"),
    [(0.5, 0.5), (1, 1.0), (np.float32(0.25), 0.25)]
    + [(wrong, None) for wrong in ("high", True, None, [0.5], float("nan"), float("inf"), 10**400)],
    ids=repr,
)
def test_a_stability_that_is_no_number_is_left_away(tmp_path: Path, said: Any, kept: float | None) -> None:
    item = Item(1, {(): Mask.from_array(RING == 1)}, attributes={"stability_score": said})
    document = Segmentation((3, 5), [item]).to_document()
    (answer,) = document.objects[0].base.values()
    assert answer.stability == kept
    path = save_annotation(tmp_path / "kept.napari-sam.zip", document.snapshot)
    assert load_annotation(path)[0] == document.snapshot


def test_what_others_call_stability_can_be_saved(tmp_path: Path) -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": SQUARE},
        "properties": {"stability_score": "high"},
    }
    path = tmp_path / "others.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    document = read(path, shape=(8, 8))[0].to_document()
    saved = save_annotation(tmp_path / "others.napari-sam.zip", document.snapshot)
    assert load_annotation(saved)[0] == document.snapshot
