"""Which image an annotation belongs to, told by a few of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam.errors import ImageError, reason_of

__all__ = ["ImageIdentity"]

_WHOLE = 2**18
"""Images of up to so many values are read entirely."""
_BLOCKS = 32
_SIDE = 64
_BLOCK = 4096
"""Values in a block, at most."""


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """What tells one image from another.

    Attributes
    ----------
    shape : tuple of int
        Of the array, with colours if it has them.
    dtype : str
        The name of its type, whatever the order of the bytes.
    digest : str
        ``xxh3_128:`` and a checksum of shape, type and a sample of the pixels.
    """

    shape: tuple[int, ...]
    dtype: str
    digest: str

    @classmethod
    def of(cls, image: Any) -> ImageIdentity:
        """The identity of an array.

        Small images are read entirely; of large ones 32 blocks of at most 4096 values are, spread evenly
        over all axes and the same in every image of that shape. Whether the array is numpy's, dask's or
        zarr's makes no difference, nor does the order of its bytes.

        Parameters
        ----------
        image : array_like
            Anything with shape, dtype and slices.

        Raises
        ------
        ImageError
            If its values are not numbers, or cannot be read.

        Examples
        --------
        >>> image = np.arange(12, dtype=np.uint16).reshape(3, 4)
        >>> ImageIdentity.of(image) == ImageIdentity.of(image.astype(">u2"))
        True
        >>> ImageIdentity.of(image) == ImageIdentity.of(image.T)
        False
        """
        import xxhash

        if not (hasattr(image, "shape") and hasattr(image, "dtype")):
            image = np.asarray(image)
        shape, dtype = tuple(int(n) for n in image.shape), np.dtype(image.dtype)
        if dtype.kind not in "biufc":
            raise ImageError(f"An image of type {dtype} cannot be recognised: its values are not numbers.")
        state = xxhash.xxh3_128(f"{shape} {dtype.name}".encode())
        # All at once: dask takes nearly as long for one block of an image of many chunks as for all.
        try:
            pixels = np.asarray(np.concatenate([np.ravel(image[block]) for block in _blocks(shape)]))
        # Behind an array may be any reader: files, networks, other people's code.
        except Exception as error:
            raise ImageError(
                f"The image cannot be recognised, because parts of it cannot be read ({reason_of(error)}): "
                "repair it."
            ) from error
        state.update(pixels.astype(dtype.newbyteorder("<"), copy=False).tobytes())
        return cls(shape, dtype.name, f"xxh3_128:{state.hexdigest()}")

    @classmethod
    def if_readable(cls, image: Any) -> ImageIdentity | None:
        """As :meth:`of`; None for an image that cannot be recognised: its annotation is kept all the same."""
        try:
            return cls.of(image)
        except ImageError:
            return None


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Which parts of an image of this shape are read."""
    size = 1
    for length in shape:
        size *= length
    if size <= _WHOLE:
        return [tuple(slice(0, length) for length in shape)]
    sides, room = [], _BLOCK
    for length in reversed(shape):
        sides.append(min(length, _SIDE, room))
        room //= sides[-1]
    sides.reverse()
    blocks = []
    for number in range(_BLOCKS):
        starts = []
        for axis, (length, side) in enumerate(zip(shape, sides, strict=True)):
            # A lattice: on each axis, the 32 blocks are at 32 different places.
            place = number * pow(5, axis, _BLOCKS) % _BLOCKS
            starts.append((length - side) * (2 * place + 1) // (2 * _BLOCKS))
        blocks.append(tuple(slice(a, a + side) for a, side in zip(starts, sides, strict=True)))
    return blocks
