"""Everything that was found on a plane, for all formats, and what ``napari-sam auto`` writes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_sam.annotation.records import Source
from napari_sam.formats.catalogue import write
from napari_sam.formats.segmentation import Item, Segmentation
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask_files import write_csv, write_pngs

__all__ = ["WRITERS", "of_candidates"]


def of_candidates(found: MaskCandidates, name: str = "") -> Segmentation:
    """The masks of an automatic run as objects, numbered from 1 in their order; empty ones are left out.

    Parameters
    ----------
    found : MaskCandidates
    name : str
        File name of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.inference.mask import Mask
    >>> masks = [Mask((2, 3), np.ones((2, 4), dtype=bool), (10, 10))]
    >>> found = MaskCandidates.of(masks, [0.5], [1], [(4, 2)], [(0, 0, 10, 10)], (10, 10))
    >>> (item,) = of_candidates(found).items
    >>> item.id, item.score, item.attributes["point_coords"]
    (1, 0.5, [[4.0, 2.0]])
    """
    items = [
        Item(
            index + 1,
            {(): found.mask(index)},
            score=float(found.predicted_iou[index]),
            source=Source.AUTOMATIC.value,
            attributes={
                "stability_score": float(found.stability[index]),
                "point_coords": [found.points[index].tolist()],
                "crop_box": found.crop_boxes[index].tolist(),
            },
        )
        for index in range(len(found))
        if found.areas[index]
    ]
    return Segmentation(found.shape, items, name=name)


def _writer(format_name: str) -> Callable[[Path, MaskCandidates, str], None]:
    def written(path: Path, found: MaskCandidates, image: str) -> None:
        write(path, of_candidates(found, image), format_name, overwrite=True)

    return written


WRITERS: dict[str, tuple[str, Callable[[Path, MaskCandidates, str], None]]] = {
    "coco": (".coco.json", _writer("coco")),
    "sa1b": (".json", _writer("sa1b")),
    "csv": (".csv", write_csv),
    "png": ("_masks", write_pngs),
}
"""Of each format, what the names of its files end in, and what writes one: path, masks, name of the image."""
