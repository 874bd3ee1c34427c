"""From one format to another: which files come of one, and what they are called."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats.catalogue import FORMATS, read, written_format
from napari_sam.formats.format import Feature, Format, losses
from napari_sam.formats.places import check_place, put
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.telling import writing

__all__ = ["convert"]

_LONGEST = 80


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | Format = "",
    kind: str = "",
    shape: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write what a file holds in another format.

    Parameters
    ----------
    source : path
    target : path
        A file; or a folder for files that are called as their images: one that exists, or, for several images
        in a format that holds one, one that is made; or an image in OME-Zarr, to which labels are added.
    to : str or Format, optional
        The format to write; by the suffix of `target`, if not given.
    kind : str, optional
        That of `source`; found by its suffix and what is in it, if not given.
    shape : sequence of int, optional
        Of the image, for formats that do not hold it.
    overwrite : bool, default False
        Replace what is there; a folder only if there is nothing in it but what the format writes.

    Returns
    -------
    list of Path
        What was written: one file, or one for each image, or the labels that were added to one.

    Warns
    -----
    FormatWarning
        Of what was not read, and of what the format cannot hold, before anything is written.

    Raises
    ------
    FormatError
        If the file cannot be read, or the other one not be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from napari_sam.formats import read, write
    >>> folder = Path(tempfile.mkdtemp())
    >>> labels = write(folder / "labels.tif", np.array([[0, 5], [9, 9]]))
    >>> convert(labels, folder / "objects.geojson")[0].name
    'objects.geojson'
    >>> read(folder / "objects.geojson")[0].to_labels().tolist()
    [[0, 5], [9, 9]]
    """
    path, place = Path(source), Path(target)
    chosen = written_format(place, to)
    found = read(path, kind, shape=shape)
    with writing(place):
        planned = _planned(path, found, place, chosen)
        into = place if place not in planned else None
        is_there = into is not None and into.exists()
        if into is not None and not is_there and not into.parent.is_dir():
            raise FormatError(f"The folder {into.parent} does not exist: make it first.")
        if into is not None and is_there and not into.is_dir():
            raise FormatError(f"{into} is a file, and a folder is needed: choose another name.")
    for each in planned if into is None or is_there else ():
        check_place(each, chosen, overwrite=overwrite)
    for sentence in losses(found, chosen):
        warnings.warn(sentence, FormatWarning, stacklevel=2)
    if into is not None:
        try:
            into.mkdir(exist_ok=True)
        except OSError as error:
            raise FormatError(f"{into} cannot be made: {error.strerror or error}.") from error
    return [put(each, chosen, ones, overwrite=overwrite) for each, ones in planned.items()]


def _planned(
    source: Path, found: Sequence[Segmentation], place: Path, chosen: Format
) -> dict[Path, Sequence[Segmentation]]:
    """What goes where."""
    one_each = len(found) != 1 and Feature.SEVERAL not in chosen.holds
    adds = chosen.adds_to(place)
    if one_each and not found:
        raise FormatError(f"{source} holds no image: there is nothing to write.")
    if one_each and (adds or chosen.fits(place)):
        raise FormatError(
            f"{source} holds {len(found)} images, and {chosen.title} holds one: "
            f"give a folder for them, and the format by its name, {chosen.name}."
        )
    if not one_each:
        if adds:
            return {place: [replace(found[0], name=_stem(source.name))]}
        # A folder that is there is replaced only if its name says that it is one of the format.
        inside = place.is_dir() and not chosen.fits(place)
        return {place / f"{_stem(source.name)}{chosen.suffixes[0]}" if inside else place: found}
    planned: dict[Path, Sequence[Segmentation]] = {}
    taken: set[str] = set()
    for one in found:
        stem = free = _stem(one.name or source.name)
        number = 1
        while free.lower() in taken:  # there are systems that do not tell capitals apart
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.lower())
        planned[place / f"{free}{chosen.suffixes[0]}"] = [one]
    return planned


def _stem(name: str) -> str:
    """The name of an image or a file without folders and suffix, as any system takes it."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    known = (end for each in FORMATS.values() for end in each.suffixes if end.startswith("."))
    ending = max((end for end in known if last.lower().endswith(end)), key=len, default=Path(last).suffix)
    return re.sub(r"[^\w. -]", "_", last[: len(last) - len(ending)])[:_LONGEST].strip(". ") or "image"
