"""Values of a JSON document, each checked where it is read: files come from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import AnnotationError

__all__ = ["Field"]

_GREATEST = 2**63 - 1
_NOT_FINITE = ("nan", "inf", "-inf")


class Field:
    """A value of a JSON document, and where in it that is.

    Parameters
    ----------
    value : object
        As :func:`json.loads` made it.
    where : str
        Its place: ``objects[3].id``.
    document : str
        What the document is called in a sentence.
    """

    __slots__ = ("document", "value", "where")

    def __init__(self, value: Any, where: str = "", document: str = "The annotation") -> None:
        self.value = value
        self.where = where
        self.document = document

    def fail(self, what: str) -> NoReturn:
        """Say what is wrong here.

        Raises
        ------
        AnnotationError
            Always.
        """
        where = self.where or "all of it"
        raise AnnotationError(f"{self.document} is damaged ({where}: {what}): use an earlier copy of it.")

    def __getitem__(self, key: str) -> Field:
        if not isinstance(self.value, dict):
            self.fail("not a JSON object")
        where = f"{self.where}.{key}" if self.where else key
        if key not in self.value:
            Field(None, where, self.document).fail("missing")
        return Field(self.value[key], where, self.document)

    def get(self, key: str) -> Field | None:
        """A value that may be absent or null: then None."""
        if isinstance(self.value, dict) and self.value.get(key) is None:
            return None
        return self[key]

    def __iter__(self) -> Iterator[Field]:
        if not isinstance(self.value, list):
            self.fail("not a list")
        for index, value in enumerate(self.value):
            yield Field(value, f"{self.where}[{index}]", self.document)

    def whole(self, low: int = -_GREATEST, high: int = _GREATEST) -> int:
        """A whole number from `low` to `high`."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail("not a whole number")
        if not low <= value <= high:
            self.fail("too small" if value < low else "too large")
        return value

    def wholes(self, low: int = 0, count: int | None = None) -> tuple[int, ...]:
        """Whole numbers of at least `low`; `count` of them, if given."""
        numbers = tuple(item.whole(low) for item in self)
        if count is not None and len(numbers) != count:
            self.fail(f"not {count} numbers")
        return numbers

    def number(self, *, finite: bool = True) -> float:
        """A number; if not `finite`, also what :func:`written` makes of NaN and infinity."""
        value = self.value
        if not finite and isinstance(value, str) and value in _NOT_FINITE:
            return float(value)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            self.fail("not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail("not a finite number")
        return number

    def text(self) -> str:
        """A text."""
        if not isinstance(self.value, str):
            self.fail("not a text")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail("neither true nor false")
        return self.value

    def array(self, *shape: int) -> NDArray[np.float64]:
        """Finite float64 of a shape; -1 is any length."""
        if not isinstance(self.value, list):
            self.fail("not a list")
        try:
            found = np.asarray(self.value)
        except (ValueError, OverflowError):  # lists of several lengths, or nested too deep
            self.fail("not an array of numbers")
        if found.size == 0 and shape[0] == -1:
            return np.zeros((0, *shape[1:]))
        if found.dtype.kind not in "iuf":
            self.fail("not an array of numbers")
        array = found.astype(np.float64)
        if not np.isfinite(array).all():
            self.fail("not finite numbers")
        if array.ndim != len(shape) or any(w not in (-1, n) for w, n in zip(shape, array.shape, strict=True)):
            self.fail(f"not an array of shape {tuple(shape)}".replace("-1", "N"))
        return array

    @staticmethod
    def written(number: float) -> float | str:
        """A number as JSON can hold it."""
        number = float(number)
        return number if math.isfinite(number) else str(number)
