"""What may be written to, and what is put there: files and folders that appear complete or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sam.atomic import replacing
from napari_sam.errors import FormatError
from napari_sam.formats.folders import holds_only
from napari_sam.formats.format import Format
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.telling import writing

__all__ = ["check_place", "put"]


def check_place(target: Path, chosen: Format, *, overwrite: bool) -> None:
    """Make sure that a path may be written to.

    Raises
    ------
    FormatError
        If it is taken and not `overwrite`, its folder is missing, its name is none of the format, it is a
        folder and the format is a file, or a folder with anything in it that the format does not write.
    """
    if chosen.needs_suffix and not chosen.fits(target):
        raise FormatError(
            f"{target} does not end in {' or '.join(chosen.suffixes)}, as files of the format {chosen.name} "
            "do: choose another name."
        )
    with writing(target):
        if chosen.adds_to(target):
            return
        is_folder = target.is_dir()
        if is_folder and chosen.is_folder and not _may_go(target, chosen):
            raise FormatError(f"{target} holds other files: choose another name.")
        if target.exists() and not overwrite:
            raise FormatError(f"{target} exists: choose another name, or say that it is to be replaced.")
        if not target.parent.is_dir():
            raise FormatError(f"The folder {target.parent} does not exist: make it first.")
        if is_folder and not chosen.is_folder:
            raise FormatError(f"{target} is a folder, and {chosen.title} is a file: choose another name.")


def put(target: Path, chosen: Format, found: Sequence[Segmentation], *, overwrite: bool = False) -> Path:
    """Write what was checked: a file or folder that appears complete or not at all.

    Returns
    -------
    Path
        Of what was written: `target`, or what was added to it.

    Raises
    ------
    FormatError
        If it cannot be written, or the format cannot hold it.
    """
    if chosen.greatest_id is not None:
        for item in (item for one in found for item in one.items):
            if not 0 < item.id <= chosen.greatest_id:
                raise FormatError(f"{chosen.title} holds ids from 1 to {chosen.greatest_id}, not {item.id}.")
    with writing(target):
        if chosen.adding is not None and chosen.adds_to(target):
            return chosen.adding.add(target, found, overwrite)
        with replacing(target) as new:
            chosen.write(new, found)
    return target


def _may_go(folder: Path, chosen: Format) -> bool:
    """Whether nothing is lost with a folder but what the format makes."""
    return holds_only(folder) or (chosen.is_all_in is not None and chosen.is_all_in(folder))
