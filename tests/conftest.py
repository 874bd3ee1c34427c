from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from napari_sam.models import store

# PyQt6 whatever else is installed; a display that does not touch the user's settings.
os.environ.setdefault("QT_API", "pyqt6")
_folder = Path(tempfile.mkdtemp(prefix="napari-sam-tests-"))
os.environ["NAPARI_CONFIG"] = str(_folder / "settings.yaml")
os.environ["NAPARI_SAM_ANNOTATIONS"] = str(_folder / "annotations")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, and no proxy between a test and its server."""
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "models"))
    monkeypatch.delenv(store.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "models"
