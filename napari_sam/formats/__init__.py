"""Exchange with other programs: every format as a pure function from objects to a file and back.

>>> import numpy as np
>>> from napari_sam import formats
>>> sorted(formats.FORMATS)[:1]
['annotation']
"""

from __future__ import annotations

from napari_sam.formats.calibration import Calibration
from napari_sam.formats.catalogue import FORMATS, find_format, read, write
from napari_sam.formats.converting import convert
from napari_sam.formats.format import Feature, Format, losses
from napari_sam.formats.measurements import measure
from napari_sam.formats.segmentation import Item, Segmentation
from napari_sam.formats.tables import measuring

__all__ = [
    "FORMATS",
    "Calibration",
    "Feature",
    "Format",
    "Item",
    "Segmentation",
    "convert",
    "find_format",
    "losses",
    "measure",
    "measuring",
    "read",
    "write",
]
