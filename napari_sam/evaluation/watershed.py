"""The classical way to segment everything, that a model must be better than."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

__all__ = ["watershed_baseline"]


def watershed_baseline(image: NDArray[Any], *, sigma: float = 1.0, apart: int = 5) -> NDArray[np.int32]:
    """Objects by a threshold and the watershed of the distance to the background.

    Otsu's threshold (1979) on the smoothed image; objects are the smaller side of it, so that both bright
    objects and dark ones are found; holes are filled; each maximum of the smoothed distance to the background
    is an object.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, channels)
    sigma : float
        Of the smoothing, in pixels.
    apart : int
        Between two maxima, in pixels, at least.

    Returns
    -------
    ndarray, shape (H, W), int32

    Examples
    --------
    >>> image = np.zeros((40, 40))
    >>> image[5:15, 5:15] = image[20:35, 20:35] = 1
    >>> int(watershed_baseline(image).max())
    2
    """
    gray = rgb2gray(image[..., :3]) if image.ndim == 3 and image.shape[-1] >= 3 else np.squeeze(image)
    gray = gaussian(np.nan_to_num(np.asarray(gray, dtype=np.float64), posinf=0.0, neginf=0.0), sigma)
    if gray.min() == gray.max():
        return np.zeros(gray.shape, dtype=np.int32)
    objects = gray > threshold_otsu(gray)
    if objects.mean() > 0.5:
        objects = ~objects
    objects = ndimage.binary_fill_holes(objects)
    depth = gaussian(ndimage.distance_transform_edt(objects), sigma)
    peaks = peak_local_max(depth, min_distance=apart, labels=objects.astype(np.int32), exclude_border=False)
    seeds = np.zeros(gray.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=objects), dtype=np.int32)
