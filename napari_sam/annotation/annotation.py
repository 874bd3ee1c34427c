"""The Python face of the document: an image, a model, and the objects that are segmented with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from napari_sam.annotation.archive import save_annotation
from napari_sam.annotation.asking import newest_answer, with_digests
from napari_sam.annotation.document import Document
from napari_sam.annotation.editing import with_mask_prompt
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.many_by_ids import ManyByIds
from napari_sam.annotation.opening import open_with_image
from napari_sam.annotation.planes import Planes, look_of
from napari_sam.annotation.records import Look, SamObject
from napari_sam.annotation.segmenting import Segmenter
from napari_sam.annotation.tracking_by_ids import PlaneLike
from napari_sam.errors import AnnotationError
from napari_sam.inference.checks import numbers
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

if TYPE_CHECKING:
    from napari_sam.models.base import PromptableModel

__all__ = ["Annotation", "PlaneLike"]


class Annotation(ManyByIds):
    """Objects of one image, segmented by prompts, with their whole history: no viewer needed.

    What the plugin does by mouse is done here by calls, on the same document and with the same masks. Prompts
    go to the *current* object until it is accepted or rejected; the next one then follows. Each call
    computes at once, and is one step that `undo` takes back, the mask with the prompt.

    Coordinates are (x, y) pixels of a plane, an integer is the centre of that pixel. On an image with more
    than one plane, `plane` says which: an index along the axes before the last two (``3``, or ``(3, 0)``), or
    one entry per axis of which two are None (``(None, 7, None)``).

    Parameters
    ----------
    image : array_like, shape (..., H, W) or (..., H, W, 3)
        NumPy, dask, zarr, ...: only planes with prompts are read.
    model : str, path or PromptableModel, default "nano"
        As for :func:`napari_sam.load_model`; loaded at the first prompt.
    rgb : bool, optional
        Whether the last axis is colour; if not given, it is if there are at least three axes and the last one
        has a length of 3 or 4.
    device : str, default "auto"
        Where a model is loaded to.
    contrast_limits : tuple of float, optional
    gamma : float, default 1
        How a model sees the image; see :func:`napari_sam.inference.image.as_rgb`.
    labels : array_like of int, shape of the image without colours, optional
        Objects that are there to begin with; they keep their ids.

    Attributes
    ----------
    document : Document
        What this is a face of: objects, prompts, history, events.
    look : Look
        How the model sees the image from the next prompt on.

    Raises
    ------
    ImageError
        If the image has no planes, or limits or gamma make no sense.
    AnnotationError
        If the labels do not fit the image.

    Examples
    --------
    >>> from skimage.data import coins
    >>> annotation = Annotation(coins(), "nano", device="cpu")
    >>> annotation.add_point(102, 196).id
    1
    >>> coin = annotation.accept()
    >>> annotation.add_box([25, 104, 66, 145]).id
    2
    >>> annotation.undo_text
    'Add box'
    >>> annotation.add_point(45, 160, positive=False).id
    2
    >>> annotation.accept().accepted
    True
    >>> annotation.set_class([1, 2], "coin")
    >>> labels = annotation.to_labels()
    >>> labels.shape, int(labels[196, 102]), int(labels[124, 45])
    ((303, 384), 1, 2)
    """

    def __init__(
        self,
        image: Any,
        model: str | os.PathLike[str] | PromptableModel = "nano",
        *,
        rgb: bool | None = None,
        device: str = "auto",
        contrast_limits: tuple[float, float] | None = None,
        gamma: float = 1.0,
        labels: Any = None,
    ) -> None:
        planes = Planes(image, rgb)
        super().__init__(Document(planes.shape), planes, Segmenter(planes, model, device))
        self.look = look_of(contrast_limits, gamma)
        if labels is not None:
            self.add_labels(labels)
            self.document.history.clear()

    def __repr__(self) -> str:
        """What it is of, in a line."""
        shape, count = self._planes.shape, len(self.document)
        return f"<Annotation of an image of shape {shape}: {count} objects, model {self._segmenter.name}>"

    @property
    def model(self) -> PromptableModel:
        """The model; another one can be set, by name or as it is, and answers from the next prompt on.

        Raises
        ------
        ModelError
            If it cannot be loaded. That there is one is seen when it is set: the one before stays if not.
        """
        return self._segmenter.model

    @model.setter
    def model(self, model: str | os.PathLike[str] | PromptableModel) -> None:
        self._segmenter.use(model)

    # Files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save all but the history in one file: objects, prompts, masks, classes, and what they are of.

        Parameters
        ----------
        path : path
            Its name ends in ``.napari-sam.zip``.
        overwrite : bool, default False
            Replace a file that is there.

        Raises
        ------
        AnnotationError
            If the file is there and not `overwrite`, or cannot be written.
        """
        snapshot = self.document.snapshot
        if self._segmenter.loaded is not None:
            snapshot = with_digests(snapshot, self._segmenter.loaded)
        return save_annotation(
            path, snapshot, ImageIdentity.if_readable(self._planes.image), overwrite=overwrite
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        image: Any,
        model: str | os.PathLike[str] | PromptableModel | None = None,
        *,
        device: str = "auto",
        contrast_limits: tuple[float, float] | None = None,
        gamma: float | None = None,
        force: bool = False,
    ) -> Self:
        """Go on with an annotation that was saved, here or in napari.

        Parameters
        ----------
        path : path
        image : array_like
            That it was made on.
        model : str, path or PromptableModel, optional
            If not given, the one that answered last for the current object, or if it has no answer, for the
            object that was begun last of those that have one.
        device : str, default "auto"
        contrast_limits : tuple of float, optional
        gamma : float, optional
            Those of the same answer if not given.
        force : bool, default False
            Go on although the image has other pixels; a warning says so.

        Raises
        ------
        AnnotationError
            If the file cannot be read, or is of another image.
        """
        snapshot, planes, doubt = open_with_image(path, image, force=force)
        if doubt:
            warnings.warn(doubt, stacklevel=2)
        newest = newest_answer(snapshot)
        name, look = ("nano", Look()) if newest is None else (newest.model, newest.look)
        self = cls(
            planes.image,
            name if model is None else model,
            rgb=planes.rgb,
            device=device,
            contrast_limits=look.contrast_limits if contrast_limits is None else contrast_limits,
            gamma=look.gamma if gamma is None else gamma,
        )
        self.document = Document.of(snapshot)
        return self

    # Prompts

    def add_point(
        self,
        x: float | ArrayLike,
        y: float | None = None,
        *,
        positive: bool = True,
        plane: PlaneLike = None,
    ) -> SamObject:
        """Add a point to the current object.

        Parameters
        ----------
        x, y : float
            Or both in one, as (x, y).
        positive : bool, default True
            On the object; else on what does not belong to it.
        plane : int, sequence of (int or None), or Plane, optional

        Returns
        -------
        SamObject
            The current object, with its new mask.

        Raises
        ------
        PromptError
            If the point is not on the image.
        AnnotationError
            If `plane` is missing, or not one of this image.
        NapariSamError
            If the model cannot be loaded, the plane not be segmented, or the device fails; nothing is
            changed then.
        """
        point = x if y is None else (x, y)
        return self._draw("Add point", plane, points=[point], labels=[int(positive)])

    def add_box(self, box: ArrayLike, *, plane: PlaneLike = None) -> SamObject:
        """Give the current object a box, in place of the one that it may have.

        Parameters
        ----------
        box : array_like, shape (4,)
            Two opposite corners, x0, y0, x1, y1.
        plane : int, sequence of (int or None), or Plane, optional

        Returns
        -------
        SamObject

        Raises
        ------
        NapariSamError
            As for :meth:`add_point`.
        """
        return self._draw("Add box", plane, box=numbers(box, "Box coordinates"))

    def add_scribble(self, path: ArrayLike, *, positive: bool = True, plane: PlaneLike = None) -> SamObject:
        """Add a freehand line to the current object.

        Parameters
        ----------
        path : array_like, shape (N, 2)
            (x, y) of its vertices.
        positive : bool, default True
            On the object; else on what does not belong to it.
        plane : int, sequence of (int or None), or Plane, optional

        Returns
        -------
        SamObject

        Raises
        ------
        NapariSamError
            As for :meth:`add_point`.
        """
        return self._draw("Add scribble", plane, scribbles=[(path, int(positive))])

    def add_lasso(self, polygon: ArrayLike, *, plane: PlaneLike = None) -> SamObject:
        """Give the current object a line drawn roughly around it, in place of the one that it may have.

        Parameters
        ----------
        polygon : array_like, shape (N, 2)
            (x, y) of its vertices.
        plane : int, sequence of (int or None), or Plane, optional

        Returns
        -------
        SamObject

        Raises
        ------
        NapariSamError
            As for :meth:`add_point`.
        """
        return self._draw("Add lasso", plane, lasso=numbers(polygon, "Lasso coordinates"))

    def refine(self, mask: Mask | ArrayLike | None = None, *, plane: PlaneLike = None) -> SamObject:
        """Ask the model for a better mask of the current object; prompts on the plane give way to the mask.

        Parameters
        ----------
        mask : Mask or array_like, shape (H, W), optional
            What to begin with, instead of the object's own mask.
        plane : int, sequence of (int or None), or Plane, optional

        Returns
        -------
        SamObject

        Raises
        ------
        AnnotationError
            If there is no mask to begin with, or it has more or fewer than two dimensions.
        NapariSamError
            As for :meth:`add_point`.
        """
        where = self._planes.named(plane)
        item = self.current
        if mask is None:
            answer = item.answer(where)
            mask = item.masks.get(where) or (None if answer is None else answer.mask)
            if mask is None or mask.is_empty:
                raise AnnotationError(
                    f"Object {item.id} has no mask to refine: prompt it first, or give one."
                )
        elif not isinstance(mask, Mask):
            array = np.asarray(mask)
            if array.ndim != 2:
                raise AnnotationError(
                    f"A mask of shape {array.shape} is not one of plane {where}: "
                    f"give an array of shape {self._planes.size(where)}."
                )
            mask = Mask.from_array(array)
        asked = Prompts.create(self._planes.size(where), mask=mask)
        (answer,) = self._segmenter.answers([asked], where, self.look)
        with self.document.step("Refine mask"):
            self.document.refine(where, mask)
            self.document.answer(item.uid, where, answer)
        return self.current

    def choose(self, index: int, *, plane: PlaneLike = None) -> SamObject:
        """Take another candidate of the current object's mask, counted from 0.

        Raises
        ------
        AnnotationError
            If there is no such candidate.
        """
        self.document.choose(self._planes.named(plane), index)
        return self.current

    def _draw(self, text: str, plane: PlaneLike, **drawn: Any) -> SamObject:
        """Put what was drawn together with what is there, and ask the model before anything is changed."""
        where = self._planes.named(plane)
        item = self.current
        prompts = _together(item.prompts.get(where), self._planes.size(where), **drawn)
        asked = with_mask_prompt(item, where, prompts)
        assert asked is not None
        before = item.answers.get(where)
        if before is not None and before.prompts == asked == item.prompts.get(where):
            told = before.model == self._segmenter.name and before.look == self.look
            if told:
                return item
        answers = []
        if asked.selects_something:
            answers = self._segmenter.answers([asked], where, self.look)
        with self.document.step(text):
            self.document.set_prompts({**item.prompts, where: prompts}, text)
            for answer in answers:
                self.document.answer(item.uid, where, answer)
        return self.current


def _together(
    before: Prompts | None,
    size: tuple[int, int],
    *,
    points: Sequence[Any] = (),
    labels: Sequence[int] = (),
    box: ArrayLike | None = None,
    scribbles: Sequence[Any] = (),
    lasso: ArrayLike | None = None,
) -> Prompts:
    """What is there and what was drawn now, checked."""
    if before is None:
        return Prompts.create(size, points or None, labels or None, box, scribbles=scribbles, lasso=lasso)
    return Prompts.create(
        size,
        [*before.points, *points],
        [*before.labels, *labels],
        before.box if box is None else box,
        before.mask_input,
        mask=before.mask,
        scribbles=[*before.scribbles, *scribbles],
        lasso=before.lasso if lasso is None else lasso,
    )
