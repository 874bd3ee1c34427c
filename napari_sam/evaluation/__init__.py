"""Measured quality: how well a model follows the prompts of a simulated user, and what it finds by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazily import getter

if TYPE_CHECKING:
    from napari_sam.evaluation.datasets import LabelledFile, Sample, list_folders, list_index
    from napari_sam.evaluation.evaluating import Protocol, evaluate
    from napari_sam.evaluation.scores import Evaluation

__all__ = ["Evaluation", "LabelledFile", "Protocol", "Sample", "evaluate", "list_folders", "list_index"]

_HOMES = {
    "Evaluation": "scores",
    "LabelledFile": "datasets",
    "Protocol": "evaluating",
    "Sample": "datasets",
    "evaluate": "evaluating",
    "list_folders": "datasets",
    "list_index": "datasets",
}

# Folders are listed, and options refused, without the seconds that torch takes to import.
__getattr__ = getter(__name__, _HOMES)
