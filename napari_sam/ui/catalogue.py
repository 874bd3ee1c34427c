"""The models in words: what each is called, what it is good for, what it costs to get."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from napari_sam.models.zoo import ZOO, ModelInfo

__all__ = ["Entry", "catalogue", "size_in_words"]


class Entry(NamedTuple):
    """A line in the list of models.

    Attributes
    ----------
    name : str
        What to load; empty for a heading.
    title, detail : str
        What the line says: the name, and in few words what it is for and how large the download.
    tip : str
        The rest.
    """

    name: str
    title: str
    detail: str = ""
    tip: str = ""


def catalogue(on_disk: Collection[str], own: Collection[str] = ()) -> list[Entry]:
    """All models under headings: those that are ready, the user's own checkpoints, those to download.

    Parameters
    ----------
    on_disk : collection of str
        Models of the zoo that need no download.
    own : collection of str
        Paths of checkpoints.
    """
    ready = [_of_zoo(info, True) for name, info in ZOO.items() if name in on_disk]
    mine = [Entry(path, Path(path).name, "your checkpoint", path) for path in own]
    remote = [_of_zoo(info, False) for name, info in ZOO.items() if name not in on_disk]
    lines: list[Entry] = []
    for heading, entries in (("Ready to use", ready + mine), ("Downloaded when chosen", remote)):
        if entries:
            lines += [Entry("", heading), *entries]
    return lines


def size_in_words(nbytes: int) -> str:
    """A file's size.

    Examples
    --------
    >>> size_in_words(375_042_383), size_in_words(2_564_550_879)
    ('375 MB', '2.6 GB')
    """
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def _of_zoo(info: ModelInfo, on_disk: bool) -> Entry:
    size = size_in_words(info.weights_nbytes if info.nbytes is None else info.nbytes)
    size = f"about {size}" if info.nbytes is None else size
    kind = {"nano": "the model that comes with the plugin", "sam": "Segment Anything", "sam2": "SAM 2"}
    version = f".{info.version[-1]}" if info.version == "2.1" else ""
    tip = [
        f"{info.name}: {kind[info.family]}{version}, for {info.domain}.",
        f"{info.parameters / 1e6:.0f} million parameters: {_pace(info.parameters)}.",
        "On this computer." if on_disk else f"Not on this computer: {size} to download, once.",
        f"Licence: {info.licence}.",
        f"Cite: {info.citation}.",
    ]
    return Entry(info.name, info.name, info.domain if on_disk else f"{info.domain} · {size}", "\n".join(tip))


def _pace(parameters: int) -> str:
    """What to expect on a computer without a GPU."""
    if parameters < 15e6:
        return "fast everywhere"
    if parameters < 100e6:
        return "a few seconds for each new image without a GPU"
    return "slow without a GPU"
