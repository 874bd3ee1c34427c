"""Benchmarks: how fast the main job is, and how much memory it takes."""

from __future__ import annotations
