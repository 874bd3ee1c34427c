"""From one model to another: download it if need be, load it, and keep the one before until then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from psygnal import Signal

from napari_sam.errors import DownloadCancelled
from napari_sam.models.zoo import ALIASES, ZOO
from napari_sam.ui import preferences
from napari_sam.ui.requests import Requests
from napari_sam.ui.segmenter import Loaded, ModelChoice, Segmenter

__all__ = ["Download", "ModelSwitch"]

_FIRST = "nano"
"""Needs no download."""


class Download(NamedTuple):
    """How far the download of a model is.

    Attributes
    ----------
    name : str
    done : int
        Bytes that are there.
    total : int or None
        Bytes that there will be, if that is known.
    """

    name: str
    done: int
    total: int | None


class ModelSwitch:
    """Knows which model segments and which one is to.

    Downloads have a thread of their own, so that segmentation goes on meanwhile.

    Attributes
    ----------
    choice : ModelChoice
        The model that segments; as long as there is none yet, the one that is to.
    wanted : ModelChoice or None
        The model that is on its way.
    ready : bool
        Whether there is a model.
    problem : Exception or None
        Why there is none, nor one on its way.
    download : Download or None
        What is being downloaded.

    Parameters
    ----------
    choice : ModelChoice
        The model to begin with.
    requests : Requests
        To the thread that computes; on hold until there is a model.
    segmenter : Segmenter
        Used in that thread.
    """

    changed = Signal()
    """Another model is wanted, or a download went on."""

    loading = Signal()
    """A model is about to be loaded."""

    loaded = Signal(Loaded)
    """The model that was wanted segments from now on."""

    told = Signal(str)
    """What the user should know, in one sentence."""

    failed = Signal(Exception)
    """The model that was wanted is not to be had, or its download was cancelled; the one before goes on."""

    on_disk_changed = Signal(frozenset)
    """Names of the models that need no download."""

    def __init__(self, choice: ModelChoice, requests: Requests, segmenter: Segmenter) -> None:
        self.choice = _canonical(choice)
        self.wanted: ModelChoice | None = None
        self.ready = False
        self.problem: Exception | None = None
        self.download: Download | None = None
        self._requests, self._segmenter = requests, segmenter
        self._downloads = Requests("napari-sam download")
        self._cancelled = threading.Event()
        requests.hold()

    @property
    def busy(self) -> bool:
        """Whether a model is on its way."""
        return self.wanted is not None

    def is_on(self, choice: ModelChoice) -> bool:
        """Whether this is the model that segments or, if another one is on its way, that one."""
        choice = _canonical(choice)
        return choice == self.wanted or (self.wanted is None and self.ready and choice == self.choice)

    def choose(self, choice: ModelChoice, *, download: bool = True) -> None:
        """Use another model, or the same on another device.

        Parameters
        ----------
        choice : ModelChoice
        download : bool, default True
            Download the model if it is not on disk; else take the one that is part of the package instead.
        """
        choice = _canonical(choice)
        self._stop_download()
        self.wanted = choice
        self.problem = None
        if not self.ready:
            self.choice = choice
        if choice.name in ZOO:
            self._fetch(choice, download)
        else:
            self._load(choice)
        self.changed.emit()

    def look_on_disk(self) -> None:
        """Find out which models need no download; says so in a moment."""
        preferences.apply()
        self._downloads.submit(
            "look", "Looking for models", _on_disk, self.on_disk_changed.emit, self.failed.emit
        )

    def cancel_download(self) -> None:
        """Stop the download; what has arrived is kept for the next time."""
        if (wanted := self.wanted) is not None and self.download is not None:
            self._stop_download()
            self._give_up(
                DownloadCancelled(
                    f"The download of {wanted.label} was cancelled: choose it again to go on from there."
                )
            )

    def close(self) -> None:
        """Stop everything."""
        self._cancelled.set()
        self.wanted = self.download = None
        self._downloads.close()

    def _fetch(self, choice: ModelChoice, allowed: bool) -> None:
        cancelled = self._cancelled = threading.Event()
        preferences.apply()

        def progress(done: int, total: int | None) -> None:
            self._downloads.post(lambda: self._on_progress(choice, Download(choice.name, done, total)))

        self._downloads.submit(
            "fetch",
            f"Looking for {choice.label}",
            lambda: _fetched(choice.name, allowed, progress, cancelled),
            lambda there: self._on_fetched(choice, there),
            partial(self._on_failed, choice),
            first=True,
        )

    def _on_progress(self, choice: ModelChoice, download: Download) -> None:
        if choice == self.wanted and not self._cancelled.is_set():
            self.download = download
            self.changed.emit()

    def _on_fetched(self, choice: ModelChoice, there: bool) -> None:
        if choice != self.wanted:
            return
        if not there:
            self.told.emit(
                f"{choice.label} is not on this computer yet, so {_FIRST} segments: choose it to download it."
            )
            self.choose(ModelChoice(_FIRST, choice.device))
            return
        if self.download is not None:
            self.download = None
            self.look_on_disk()
        self._load(choice)
        self.changed.emit()

    def _load(self, choice: ModelChoice) -> None:
        self.loading.emit()
        self._requests.submit(
            "load",
            f"Loading {choice.label}" if self.ready else f"Loading PyTorch and the model {choice.label}",
            lambda: self._segmenter.load(choice),
            lambda loaded: self._on_loaded(choice, loaded),
            partial(self._on_failed, choice),
            first=True,
        )

    def _on_loaded(self, choice: ModelChoice, loaded: Loaded) -> None:
        self.choice, self.ready = choice, True
        self._requests.release()
        if choice == self.wanted:
            self.wanted = None
            self.loaded.emit(loaded)

    def _on_failed(self, choice: ModelChoice, error: Exception) -> None:
        if choice == self.wanted:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.wanted = self.download = None
        if not self.ready:
            self.problem = error
            self._requests.drop_held(error)
        self.failed.emit(error)
        self.look_on_disk()
        self.changed.emit()

    def _stop_download(self) -> None:
        self._cancelled.set()
        self._downloads.cancel("fetch")
        self.download = None


def _canonical(choice: ModelChoice) -> ModelChoice:
    return choice._replace(name=ALIASES.get(choice.name, choice.name))


def _on_disk() -> frozenset[str]:
    from napari_sam.models.store import find

    return frozenset(name for name in ZOO if find(name) is not None)


def _fetched(
    name: str, allowed: bool, progress: Callable[[int, int | None], None], cancelled: threading.Event
) -> bool:
    from napari_sam.models.download import fetch
    from napari_sam.models.store import find

    if find(name) is None:
        if not allowed:
            return False
        progress(0, ZOO[name].nbytes)
    fetch(name, progress=progress, cancelled=cancelled)
    return True
