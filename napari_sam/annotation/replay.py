"""Whether a segmentation is reproduced: a model is asked again what an annotation was made with."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_sam.annotation.document import Document
from napari_sam.annotation.opening import open_with_image
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, Look, SamObject
from napari_sam.annotation.segmenting import Segmenter
from napari_sam.inference.mask import mask_iou

if TYPE_CHECKING:
    from napari_sam.models.base import PromptableModel

__all__ = ["Recomputed", "Replay", "replay"]


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What came of asking again for one mask.

    Attributes
    ----------
    id : int
        Of the object.
    plane : Plane
    saved, answer : Answer
        What the model said then, and what it says now; the same candidate of both.
    """

    id: int
    plane: Plane
    saved: Answer
    answer: Answer

    @property
    def iou(self) -> float:
        """Intersection over union of both masks; 1 if both are empty."""
        return mask_iou(self.saved.mask, self.answer.mask)


@dataclass(frozen=True, slots=True)
class Replay:
    """An annotation with masks that were computed again.

    Attributes
    ----------
    document : Document
        The annotation with the new answers. Where these are as saved, nothing has changed.
    results : list of Recomputed
        In order of ids.
    doubts : list of str
        Sentences on why masks may differ: another image, other weights.
    """

    document: Document
    results: list[Recomputed]
    doubts: list[str]

    @property
    def identical(self) -> int:
        """How many masks are as saved, pixel by pixel."""
        return sum(result.saved.mask == result.answer.mask for result in self.results)

    @property
    def mean_iou(self) -> float | None:
        """The mean IoU; None if nothing was asked."""
        ious = [result.iou for result in self.results]
        return sum(ious) / len(ious) if ious else None

    @property
    def unprompted(self) -> int:
        """How many objects no model was asked for: imported or painted ones, which are as saved."""
        return len(self.document) - len({result.id for result in self.results})


def replay(
    path: str | os.PathLike[str],
    image: Any,
    *,
    model: str | os.PathLike[str] | PromptableModel | None = None,
    device: str = "auto",
    force: bool = False,
) -> Replay:
    """Ask a model again with the prompts of an annotation, on planes that look as they did.

    Parameters
    ----------
    path : path
        Of the annotation.
    image : array_like
        That it was made on.
    model : str, path or PromptableModel, optional
        Instead of the models that it was made with.
    device : str, default "auto"
    force : bool
        Go on although the image has other pixels.

    Raises
    ------
    AnnotationError
        If the annotation cannot be read, or is of another image.
    NapariSamError
        If a model cannot be loaded, or the device fails.
    """
    snapshot, planes, doubt = open_with_image(path, image, force=force)
    document = Document.of(snapshot)
    doubts = [doubt] if doubt else []
    asked: defaultdict[str, list[tuple[SamObject, Plane]]] = defaultdict(list)
    for item in document.objects:
        for plane, saved in item.answers.items():
            if saved.prompts is not None and (saved.model or model is not None):
                asked[saved.model].append((item, plane))
    results = []
    for name, places in asked.items():
        segmenter = Segmenter(planes, name if model is None else model, device)
        doubts += _doubts_on(segmenter, name, {item.answers[plane].digest for item, plane in places})
        results += _ask(segmenter, document, places)
    results.sort(key=lambda result: (result.id, str(result.plane)))
    return Replay(document, results, doubts)


def _ask(
    segmenter: Segmenter, document: Document, places: Iterable[tuple[SamObject, Plane]]
) -> list[Recomputed]:
    """Ask one model, plane by plane, and give the document its answers."""
    together: defaultdict[tuple[Plane, Look], list[SamObject]] = defaultdict(list)
    for item, plane in places:
        together[plane, item.answers[plane].look].append(item)
    results = []
    for (plane, look), items in together.items():
        prompts = [asked for item in items if (asked := item.answers[plane].prompts) is not None]
        answers = segmenter.answers(prompts, plane, look)
        for item, asked, said in zip(items, prompts, answers, strict=True):
            saved = item.answers[plane]
            answer = _same_candidate(said, saved)
            if answer.mask != saved.mask and len(items) > 1:
                # Sums in another order differ in the last digit: it was perhaps asked alone.
                alone = _same_candidate(segmenter.answers([asked], plane, look)[0], saved)
                if mask_iou(alone.mask, saved.mask) > mask_iou(answer.mask, saved.mask):
                    answer = alone
            document.answer(item.uid, plane, answer)
            results.append(Recomputed(item.id, plane, saved, answer))
    return results


def _same_candidate(answer: Answer, saved: Answer) -> Answer:
    """An answer with the candidate that was chosen then."""
    if len(answer.candidates) != len(saved.candidates):
        return answer
    return replace(answer, chosen=saved.chosen)


def _doubts_on(segmenter: Segmenter, name: str, digests: set[str]) -> list[str]:
    """Sentences if a model's weights are not those that answered then."""
    digest = segmenter.model.digest
    kind, _, _ = digest.partition(":")
    if not any(one != digest and one.startswith(f"{kind}:") for one in digests if digest):
        return []
    asked = segmenter.model.name
    others = f"those of {name}, with which" if asked != name else "those with which"
    return [f"The weights of {asked} are not {others} the annotation was made: masks may differ."]
