"""The classes of YOLO data sets: ``data.yaml``, or ``classes.txt`` with a name in each line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from napari_sam.errors import FormatError

__all__ = ["Described", "find_described", "read_described"]

# Names of classes are short, and YAML is read slowly.
_LARGEST, _DEEPEST = 2**18, 20


class Described(NamedTuple):
    """What a data set says beside its outlines.

    Attributes
    ----------
    names : dict of int to str
        By the numbers of the classes.
    no_class : int or None
        The number of objects without a class, in what we wrote.
    sizes : dict of str to (int, int)
        Height and width of images by their names without suffix, in what we wrote.
    """

    names: dict[int, str]
    no_class: int | None = None
    sizes: Mapping[str, tuple[int, int]] = {}


def find_described(folder: Path) -> Described:
    """What ``data.yaml`` or ``classes.txt`` in a folder says; nothing if there are none.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    for name in ("data.yaml", "classes.txt"):
        if (folder / name).is_file():
            return read_described(folder / name)
    return Described({})


def read_described(path: Path) -> Described:
    """What one of these files says.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    if path.stat().st_size > _LARGEST:
        raise FormatError(f"{path} is too large for names of classes: look what is in it.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not text in UTF-8: save it as such.") from None
    if path.suffix == ".txt":
        return Described(dict(enumerate(line.strip() for line in text.rstrip().splitlines())))
    content = _yaml(path, text)
    names = content.get("names", {})
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not set(map(type, names)) <= {int}:
        raise FormatError(f"{path} is damaged: its names are neither a list nor numbered.")
    if any(isinstance(name, dict | list) for name in names.values()):
        raise FormatError(f"{path} is damaged: a name of a class is no text.")
    number = content.get("no_class")
    return Described(
        {key: str(name) for key, name in names.items()},
        number if type(number) is int else None,
        _sizes(content.get("sizes")),
    )


def _yaml(path: Path, text: str) -> dict[Any, Any]:
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # A few aliases of aliases can stand for gigabytes, and what is nested deeply is read slowly.
            if isinstance(event, yaml.AliasEvent):
                raise FormatError(f"{path} has aliases, which are not read: write out what they stand for.")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise FormatError(f"{path} is nested too deeply to be read.")
        content = yaml.safe_load(text)
    # Dates and numbers that are none, in places that do not matter here, are errors of YAML's constructor.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FormatError(f"{path} is not a whole YAML file: {reason}.") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path} is damaged: it has no names of classes.")
    return content


def _sizes(value: Any) -> dict[str, tuple[int, int]]:
    """Of images, where they are what we write."""
    if not isinstance(value, dict):
        return {}
    return {
        name: (size[0], size[1])
        for name, size in value.items()
        if isinstance(name, str)
        and isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 0 <= side < 2**32 for side in size)
    }
