"""Many objects of an image in one call: from points, boxes and label images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from napari_sam.annotation.batch import (
    Checked,
    prompts_of_boxes,
    prompts_of_points,
    segment_many,
    with_pixels,
)
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.annotation.tracking_by_ids import PlaneLike, TrackingByIds
from napari_sam.errors import AnnotationError, PromptError

__all__ = ["ManyByIds"]


class ManyByIds(TrackingByIds):
    """Adds objects of which nobody has to look at each; parameters and attributes are those of the base."""

    def add_points(
        self, points: ArrayLike, *, plane: PlaneLike = None, class_name: str | None = None
    ) -> list[SamObject]:
        """Segment and accept one object for each point, all in one step.

        Points outside the image are skipped, and so are those for which the model finds nothing, or only
        pixels that other objects keep; warnings say how many.

        Parameters
        ----------
        points : array_like, shape (N, 2)
            (x, y) each.
        plane : int, sequence of (int or None), or Plane, optional
        class_name : str, optional
            The class of the new objects.

        Returns
        -------
        list of SamObject

        Raises
        ------
        PromptError
            If no point is on the image.
        NapariSamError
            As for :meth:`add_point`.
        """
        where = self._planes.named(plane)
        return self._add_many(
            "points", prompts_of_points(points, self._planes.size(where)), where, class_name
        )

    def add_boxes(
        self, boxes: ArrayLike, *, plane: PlaneLike = None, class_name: str | None = None
    ) -> list[SamObject]:
        """Segment and accept one object for each box, all in one step; see :meth:`add_points`.

        Parameters
        ----------
        boxes : array_like, shape (N, 4)
            x0, y0, x1, y1 each.
        plane : int, sequence of (int or None), or Plane, optional
        class_name : str, optional
            The class of the new objects.

        Returns
        -------
        list of SamObject

        Raises
        ------
        NapariSamError
            As for :meth:`add_points`.
        """
        where = self._planes.named(plane)
        return self._add_many("boxes", prompts_of_boxes(boxes, self._planes.size(where)), where, class_name)

    def _add_many(self, what: str, checked: Checked, plane: Plane, class_name: str | None) -> list[SamObject]:
        if not checked.prompts:
            if checked.skipped:
                raise PromptError(checked.skipped)
            return []
        count = len(checked.prompts)
        embedding = self._segmenter.embedding(plane, self.look)
        found = segment_many(self._segmenter.model, embedding, checked.prompts, plane, self.look)
        drafts = with_pixels(self.document, found)
        added = self.document.add_objects(drafts, f"Segment {count} {what}", class_name=class_name)
        if checked.skipped:
            warnings.warn(checked.skipped, stacklevel=3)
        if len(found) < count:
            warnings.warn(
                f"The model found nothing for {count - len(found)} of {count} {what}.", stacklevel=3
            )
        if covered := len(found) - len(drafts):
            were, their = ("was", "its") if covered == 1 else ("were", "their")
            warnings.warn(
                f"{covered} of {count} {what} {were} left out: other objects have all {their} pixels.",
                stacklevel=3,
            )
        return added

    def add_labels(self, labels: Any, *, class_name: str | None = None) -> list[SamObject]:
        """Take over the objects of a label image, in one step.

        They keep their ids unless one of these is taken, in which case all get new ones. Pixels that belong
        to other objects already stay with these, even with `document.overwrite`.

        Parameters
        ----------
        labels : array_like of int, shape of the image without colours
        class_name : str, optional
            The class of the new objects.

        Returns
        -------
        list of SamObject

        Raises
        ------
        AnnotationError
            If it is no label image, or not one of this image.
        """
        drafts = drafts_of_labels(labels)
        shape = tuple(np.shape(labels))
        if shape != self.shape:
            raise AnnotationError(
                f"Labels of shape {shape} do not fit an image of shape {self.shape}: they must be the same."
            )
        free = all(self.document.with_id(draft.id) is None for draft in drafts)
        with self.document.protected():
            return self.document.add_objects(drafts, "Import labels", keep_ids=free, class_name=class_name)
