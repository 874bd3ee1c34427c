"""JSON files of others: read within bounds, recognised by what they begin with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import FormatError

__all__ = ["LARGEST", "begins_with", "has_early", "read_json"]

LARGEST = 2**30
"""Bytes of memory that the content of a file may take."""

# What CPython 3.11 to 3.13 take for one of each on a 64-bit computer, with its place in what holds it.
_LIST, _DICT, _TEXT, _VALUE = 72, 248, 64, 40
_PIECE = 2**22
_BEGINNING = 2**16


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    What it would take in memory is estimated before it is parsed: a few bytes of brackets can become a
    hundredfold.

    Raises
    ------
    FormatError
        If it is not JSON, is nested too deeply, or would take more than 1 GiB.
    OSError
        If it cannot be read.
    """
    needed = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            count = np.bincount(np.frombuffer(piece, dtype=np.uint8), minlength=256)
            needed += len(piece) + int(
                count[ord("[")] * _LIST
                + count[ord("{")] * _DICT
                + count[ord('"')] // 2 * _TEXT
                + count[ord(",")] * _VALUE
            )
            if needed > LARGEST:
                raise FormatError(
                    f"{path} would take more than {LARGEST >> 30} GiB of memory: split it into smaller files."
                )
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise FormatError(f"{path} is nested too deeply to be read.") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not a JSON file: it is not text in UTF-8.") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"{path} is not whole JSON: {error.msg} in line {error.lineno}.") from None
    except ValueError as error:  # a number of more than 4300 digits
        raise FormatError(f"{path} cannot be read: {error}.") from None


def begins_with(path: Path, *words: str) -> bool:
    """Whether one of the words is in the first 64 KiB of a file, as the name of a member: quoted."""
    beginning = _beginning(path)
    return any(f'"{word}"'.encode() in beginning for word in words)


def has_early(path: Path, name: str, text: str) -> bool:
    """Whether a member with this name and this text is in the first 64 KiB of a file."""
    pattern = rf'"{re.escape(name)}"\s*:\s*"{re.escape(text)}"'
    return re.search(pattern.encode(), _beginning(path)) is not None


def _beginning(path: Path) -> bytes:
    """Nothing, if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError:
        return b""
