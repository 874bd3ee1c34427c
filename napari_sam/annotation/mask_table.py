"""Masks in an annotation file: each once, as COCO run lengths of the bits in its box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_sam.annotation.fields import Field
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.rle import runs_of_text

__all__ = ["MaskTable", "read_masks"]


class MaskTable:
    """Masks by number. The same mask, by identity or by value, is there once.

    Parameters
    ----------
    known : mapping, optional
        What :attr:`encoded` of an earlier table was: these masks are not encoded again.

    Attributes
    ----------
    entries : list of dict
        What is written; see docs/annotation-file.md.
    """

    def __init__(self, known: Mapping[int, tuple[Mask, dict[str, Any]]] | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        # The masks are kept, so that an address means one mask as long as there is the table.
        self._numbers: dict[int, tuple[Mask, int]] = {}
        self._values: dict[tuple[Any, ...], int] = {}
        self._known = known or {}

    @property
    def encoded(self) -> dict[int, tuple[Mask, dict[str, Any]]]:
        """Masks and their entries, by the masks' addresses."""
        return {key: (mask, self.entries[number]) for key, (mask, number) in self._numbers.items()}

    def number(self, mask: Mask) -> int:
        """Where a mask is in the table; it is added if it is not there yet."""
        found = self._numbers.get(id(mask))
        if found is not None:
            return found[1]
        known = self._known.get(id(mask))
        entry = _encoded(mask) if known is None else known[1]
        value = (*entry["plane"], *entry["origin"], *entry["rle"]["size"], entry["rle"]["counts"])
        number = self._values.setdefault(value, len(self.entries))
        if number == len(self.entries):
            self.entries.append(entry)
        self._numbers[id(mask)] = mask, number
        return number


def _encoded(mask: Mask) -> dict[str, Any]:
    from pycocotools import mask as coco

    counts = ""
    if not mask.is_empty:
        counts = coco.encode(np.asfortranarray(mask.bits.view(np.uint8)))["counts"].decode("ascii")
    rle = {"size": list(mask.bits.shape), "counts": counts}
    return {"plane": list(mask.shape), "origin": list(mask.origin), "rle": rle}


def read_masks(tables: Sequence[Field], most_bytes: int) -> list[list[Mask]]:
    """The masks of tables.

    Parameters
    ----------
    tables : sequence of Field
    most_bytes : int
        Memory that all masks together may take: a few bytes of run lengths can claim any number of pixels.

    Raises
    ------
    AnnotationError
        If an entry is not a mask, or there is not enough memory.
    """
    found = [[_Entry(item) for item in table] for table in tables]
    needed = sum(entry.nbytes for entries in found for entry in entries)
    if needed > most_bytes:
        document = tables[0].document
        raise AnnotationError(
            f"{document} holds masks of {needed / 2**30:.1f} GiB, and {most_bytes / 2**30:.1f} GiB of memory "
            "are free: open it on a larger computer."
        )
    return [[entry.mask() for entry in entries] for entries in found]


class _Entry:
    """One row of a table, its bits not decoded yet."""

    def __init__(self, item: Field) -> None:
        rle = item["rle"]
        self.counts = rle["counts"]
        self.size = _pair(rle["size"])
        self.origin = _pair(item["origin"])
        self.plane = _pair(item["plane"])
        self.item = item

    @property
    def nbytes(self) -> int:
        return self.size[0] * self.size[1]

    def mask(self) -> Mask:
        if not self.nbytes:
            if self.counts.text():
                self.counts.fail("not empty, as the box is")
            return Mask.empty(self.plane)
        try:
            runs = runs_of_text(self.counts.text())
        except ValueError as error:
            self.counts.fail(str(error))
        if runs.sum() != self.nbytes:
            self.counts.fail(f"not run lengths of {self.size[0]} x {self.size[1]} pixels")
        # COCO goes down the columns, and begins with background.
        bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(self.size, order="F")
        try:
            return Mask(self.origin, np.ascontiguousarray(bits), self.plane)
        except ValueError:
            self.item.fail("a mask that reaches beyond its plane")


def _pair(item: Field) -> tuple[int, int]:
    first, second = item.wholes(count=2)
    return first, second
