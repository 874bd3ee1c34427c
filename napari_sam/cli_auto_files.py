"""Where ``napari-sam auto`` writes, what of it is there already, and whose it is."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from napari_sam.errors import ImageError

__all__ = ["Format", "Output", "outputs"]

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy"})
_LABELS = "_labels"
_BEGUN, _OF = "begun ", "of "


class Format(StrEnum):
    """Of what is written."""

    LABELS = "labels"
    COCO = "coco"
    SA1B = "sa1b"
    PNG = "png"
    CSV = "csv"


_SUFFIXES = {
    **dict.fromkeys((".tif", ".tiff", ".png", ".npy"), (Format.LABELS,)),
    ".json": (Format.COCO, Format.SA1B),
    ".csv": (Format.CSV,),
}
"""What a single file of a suffix can hold; the first is what it holds if nothing else is said."""


@dataclass(frozen=True)
class _Source:
    """Which image results are of: where it is, its size in bytes, and when it was changed, in nanoseconds."""

    path: str
    size: int
    changed: int

    @classmethod
    def of(cls, image: Path) -> _Source:
        about = image.stat()
        return cls(str(image.resolve()), about.st_size, about.st_mtime_ns)

    def is_other_than(self, noted: _Source) -> bool:
        """Whether this is another image than one that was noted, which may have been moved since."""
        moved = (self.size, self.changed) == (noted.size, noted.changed) and not Path(noted.path).exists()
        return self.path != noted.path and not moved


@dataclass(frozen=True)
class _Note:
    """What ``NAME.done`` says.

    Attributes
    ----------
    complete, begun : frozenset of str
        Formats whose files are whole, and those of which there may be some.
    source : _Source or None
        Earlier versions did not say it.
    """

    complete: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    source: _Source | None = None

    @classmethod
    def read(cls, path: Path) -> _Note:
        """What is there; lines that make no sense are as if they were not there."""
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
        begun = {line.removeprefix(_BEGUN) for line in lines if line.startswith(_BEGUN)}
        source = None
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                if line.startswith(_OF):
                    where, size, changed = json.loads(line.removeprefix(_OF))
                    source = _Source(str(where), int(size), int(changed))
        return cls(frozenset(lines) & {*Format}, frozenset(begun) & {*Format}, source)

    def write(self, path: Path) -> None:
        lines = [*sorted(self.complete), *(_BEGUN + kind for kind in sorted(self.begun - self.complete))]
        if self.source is not None:
            one = self.source
            lines.append(_OF + json.dumps([one.path, one.size, one.changed]))
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


@dataclass(frozen=True)
class Output:
    """Where the results of one image go.

    In a folder, ``NAME.done`` says of which image they are, which formats are complete, and which were begun:
    files of these are ours, and may be replaced.

    Attributes
    ----------
    image : Path
    target : Path
        A folder or, if `single`, a file.
    formats : sequence of Format
    single : bool
    """

    image: Path
    target: Path
    formats: Sequence[Format]
    single: bool

    def path(self, kind: Format, plane: str = "") -> Path:
        """Where a format goes; of stacks, labels are one file, others one for each plane."""
        return self.target if self.single else self.target / f"{self.image.stem}{plane}{_ending(kind)}"

    @property
    def is_done(self) -> bool:
        """Whether all results are there, of the image as it is now; a single file is nobody's for sure."""
        # An image that is gone is told where it is read.
        if self.single or not self.image.exists():
            return False
        note = _Note.read(self._note)
        return (
            set(self.formats) <= note.complete
            and all(map(self._is_there, self.formats))
            and self._is_as_noted(note)
        )

    def begin(self, planes: Sequence[str], *, force: bool = False) -> None:
        """Make sure that nobody else's files are replaced, and note which of those to come are ours.

        Parameters
        ----------
        planes : sequence of str
            What the names of planes have after that of the image.
        force : bool, default False
            Replace them.

        Raises
        ------
        ImageError
            If there are such files, or results of another image of this name, or one file is to hold all
            planes of a stack and cannot.
        """
        if self.single:
            if planes != [""] and (self.formats != [Format.LABELS] or self.target.suffix.lower() == ".png"):
                raise ImageError(
                    f"The planes of a stack do not go into {self.target.name}: give a folder with -o."
                )
            return
        note, source = _Note.read(self._note), _Source.of(self.image)
        if note.source is not None and source.is_other_than(note.source):
            if not force:
                raise ImageError(
                    f"{self.target} holds results of another image of this name, {note.source.path}: "
                    "choose another folder with -o, or use --force to replace them."
                )
            note = _Note()
        ours = note.complete | note.begun
        for path in self._paths(planes, [kind for kind in self.formats if kind not in ours]):
            if path.exists() and not force:
                raise ImageError(
                    f"{path} exists: choose another folder with -o, or use --force to replace it."
                )
        # Of an image that changed, what is not made again now is complete no longer.
        complete = note.complete - {*self.formats} if self._is_as_noted(note) else frozenset[str]()
        _Note(complete, ours | {*self.formats}, source).write(self._note)

    def finish(self) -> None:
        """Note that all results are there."""
        if not self.single:
            note = _Note.read(self._note)
            replace(note, complete=note.complete | {*self.formats}).write(self._note)

    def _paths(self, planes: Sequence[str], kinds: Sequence[Format]) -> Iterator[Path]:
        for kind in kinds:
            for plane in [""] if kind is Format.LABELS else planes:
                yield self.path(kind, plane)

    def _is_there(self, kind: Format) -> bool:
        """Whether there is a file of a format, for any plane."""
        stem = glob.escape(self.image.stem)
        return self.path(kind).exists() or any(self.target.glob(f"{stem}_[0-9]*{_ending(kind)}"))

    @property
    def _note(self) -> Path:
        return self.target / f"{self.image.stem}.done"

    def _is_as_noted(self, note: _Note) -> bool:
        """Whether the image is the one that results are of, and has not changed since."""
        if note.source is None:
            return self._note.is_file() and self.image.stat().st_mtime <= self._note.stat().st_mtime
        now = _Source.of(self.image)
        same = (now.size, now.changed) == (note.source.size, note.source.changed)
        return same and not now.is_other_than(note.source)


def outputs(
    inputs: Sequence[Path], target: Path, formats: Sequence[Format] | None, *, force: bool = False
) -> list[Output]:
    """What is to be done, in order.

    Parameters
    ----------
    inputs : sequence of Path
        Images, and folders of them; label images beside their images are left out.
    target : Path
        A folder; for one image, perhaps a file.
    formats : sequence of Format, optional
        By default labels, or what the file is for.
    force : bool, default False
        Replace a single file that is there.

    Raises
    ------
    ImageError
        If there is nothing to do, or the results do not go there.
    """
    images: list[Path] = []
    for given in inputs:
        images += _images_in(given) if given.is_dir() else [given]
    if not images:
        raise ImageError("There are no images in these folders: give image files, or folders that hold some.")
    if target.suffix.lower() in _SUFFIXES and not target.is_dir():
        return [_single(images, target, formats, force)]
    stems = [image.stem for image in images]
    if len(set(stems)) < len(stems):
        raise ImageError("Two of the images have the same name: segment them into different folders.")
    wanted = list(dict.fromkeys(formats or [Format.LABELS]))
    found = [Output(image, target, wanted, single=False) for image in images]
    places = {image.resolve() for image in images}
    for path in (one.path(Format.LABELS) for one in found if Format.LABELS in wanted):
        # A label image that is given by its name is an image like others.
        if path.resolve() in places:
            raise ImageError(f"{path} is one of the images: choose another folder with -o.")
    return found


def _images_in(folder: Path) -> list[Path]:
    # macOS keeps what it knows of NAME.tif in ._NAME.tif.
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _IMAGES and not path.name.startswith(".")
    )
    stems = {path.stem for path in found}
    return [
        path
        for path in found
        if not (path.stem.endswith(_LABELS) and path.stem.removesuffix(_LABELS) in stems)
    ]


def _single(images: Sequence[Path], target: Path, formats: Sequence[Format] | None, force: bool) -> Output:
    from napari_sam.inference.files import check_apart

    if len(images) > 1:
        raise ImageError(f"{len(images)} images do not go into {target.name}: give a folder with -o.")
    if not target.parent.is_dir():
        raise ImageError(f"The folder {target.parent} does not exist: make it first.")
    holds = _SUFFIXES[target.suffix.lower()]
    wanted = list(dict.fromkeys(formats or holds[:1]))
    if len(wanted) > 1 or wanted[0] not in holds:
        raise ImageError(
            f"{target.name} does not hold {' and '.join(wanted)}: give a folder with -o, "
            "or leave out --format."
        )
    check_apart(target, images[0])
    if target.exists() and not force:
        raise ImageError(f"{target} exists: choose another name, or use --force to replace it.")
    return Output(images[0], target, wanted, single=True)


def _ending(kind: Format) -> str:
    from napari_sam.formats.candidates import WRITERS

    return f"{_LABELS}.tif" if kind is Format.LABELS else WRITERS[kind.value][0]
