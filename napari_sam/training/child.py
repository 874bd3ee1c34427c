"""``python -m napari_sam.training.child``: training in a process of its own, for programs that go on.

One line of JSON on standard input says what to do; then another line, or the end of the input, ends the
run, and the best is kept. On standard output is a line of JSON for what :func:`fit` tells, and for its end.
Nothing that training needs is loaded into the program that asked: neither its libraries, which may not go
together with those that draw, nor its memory.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_sam.errors import NapariSamError
from napari_sam.training.progress import FitResult, Measured, Progress, Quality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_sam.training.sources import Source

__all__ = ["main", "parse"]

_PAUSE = 0.1
"""Seconds between two messages, unless something was measured."""


def parse(line: str) -> Progress | FitResult | NapariSamError | None:
    """What a line of the output tells; None if it is none of ours.

    Examples
    --------
    >>> parse('{"error": "There is no model of that name."}')
    NapariSamError('There is no model of that name.')
    """
    try:
        told = json.loads(line)
        if "error" in told:
            return NapariSamError(told["error"])
        kind, values = next(iter(told.items()))
        values["losses"] = [(step, loss) for step, loss in values["losses"]]
        values["measured"] = [_measured(one) for one in values["measured"]]
        if kind == "progress":
            return Progress(**values)
        values["output"] = Path(values["output"])
        values["before"], values["best"] = _measured(values["before"]), _measured(values["best"])
        return FitResult(**values)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def main(given: IO[str] | None = None, told: IO[str] | None = None) -> None:
    """Train as the first line of the input says.

    Parameters
    ----------
    given, told : file, optional
        Standard input and output.
    """
    given, told = given or sys.stdin, told or sys.stdout
    wanted = json.loads(given.readline())
    stop = threading.Event()

    def listen() -> None:
        given.readline()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()

    def tell(kind: str, what: Any) -> None:
        try:
            told.write(json.dumps({kind: what}) + "\n")
            told.flush()
        except (OSError, ValueError):  # nobody listens any more
            stop.set()

    last = [0.0, -1]

    def progress(now: Progress) -> None:
        if time.monotonic() - last[0] > _PAUSE or len(now.measured) != last[1]:
            last[:] = time.monotonic(), len(now.measured)
            tell("progress", asdict(now))

    try:
        result = _fitted(wanted, progress, stop)
    except NapariSamError as error:
        tell("error", str(error))
    except Exception as error:  # noqa: BLE001  # whoever asked is to know
        tell("error", f"Something unexpected failed: {type(error).__name__}: {error}")
    else:
        tell("finished", asdict(result) | {"output": str(result.output)})
    finally:
        if scratch := wanted.get("scratch"):
            shutil.rmtree(scratch, ignore_errors=True)


def _fitted(wanted: Mapping[str, Any], progress: Any, stop: threading.Event) -> FitResult:
    from napari_sam.models.store import set_model_folder
    from napari_sam.training.fitting import fit

    set_model_folder(wanted["model_folder"])
    return fit(
        wanted["model"],
        _sources(wanted["layers"]) if wanted["layers"] else wanted["images"],
        None if wanted["layers"] else wanted["labels"],
        output=wanted["output"],
        part=wanted["part"],
        minutes=wanted["minutes"],
        partial=wanted["partial"],
        resume=wanted["resume"],
        device=wanted["device"],
        progress=progress,
        stop=stop,
    )


def _sources(layers: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Planes of layers that were written as NPY files, as they are displayed."""
    from napari_sam.training.sources import pair

    images = [Path(layer["image"]) for layer in layers]
    found = pair(images, [Path(layer["labels"]) for layer in layers])
    looks = dict(zip(images, layers, strict=True))
    return [
        replace(
            source,
            name=source.name.replace(source.image.name, looks[source.image]["name"]),
            limits=tuple(looks[source.image]["limits"]),
            gamma=looks[source.image]["gamma"],
        )
        for source in found
        if isinstance(source.image, Path)
    ]


def _measured(values: Mapping[str, Any]) -> Measured:
    return Measured(values["step"], values["seconds"], Quality(*values["quality"]))


if __name__ == "__main__":
    output = sys.stdout
    sys.stdout = sys.stderr  # what else is printed is for nobody
    main(sys.stdin, output)
