"""How good a model is: both protocols on images with ground truth, one image after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from napari_sam.errors import Cancelled, ImageError, NapariSamError
from napari_sam.evaluation.automatic import Found, find_everything, with_generator
from napari_sam.evaluation.datasets import PLANE_STEP, LabelledFile, Sample
from napari_sam.evaluation.interactive import MAX_CLICKS, Ask, click_through, targets, with_model
from napari_sam.evaluation.scores import Evaluation, Failure, ImageResult
from napari_sam.evaluation.seeded import flood_fill, walk_randomly
from napari_sam.evaluation.watershed import watershed_baseline
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.models.base import PromptableModel

__all__ = ["Protocol", "evaluate"]


class Protocol(StrEnum):
    """What is measured."""

    INTERACTIVE = "interactive"
    AUTOMATIC = "automatic"


def evaluate(
    model: PromptableModel | None,
    samples: Iterable[Sample | LabelledFile],
    *,
    only: Protocol | str | None = None,
    clicks: int = 9,
    feed_back: bool = False,
    max_objects: int | None = None,
    seed: int = 0,
    generator: SamAutomaticMaskGenerator | None = None,
    baselines: bool = False,
    plane_step: int = PLANE_STEP,
    name: str | None = None,
    progress: Callable[[int, int | None, str], object] | None = None,
    failed: Callable[[Failure], object] | None = None,
) -> Evaluation:
    """Measure a model on images with ground truth.

    Two protocols: in the interactive one, a simulated user draws a box around each object, and clicks it and
    then its largest errors, see :mod:`napari_sam.evaluation.interactive`; in the automatic one, all objects
    are to be found without prompts. One image is in memory at a time, and of the results a few numbers for
    each object.

    Parameters
    ----------
    model : PromptableModel or None
        As :func:`napari_sam.load_model` returns it. None: only the classical methods, which need not be
        measured again for each model.
    samples : iterable of Sample or LabelledFile
        Of :func:`~napari_sam.evaluation.datasets.list_folders` or
        :func:`~napari_sam.evaluation.datasets.list_index`, or made of arrays.
    only : {"interactive", "automatic"}, optional
        Both, if not given.
    clicks : int, default 9
        Points per object, the first one included: 1 to 20.
    feed_back : bool, default False
        Give each step the logits of the one before as mask prompt.
    max_objects : int, optional
        No more objects of each image are clicked on, drawn at random. All are to be found, anyway.
    seed : int, default 0
        The same seed draws the same objects.
    generator : SamAutomaticMaskGenerator, optional
        How everything is found; by default as `napari-sam auto` does.
    baselines : bool, default False
        Measure classical methods on the same images: flood fill and random walker from the same prompts,
        and threshold and watershed.
    plane_step : int, default 10
        Take every such plane of volumes.
    name : str, optional
        What the model is called in the results; by default its own name.
    progress : callable, optional
        Called before each sample with the number done, of how many (None if that is not known), and the
        sample's name.
    failed : callable, optional
        Called with each image that cannot be evaluated, as soon as that is known.

    Returns
    -------
    Evaluation
        Images that could not be evaluated are among its `failures`.

    Raises
    ------
    ImageError
        If no image has an object, though some could be evaluated.
    ValueError
        If the number of clicks is out of range, there is no such protocol, or nothing to measure.
    Cancelled
        If `progress` raises it.

    Examples
    --------
    >>> import napari_sam
    >>> import numpy as np
    >>> labels = np.zeros((64, 64), dtype=int)
    >>> labels[20:40, 20:40] = 1
    >>> sample = Sample("squares", "one", (labels * 200).astype(np.uint8), labels)
    >>> found = evaluate(napari_sam.load_model("nano", device="cpu"), [sample], clicks=2)
    >>> (line,) = found.per_dataset()
    >>> line.dataset, line.method, line.interactive.objects, line.interactive.box > 0.9
    ('squares', 'nano', 1, True)
    """
    if not 1 <= clicks <= MAX_CLICKS:
        raise ValueError(f"The protocol takes 1 to {MAX_CLICKS} clicks, not {clicks}.")
    wanted = set(Protocol) if only is None else {Protocol(only)}
    if model is None and not baselines:
        raise ValueError("There is nothing to measure without a model and without baselines.")
    own = name or ("" if model is None else model.name)
    clickable: dict[str, Callable[[NDArray[Any]], Ask]] = {}
    finders: dict[str, Callable[[NDArray[Any]], Found]] = {}
    if Protocol.INTERACTIVE in wanted:
        if model is not None:
            clickable[own] = with_model(model)
        if baselines:
            clickable["flood fill"] = flood_fill
            clickable["random walker"] = walk_randomly
    if Protocol.AUTOMATIC in wanted:
        if model is not None:
            finders[own] = with_generator(generator or SamAutomaticMaskGenerator(model, prompts="auto"))
        if baselines:
            finders["watershed"] = lambda image: (watershed_baseline(image), None)

    def measured(sample: Sample) -> ImageResult:
        if sample.image.shape[:2] != sample.labels.shape:
            raise ImageError(
                f"{sample.name} has the shape {sample.image.shape} and its labels {sample.labels.shape}: "
                "they must be of the same size."
            )
        objects = targets(sample.labels, max_objects, seed, sample.name)
        return ImageResult(
            *(sample.dataset, sample.name, sample.modality),
            {
                method: click_through(
                    begin, sample.image, objects, clicks=clicks, feed_back=feed_back and method == own
                )
                for method, begin in clickable.items()
            },
            {method: find_everything(find, sample.image, sample.labels) for method, find in finders.items()},
        )

    found = Evaluation()
    total = len(samples) if isinstance(samples, Sized) else None
    for done, sample in enumerate(samples):
        if progress is not None:
            progress(done, total, sample.name)
        try:
            found.images.extend(map(measured, _planes(sample, plane_step)))
        except Cancelled:
            raise
        except (NapariSamError, OSError) as error:
            failure = Failure(sample.dataset, sample.name, str(error))
            found.failures.append(failure)
            if failed is not None:
                failed(failure)
    if found.images and not found.has_objects:
        raise ImageError("None of the images has an object: check that the labels are the right files.")
    return found


def _planes(sample: Sample | LabelledFile, step: int) -> Iterator[Sample]:
    return sample.planes(step) if isinstance(sample, LabelledFile) else iter([sample])
