"""Masks of everything in an image, from a grid of points or from what a model sees by itself."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.checks import checked_mask, numbers
from napari_sam.inference.grids import crops, layer_grids
from napari_sam.inference.harvest import MOST_BYTES, Harvest
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.regions import without_small_regions
from napari_sam.inference.rle import coco_rle, run_lengths
from napari_sam.inference.suppression import best_of_overlapping
from napari_sam.inference.thresholds import Thresholds, thresholds_of_family
from napari_sam.models.base import Embedding, PromptableModel
from napari_sam.models.nano import Nano
from napari_sam.models.sam2 import Sam2

__all__ = ["OUTPUT_MODES", "PROMPTS", "SamAutomaticMaskGenerator", "Thresholds", "thresholds_of"]

OUTPUT_MODES: dict[str, Callable[[Mask], Any]] = {
    "binary_mask": Mask.to_array,
    "uncompressed_rle": run_lengths,
    "coco_rle": coco_rle,
}
"""How `generate` returns masks."""


PROMPTS = ("grid", "centres", "none", "auto")
"""Where points are prompted, if at all."""


def thresholds_of(model: PromptableModel, *, prompted: bool = True) -> Thresholds:
    """The thresholds that suit what a model says to prompts, or sees by itself."""
    family = "nano" if isinstance(model, Nano) else "sam2" if isinstance(model, Sam2) else "sam"
    return thresholds_of_family(family, prompted=prompted)


class SamAutomaticMaskGenerator:
    """Masks of everything in an image.

    Points on a regular grid are prompted one by one, or those where the model itself sees objects; masks with
    a low predicted IoU, unstable ones and duplicates are dropped. Of masks of models whose
    `objects_hang_together`, as those of ``nano``, the largest piece is kept. Arguments, their defaults and
    the records are those of ``segment_anything.SamAutomaticMaskGenerator`` and, for SAM 2, of
    ``SAM2AutomaticMaskGenerator``.

    Parameters
    ----------
    model : PromptableModel
        As :func:`napari_sam.load_model` returns it.
    points_per_side : int or None
        The grid has the square of that many points. None if `point_grids` is given.
    points_per_batch : int
        Points decoded at once. Progress is told after each batch.
    pred_iou_thresh : float, optional
        Masks with a predicted IoU above it are kept. By default 0.88 for SAM, 0.8 for SAM 2 and 0.42 for
        ``nano``, and 0.74 if nothing is prompted.
    stability_score_thresh : float, optional
        Masks of at least this stability are kept. By default 0.95, for ``nano`` 0.53, and 0.02 if nothing is
        prompted.
    stability_score_offset : float, optional
        By how much the threshold of the logits is moved up and down to measure stability. By default 1.
    box_nms_thresh : float, optional
        Of masks whose boxes have an IoU above it, the one with the highest predicted IoU is kept. By default
        0.7, for ``nano`` 0.5.
    crop_n_layers : int
        Layers of crops that are segmented besides the whole image: layer i has the square of 2**i. Finds
        small objects.
    crop_nms_thresh : float, optional
        As `box_nms_thresh`, for masks of different crops: the one from the smaller crop is kept.
    crop_overlap_ratio : float
        How far crops of the first layer overlap, as a share of the image's shorter side.
    crop_n_points_downscale_factor : int
        Points a side become fewer by this factor with each layer.
    point_grids : sequence of array_like, shape (N, 2), optional
        Points between 0 and 1 for the image and each layer of crops, instead of regular grids.
    min_mask_region_area : int, optional
        Holes and islands of fewer pixels are filled and dropped, whatever the model. By default 0, for
        ``nano`` 30.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
        What `segmentation` is in the records.
    use_m2m : bool
        Each mask is given to the model again, as a mask prompt.
    multimask_output : bool
        Three masks for each point, not one.
    prompts : {"grid", "centres", "none", "auto"}
        Where the points are: on the grid, or where the model itself sees the centres of objects, which takes
        far fewer. Only ``nano`` does; the arguments of grids do not count then. With ``"none"`` nothing is
        prompted: ``nano`` segments all objects in the one pass in which it encodes the image. ``"auto"`` is
        centres for models that see them, else the grid.
    mask_threshold : float
        Masks are where logits are above it.
    min_mask_area : int, optional
        Masks of at least so many pixels are kept. By default 1, for ``nano`` 25.

    Raises
    ------
    PromptError
        If an argument makes no sense.

    Examples
    --------
    >>> import napari_sam
    >>> from skimage.data import coins
    >>> model = napari_sam.load_model("nano", device="cpu")
    >>> generator = SamAutomaticMaskGenerator(model, points_per_side=4)
    >>> records = generator.generate(coins()[:150, :200])
    >>> sorted(records[0])
    ['area', 'bbox', 'crop_box', 'point_coords', 'predicted_iou', 'segmentation', 'stability_score']
    """

    def __init__(
        self,
        model: PromptableModel,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float | None = None,
        box_nms_thresh: float | None = None,
        crop_n_layers: int = 0,
        crop_nms_thresh: float | None = None,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[ArrayLike] | None = None,
        min_mask_region_area: int | None = None,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        prompts: str = "grid",
        mask_threshold: float = 0.0,
        min_mask_area: int | None = None,
    ) -> None:
        default = thresholds_of(model, prompted=prompts != "none")
        self.model = model
        self.points_per_batch = _whole(points_per_batch, 1, "points_per_batch")
        self.pred_iou_thresh = default.predicted_iou if pred_iou_thresh is None else pred_iou_thresh
        self.stability_score_thresh = (
            default.stability if stability_score_thresh is None else stability_score_thresh
        )
        self.stability_score_offset = _at_least(
            default.offset if stability_score_offset is None else stability_score_offset,
            0,
            "stability_score_offset",
        )
        self.box_nms_thresh = default.box_overlap if box_nms_thresh is None else box_nms_thresh
        self.crop_n_layers = _whole(crop_n_layers, 0, "crop_n_layers")
        self.crop_nms_thresh = default.box_overlap if crop_nms_thresh is None else crop_nms_thresh
        if not 0 <= crop_overlap_ratio < 1:
            raise PromptError(f"crop_overlap_ratio is at least 0 and below 1, not {crop_overlap_ratio}.")
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = _at_least(
            crop_n_points_downscale_factor, 1, "crop_n_points_downscale_factor"
        )
        self.min_mask_region_area = (
            default.region_area if min_mask_region_area is None else min_mask_region_area
        )
        if output_mode not in OUTPUT_MODES:
            raise PromptError(
                f"There is no output_mode {output_mode!r}: use one of {', '.join(OUTPUT_MODES)}."
            )
        self.min_mask_area = (
            default.area if min_mask_area is None else _whole(min_mask_area, 0, "min_mask_area")
        )
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.mask_threshold = mask_threshold
        self.multimask_output = multimask_output
        if prompts not in PROMPTS:
            raise PromptError(f"There are no prompts {prompts!r}: use one of {', '.join(PROMPTS)}.")
        if prompts == "auto":
            prompts = "centres" if model.finds_centres else "grid"
        if prompts != "grid" and not model.finds_centres:
            raise PromptError(f"The model {model.name} finds no objects by itself: use a grid of points.")
        self.prompts = prompts
        self.point_grids = self._grids(points_per_side, point_grids)

    def _grids(self, side: int | None, given: Sequence[ArrayLike] | None) -> list[NDArray[np.float64]]:
        if (side is None) == (given is None):
            raise PromptError("Give either points_per_side or point_grids, and None for the other.")
        if given is None:
            assert side is not None
            side = _whole(side, 1, "points_per_side")
            return layer_grids(side, self.crop_n_layers, self.crop_n_points_downscale_factor)
        grids = [_grid(grid) for grid in given]
        if len(grids) <= self.crop_n_layers:
            raise PromptError(f"point_grids has {len(grids)} grids: {self.crop_n_layers + 1} are needed.")
        if not all(((grid >= 0) & (grid <= 1)).all() for grid in grids):
            raise PromptError("The points of point_grids are between 0 and 1.")
        return grids

    def generate(
        self,
        image: ArrayLike,
        *,
        progress: Callable[[int, int], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[dict[str, Any]]:
        """Masks of an image.

        Parameters
        ----------
        image : array_like, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
            Any real dtype; see :func:`napari_sam.inference.image.as_rgb` for how it is scaled.
        progress, cancelled
            As in :meth:`candidates`.

        Returns
        -------
        list of dict
            One record for each mask, with

            - ``segmentation``: what `output_mode` says: an array of shape (H, W), bool, or run lengths;
            - ``area``: foreground pixels;
            - ``bbox``: x, y, width and height. As published, measured between the centres of the outermost
              pixels: one less than their number;
            - ``predicted_iou`` and ``stability_score``: what the mask was kept for;
            - ``point_coords``: ``[[x, y]]``, the point it was prompted with;
            - ``crop_box``: x, y, width and height of the part of the image it was found in.

            Those with the highest predicted IoU come first; with crops, those of the smallest crops.

        Raises
        ------
        ImageError
            If the image cannot be segmented.
        Cancelled
            If it was cancelled.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        return self._records(self.masks(image, progress=progress, cancelled=cancelled))

    def masks(
        self,
        image: ArrayLike,
        *,
        progress: Callable[[int, int], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> MaskCandidates:
        """What `generate` returns, packed: the way for large images.

        Takes and raises what :meth:`generate` does.
        """
        plane = as_rgb(image)
        harvest = self._harvest(
            plane.shape[:2], predicted_iou=self.pred_iou_thresh, stability=self.stability_score_thresh
        )
        return self.filtered(harvest.run(plane, {}, progress=progress, cancelled=cancelled))

    def candidates(
        self,
        image: ArrayLike,
        *,
        contrast_limits: tuple[float, float] | None = None,
        gamma: float = 1.0,
        region: Mask | None = None,
        progress: Callable[[int, int], object] | None = None,
        cancelled: threading.Event | None = None,
        most_bytes: int = MOST_BYTES,
        embedding: Embedding | None = None,
    ) -> MaskCandidates:
        """All masks of an image, before thresholds and duplicates: what :meth:`filtered` chooses from.

        Left out are empty masks, those that the edge of a crop cuts off, and, where all others together take
        more than `most_bytes`, those with the lowest predicted IoU.

        Parameters
        ----------
        image : array_like
            As in :meth:`generate`.
        contrast_limits : tuple of float, optional
        gamma : float
            As in :func:`napari_sam.inference.image.as_rgb`.
        region : Mask, optional
            Only points on it are prompted; none if it is empty.
        progress : callable, optional
            Called with the number of batches done and of all batches, first with 0.
        cancelled : threading.Event, optional
            Set it to stop: within one batch, and while an image is being encoded.
        most_bytes : int
            That the packed bits may take.
        embedding : Embedding, optional
            Of this image, looked at so, by this model, if it is there already.

        Raises
        ------
        ImageError
            If the image cannot be segmented.
        PromptError
            If the region is of another plane.
        Cancelled
            If it was cancelled.
        DeviceError
            If the device fails or runs out of memory, and the CPU, too.
        """
        plane = as_rgb(image, contrast_limits=contrast_limits, gamma=gamma)
        if region is not None:
            region = _region(plane.shape[:2], region)
        look = {"contrast_limits": contrast_limits, "gamma": gamma}
        harvest = self._harvest(plane.shape[:2], most_bytes=most_bytes)
        return harvest.run(plane, look, region, progress, cancelled, embedding)

    def filtered(self, found: MaskCandidates) -> MaskCandidates:
        """What `generate` returns of candidates: neither bad ones nor duplicates, nor small regions.

        Parameters
        ----------
        found : MaskCandidates
            Of :meth:`candidates`.
        """
        enough = (found.stability >= self.stability_score_thresh) & (found.areas >= self.min_mask_area)
        if self.pred_iou_thresh > 0:
            enough &= found.predicted_iou > self.pred_iou_thresh
        kept = found.select(enough)
        crop_areas, groups = _groups(kept.crop_boxes)
        order = best_of_overlapping(kept.boxes, kept.predicted_iou, self.box_nms_thresh, groups)
        # One crop after the other, the best first in each.
        order = order[np.argsort(groups[order], kind="stable")]
        if self.crop_n_layers:
            smallest = best_of_overlapping(kept.boxes[order], 1 / crop_areas[order], self.crop_nms_thresh)
            order = order[smallest]
        kept = kept.select(order)
        return self._cleaned(kept) if self.min_mask_region_area > 0 else kept

    def _cleaned(self, found: MaskCandidates) -> MaskCandidates:
        """Without small regions, and without what has become a duplicate of a mask that had none."""
        masks = [found.mask(index) for index in range(len(found))]
        cleaned = [without_small_regions(mask, self.min_mask_region_area) for mask in masks]
        unchanged = [one is other for one, other in zip(masks, cleaned, strict=True)]
        result = found.replaced(cleaned, found.predicted_iou, found.stability, found.points, found.crop_boxes)
        threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
        return result.select(best_of_overlapping(result.boxes, unchanged, threshold))

    def records(self, found: MaskCandidates) -> list[dict[str, Any]]:
        """What `generate` returns, of candidates that are there already.

        Parameters
        ----------
        found : MaskCandidates
            Of :meth:`candidates`.
        """
        return self._records(self.filtered(found))

    def _records(self, kept: MaskCandidates) -> list[dict[str, Any]]:
        encoded = OUTPUT_MODES[self.output_mode]
        sizes = kept.boxes[:, 2:] - kept.boxes[:, :2] - 1
        return [
            {
                "segmentation": encoded(kept.mask(index)),
                "area": int(kept.areas[index]),
                "bbox": [*kept.boxes[index, :2].tolist(), *sizes[index].tolist()],
                "predicted_iou": float(kept.predicted_iou[index]),
                "point_coords": [kept.points[index].tolist()],
                "stability_score": float(kept.stability[index]),
                "crop_box": kept.crop_boxes[index].tolist(),
            }
            for index in range(len(kept))
        ]

    def _harvest(self, shape: tuple[int, int], **limits: Any) -> Harvest:
        return Harvest(
            self.model,
            crops(shape, self.crop_n_layers, self.crop_overlap_ratio),
            self.point_grids if self.prompts == "grid" else None,
            self.points_per_batch,
            self.stability_score_offset,
            self.mask_threshold,
            self.use_m2m,
            self.multimask_output,
            one_pass=self.prompts == "none",
            **limits,
        )


def _groups(crop_boxes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The area of the crop of each mask, and the crops numbered in the order in which they come."""
    _, first, groups = np.unique(crop_boxes, axis=0, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(first))
    return crop_boxes[:, 2] * crop_boxes[:, 3], ranks[groups.reshape(-1)]


def _region(shape: tuple[int, ...], region: object) -> Mask:
    """The part of a plane to look at, which may be empty."""
    size = shape[0], shape[1]
    if isinstance(region, Mask) and region.is_empty:
        return Mask.empty(size)
    return checked_mask(size, region, "region to look at")


def _grid(points: ArrayLike) -> NDArray[np.float64]:
    """Points of one of the grids: shape (N, 2)."""
    grid = numbers(points, "The points of point_grids")
    if grid.size == 0:
        return np.zeros((0, 2))
    if grid.ndim != 2 or grid.shape[1] != 2:
        raise PromptError(f"Each grid of point_grids has the shape (N, 2), not {grid.shape}.")
    return grid


def _whole(value: int, least: int, name: str) -> int:
    try:
        return _at_least(operator.index(value), least, name)
    except TypeError:
        raise PromptError(f"{name} is a whole number of at least {least}, not {value!r}.") from None


Number = TypeVar("Number", int, float)


def _at_least(value: Number, least: int, name: str) -> Number:
    if not value >= least:
        raise PromptError(f"{name} is at least {least}, not {value}.")
    return value
