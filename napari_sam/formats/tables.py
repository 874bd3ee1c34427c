"""Measurements as files of CSV and Parquet.

They hold what :func:`~napari_sam.formats.measure` says, with a row for each object and plane, of as many
images as one likes; a column ``image`` with the name of the image comes first. The shapes of objects are not
in a table, so that it can be written only.

CSV is that of RFC 4180 in UTF-8, with a header, and numbers that come back exactly; what is not known is
empty. Names are written as they are: a class that is called ``=1+1`` is taken for a formula by spreadsheets,
and is the same name again for programs that read the file. Parquet needs pyarrow, the extra ``parquet``.

>>> import numpy as np, tempfile
>>> from napari_sam.formats.segmentation import Segmentation
>>> path = Path(tempfile.mkdtemp()) / "measurements.csv"
>>> CSV.write(path, [Segmentation.of_labels(np.array([[0, 5], [5, 5]]))])
>>> path.read_text().splitlines()[1].split(",")[:6]
['', '5', '', '', '', '3']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import FormatError
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.measurements import Per, measure, sound_text
from napari_sam.formats.segmentation import Segmentation

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["CSV", "PARQUET", "TABLES", "measuring"]


def measuring(
    target: Format, image: Any = None, *, channel_axis: int | None = None, per: Per = "plane"
) -> Format:
    """CSV or Parquet with intensities, or with a row for each whole object.

    Parameters
    ----------
    target : Format
    image : array_like, optional
        What the objects were found in, as in :func:`~napari_sam.formats.measure`.
    channel_axis : int, optional
    per : {"plane", "object"}

    Returns
    -------
    Format
        For :func:`~napari_sam.formats.write`.

    Raises
    ------
    FormatError
        If the format is no table.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from napari_sam.formats import write
    >>> labels = np.array([[0, 5], [5, 5]])
    >>> path = write(Path(tempfile.mkdtemp()) / "a.csv", labels, measuring(CSV, labels * 2))
    >>> path.read_text().splitlines()[1].split(",")[-4:]
    ['10.0', '10.0', '10.0', '30.0']
    """
    if target.name not in _WRITERS:
        raise FormatError(f"{target.title} holds no measurements: write {' or '.join(_WRITERS)}.")

    def written(path: Path, found: Sequence[Segmentation]) -> None:
        _WRITERS[target.name](path, _table(found, image, channel_axis, per))

    return replace(target, write=written)


def _table(found: Sequence[Segmentation], image: Any, channel_axis: int | None, per: Per) -> DataFrame:
    import pandas as pd

    tables = []
    for one in found:
        table = measure(one, image, channel_axis=channel_axis, per=per)
        table.insert(0, "image", sound_text(one.name))
        tables.append(table)
    full = [table for table in tables if len(table)] or tables[:1]
    if any("parent" in table for table in full):
        for table in full:
            if "parent" not in table:
                table.insert(table.columns.get_loc("source") + 1, "parent", 0)
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


def _write_csv(path: Path, table: DataFrame) -> None:
    # With these ends of lines, as RFC 4180 has them, names that contain any of them are quoted.
    table.to_csv(path, index=False, encoding="utf-8", lineterminator="\r\n")


def _write_parquet(path: Path, table: DataFrame) -> None:
    try:
        table.to_parquet(path, index=False, engine="pyarrow")
    except ImportError:
        raise FormatError(
            "Parquet needs pyarrow, which is not there. Install it with: pip install 'napari-sam[parquet]'"
        ) from None


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet}


def _plainly(name: str, title: str) -> Format:
    def written(path: Path, found: Sequence[Segmentation]) -> None:
        _WRITERS[name](path, _table(found, None, None, "plane"))

    # Nothing that is measured would be measured otherwise for want of a place, so that nothing is lost.
    return Format(name=name, title=title, suffixes=(f".{name}",), holds=frozenset(Feature), write=written)


CSV = _plainly("csv", "Measurements (CSV)")
PARQUET = _plainly("parquet", "Measurements (Parquet)")
TABLES = (CSV, PARQUET)
