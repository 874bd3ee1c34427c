"""Sample images that need no network: they ship inside the scikit-image wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skimage import data

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = ["cell", "coins", "immunohistochemistry"]


def coins() -> list[LayerData]:
    """Greek coins from Pompeii: one gray channel, 303 x 384 pixels."""
    return [(data.coins(), {"name": "coins"}, "image")]


def cell() -> list[LayerData]:
    """A single cell, quantitative phase image: one gray channel, 660 x 550 pixels."""
    return [(data.cell(), {"name": "cell"}, "image")]


def immunohistochemistry() -> list[LayerData]:
    """Colonic glands, haematoxylin and DAB: colour, 512 x 512 pixels."""
    return [(data.immunohistochemistry(), {"name": "immunohistochemistry", "rgb": True}, "image")]
