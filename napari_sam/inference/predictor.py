"""The official package's predictor, for every model."""

from __future__ import annotations

import operator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam.errors import ImageError, PromptError
from napari_sam.inference.arrays import as_array
from napari_sam.inference.checks import numbers
from napari_sam.inference.engine import Prediction, decode, encode
from napari_sam.inference.fallback import on_device_of
from napari_sam.inference.image import as_rgb
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.transform import ResizeLongestSide
from napari_sam.models.base import LOW_RES_SIZE, Embedding, PromptableModel

__all__ = ["SamPredictor"]

_FRAME = 1024
"""Longest side of the frame in which `predict_torch` takes coordinates."""


class SamPredictor:
    """Masks of one image for any number of prompts.

    Methods, arguments and array shapes are those of ``segment_anything.SamPredictor``, whatever the model, so
    that scripts written for it run unchanged. What differs: prompts that nobody means are errors, with a
    sentence, namely none at all, points outside of the image and boxes without an area.

    Parameters
    ----------
    sam_model : PromptableModel
        As :func:`napari_sam.load_model` returns it.

    Attributes
    ----------
    model : PromptableModel
    transform : ResizeLongestSide
        To the frame of `predict_torch`, whose longest side is 1024.
    is_image_set : bool
    original_size : tuple of int, or None
        Height and width of the image, in pixels.
    input_size : tuple of int, or None
        Height and width of the image in the frame of `predict_torch`.

    Examples
    --------
    >>> import napari_sam
    >>> from skimage.data import coins
    >>> predictor = SamPredictor(napari_sam.load_model("nano", device="cpu"))
    >>> predictor.set_image(coins())
    >>> masks, scores, logits = predictor.predict(np.array([[50, 50]]), np.array([1]))
    >>> masks.shape, scores.shape, logits.shape
    ((3, 303, 384), (3,), (3, 256, 256))
    """

    def __init__(self, sam_model: PromptableModel) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(_FRAME)
        self.reset_image()

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None
        self._embedding: Embedding | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def features(self) -> Tensor | None:
        """The image embedding, or None without an image."""
        return self.get_image_embedding() if self.is_image_set else None

    def set_image(self, image: ArrayLike, image_format: Literal["RGB", "BGR"] = "RGB") -> None:
        """Compute the embedding of an image.

        Parameters
        ----------
        image : array_like, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
            Any real dtype; see :func:`napari_sam.inference.image.as_rgb` for how it is scaled.
        image_format : {"RGB", "BGR"}
            The order of the channels.

        Raises
        ------
        ImageError
            If the image cannot be segmented or the format is unknown.
        DeviceError
            If the device fails or runs out of memory.
        """
        if image_format not in ("RGB", "BGR"):
            raise ImageError(f"The image format must be 'RGB' or 'BGR', not {image_format!r}.")
        # An image that fails must not leave the one before in its place.
        self.reset_image()
        plane = as_rgb(image)
        if image_format == "BGR":
            plane = plane[..., ::-1]
        self._keep(encode(self.model, plane), (plane.shape[0], plane.shape[1]))

    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Compute the embedding of an image that `transform` has resized.

        Parameters
        ----------
        transformed_image : Tensor or array, shape (1, 3, h, w)
            RGB between 0 and 255; the longer side has 1024 pixels.
        original_image_size : tuple of int
            Height and width of the image before, in pixels.

        Raises
        ------
        ImageError
            If the tensor has another shape, or the size is none.
        DeviceError
            If the device fails or runs out of memory.
        """
        self.reset_image()
        given = as_array(transformed_image, "The transformed image", ImageError)
        shape = given.shape
        height, width = _checked_size(original_image_size)
        if shape != (1, 3, *self.transform.get_preprocess_shape(height, width, _FRAME)):
            raise ImageError(
                f"A transformed image of shape {shape} does not fit an image of {height} x {width} pixels: "
                f"resize it with transform.apply_image, to a longest side of {_FRAME}."
            )
        pixels = np.clip(given[0].transpose(1, 2, 0).astype(np.float32) / 255, 0, 1)
        self._keep(encode(self.model, pixels), (height, width))

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Masks of one object.

        Parameters
        ----------
        point_coords : array_like, shape (N, 2), optional
            (x, y) in pixels of the image.
        point_labels : array_like, shape (N,), optional
            1 for a point on the object, 0 for a point on the background.
        box : array_like, shape (4,), optional
            x0, y0, x1, y1 in pixels of the image.
        mask_input : array_like, shape (1, 256, 256), optional
            Low-resolution logits of an earlier prediction.
        multimask_output : bool
            Three masks instead of one: right for ambiguous prompts, above all a single point.
        return_logits : bool
            Logits instead of boolean masks.

        Returns
        -------
        masks : ndarray, shape (C, H, W), bool, or float32 if `return_logits`
        scores : ndarray, shape (C,), float32
            The predicted IoU of each mask.
        low_res_logits : ndarray, shape (C, 256, 256), float32
            Can be given as `mask_input` in the next call.

        Raises
        ------
        RuntimeError
            If no image is set.
        PromptError
            If the prompts make no sense for the image.
        DeviceError
            If the device fails or runs out of memory.
        """
        _, size = self._image()
        if point_coords is not None and point_labels is None:
            raise PromptError("Points were given without labels: give point_labels, 1 or 0 for each point.")
        prompts = Prompts.create(size, point_coords, point_labels, box, mask_input)
        (prediction,) = self._decode([prompts], multimask_output)
        masks = prediction.full_logits() if return_logits else prediction.full_masks()
        return masks, prediction.scores, prediction.low_res_logits

    def predict_torch(
        self,
        point_coords: Tensor | ArrayLike | None,
        point_labels: Tensor | ArrayLike | None,
        boxes: Tensor | ArrayLike | None = None,
        mask_input: Tensor | ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of many objects, with prompts in the frame of `transform`.

        Arrays are taken like tensors.

        Parameters
        ----------
        point_coords : Tensor, shape (B, N, 2), or None
            (x, y), as `transform.apply_coords_torch` returns them.
        point_labels : Tensor, shape (B, N), or None
            1 for a point on the object, 0 for a point on the background, -1 for padding.
        boxes : Tensor, shape (B, 4), optional
            x0, y0, x1, y1, as `transform.apply_boxes_torch` returns them.
        mask_input : Tensor, shape (B, 1, 256, 256), optional
            Low-resolution logits of an earlier prediction.
        multimask_output : bool
            Three masks per object instead of one.
        return_logits : bool
            Logits instead of boolean masks.

        Returns
        -------
        masks : Tensor, shape (B, C, H, W), bool, or float32 if `return_logits`
        scores : Tensor, shape (B, C), float32
            The predicted IoU of each mask.
        low_res_logits : Tensor, shape (B, C, 256, 256), float32
            All on the model's device.

        Raises
        ------
        RuntimeError
            If no image is set.
        PromptError
            If the prompts make no sense for the image.
        DeviceError
            If the device fails or runs out of memory.
        """
        _, (height, width) = self._image()
        if point_coords is not None and point_labels is None:
            raise PromptError("Points were given without labels: give point_labels, 1 or 0 for each point.")
        given = (point_coords, point_labels, boxes, mask_input)
        arrays = [None if one is None else as_array(one, "A prompt", PromptError) for one in given]
        points = _many(arrays[0], "Points", "B", "N", 2)
        labels = _many(arrays[1], "Point labels", "B", "N")
        corners = _many(_flat(arrays[2]), "Boxes", "B", 4)
        logits = _many(arrays[3], "Mask prompts", "B", 1, 256, 256)
        lengths = {len(array) for array in (points, labels, corners, logits) if array is not None}
        if len(lengths) != 1:
            raise PromptError("Points, labels, boxes and masks must be for the same number of objects.")
        scale = np.array(self.transform.scale((height, width)))
        prompts = [
            Prompts.create(
                (height, width),
                None if points is None else numbers(points[b], "Point coordinates") / scale,
                None if labels is None else labels[b],
                None if corners is None else numbers(corners[b], "Boxes").reshape(2, 2) / scale,
                None if logits is None else logits[b],
            )
            for b in range(lengths.pop())
        ]
        predictions = self._decode(prompts, multimask_output)
        candidates = 3 if multimask_output else 1
        count = len(predictions)
        masks = np.empty((count, candidates, height, width), dtype=np.float32 if return_logits else bool)
        scores = np.empty((count, candidates), dtype=np.float32)
        low_res = np.empty((count, candidates, LOW_RES_SIZE, LOW_RES_SIZE), dtype=np.float32)
        for b, prediction in enumerate(predictions):
            masks[b] = prediction.full_logits() if return_logits else prediction.full_masks()
            scores[b] = prediction.scores
            low_res[b] = prediction.low_res_logits
        on_device = [torch.from_numpy(array).to(self.device) for array in (masks, scores, low_res)]
        return on_device[0], on_device[1], on_device[2]

    def get_image_embedding(self) -> Tensor:
        """The image embedding: shape (1, C, h, w), on the model's device.

        Of a model that keeps several maps, the first. A copy, which may be changed, and trained on.

        Raises
        ------
        RuntimeError
            If no image is set.
        """
        embedding, _ = self._image()
        features = embedding.tensors[0]
        # A map without a batch axis has its channels last. What inference mode made is no part of a graph.
        return (features if features.ndim == 4 else features.permute(2, 0, 1)[None]).clone()

    def _keep(self, embedding: Embedding, size: tuple[int, int]) -> None:
        self._embedding = embedding
        self.original_size = size
        self.input_size = self.transform.get_preprocess_shape(*size, _FRAME)
        self.is_image_set = True

    def _image(self) -> tuple[Embedding, tuple[int, int]]:
        if self._embedding is None or self.original_size is None:
            raise RuntimeError("There is no image: call set_image first.")
        return self._embedding, self.original_size

    def _decode(self, prompts: list[Prompts], multimask: bool) -> list[Prediction]:
        embedding, size = self._image()
        found = decode(self.model, embedding, prompts, multimask, size=size)
        # The model may have left a device that failed: the embedding follows once, not with each decoding.
        self._embedding = on_device_of(self.model, embedding)
        return found


def _checked_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an image."""
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ImageError(f"The size of the image is its height and width in pixels, not {size!r}.")
    return height, width


def _flat(boxes: NDArray[Any] | None) -> NDArray[Any] | None:
    """Boxes given as two corners each as four numbers each, as in the official code."""
    return boxes.reshape(-1, 4) if boxes is not None and boxes.shape[1:] == (2, 2) else boxes


def _many(array: NDArray[Any] | None, what: str, *shape: int | str) -> NDArray[Any] | None:
    """Prompts of one kind, for several objects along the first axis; letters stand for any number."""
    if array is None:
        return None
    lengths = zip(shape, array.shape, strict=False)
    if array.ndim != len(shape) or any(isinstance(wanted, int) and wanted != n for wanted, n in lengths):
        said = ", ".join(map(str, shape))
        raise PromptError(
            f"{what} have the shape ({said}), B being the number of objects, not {array.shape}."
        )
    return array
