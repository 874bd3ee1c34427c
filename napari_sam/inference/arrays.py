"""Whatever a script holds, as a NumPy array: lists, arrays, tensors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import NapariSamError, reason_of

__all__ = ["as_array", "to_numpy"]


def to_numpy(values: Any) -> NDArray[Any]:
    """As ``np.asarray``, and also of tensors on any device, of any precision, with a gradient or not.

    Examples
    --------
    >>> import torch
    >>> to_numpy(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    array([1., 1.], dtype=float32)
    """
    # Who has a tensor has loaded torch; for others it is not loaded.
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(values, torch.Tensor):
        return np.asarray(values)
    known = (torch.float16, torch.float32, torch.float64)
    if values.is_floating_point() and values.dtype not in known:
        values = values.float()
    array: NDArray[Any] = values.numpy(force=True)
    return array


def as_array(values: Any, what: str, error: type[NapariSamError]) -> NDArray[Any]:
    """An array, or one sentence.

    Parameters
    ----------
    values : array_like or Tensor
    what : str
        How the sentence begins: what this is, in the plural or not.
    error : type
        Of the error that has the sentence.

    Raises
    ------
    NapariSamError
        Of the given type, if there is no array in it.

    Examples
    --------
    >>> from napari_sam.errors import ImageError
    >>> as_array([[1, 2], [3, 4]], "The image", ImageError).shape
    (2, 2)
    """
    try:
        return to_numpy(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as problem:
        raise error(f"{what} cannot be read as an array of numbers ({reason_of(problem)}).") from problem
