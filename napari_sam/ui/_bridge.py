"""From the worker's thread to the GUI's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal  # type: ignore[attr-defined]

__all__ = ["Bridge"]


class Bridge(QObject):
    """Runs functions in the thread in which it was made, whichever thread asks for it.

    After :meth:`close` it runs nothing any more, not even what was asked for before.
    """

    _asked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._open = True
        self._asked.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def call(self, function: Callable[[], Any]) -> None:
        """Run a function once the event loop turns."""
        if self._open:
            self._asked.emit(function)

    def close(self) -> None:
        """Drop all that is still to run."""
        self._open = False
        with suppress(RuntimeError):  # where Qt went before us, at the end of the program
            self._asked.disconnect(self._run)
            self.deleteLater()

    def _run(self, function: Callable[[], Any]) -> None:
        if self._open:
            function()
