"""The main job on a sample image: one click per coin, one label per coin."""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam.inference.mask import Mask
    from napari_sam.models.base import PromptableModel

__all__ = ["CLICKS", "DemoResult", "has_display", "run", "segment_clicks"]

CLICKS: tuple[tuple[float, float], ...] = (
    *((44, 54), (100, 56), (155, 51), (215, 51), (276, 52), (335, 44)),
    *((45, 124), (102, 126), (154, 127), (205, 124), (271, 119), (336, 125)),
    *((44, 197), (102, 196), (154, 198), (212, 193), (274, 194), (347, 187)),
    *((46, 260), (114, 266), (172, 261), (244, 263), (301, 263), (358, 268)),
)
"""Where a user clicks: (x, y) about the middle of each of the 24 coins in ``skimage.data.coins()``."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes
    ----------
    image : ndarray, shape (H, W), uint8
    labels : ndarray, shape (H, W), uint8
        The value of a coin's pixels is the number of its click, from 1.
    scores : list of float
        The predicted IoU of each coin.
    files : list of Path
        Label image, overlay and table.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    scores: list[float]
    files: list[Path]


_DEFAULT = "demo-out"
_FILES = ("labels.tif", "overlay.png", "table.csv")


def run(
    out: str | os.PathLike[str] = _DEFAULT, *, show: bool | None = None, force: bool = False
) -> DemoResult:
    """Segment 24 coins with the embedded model, write the results and show them.

    Nothing is downloaded: the image comes with scikit-image, the weights with this package.

    Parameters
    ----------
    out : path
        Folder for ``labels.tif``, ``overlay.png`` and ``table.csv``; made if missing. In the default one,
        these files are replaced.
    show : bool, optional
        Open napari and wait until it is closed; by default where there is a display.
    force : bool, default False
        Replace these files in any folder.

    Raises
    ------
    NapariSamError
        If `show` is asked for and there is no display, or files would be replaced.
    """
    from skimage.data import coins

    from napari_sam.inference.files import write_labels
    from napari_sam.models import load_model

    if show and not has_display():
        raise NapariSamError("There is no display to open napari on: use --no-show.")
    folder = Path(out)
    files = [folder / name for name in _FILES]
    taken = next((path for path in files if path.exists()), None)
    # What is in the default folder is of the demo before.
    if taken is not None and not force and folder != Path(_DEFAULT):
        raise NapariSamError(
            f"{taken} exists: choose another folder with --out, or use --force to replace it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    image = coins()
    labels, scores = segment_clicks(load_model("nano"), image, CLICKS)
    write_labels(files[0], labels, force=True)
    _write_overlay(files[1], image, labels)
    _write_table(files[2], labels, scores)
    result = DemoResult(image, labels, scores, files)
    found = len(np.unique(labels[labels > 0]))
    _say(
        f"Segmented {found} coins from {len(CLICKS)} clicks, "
        f"with a mean predicted IoU of {np.mean(scores):.2f}:"
    )
    for path in files:
        _say(f"  {path.resolve()}")
    if show or (show is None and has_display()):
        _show(result, required=bool(show))
    return result


def segment_clicks(
    model: PromptableModel, image: NDArray[Any], clicks: tuple[tuple[float, float], ...]
) -> tuple[NDArray[np.uint8], list[float]]:
    """One object per click; an object claims only pixels that no earlier one has.

    Returns
    -------
    labels : ndarray, shape (H, W), uint8
        The number of the click, from 1.
    scores : list of float
        The predicted IoU of each object.
    """
    from napari_sam.inference.engine import encode, segment
    from napari_sam.inference.image import as_rgb
    from napari_sam.inference.prompts import Prompts

    plane = as_rgb(image)
    size = (plane.shape[0], plane.shape[1])
    embedding = encode(model, plane)
    labels = np.zeros(size, dtype=np.uint8)
    scores = []
    for number, click in enumerate(clicks, start=1):
        found = segment(model, embedding, Prompts.create(size, points=[click]))
        _claim(labels, found.mask, number)
        scores.append(found.score)
    return labels, scores


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def _claim(labels: NDArray[np.uint8], mask: Mask, number: int) -> None:
    region = labels[mask.slices]
    region[mask.bits & (region == 0)] = number


def _write_overlay(path: Path, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """The image at twice its size, its objects tinted and outlined."""
    from PIL import Image
    from skimage.color import label2rgb
    from skimage.segmentation import mark_boundaries

    from napari_sam.atomic import open_atomic

    big_image, big_labels = (a.repeat(2, axis=0).repeat(2, axis=1) for a in (image, labels))
    tinted = label2rgb(big_labels, big_image, alpha=0.3, bg_label=0, bg_color=None)
    outlined = mark_boundaries(tinted, big_labels, color=(1, 1, 0), mode="inner")
    with open_atomic(path) as file:
        Image.fromarray((outlined * 255).round().astype(np.uint8)).save(file, format="PNG")


def _write_table(path: Path, labels: NDArray[np.uint8], scores: list[float]) -> None:
    """One row per object: id, centroid, area, bounding box (x, y, width, height), predicted IoU."""
    from skimage.measure import regionprops_table

    from napari_sam.atomic import open_atomic

    table = regionprops_table(labels, properties=("label", "centroid", "num_pixels", "bbox"))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "x", "y", "area_px", "box_x", "box_y", "box_width", "box_height", "predicted_iou"])
    columns = (
        table[n]
        for n in ("label", "centroid-1", "centroid-0", "num_pixels", *(f"bbox-{i}" for i in range(4)))
    )
    for number, x, y, area, top, left, bottom, right in zip(*columns, strict=True):
        score = scores[number - 1]
        writer.writerow(
            [number, f"{x:.1f}", f"{y:.1f}", int(area), left, top, right - left, bottom - top, f"{score:.3f}"]
        )
    with open_atomic(path) as file:
        file.write(text.getvalue().encode())


def _show(result: DemoResult, *, required: bool) -> None:
    try:
        import napari

        viewer = napari.Viewer(title="napari-sam demo")
    except ImportError as error:
        message = f"napari cannot open a window ({error}): install napari-sam[gui] to see the result."
        if required:
            raise NapariSamError(message) from error
        _say(message)
        return
    viewer.add_image(result.image, name="coins")
    viewer.add_labels(result.labels, name="objects")
    napari.run()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
