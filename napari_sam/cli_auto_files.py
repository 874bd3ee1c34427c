"""Where ``napari-sam auto`` writes, what of it is there already, and whose it is."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_sam.errors import ImageError

__all__ = ["Format", "Output", "outputs"]

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy"})
_LABELS = "_labels"
_BEGUN = "begun "


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
class Output:
    """Where the results of one image go.

    In a folder, ``NAME.done`` says which formats are complete, and which were begun: files of these are ours,
    and may be replaced.

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
        """Whether all results are there, of the image as it is now."""
        if self.single:
            return self.target.exists()
        if not set(self.formats) <= self._noted() or not all(map(self._is_there, self.formats)):
            return False
        # An image that is gone is told where it is read.
        return self.image.exists() and self.image.stat().st_mtime <= self._note.stat().st_mtime

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
            If there are such files, or one file is to hold all planes of a stack.
        """
        if self.single:
            if planes != [""] and self.formats != [Format.LABELS]:
                raise ImageError(
                    f"The planes of a stack do not go into {self.target.name}: give a folder with -o."
                )
            return
        ours = self._noted() | self._noted(_BEGUN)
        for path in self._paths(planes, [kind for kind in self.formats if kind not in ours]):
            if path.exists() and not force:
                raise ImageError(
                    f"{path} exists: choose another folder with -o, or use --force to replace it."
                )
        self._write(self._noted() - {*self.formats}, ours | {*self.formats})

    def finish(self) -> None:
        """Note that all results are there."""
        if not self.single:
            self._write(self._noted() | {*self.formats}, self._noted(_BEGUN))

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

    def _noted(self, prefix: str = "") -> set[str]:
        """Which formats are complete or, with a prefix, begun."""
        lines = self._note.read_text().splitlines() if self._note.is_file() else []
        return {line.removeprefix(prefix) for line in lines if line.startswith(prefix)} & {*Format}

    def _write(self, complete: set[str], begun: set[str]) -> None:
        lines = [*sorted(complete), *(_BEGUN + kind for kind in sorted(begun - complete))]
        self._note.write_text("".join(f"{line}\n" for line in lines))


def outputs(inputs: Sequence[Path], target: Path, formats: Sequence[Format] | None) -> list[Output]:
    """What is to be done, in order.

    Parameters
    ----------
    inputs : sequence of Path
        Images, and folders of them; label images beside their images are left out.
    target : Path
        A folder; for one image, perhaps a file.
    formats : sequence of Format, optional
        By default labels, or what the file is for.

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
        return [_single(images, target, formats)]
    stems = [image.stem for image in images]
    if len(set(stems)) < len(stems):
        raise ImageError("Two of the images have the same name: segment them into different folders.")
    wanted = list(dict.fromkeys(formats or [Format.LABELS]))
    return [Output(image, target, wanted, single=False) for image in images]


def _images_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
    stems = {path.stem for path in found}
    return [
        path
        for path in found
        if not (path.stem.endswith(_LABELS) and path.stem.removesuffix(_LABELS) in stems)
    ]


def _single(images: Sequence[Path], target: Path, formats: Sequence[Format] | None) -> Output:
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
    return Output(images[0], target, wanted, single=True)


def _ending(kind: Format) -> str:
    from napari_sam.formats.candidates import WRITERS

    return f"{_LABELS}.tif" if kind is Format.LABELS else WRITERS[kind.value][0]
