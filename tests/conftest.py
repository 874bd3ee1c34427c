from __future__ import annotations

import os

# PyQt6 whatever else is installed; a display that does not touch the user's settings.
os.environ.setdefault("QT_API", "pyqt6")
