"""Automatic masks as a label image, as single PNGs, and as the table of the official script."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.files import open_atomic
from napari_sam.inference.filtering import Filter, Sieve

__all__ = ["COLUMNS", "label_image", "write_csv", "write_pngs"]

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


def write_csv(path: Path, found: MaskCandidates, image: str) -> None:  # noqa: ARG001 - one signature for all
    """A table with a row for each mask; boxes are x, y, and the number of columns and rows."""
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    scores = np.stack([found.predicted_iou, found.stability], axis=1).astype(np.float64)
    columns = (found.areas[:, None], found.boxes[:, :2], sizes, found.points, scores, found.crop_boxes)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for index, row in enumerate(zip(*(column.tolist() for column in columns), strict=True), 1):
        area, corner, size, point, (iou, stability), crop = row
        writer.writerow([index, *area, *corner, *size, *point, round(iou, 6), round(stability, 6), *crop])
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
