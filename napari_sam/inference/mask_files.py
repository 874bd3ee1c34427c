"""Automatic masks as files: a label image, COCO, SA-1B, single PNGs, a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.files import open_atomic
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.rle import coco_rle

__all__ = ["COLUMNS", "WRITERS", "label_image"]

COLUMNS = (
    *("id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y"),
    *("predicted_iou", "stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h"),
)
"""Of tables, as the official script names them."""


def label_image(found: MaskCandidates, *, smaller_on_top: bool = False) -> NDArray[np.integer]:
    """Masks as labels from 1 on: shape (H, W), uint16 or int32.

    A pixel that several masks have goes to the one with the highest predicted IoU, or to the smallest; masks
    that have lost most of their pixels that way are left out. The label of a mask is its number, from 1.

    Parameters
    ----------
    found : MaskCandidates
    smaller_on_top : bool
    """
    sieve, wanted = Sieve(found), Filter(max_overlap=1.0, smaller_on_top=smaller_on_top)
    return sieve.paint(sieve.select(wanted), wanted).labels


def write_sa1b(path: Path, found: MaskCandidates, image: str) -> None:
    """The record of one image as in the data set SA-1B."""
    height, width = found.shape
    entry = {"image_id": 1, "width": width, "height": height, "file_name": image}
    _write_json(path, {"image": entry, "annotations": _annotations(found)})


def write_coco(path: Path, found: MaskCandidates, image: str) -> None:
    """A COCO file of one image, with one category."""
    height, width = found.shape
    more = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": image, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "object", "supercategory": ""}],
        "annotations": [
            {**record, **more, "score": record["predicted_iou"]} for record in _annotations(found)
        ],
    }
    _write_json(path, content)


def write_csv(path: Path, found: MaskCandidates, image: str) -> None:  # noqa: ARG001 - one signature for all
    """A table with a row for each mask."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for record in _annotations(found, with_masks=False):
        scores = (round(record["predicted_iou"], 6), round(record["stability_score"], 6))
        row = (record["id"], record["area"], *record["bbox"], *record["point_coords"][0], *scores)
        writer.writerow([*row, *record["crop_box"]])
    with open_atomic(path) as file:
        file.write(text.getvalue().encode())


def write_pngs(path: Path, found: MaskCandidates, image: str) -> None:
    """A folder of masks, 255 on the object, numbered as in its ``metadata.csv``, which comes last."""
    from PIL import Image

    path.mkdir(exist_ok=True)
    for index in range(len(found)):
        with open_atomic(path / f"{index + 1}.png") as file:
            Image.fromarray(found.mask(index).to_array()).convert("L").save(file, format="PNG")
    write_csv(path / "metadata.csv", found, image)


WRITERS: dict[str, tuple[str, Callable[[Path, MaskCandidates, str], None]]] = {
    "coco": (".coco.json", write_coco),
    "sa1b": (".json", write_sa1b),
    "csv": (".csv", write_csv),
    "png": ("_masks", write_pngs),
}
"""Of each format, what the names of its files end in, and what writes one: path, masks, name of the image."""


def _annotations(found: MaskCandidates, *, with_masks: bool = True) -> list[dict[str, Any]]:
    """One record for each mask, with boxes as in COCO: x, y, and the number of columns and rows."""
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    return [
        {
            "id": index + 1,
            **({"segmentation": coco_rle(found.mask(index))} if with_masks else {}),
            "bbox": [*found.boxes[index, :2].tolist(), *sizes[index].tolist()],
            "area": int(found.areas[index]),
            "predicted_iou": float(found.predicted_iou[index]),
            "stability_score": float(found.stability[index]),
            "point_coords": [found.points[index].tolist()],
            "crop_box": found.crop_boxes[index].tolist(),
        }
        for index in range(len(found))
    ]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with open_atomic(path) as file:
        file.write(json.dumps(content).encode())
