"""Boxes without pixels in COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats.coco_boxes import BoxedImage
from napari_sam.formats.coco_reading import read_coco, read_coco_and_boxes

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
PLAIN = st.lists(st.floats(-100, 100), min_size=4, max_size=4)


def written(path: Path, *boxes: Any, **more: Any) -> Path:
    content = {
        "images": [{"id": n, "width": 30, "height": 20, "file_name": f"{n}.png"} for n in (1, 2)],
        "categories": [{"id": 3, "name": "cell", "color": "#123456"}],
        "annotations": [
            {"id": n, "image_id": 2, "category_id": 3, "bbox": box, **more} for n, box in enumerate(boxes, 1)
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_boxes_have_corners_classes_and_scores(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [2, 3.5, 10, 5], [0, 0, 1, 1], score=0.5)
    found, (boxed,) = read_coco_and_boxes(path)
    assert [one.items for one in found] == [(), ()]
    assert (boxed.name, boxed.shape, [one.name for one in boxed.classes]) == ("2.png", (20, 30), ["cell"])
    assert [one.corners for one in boxed.boxes] == [(2, 3.5, 12, 8.5), (0, 0, 1, 1)]
    assert {(one.class_name, one.score, one.index) for one in boxed.boxes} == {("cell", 0.5, ())}
    # Who asks for pixels is told what has none.
    with pytest.warns(FormatWarning, match="2 objects of"):
        read_coco(path, None)


def test_what_has_neither_area_nor_box_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [2, 3, 0, 5], [], None)
    with pytest.warns(FormatWarning, match="3 objects of"):
        assert read_coco_and_boxes(path)[1] == []


@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
@given(PLAIN | ANY)
def test_whatever_is_there_is_a_box_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, box: Any) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any.json", box)
    images: list[BoxedImage] = []
    told = str(path)
    try:
        _, images = read_coco_and_boxes(path)
    except FormatError as error:
        told = str(error)
    assert str(path) in told
    for one in (one for image in images for one in image.boxes):
        x0, y0, x1, y1 = one.corners
        assert x0 < x1
        assert y0 < y1
