"""The planes of a series as frames of a video."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.planes import Planes
from napari_sam.annotation.records import Look
from napari_sam.annotation.series import Series
from napari_sam.inference.video_frames import VideoFrames

__all__ = ["PlaneFrames"]


class PlaneFrames(VideoFrames):
    """Planes of an image, each read when it is asked for, and not kept.

    Parameters
    ----------
    planes : Planes
    series : Series
        Which of them.
    look : Look
        How they are displayed to a model.

    Examples
    --------
    >>> from napari_sam.annotation import Plane
    >>> planes = Planes(np.zeros((5, 30, 40)))
    >>> frames = PlaneFrames(planes, Series.through(Plane((None, 7, None)), planes.shape), Look())
    >>> len(frames), frames.size, frames.read(29).shape
    (30, (5, 40), (5, 40, 3))
    """

    def __init__(self, planes: Planes, series: Series, look: Look) -> None:
        super().__init__(look.contrast_limits, look.gamma)
        self._planes, self._series = planes, series
        self.size = series.size

    def __len__(self) -> int:
        return len(self._series)

    def _pixels(self, index: int) -> NDArray[Any]:
        return np.asarray(self._planes.image[self._series.plane(index).slices])
