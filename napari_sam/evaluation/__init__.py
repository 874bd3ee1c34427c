"""Measured quality: how well a model follows the prompts of a simulated user."""

from __future__ import annotations
