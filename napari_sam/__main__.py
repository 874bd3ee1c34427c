"""``python -m napari_sam`` is the command line."""

from __future__ import annotations

from napari_sam.cli import main

if __name__ == "__main__":
    main()
