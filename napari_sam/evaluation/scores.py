"""From the results of single images to those of data sets, and their mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np

from napari_sam.evaluation.automatic import AutomaticResult
from napari_sam.evaluation.instances import IOU_THRESHOLDS, precision_of_hits
from napari_sam.evaluation.interactive import InteractiveResult

__all__ = [
    "NOC_THRESHOLDS",
    "Automatic",
    "Evaluation",
    "Failure",
    "ImageResult",
    "Interactive",
    "Level",
    "Line",
]

NOC_THRESHOLDS = (0.85, 0.90)
"""The IoUs to reach in the number of clicks (NoC)."""


class Level(StrEnum):
    """What a line of results is about."""

    IMAGE = "image"
    MODALITY = "modality"
    DATASET = "data set"
    MEAN = "mean of data sets"


@dataclass(frozen=True, slots=True)
class Interactive:
    """The interactive protocol in numbers.

    Attributes
    ----------
    objects : int
    box : float
        Mean IoU over objects after a box.
    clicks : tuple of float
        Mean IoU over objects after 1, 2, ... points.
    noc85, noc90 : float
        Mean number of clicks to an IoU of 0.85 and 0.90; an object that does not get there counts with all
        the clicks that were tried.
    encode_seconds, click_seconds : float
        Medians over images.
    """

    objects: int
    box: float
    clicks: tuple[float, ...]
    noc85: float
    noc90: float
    encode_seconds: float
    click_seconds: float


@dataclass(frozen=True, slots=True)
class Automatic:
    """The automatic protocol in numbers.

    Attributes
    ----------
    objects, found : int
        True objects, and found ones.
    ap50, ap75, ap : float
        Average precision over all objects, at an IoU of 0.5, of 0.75, and its mean from 0.5 to 0.95. NaN if
        there are no true objects.
    sa50, msa : float
        Segmentation accuracy at 0.5, and its mean from 0.5 to 0.95: means over images.
    seg : float
        SEG: the mean over all true objects. NaN if there are none.
    seconds : float
        The median image takes.
    """

    objects: int
    found: int
    ap50: float
    ap75: float
    ap: float
    sa50: float
    msa: float
    seg: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured of one method: on an image, a data set, or the mean of data sets.

    Attributes
    ----------
    level : Level
    dataset, modality, image : str
        Empty where they do not apply.
    method : str
        The model's name, or that of a classical method.
    images : int
    interactive : Interactive or None
    automatic : Automatic or None
        None if it was not measured.
    """

    level: Level
    dataset: str
    modality: str
    image: str
    method: str
    images: int
    interactive: Interactive | None
    automatic: Automatic | None


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What was measured on one plane.

    Attributes
    ----------
    dataset, name, modality : str
    interactive : mapping of str to InteractiveResult
    automatic : mapping of str to AutomaticResult
        By method.
    """

    dataset: str
    name: str
    modality: str
    interactive: Mapping[str, InteractiveResult]
    automatic: Mapping[str, AutomaticResult]


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be evaluated: its data set and name, and a sentence that says why."""

    dataset: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`napari_sam.evaluation.evaluate` found.

    Attributes
    ----------
    images : list of ImageResult
        In the order of the samples.
    failures : list of Failure
        Images that could not be evaluated; they are in no mean.
    """

    images: list[ImageResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def has_objects(self) -> bool:
        """Whether any image has an object: else there is nothing to measure."""
        return any(
            any(one.objects for one in image.interactive.values())
            or any(one.seg.size for one in image.automatic.values())
            for image in self.images
        )

    def per_image(self) -> list[Line]:
        """A line for each image and method."""
        return [
            line
            for one in self.images
            for line in _lines(Level.IMAGE, [one], one.dataset, one.modality, one.name)
        ]

    def per_dataset(self, *, modalities: bool = False) -> list[Line]:
        """A line for each data set and method, and the unweighted mean if there are several data sets.

        Within a data set, means of IoUs and average precisions are over objects, segmentation accuracies over
        images.

        Parameters
        ----------
        modalities : bool
            A line for each modality of a data set, too, where there are several.
        """
        lines: list[Line] = []
        whole: list[Line] = []
        for dataset, images in _grouped((one.dataset, one) for one in self.images).items():
            kinds = _grouped((one.modality, one) for one in images)
            if modalities and len(kinds) > 1:
                for modality, some in kinds.items():
                    lines += _lines(Level.MODALITY, some, dataset, modality)
            own = list(_lines(Level.DATASET, images, dataset, next(iter(kinds)) if len(kinds) == 1 else ""))
            lines += own
            whole += own
        if len({line.dataset for line in whole}) > 1:
            lines += [
                _mean(method, own) for method, own in _grouped((one.method, one) for one in whole).items()
            ]
        return lines


Value = TypeVar("Value")


def _grouped(pairs: Iterable[tuple[str, Value]]) -> dict[str, list[Value]]:
    groups: dict[str, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _lines(
    level: Level, images: Sequence[ImageResult], dataset: str, modality: str, image: str = ""
) -> Iterator[Line]:
    """A line for each method, in the order in which they come."""
    for method in dict.fromkeys(m for one in images for m in (*one.interactive, *one.automatic)):
        clicked = [one.interactive[method] for one in images if method in one.interactive]
        found = [one.automatic[method] for one in images if method in one.automatic]
        yield Line(
            *(level, dataset, modality, image, method, len(images)),
            _interactive(clicked) if any(one.objects for one in clicked) else None,
            _automatic(found) if found else None,
        )


def _interactive(images: Sequence[InteractiveResult]) -> Interactive:
    objects = [result for image in images for result in image.objects]
    noc85, noc90 = (
        float(np.mean([result.clicks_to(threshold) for result in objects])) for threshold in NOC_THRESHOLDS
    )
    return Interactive(
        len(objects),
        float(np.mean([result.box for result in objects])),
        tuple(np.mean([result.clicks for result in objects], axis=0).tolist()),
        noc85,
        noc90,
        float(np.median([image.encode_seconds for image in images])),
        float(np.median([image.click_seconds for image in images if image.objects])),
    )


def _automatic(images: Sequence[AutomaticResult]) -> Automatic:
    scores = [image.scores for image in images]
    seg = np.concatenate([image.seg for image in images])
    precision = [
        precision_of_hits([image.right[place] for image in images], scores, len(seg))
        for place in range(len(IOU_THRESHOLDS))
    ]
    accuracy = np.mean([image.accuracy for image in images], axis=0)
    return Automatic(
        objects=len(seg),
        found=sum(map(len, scores)),
        ap50=precision[0],
        ap75=precision[IOU_THRESHOLDS.index(0.75)],
        ap=float(np.mean(precision)),
        sa50=float(accuracy[0]),
        msa=float(accuracy.mean()),
        seg=float(seg.mean()) if seg.size else float("nan"),
        seconds=float(np.median([image.seconds for image in images])),
    )


def _mean(method: str, lines: Sequence[Line]) -> Line:
    clicked = [line.interactive for line in lines if line.interactive is not None]
    found = [line.automatic for line in lines if line.automatic is not None]
    return Line(
        *(Level.MEAN, "", "", "", method, sum(line.images for line in lines)),
        _together(Interactive, clicked) if clicked else None,
        _together(Automatic, found) if found else None,
    )


Numbers = TypeVar("Numbers", Interactive, Automatic)


def _together(kind: type[Numbers], numbers: Sequence[Numbers]) -> Numbers:
    """Counts are summed, all else is averaged; what is not known of a data set is left out."""

    def joined(values: list[Any]) -> Any:
        if isinstance(values[0], int):
            return sum(values)
        known = np.array(values)[~np.isnan(np.array(values).reshape(len(values), -1)).any(axis=1)]
        if not len(known):
            return values[0]
        mean = known.mean(axis=0)
        return tuple(mean.tolist()) if mean.ndim else float(mean)

    return kind(*(joined([getattr(one, f.name) for one in numbers]) for f in dataclasses.fields(kind)))
