"""What automatic runs found in a document, ready to be filtered."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from napari_sam.annotation import Document, Plane
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.filtering import Filter, Sieve
from napari_sam.inference.thresholds import thresholds_of_family
from napari_sam.models.zoo import ZOO

__all__ = ["Sieves", "usual_filter"]


def usual_filter(found: MaskCandidates) -> Filter:
    """The thresholds of the model that found something before it is loaded; SAM's if it is not known."""
    family = ZOO[found.model].family if found.model in ZOO else "sam"
    usual = thresholds_of_family(family, prompted=found.prompted)
    return Filter(usual.predicted_iou, usual.stability, usual.area)


class Sieves:
    """Keeps a sieve for each plane of a document on which a run found something.

    The document has the candidates; that is what is saved. To make a sieve of those of one plane takes up to
    some tenths of a second, and a quarter of their memory.

    Parameters
    ----------
    document : Document

    Attributes
    ----------
    half_done : dict of Plane to hashable
        The settings of a run that was stopped, on the planes that were done.
    accepted : dict of Plane to (set of int)
        The objects that were made of what was found, by their uids.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._ready: dict[Plane, Sieve] = {}
        self.half_done: dict[Plane, Hashable] = {}
        self.accepted: dict[Plane, frozenset[int]] = {}

    def get(self, plane: Plane) -> Sieve | None:
        """The sieve of what the document has for a plane, if it was made already."""
        sieve = self._ready.get(plane)
        if sieve is not None and sieve.candidates is not self._document.candidates.get(plane):
            del self._ready[plane]
            return None
        return sieve

    def add(self, plane: Plane, sieve: Sieve) -> None:
        """Keep what was found on a plane, in the document, too."""
        self._ready[plane] = sieve
        self.accepted.pop(plane, None)
        self._document.keep_candidates(plane, sieve.candidates)

    def forget(self, plane: Plane) -> None:
        """Forget what was found on a plane."""
        self._ready.pop(plane, None)
        self.accepted.pop(plane, None)
        self.half_done.pop(plane, None)
        self._document.keep_candidates(plane, None)

    def hold(self, plane: Plane, sieve: Sieve) -> None:
        """Keep a sieve that was made of what the document has."""
        self._ready[plane] = sieve

    def is_accepted(self, plane: Plane) -> bool:
        """Whether there are objects of what was found on a plane."""
        return any(uid in self._document for uid in self.accepted.get(plane, ()))

    def missing(self, plane: Plane) -> MaskCandidates | None:
        """The candidates of a plane for which a sieve is still to be made."""
        return None if self.get(plane) is not None else self._document.candidates.get(plane)

    def make(self, planes: list[Plane]) -> Callable[[], dict[Plane, Sieve]]:
        """A function for another thread that gives the sieves of planes, made now where there are none."""
        known = {plane: self.get(plane) for plane in planes}
        found = {plane: self._document.candidates[plane] for plane in planes}
        return lambda: {plane: known[plane] or Sieve(found[plane]) for plane in planes}
