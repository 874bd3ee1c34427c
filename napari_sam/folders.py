"""Where files are kept that belong to no image: models, embeddings, annotations that are not saved yet."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["folder_for"]


def folder_for(name: str, variable: str, chosen: Path | None = None) -> Path:
    """A folder, which need not exist.

    Parameters
    ----------
    name : str
        Of the folder, in the operating system's folder for files that can be had again.
    variable : str
        An environment variable that, unless empty, has the folder instead.
    chosen : path, optional
        The folder if the variable is not set.

    Examples
    --------
    >>> folder_for("models", "NAPARI_SAM_NO_SUCH_VARIABLE", Path("elsewhere")).name
    'elsewhere'
    """
    value = os.environ.get(variable)
    if value:
        return Path(value).expanduser()
    if chosen is not None:
        return chosen
    # Not needed by those who say where.
    from platformdirs import user_cache_path

    return user_cache_path("napari-sam", appauthor=False) / name
