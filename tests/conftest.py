from __future__ import annotations

import os
import tempfile
from pathlib import Path

# PyQt6 whatever else is installed; a display that does not touch the user's settings.
os.environ.setdefault("QT_API", "pyqt6")
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="napari-sam-tests-")) / "settings.yaml")
