"""What automatic masks have to reach, for each family of models."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Thresholds", "thresholds_of_family"]

_UNPROMPTED_IOU, _UNPROMPTED_STABILITY = 0.74, 0.02
"""What every pixel says by itself has soft edges, so that stability says little of masks that were not
prompted; how well the pixels agree says more."""


@dataclass(frozen=True)
class Thresholds:
    """What a mask has to reach, and how stability is measured.

    Attributes
    ----------
    predicted_iou : float
        Masks are above it.
    stability : float
        Masks have at least this.
    offset : float
        By how much the threshold of the logits is moved up and down.
    box_overlap : float
        Boxes of different objects have at most this IoU.
    region_area : int
        Smaller holes and islands are no part of an object.
    area : int
        Masks have at least so many pixels.
    """

    predicted_iou: float
    stability: float
    offset: float = 1.0
    box_overlap: float = 0.7
    region_area: int = 0
    area: int = 1


_OF_FAMILIES = {
    # Lower ones find more and raise AP50, higher ones lose little and raise mSA, until both fall: by its val
    # split. It is made for objects of 8 pixels and more: less than half of such a disc is a sliver.
    "nano": Thresholds(0.42, 0.53, box_overlap=0.5, region_area=30, area=25),
    "sam2": Thresholds(0.8, 0.95),
}


def thresholds_of_family(family: str, *, prompted: bool = True) -> Thresholds:
    """The thresholds of a family of models: the published ones of SAM and SAM 2, measured ones of ``nano``.

    Parameters
    ----------
    family : str
        As in :data:`napari_sam.models.zoo.ZOO`; SAM's are those of all that are not known.
    prompted : bool, default True
        Whether they are for answers to prompts, or for what a model sees by itself.
    """
    usual = _OF_FAMILIES.get(family, Thresholds(0.88, 0.95))
    if prompted:
        return usual
    return replace(usual, predicted_iou=_UNPROMPTED_IOU, stability=_UNPROMPTED_STABILITY)
