from __future__ import annotations

import gc
import os
import re
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from napari_sam.models import store

# PyQt6 whatever else is installed; a display that does not touch the user's settings.
os.environ.setdefault("QT_API", "pyqt6")
_folder = Path(tempfile.mkdtemp(prefix="napari-sam-tests-"))
os.environ["NAPARI_CONFIG"] = str(_folder / "settings.yaml")
os.environ["NAPARI_SAM_ANNOTATIONS"] = str(_folder / "annotations")
os.environ["NAPARI_SAM_EMBEDDINGS"] = str(_folder / "embeddings")

# The same examples every time and no clock, so that no change is refused by luck; "explore" looks for others.
_calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", _calm, derandomize=True, database=None)
settings.register_profile("explore", _calm, print_blob=True)
settings.load_profile(os.environ.get("NAPARI_SAM_HYPOTHESIS", "fixed"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gui`` or ``-m "not gui"``, do not even import modules that have tests of the other kind only.

    Some without a window import torchvision, and with it triton, whose LLVM does not get along with that of
    software OpenGL: one more reason for drawing to crash.
    """
    if collection_path.suffix != ".py" or config.option.markexpr not in ("gui", "not gui"):
        return None
    marks = re.findall(r"^(\w*).*mark\.gui", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    return True if (not marks if config.option.markexpr == "gui" else "pytestmark" in marks) else None


def pytest_collection_finish() -> None:
    """Leave what all modules hold out of garbage collections, which take a fifth of a second otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, and no proxy between a test and its server."""
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "models"))
    monkeypatch.delenv(store.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws does not depend on which tests ran before it in its process."""
    torch.manual_seed(0)
