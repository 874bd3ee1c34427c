"""Automatic masks as a label image, as single PNGs, and as the table of the official script."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.atomic import open_atomic
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.linking import Linker
from napari_sam.inference.mask import Mask

__all__ = ["COLUMNS", "StackLabels", "label_image", "write_csv", "write_pngs"]

COLUMNS = (
    *("id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y"),
    *("predicted_iou", "stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h"),
)
"""Of tables, as the official script names them."""


def label_image(
    found: MaskCandidates, *, smaller_on_top: bool = False, semantic: bool = False
) -> NDArray[np.integer]:
    """Masks as labels from 1 on: shape (H, W), uint16 or int32.

    A pixel that several masks have goes to the one with the highest predicted IoU, or to the smallest; masks
    that have lost most of their pixels that way are left out. The label of a mask is its number, from 1.

    Parameters
    ----------
    found : MaskCandidates
    smaller_on_top : bool
    semantic : bool
        1 where any mask is, instead: uint8.

    Examples
    --------
    >>> from napari_sam.inference.mask import Mask
    >>> masks = [Mask((0, 0), np.ones((1, 4), dtype=bool), (1, 6)), Mask((0, 3), np.ones((1, 2)), (1, 6))]
    >>> found = MaskCandidates.of(masks, [0.8, 0.9], [1, 1], [(0, 0)] * 2, [(0, 0, 6, 1)] * 2, (1, 6))
    >>> label_image(found), label_image(found, semantic=True)
    (array([[1, 1, 1, 2, 2, 0]], dtype=uint16), array([[1, 1, 1, 1, 1, 0]], dtype=uint8))
    """
    # Of all masks together, none is left out for what the others have of it.
    least = 0.0 if semantic else 0.5
    sieve, wanted = Sieve(found), Filter(max_overlap=1.0, smaller_on_top=smaller_on_top, min_visible=least)
    labels = sieve.paint(sieve.select(wanted), wanted).labels
    return (labels > 0).astype(np.uint8) if semantic else labels


class StackLabels:
    """Label images of the planes of a stack, one after the other, with labels that go on from plane to plane.

    Parameters
    ----------
    smaller_on_top, semantic : bool
        As of :func:`label_image`.
    link : float, optional
        Masks of neighbouring planes have the same label if they overlap by at least this IoU, and match best:
        see :func:`~napari_sam.inference.linking.link_planes`. By default, each mask has its own.

    Attributes
    ----------
    ids : ndarray, shape (N,), int64
        The labels of the masks of the last plane. With `link`, that of a mask which is hidden by others is 0,
        until :meth:`completed`; without, it has a number that no pixel has.

    Raises
    ------
    ValueError
        If `link` is not greater than 0 and at most 1.

    Examples
    --------
    >>> from napari_sam.inference.mask import Mask
    >>> mask = Mask((0, 1), np.ones((1, 2), dtype=bool), (1, 4))
    >>> found = MaskCandidates.of([mask], [0.8], [1], [(0, 0)], [(0, 0, 4, 1)], (1, 4))
    >>> stack, linked = StackLabels(), StackLabels(link=0.3)
    >>> [stack.add(found).tolist() for _ in range(2)], [linked.add(found).tolist() for _ in range(2)]
    ([[[0, 1, 1, 0]], [[0, 2, 2, 0]]], [[[0, 1, 1, 0]], [[0, 1, 1, 0]]])
    >>> stack.ids.tolist(), linked.ids.tolist()
    ([2], [1])
    """

    def __init__(
        self, *, smaller_on_top: bool = False, semantic: bool = False, link: float | None = None
    ) -> None:
        self._small, self._semantic = smaller_on_top, semantic
        self._linker = None if link is None else Linker(link)
        self._used = 0
        self.ids: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def add(self, found: MaskCandidates, *, first: bool = False) -> NDArray[np.integer]:
        """The labels of the next plane: shape (H, W), int32 or, if semantic, uint8.

        Parameters
        ----------
        found : MaskCandidates
        first : bool, default False
            It is no neighbour of the plane before.
        """
        labels = label_image(found, smaller_on_top=self._small, semantic=self._semantic)
        if self._linker is None or self._semantic:
            self.ids = self._used + np.arange(1, len(found) + 1)
            self._used += len(found)
        else:
            self.ids = np.zeros(len(found), dtype=np.int64)
            if first:
                self._linker.skip()
            seen = np.unique(labels[labels > 0]).astype(np.intp)
            boxes = found.boxes[seen - 1].tolist()
            self.ids[seen - 1] = 1 + self._linker.add(
                [
                    Mask((y0, x0), labels[y0:y1, x0:x1] == label, found.shape)
                    for label, (x0, y0, x1, y1) in zip(seen.tolist(), boxes, strict=True)
                ]
            )
            self._used = self._linker.count
        if self._semantic:
            return labels
        result: NDArray[np.int32] = np.append(0, self.ids).astype(np.int32)[labels]
        return result

    def completed(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the masks of a plane, once all planes are there: hidden ones get those that are left.

        Parameters
        ----------
        ids : ndarray, shape (N,), int64
            As they were when the plane was added.
        """
        full, hidden = ids.copy(), np.flatnonzero(ids == 0)
        full[hidden] = self._used + np.arange(1, len(hidden) + 1)
        self._used += len(hidden)
        return full


def write_csv(
    path: Path,
    found: MaskCandidates,
    image: str,  # noqa: ARG001 - one signature for all
    ids: NDArray[np.integer] | None = None,
) -> None:
    """A table with a row for each mask; boxes are x, y, and the number of columns and rows.

    Parameters
    ----------
    path : Path
    found : MaskCandidates
    image : str
        Name of the image.
    ids : ndarray of int, shape (N,), optional
        Of the masks; from 1 on, if not given.
    """
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    scores = np.stack([found.predicted_iou, found.stability], axis=1).astype(np.float64)
    numbers = np.arange(1, len(found) + 1) if ids is None else ids
    columns = (
        numbers,
        found.areas[:, None],
        found.boxes[:, :2],
        sizes,
        found.points,
        scores,
        found.crop_boxes,
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        number, area, corner, size, point, (iou, stability), crop = row
        writer.writerow([number, *area, *corner, *size, *point, round(iou, 6), round(stability, 6), *crop])
    with open_atomic(path) as file:
        file.write(text.getvalue().encode())


def write_pngs(path: Path, found: MaskCandidates, image: str, ids: NDArray[np.integer] | None = None) -> None:
    """A folder of masks, 255 on the object, numbered as in its ``metadata.csv``, which comes last.

    Masks of a run before that have other numbers are removed. Takes what :func:`write_csv` does.
    """
    from PIL import Image

    path.mkdir(exist_ok=True)
    numbers = range(1, len(found) + 1) if ids is None else ids.tolist()
    for index, number in enumerate(numbers):
        with open_atomic(path / f"{number}.png") as file:
            Image.fromarray(found.mask(index).to_array()).convert("L").save(file, format="PNG")
    kept = {*numbers}
    for old in path.glob("*.png"):
        if old.stem.isdecimal() and int(old.stem) not in kept:
            old.unlink()
    write_csv(path / "metadata.csv", found, image, ids)
