"""``python -m benchmarks.contact_sheet``: what a model makes of scikit-image's own images, to be looked at.

Each row is an image: on the left one click for each object, on the right what is found without any. With
``--coins FOLDER``, the coins and labels of them are written for ``napari-sam evaluate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from napari_sam.demo import CLICKS

__all__ = ["coin_labels", "main", "panel"]

_WIDTH = 520
"""Of a panel, in pixels."""
_CELL = ((427.0, 375.0),)
_TISSUE = (
    *((297.0, 251.0), (316.0, 290.0), (334.0, 271.0), (485.0, 237.0), (418.0, 367.0)),
    *((463.0, 378.0), (366.0, 255.0), (308.0, 367.0), (359.0, 411.0), (334.0, 346.0)),
)
"""Where the cell and some nuclei are clicked on: (x, y)."""


def coin_labels() -> NDArray[np.uint8]:
    """The 24 coins of :func:`skimage.data.coins`, segmented without a model: 1 to 24.

    By the watershed of edges from what is certainly bright and certainly dark, as in scikit-image's own
    tutorial; looked at.

    Examples
    --------
    >>> int(coin_labels().max())
    24
    """
    from scipy import ndimage
    from skimage.data import coins
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    image = np.asarray(coins())
    seeds = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    bright = ndimage.binary_fill_holes(watershed(sobel(image), seeds) == 2)
    labels, _ = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    return np.asarray(labels, dtype=np.uint8)


def panel(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    clicks: Sequence[tuple[float, float]],
    title: str,
) -> NDArray[np.uint8]:
    """An image with its objects outlined and the clicks on it: shape (h, 520, 3), uint8.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, 3), uint8
    labels : ndarray, shape (H, W), integer
    clicks : sequence of (float, float)
        (x, y).
    title : str
    """
    from PIL import Image, ImageDraw
    from skimage.color import label2rgb
    from skimage.segmentation import mark_boundaries

    height = round(image.shape[0] * _WIDTH / image.shape[1])
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(_WIDTH) * image.shape[1] // _WIDTH
    big = labels[np.ix_(rows, columns)]
    shown = np.array(Image.fromarray(image).convert("RGB").resize((_WIDTH, height), Image.Resampling.BICUBIC))
    tinted = label2rgb(big, shown, alpha=0.25, bg_label=0, bg_color=None, saturation=1)
    outlined = mark_boundaries(tinted, big, color=(1, 1, 0), mode="inner")
    whole = Image.new("RGB", (_WIDTH, height + 22), "white")
    whole.paste(Image.fromarray((outlined * 255).round().astype(np.uint8)), (0, 22))
    draw = ImageDraw.Draw(whole)
    draw.text((4, 4), title, fill="black")
    for x, y in clicks:
        at_x, at_y = ((x + 0.5) * _WIDTH / image.shape[1], (y + 0.5) * height / image.shape[0] + 22)
        draw.ellipse((at_x - 4, at_y - 4, at_x + 4, at_y + 4), fill="red", outline="white")
    return np.asarray(whole)


def _sheet(model: str, device: str) -> NDArray[np.uint8]:
    from skimage import data

    from napari_sam.inference.automatic import SamAutomaticMaskGenerator
    from napari_sam.inference.engine import encode, segment_all
    from napari_sam.inference.image import as_rgb
    from napari_sam.inference.mask_files import label_image
    from napari_sam.inference.prompts import Prompts
    from napari_sam.models import load_model

    network = load_model(model, device=device)
    generator = SamAutomaticMaskGenerator(network, prompts="auto")
    rows = []
    for name, image, clicks in (
        ("coins", data.coins(), CLICKS),
        ("cell", data.cell(), _CELL),
        ("immunohistochemistry", data.immunohistochemistry(), _TISSUE),
    ):
        plane = as_rgb(image)
        size = (plane.shape[0], plane.shape[1])
        prompts = [Prompts.create(size, points=[click]) for click in clicks]
        clicked = np.zeros(size, dtype=np.uint8)
        for number, found in enumerate(segment_all(network, encode(network, plane), prompts), 1):
            clicked[found.mask.to_array()] = number
        masks = generator.masks(image)
        one = "one click" if len(clicks) == 1 else f"{len(clicks)} objects, one click each"
        rows.append(
            np.concatenate(
                [
                    panel(np.asarray(image), clicked, clicks, f"{name}: {one}"),
                    np.full((1, 8, 3), 255, dtype=np.uint8).repeat(
                        round(size[0] * _WIDTH / size[1]) + 22, axis=0
                    ),
                    panel(
                        np.asarray(image), label_image(masks), (), f"{name}: everything, {len(masks)} masks"
                    ),
                ],
                axis=1,
            )
        )
    return np.concatenate(rows)


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="JPEG or PNG to write.")],
    model: Annotated[str, typer.Option(help="Name of a model, or path of a checkpoint.")] = "nano",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    coins: Annotated[Path | None, typer.Option(help="Write images/ and labels/ of the coins here.")] = None,
) -> None:
    """Draw the contact sheet."""
    from PIL import Image

    if coins is not None:
        from skimage import data

        for folder, array in (("images", np.asarray(data.coins())), ("labels", coin_labels())):
            (coins / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(coins / folder / "coins.png")
    Image.fromarray(_sheet(model, device)).save(output, quality=75)


if __name__ == "__main__":
    typer.run(main)
