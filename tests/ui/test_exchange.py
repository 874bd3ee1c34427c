"""Formats of other programs in napari: what is saved from a Labels layer and opened again."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import tifffile
from canvas import Canvas, settle, turn
from napari import Viewer
from napari.components import ViewerModel
from napari.errors import ReaderPluginError
from napari.layers import Labels, Shapes
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManager
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_sam import formats
from napari_sam.annotation import Document
from napari_sam.annotation.records import ObjectClass
from napari_sam.formats import FORMATS, Calibration, Item, Segmentation
from napari_sam.inference.mask import Mask
from napari_sam.ui import exchange
from napari_sam.ui.controller import Controller

NAMES = {
    "coco": "coco.json",
    "coco-polygons": "polygons.json",
    "sa1b": "one.sa1b.json",
    "geojson": "qupath.geojson",
    "imagej-roi": "rois.zip",
    "ome-zarr": "new.ome.zarr",
    "ome-zarr-0.4": "old.ome.zarr",
}
WHOLE = [name for name in NAMES if name != "sa1b"]


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What napari tells the user."""
    sentences: list[str] = []

    def note(notification: Notification) -> None:
        sentences.append(str(notification.message))

    notification_manager.notification_ready.connect(note)
    yield sentences
    notification_manager.notification_ready.disconnect(note)


@pytest.fixture
def labels() -> NDArray[np.int32]:
    """Objects that touch, one with a hole, one of a single pixel."""
    labels = np.zeros((20, 30), dtype=np.int32)
    labels[2:9, 3:12] = 4
    labels[4:6, 5:7] = 0
    labels[2:9, 12:20] = 7
    labels[15, 25] = 1000
    return labels


FEATURES = {
    "index": [4, 7, 1000],
    "class": ["cell", "debris", ""],
    "score": [0.5, np.nan, 0.25],
    "source": ["clicked", "automatic", "painted"],
    "mean": [1.5, 2.5, 3.5],
}


@pytest.fixture
def model() -> ViewerModel:
    """A viewer without a window."""
    PluginManager.instance().discover()
    return ViewerModel()


@pytest.fixture
def layer(labels: NDArray[np.int32]) -> Labels:
    return Labels(
        labels,
        name="cells",
        features=pd.DataFrame(FEATURES),
        scale=(0.5, 0.25),
        translate=(10, 20),
        units=("um", "um"),
        axis_labels=("y", "x"),
    )


def save(layer: Labels, path: Path, name: str) -> None:
    """As the dialog of napari does it once a format was chosen."""
    assert getattr(exchange, f"write_{name.replace('-', '_').replace('.', '')}")(
        str(path), *layer.as_layer_data_tuple()[:2]
    ) == [str(path)]


@pytest.mark.parametrize("name", WHOLE)
def test_a_layer_comes_back(
    name: str, model: ViewerModel, layer: Labels, labels: NDArray[np.int32], tmp_path: Path, told: list[str]
) -> None:
    path = tmp_path / f"Zellen ü {NAMES[name]}"
    save(layer, path, name)
    assert told == []
    (found,) = formats.read(path, name)
    assert [one.class_name for one in found.items] == FEATURES["class"]
    assert found.calibration == Calibration("yx", (0.5, 0.25), (10, 20), ("micrometer", "micrometer"))
    (again,) = model.open(str(path), plugin="napari-sam")
    assert isinstance(again, Labels)
    assert again.name == path.name.removesuffix(
        next(e for e in FORMATS[name].suffixes if path.name.endswith(e))
    )
    np.testing.assert_array_equal(again.data, labels)
    assert again.data.dtype == np.int32
    np.testing.assert_allclose([*again.scale, *again.translate], [0.5, 0.25, 10, 20])
    assert (again.units, again.axis_labels) == (layer.units, ("y", "x"))
    pd.testing.assert_frame_equal(
        again.features[list(FEATURES)], pd.DataFrame(FEATURES), check_dtype=False, check_categorical=False
    )
    # Cells are of one colour, and what is painted later is seen, too.
    colours = again.get_color([4, 7, 1000, 5, 0])
    assert np.ptp(colours[[2, 3]], axis=0).max() == 0
    assert len(np.unique(colours[:3], axis=0)) == 3
    assert colours[:, 3].tolist() == [1, 1, 1, 1, 0]
    # What was read is written as it was.
    save(again, path.with_name(NAMES[name]), name)
    (second,) = formats.read(path.with_name(NAMES[name]), name)
    assert (second.items, second.classes) == (found.items, found.classes)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ome-tiff", "a.ome.tif"),
        ("png", "a.png"),
        ("npz", "a.npz"),
        ("yolo", "a.txt"),
        ("yolo-folder", "a.yolo"),
    ],
)
def test_the_other_formats_are_written(
    name: str, file: str, layer: Labels, labels: NDArray[np.int32], tmp_path: Path, told: list[str]
) -> None:
    path = tmp_path / file
    save(layer, path, name)
    (found,) = formats.read(path, name, shape=labels.shape)
    np.testing.assert_array_equal(found.to_labels() > 0, labels > 0 if "yolo" not in name else filled(labels))
    # What is lost was said before.
    assert told == formats.losses([exchange._shown(*layer.as_layer_data_tuple()[:2])], FORMATS[name])
    assert bool(told) == (name != "npz")
    assert found.calibration.is_plain == (name not in ("npz", "ome-tiff"))


def filled(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    filled = labels > 0
    filled[4:6, 5:7] = True
    return filled


@pytest.mark.gui
def test_naparis_menu_offers_the_formats(
    viewer: Viewer, layer: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dialog itself is Qt's: here it answers at once."""
    offered = []

    def choose(*_: object, **options: str) -> tuple[str, str]:
        offered[:] = options["filter"].split(";;")
        return str(tmp_path / "mine"), next(entry for entry in offered if "GeoJSON" in entry)

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    viewer.add_layer(layer)
    viewer.layers.selection = {layer}
    viewer.window._qt_window._qt_viewer._save_layers_dialog(selected=True)
    assert len([entry for entry in offered if "napari-sam" in entry]) == 15
    # napari's own comes first.
    assert "*.tif " in offered[0]
    assert "napari-sam" not in offered[0]
    # Nobody typed the suffix, so nobody was asked about such a file: the second time it is refused.
    assert formats.find_format(tmp_path / "mine.geojson").name == "geojson"
    before = (tmp_path / "mine.geojson").read_bytes()
    with pytest.raises(OSError, match=r"mine\.geojson exists"):
        viewer.window._qt_window._qt_viewer._save_layers_dialog(selected=True)
    assert (tmp_path / "mine.geojson").read_bytes() == before


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_measurements_are_saved(name: str, layer: Labels, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name}"
    layer.save(str(path), plugin="napari-sam")
    table = pd.read_csv(path) if name == "csv" else pd.read_parquet(path)
    assert table["id"].tolist() == [4, 7, 1000]
    assert table["class"].fillna("").tolist() == FEATURES["class"]


def test_the_name_says_the_format(model: ViewerModel, layer: Labels, tmp_path: Path) -> None:
    for file, kind in [
        ("a.json", "coco"),
        ("a.geojson", "geojson"),
        ("a.zip", "imagej-roi"),
        ("a.png", "png"),
        ("a.ome.tif", "ome-tiff"),
    ]:
        assert layer.save(str(tmp_path / file)) == [str(tmp_path / file)]
        assert formats.find_format(tmp_path / file).name == kind
    assert layer.save(str(tmp_path / "a.napari-sam.zip")) == [str(tmp_path / "a.napari-sam.zip")]
    # Another format was chosen than the name says.
    assert exchange.write_geojson(str(tmp_path / "b.ome.tif"), *layer.as_layer_data_tuple()[:2]) == [
        str(tmp_path / "b.ome.tif")
    ]
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert file.is_ome
    save(layer, tmp_path / "c.json", "geojson")
    assert formats.find_format(tmp_path / "c.json").name == "geojson"
    # napari's own writer of TIFF stays.
    layer.save(str(tmp_path / "plain.tif"))
    with tifffile.TiffFile(tmp_path / "plain.tif") as file:
        assert "napari_sam" not in file.pages.first.description


def test_what_cannot_be_saved_is_one_sentence(
    model: ViewerModel, layer: Labels, tmp_path: Path, told: list[str]
) -> None:
    path = tmp_path / "a.png"
    layer.save(str(path), plugin="napari-sam")
    before = path.read_bytes()
    stack = model.add_labels(np.ones((2, 4, 5), dtype=np.int32), name="stack")
    with pytest.raises(OSError, match="PNG holds one plane"):
        stack.save(str(path), plugin="napari-sam")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OSError, match="does not exist"):
        layer.save(str(tmp_path / "nowhere" / "a.json"), plugin="napari-sam")
    folder = tmp_path / "full.ome.zarr"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(OSError, match="is a folder with something in it"):
        layer.save(str(folder), plugin="napari-sam")
    assert (folder / "mine").read_text() == "mine"


def test_labels_are_added_to_an_image_in_ome_zarr(
    model: ViewerModel, labels: NDArray[np.int32], tmp_path: Path, told: list[str]
) -> None:
    from ome_zarr.writer import write_image

    image = tmp_path / "image.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_image(labels.astype(np.uint8), str(image), axes="yx")
    layer = model.add_labels(labels, name="my cells!")
    layer.save(str(image), plugin="napari-sam")
    (again,) = model.open(str(image), plugin="napari-sam")
    np.testing.assert_array_equal(again.data, labels)
    assert (image / "labels" / "my-cells").is_dir()
    with pytest.raises(OSError, match="exists"):
        layer.save(str(image), plugin="napari-sam")


def test_a_turned_and_a_multiscale_layer(
    model: ViewerModel, labels: NDArray[np.int32], tmp_path: Path, told: list[str]
) -> None:
    turned = model.add_labels(labels, rotate=30, scale=(2, 2))
    turned.save(str(tmp_path / "a.json"), plugin="napari-sam")
    assert told == [
        "Formats hold no rotation, shear, affine transform or mirroring: that of the layer is left out."
    ]
    (found,) = formats.read(tmp_path / "a.json")
    assert found.calibration.scale == (2, 2)
    told.clear()
    pyramid = model.add_labels([labels, labels[::2, ::2]], multiscale=True)
    pyramid.save(str(tmp_path / "b.json"), plugin="napari-sam")
    assert told == ["Of a multiscale layer, the finest level is saved."]
    np.testing.assert_array_equal(formats.read(tmp_path / "b.json")[0].to_labels(), labels)
    with pytest.raises(OSError, match="Multiscale labels cannot be saved as an annotation"):
        pyramid.save(str(tmp_path / "b.napari-sam.zip"), plugin="napari-sam")


def test_features_as_other_programs_make_them(model: ViewerModel, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 1, 3], [0, 0, 3, 3]])
    measured = pd.DataFrame({"label": [3, 1], "Area": [3.0, 2.0], "class_name": ["b", None]})
    model.add_labels(labels, features=measured).save(str(tmp_path / "a.json"), plugin="napari-sam")
    (found,) = formats.read(tmp_path / "a.json")
    assert [(one.id, one.class_name, one.attributes["Area"]) for one in found.items] == [
        (1, "", 2),
        (3, "b", 3),
    ]
    # Without an index, rows are counted from 0 on, as napari itself does.
    by_row = pd.DataFrame({"label": ["none", "a", "b", "c"]})
    model.add_labels(labels, features=by_row).save(str(tmp_path / "b.json"), plugin="napari-sam")
    (found,) = formats.read(tmp_path / "b.json")
    assert [(one.id, one.class_name) for one in found.items] == [(1, "a"), (3, "c")]


def test_stacks_keep_their_axes(model: ViewerModel, tmp_path: Path) -> None:
    stack = np.zeros((3, 2, 6, 7), dtype=np.int32)
    stack[1, :, 1:4, 2:5] = 5
    layer = model.add_labels(
        stack,
        axis_labels=("time", "z", "y", "x"),
        units=("s", "um", "um", "um"),
        scale=(60, 2, 0.5, 0.5),
    )
    path = tmp_path / "a.json"
    layer.save(str(path), plugin="napari-sam")
    (again,) = model.open(str(path), plugin="napari-sam")
    np.testing.assert_array_equal(again.data, stack)
    assert again.axis_labels == ("t", "z", "y", "x")
    assert again.units == layer.units
    # Of axes whose order no file has, and of those without names, the sizes are kept.
    other = model.add_labels(stack[0], axis_labels=("y", "x", "z"), scale=(1, 2, 3))
    other.save(str(path), plugin="napari-sam")
    (again,) = model.open(str(path), plugin="napari-sam")
    assert again.axis_labels == ("-3", "y", "x")
    assert again.scale.tolist() == [1, 2, 3]


@pytest.mark.gui
def test_an_annotation_is_saved_with_what_is_known_of_it(
    on_coins: Controller, canvas: Canvas, centres, tmp_path: Path, viewer: Viewer
) -> None:
    on_coins.document.set_classes([ObjectClass(2, "coin", "#112233")])
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    on_coins.document.set_class([on_coins.document.current.uid], 2)
    on_coins.accept()
    layer, path = on_coins.result_layer, tmp_path / "coins.geojson"
    layer.save(str(path), plugin="napari-sam")
    (item,) = formats.read(path)[0].items
    (known,) = on_coins.document.objects
    assert (item.class_name, item.score, item.source) == ("coin", known.score, "clicked")
    # Chosen as the place for objects, the layer that is read has classes and scores.
    (again,) = viewer.open(str(path), plugin="napari-sam")
    assert on_coins.set_result(again)
    settle(on_coins)
    (taken,) = on_coins.document.objects
    assert on_coins.document.classes == (ObjectClass(2, "coin", "#112233"),)
    assert (taken.class_id, taken.score, taken.id) == (2, known.score, 1)
    assert on_coins.document.undo_text == ""
    np.testing.assert_array_equal(again.data, layer.data)
    # What was painted while nobody looked is saved as it is seen.
    layer.data[:3, :3] = 9
    layer.save(str(path), plugin="napari-sam")
    layer.data[:3, :3] = 0
    assert [one.id for one in formats.read(path)[0].items] == [1, 9]


@pytest.mark.gui
def test_an_annotation_that_was_opened_keeps_its_prompts(
    on_coins: Controller, canvas: Canvas, centres, tmp_path: Path, viewer: Viewer
) -> None:
    canvas.click(on_coins.image, centres[3])
    settle(on_coins)
    on_coins.accept()
    first, second = str(tmp_path / "a.napari-sam.zip"), str(tmp_path / "b.napari-sam.zip")
    on_coins.result_layer.save(first, plugin="napari-sam")
    (layer,) = viewer.open(first, plugin="napari-sam")
    layer.save(second, plugin="napari-sam")
    kept = exchange.document_shown(*viewer.open(second, plugin="napari-sam")[0].as_layer_data_tuple()[:2])
    assert kept.snapshot.objects == on_coins.document.snapshot.objects
    # Painted on, it is what is seen.
    layer.data[:3, :3] = 9
    layer.save(second, plugin="napari-sam")
    (again,) = viewer.open(second, plugin="napari-sam")
    np.testing.assert_array_equal(again.data, layer.data)


def drop(viewer: Viewer, *paths: Path) -> None:
    """Let files go over the canvas."""
    window = viewer.window._qt_window._qt_viewer
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    where = QPointF(window.rect().center())
    arguments = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(where.toPoint(), *arguments)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(window, QDropEvent(where, *arguments))
    turn()


@pytest.mark.gui
def test_files_are_dropped_on_the_canvas(
    viewer: Viewer, layer: Labels, labels: NDArray[np.int32], tmp_path: Path, told: list[str]
) -> None:
    for name in ("geojson", "coco"):
        save(layer, tmp_path / NAMES[name], name)
    drop(viewer, tmp_path / "qupath.geojson", tmp_path / "coco.json")
    assert [one.name for one in viewer.layers] == ["qupath", "coco"]
    for one in viewer.layers:
        np.testing.assert_array_equal(one.data, labels)
    assert told == []
    # A damaged one is told in words.
    (tmp_path / "damaged.geojson").write_text('{"type": "FeatureCollection", "features": 5}')
    window = viewer.window._qt_window._qt_viewer
    with pytest.raises(ReaderPluginError, match="Tried to read"):
        window._qt_open([str(tmp_path / "damaged.geojson")], stack=False)
    assert len(told) == 1
    assert "damaged.geojson" in told[0]
    assert len(viewer.layers) == 2


OTHERS = {
    "package.json": '{"name": "x", "version": "1"}',
    "list.json": "[]",
    "empty.json": "",
    "map.geojson": '{"type": "Topology"}',
    "notes.txt": "words",
    "numbers.txt": "0 0.1 0.1 0.5 0.1 0.5 0.5\n",
    "broken.zip": "PK",
    "nothing.roi": "",
}


def test_files_of_others_are_declined(tmp_path: Path, layer: Labels) -> None:
    for name, text in OTHERS.items():
        (tmp_path / name).write_text(text)
        assert exchange.get_reader(str(tmp_path / name)) is None, name
    with ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert exchange.get_reader(str(tmp_path / "other.zip")) is None
    layer.save(str(tmp_path / "mine.napari-sam.zip"), plugin="napari-sam")
    assert exchange.get_reader(str(tmp_path / "mine.napari-sam.zip")) is None
    (tmp_path / "images" / "labels").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "images"):
        assert exchange.get_reader(str(folder)) is None
    save(layer, tmp_path / "a.json", "coco")
    assert exchange.get_reader([str(tmp_path / "a.json"), str(tmp_path / "list.json")]) is None
    assert exchange.get_reader([str(tmp_path / "a.json")] * 2) is not None
    assert exchange.get_reader([]) is None
    assert exchange.get_reader("https://example.org/a.json") is None


@pytest.mark.parametrize("where", ["{}", "labels/train/{}"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_yolo_needs_its_image(
    where: str, suffix: str, model: ViewerModel, layer: Labels, labels: NDArray[np.int32], tmp_path: Path
) -> None:
    path = tmp_path / where.format("a.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(layer, path, "yolo")
    assert exchange.get_reader(str(path)) is None
    image = Path(str(path.with_suffix(suffix)).replace("labels", "images"))
    image.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*labels.shape, 3), dtype=np.uint8)
    if suffix == ".png":
        Image.fromarray(pixels).save(image)
    else:
        tifffile.imwrite(image, pixels, photometric="rgb")
    (again,) = model.open(str(path), plugin="napari-sam")
    np.testing.assert_array_equal(again.data > 0, filled(labels))


def test_a_folder_of_the_cell_tracking_challenge(model: ViewerModel, tmp_path: Path) -> None:
    stack = np.zeros((3, 6, 7), dtype=np.int32)
    stack[:2, 1:4, 2:5], stack[2, 1:4, 2:5] = 5, 6
    formats.write(tmp_path / "01_RES", stack, "ctc")
    shutil.copytree(tmp_path / "01_RES", tmp_path / "any name")
    for name in ("01_RES", "any name"):
        (again,) = model.open(str(tmp_path / name), plugin="napari-sam")
        np.testing.assert_array_equal(again.data, stack)
        assert again.name == name
        assert again.axis_labels == ("t", "y", "x")


def square(top: int, left: int, side: int, shape: tuple[int, int]) -> dict[tuple[int, ...], Mask]:
    return {(): Mask((top, left), np.ones((side, side), dtype=bool), shape)}


def test_objects_that_overlap(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    shape = (10, 12)
    found = Segmentation(
        shape,
        [
            Item(1, square(1, 1, 5, shape), score=0.9),
            Item(2, square(3, 3, 5, shape), score=0.4),
            Item(2**40, square(8, 10, 2, shape)),
        ],
    )
    path = formats.write(tmp_path / "a.json", found)
    (layer,) = model.open(str(path), plugin="napari-sam")
    assert (layer.data == 1).sum() == 25
    assert (layer.data == 2**40).sum() == 4
    assert told == ["1 object lies partly below others in a: a pixel shows the one with the highest score."]


def test_images_of_one_file_are_layers(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    some = [
        Segmentation((6, 7), [Item(1, square(0, n, 2, (6, 7)))] if n else [], name=f"{n}.png")
        for n in range(4)
    ]
    path = formats.write(tmp_path / "set.json", some)
    layers = model.open(str(path), plugin="napari-sam")
    assert [one.name for one in layers] == ["set: 1.png", "set: 2.png", "set: 3.png"]
    many = [Segmentation((2, 2), [Item(1, square(0, 0, 1, (2, 2)))], name=str(n)) for n in range(60)]
    path = formats.write(tmp_path / "many.json", many)
    with pytest.raises(ValueError, match="is of 60 images"):
        model.open(str(path), plugin="napari-sam")
    assert len(told) == 1


def test_boxes_are_shapes(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    content = {
        "images": [{"id": 1, "width": 30, "height": 20, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 3, 10, 5], "score": 0.5},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "segmentation": []},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    (boxes,) = model.open(str(path), plugin="napari-sam")
    assert isinstance(boxes, Shapes)
    assert boxes.shape_type == ["rectangle", "rectangle"]
    # Around pixels: (0, 0) is the middle of the first one.
    np.testing.assert_array_equal(boxes.data[0], [[2.5, 1.5], [7.5, 1.5], [7.5, 11.5], [2.5, 11.5]])
    assert boxes.features["class"].tolist() == ["cell", "cell"]
    assert told == ["a has 2 objects that are boxes without pixels: they are in a layer of their own."]
    content["annotations"][1]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    path.write_text(json.dumps(content))
    pixels, boxes = model.open(str(path), plugin="napari-sam")
    assert (pixels.data > 0).any()
    assert len(boxes.data) == 1
    for wrong in ([1, 2], [1, 2, 3, float("nan")], [0, 0, 1e30, 1], "here", [0, 0, None, 1]):
        content["annotations"][0]["bbox"] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"a\.json is damaged|a\.json"):
            model.open(str(path), plugin="napari-sam")


def test_images_that_cannot_be_shown_are_refused(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    """Declared sizes of which the file has next to nothing."""
    for shape in [(100_000, 4000, 40_000), (65535, 65536), (0, 5)]:
        found = Segmentation(shape, [])
        path = formats.write(tmp_path / "a.json", found) if 0 in shape else huge(tmp_path / "a.json", shape)
        with pytest.raises(ValueError, match=r"not free in memory|no pixels"):
            model.open(str(path), plugin="napari-sam")
        path.unlink()
    assert len(told) == 3


def huge(path: Path, shape: tuple[int, ...]) -> Path:
    """A file of one image of this shape, without objects, in which only one plane is described."""
    own = {
        "image": 1,
        "plane": [0] * (len(shape) - 2),
        "shape": shape,
        "axes": "q" * (len(shape) - 2) + "yx",
        "scale": [1] * len(shape),
        "translate": [0] * len(shape),
        "units": [""] * len(shape),
    }
    image = {"id": 1, "width": shape[-1], "height": shape[-2], "file_name": "", "napari_sam": own}
    path.write_text(json.dumps({"images": [image] * 1, "annotations": [], "categories": []}))
    return path


def test_units_out_of_a_file_are_words(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    for unit in ("furlongs of Mars", "9**9**9**9", "", "furlong", "µm", "x" * 10**5, "__class__"):
        mask = square(0, 0, 1, (2, 2))
        pixels = Calibration("yx", (2, 2), (0, 0), (unit, unit))
        path = tmp_path / "a.json"
        formats.write(path, Segmentation((2, 2), [Item(1, mask)], calibration=pixels), overwrite=True)
        (layer,) = model.open(str(path), plugin="napari-sam")
        known = {"furlong": "furlong", "µm": "micrometer"}.get(unit, "pixel")
        assert [str(one) for one in layer.units] == [known, known]
        assert bool(told) == (known == "pixel" and unit != "")
        told.clear()
        model.layers.clear()  # units of layers that differ are told, too


def test_reading_warns_of_what_is_left_out(model: ViewerModel, tmp_path: Path, told: list[str]) -> None:
    shapes = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 1]}},
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [6, 1], [6, 8], [1, 1]]]},
        },
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": shapes}))
    (layer,) = model.open(str(path), plugin="napari-sam")
    # The smallest image that holds all.
    assert layer.data.shape == (8, 6)
    assert len(told) == 1
    assert "1 object of" in told[0]


def test_a_document_is_known_by_its_pixels(labels: NDArray[np.int32]) -> None:
    found = Segmentation.of_labels(labels)
    layer = Labels(labels)
    document: Document = found.to_document()
    from napari_sam.ui.annotation_files import document_shown, mark

    assert document_shown(*layer.as_layer_data_tuple()[:2]) is None
    mark(layer, document)
    assert document_shown(*layer.as_layer_data_tuple()[:2]) is document
    small = Labels(np.where(labels < 256, labels, 0).astype(np.uint8), metadata=layer.metadata)
    assert document_shown(*small.as_layer_data_tuple()[:2]) is document
    labels[0, 0] = 3
    assert document_shown(*layer.as_layer_data_tuple()[:2]) is None


def test_many_objects_keep_their_own_colours(model: ViewerModel, tmp_path: Path) -> None:
    """A table of colours would slow the drawing down."""
    for count in (20, 2500):
        labels = np.arange(1, count + 1, dtype=np.int32).reshape(-1, 10)
        known = pd.DataFrame({"index": np.arange(1, count + 1), "class": "cell"})
        model.add_labels(labels, features=known).save(str(tmp_path / "a.json"), plugin="napari-sam")
        (again,) = model.open(str(tmp_path / "a.json"), plugin="napari-sam")
        np.testing.assert_array_equal(again.data, labels)
        assert (len(np.unique(again.get_color([1, 2, 3]), axis=0)) == 1) == (count == 20)
