"""How far a download is, in the widget and in napari's activity dock."""

from __future__ import annotations

from napari.utils import progress
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_sam.ui.catalogue import size_in_words
from napari_sam.ui.switching import Download

__all__ = ["DownloadRow"]

_UNIT = 1000
"""Bytes per step of the bars: their numbers have 32 bits."""


class DownloadRow(QWidget):
    """A sentence, a bar and a button; hidden while nothing is downloaded.

    Parameters
    ----------
    parent : QWidget, optional
    """

    cancelled = Signal()
    """The user pressed the button."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.button = QPushButton("Cancel")
        self.button.setToolTip(
            "Stop the download. What has arrived is kept, and it goes on from there next time."
        )
        self.button.clicked.connect(self.cancelled)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.label)
        layout.addLayout(row)
        self._name = ""
        self._activity: progress | None = None
        self._latest: tuple[Download | None, str] = None, ""
        self._showing = False
        self.hide()

    def show_download(self, download: Download | None, meanwhile: str) -> None:
        """Show how far it is.

        Parameters
        ----------
        download : Download or None
        meanwhile : str
            The model that segments until then, if there is one.
        """
        self._latest = download, meanwhile
        # napari lets the event loop turn whenever one of its bars moves: the next news may come in between.
        if self._showing:
            return
        self._showing = True
        try:
            shown = None
            while self._latest != shown:
                shown = self._latest
                self._show(*shown)
        finally:
            self._showing = False

    def _show(self, download: Download | None, meanwhile: str) -> None:
        if download is None or download.name != self._name:
            self._end()
        if download is None:
            self.hide()
            return
        if self._activity is None:
            self._begin(download)
        total = download.total
        self.bar.setRange(0, 0 if total is None else total // _UNIT)
        self.bar.setValue(download.done // _UNIT)
        if download.done:
            far = size_in_words(download.done) + (f" of {size_in_words(total)}" if total is not None else "")
            text = f"Downloading {download.name}: {far}."
        else:
            text = f"Connecting to download {download.name}…"
        self.label.setText(f"{text} Until then, {meanwhile} segments." if meanwhile else text)
        if self._activity is not None:
            if total is not None and self._activity.total != total // _UNIT:
                self._activity.total = total // _UNIT
            self._activity.update(download.done // _UNIT - self._activity.n)
        self.show()

    def close_activity(self) -> None:
        """Take the bar out of napari's activity dock."""
        self.show_download(None, "")

    def _begin(self, download: Download) -> None:
        self._name = download.name
        total = None if download.total is None else download.total // _UNIT
        self._activity = progress(desc=f"Downloading {download.name}", total=total, unit="kB", leave=False)

    def _end(self) -> None:
        if self._activity is not None:
            self._activity.close()
        self._name, self._activity = "", None
