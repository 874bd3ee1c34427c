from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from random_segmentation import ATTRIBUTES, segmentations

from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import FORMATS, Item, Segmentation, find_format, losses, read, write
from napari_sam.formats.candidates import of_candidates
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask

# As the data set has them; the counts are those of three columns of two pixels.
RECORD: dict[str, Any] = {
    "image": {"image_id": 223750, "width": 6, "height": 4, "file_name": "sa_223750.jpg"},
    "annotations": [
        {
            "bbox": [1.0, 1.0, 2.0, 1.0],
            "area": 6,
            "segmentation": {"size": [4, 6], "counts": "5220007"},
            "predicted_iou": 0.91,
            "point_coords": [[2.0, 1.5]],
            "crop_box": [0.0, 0.0, 6.0, 4.0],
            "id": 534500,
            "stability_score": 0.98,
        },
        {"segmentation": {"size": [4, 6], "counts": [0, 24]}, "id": 0},
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that every example writes anew."""
    return tmp_path_factory.mktemp("found") / "found.json"


def stored(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@settings(max_examples=50)
@given(found=segmentations(most_axes=2, classes=False))
def test_what_is_written_is_read_again(place: Path, found: Segmentation) -> None:
    kept = {"stability_score": 0.25, "point_coords": [[1.5, 2]], "crop_box": [0, 0, 3, 4]}
    items = [replace(item, source="", attributes=kept) for item in found.items]
    expected = Segmentation(found.shape, items, name=found.name)
    assert losses([expected], FORMATS["sa1b"]) == []
    write(place, expected, "sa1b", overwrite=True)
    assert find_format(place).name == "sa1b"
    assert read(place, shape=found.shape) == [expected]


@settings(max_examples=20)
@given(found=segmentations(most_axes=2), attributes=ATTRIBUTES)
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_what_is_lost_is_said(place: Path, found: Segmentation, attributes: dict[str, Any]) -> None:
    told = losses([found], FORMATS["sa1b"])
    assert any("classes" in one for one in told) == any(item.class_name for item in found.items)
    assert any("sizes of pixels" in one for one in told) == (
        bool(found.items) and not found.calibration.is_plain
    )
    write(place, found, "sa1b", overwrite=True)
    (again,) = read(place)
    assert [(i.id, i.masks, i.score, i.class_name, i.attributes) for i in again.items] == [
        (i.id, i.masks, i.score, "", {}) for i in found.items
    ]


def test_a_stack_is_refused(place: Path) -> None:
    found = Segmentation.of_labels(np.ones((2, 3, 4), dtype=int))
    with (
        pytest.warns(FormatWarning, match="plane by plane"),
        pytest.raises(FormatError, match="holds one plane, not an image of the shape"),
    ):
        write(place, found, "sa1b", overwrite=True)


# pycocotools decodes in a way that numpy 2 finds old-fashioned
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_records_of_the_data_set(tmp_path: Path) -> None:
    path = stored(tmp_path / "sa_223750.json", RECORD)
    assert find_format(path).name == "sa1b"
    (found,) = read(path)
    first, second = found.items
    assert (found.shape, found.name, first.id, second.id) == ((4, 6), "sa_223750.jpg", 534500, 534501)
    assert (first.score, first.attributes["stability_score"], second.score) == (0.91, 0.98, None)
    theirs = RECORD["annotations"][0]["segmentation"]
    np.testing.assert_array_equal(
        first.masks[()].to_array(), coco.decode({**theirs, "counts": theirs["counts"].encode()})
    )
    assert second.masks[()].area == 24


def test_candidates_of_an_automatic_run() -> None:
    masks = [Mask.from_array(np.eye(3)), Mask.empty((3, 3)), Mask.from_array(np.ones((3, 3)))]
    found = MaskCandidates.of(masks, [0.5, 0.1, 1], [1, 0, 0.25], [(1, 2)] * 3, [(0, 0, 3, 3)] * 3, (3, 3))
    assert [
        (i.id, i.score, i.source, i.attributes["stability_score"]) for i in of_candidates(found).items
    ] == [
        (1, 0.5, "automatic", 1),
        (3, 1, "automatic", 0.25),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation": {"size": [6, 4], "counts": [0, 24]}},
        {"segmentation": {"size": [4, 6], "counts": [0, 25]}},
        {"segmentation": None},
        {"id": "1"},
        {"id": 534500},
        {"predicted_iou": "high"},
        {"crop_box": 7},
    ],
    ids=repr,
)
def test_malformed_annotations_are_errors_that_name_the_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    record = copy.deepcopy(RECORD)
    record["annotations"][1] |= wrong
    path = stored(tmp_path / "wrong.json", record)
    with pytest.raises(FormatError, match=r"wrong\.json is damaged \(annotations\[1\]"):
        read(path)


def test_the_shape_is_compared_and_masks_without_pixels_are_left_out(tmp_path: Path) -> None:
    path = stored(tmp_path / "one.json", RECORD)
    with pytest.raises(FormatError, match=r"shape \(4, 6\), not \(6, 4\)"):
        read(path, shape=(6, 4))
    record = copy.deepcopy(RECORD)
    record["annotations"][1]["segmentation"]["counts"] = [24]
    with pytest.warns(FormatWarning, match="1 object of"):
        (found,) = read(stored(path, record))
    assert len(found.items) == 1


JUNK = (
    st.none()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=3)
    | st.just([])
    | st.just({})
    | st.booleans()
)


@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_records_are_read_or_told(place: Path, data: st.DataObject) -> None:
    record = copy.deepcopy(RECORD)
    where = data.draw(st.sampled_from([record, record["image"], *record["annotations"]]))
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JUNK)
    stored(place, record)
    try:
        (found,) = read(place, "sa1b")
    except FormatError as error:
        told = str(error)
    else:
        told = str(place)
        assert all(isinstance(item, Item) for item in found.items)
    assert str(place) in told
