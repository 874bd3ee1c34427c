"""What the user chose on the plugin's page of napari's Preferences."""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

from napari_sam.inference.embedding_store import set_embedding_limit
from napari_sam.models.store import set_model_folder
from napari_sam.ui.segmenter import ModelChoice

__all__ = ["apply", "first_choice"]


def first_choice() -> ModelChoice:
    """The model that a new widget begins with."""
    settings = _settings()
    return ModelChoice("nano", "auto") if settings is None else ModelChoice(settings.model, settings.device)


def apply() -> None:
    """Let the folder of models, and what embeddings may take on disk, be what was chosen."""
    settings = _settings()
    if settings is not None:
        set_model_folder(settings.folder or None)
        set_embedding_limit(settings.embeddings)


def _settings() -> Any:
    try:
        return get_plugin_settings("napari-sam").models
    except KeyError:
        # Used in a napari in which the plugin is not installed, or disabled.
        return None
