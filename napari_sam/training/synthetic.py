"""Synthetic images with instance labels, drawn fast enough to be made anew for every training step.

The scenes imitate what microscopes and cameras see (nuclei, rods, tissue, pebbles, myelinated axons), but
spread sizes, densities, contrasts and colours far beyond any one data set, so that a model learns to follow
the prompt instead of the look of its training images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from napari_sam.training.scenes import (
    MIN_DIAMETER,
    Float,
    Labels,
    Rng,
    Scene,
    blur,
    chance,
    draw_diameter,
    outline,
    per_object,
    smooth,
    stamped,
    tessellated,
    texture,
)

__all__ = ["KINDS", "synthetic_sample"]

MIN_AREA = 12
"""Smallest object that is labelled, in pixels."""


# ---------------------------------------------------------------------------------------------------- looks

Drawn = tuple[Float, Labels]
"""An image, (size, size) or (size, size, 3), values about 0..1, and its labels."""


def _shade(rng: Rng, scene: Scene) -> Float:
    """How bright an object is inside: flat, domed, or brighter at the rim."""
    style = rng.random()
    if style < 0.4:
        return np.ones_like(scene.height)
    rim = np.sqrt(np.clip(scene.height, 0, 1))
    return np.asarray(0.45 + 0.55 * rim if style < 0.8 else 1.1 - 0.5 * rim, np.float32)


def _nuclei(rng: Rng, size: int) -> Drawn:
    """Fluorescent nuclei: bright on dark, some ten times brighter than others, haze between them."""
    scene = stamped(rng, size, draw_diameter(rng), irregular=rng.choice([0.0, 0.1]), spacing=(0.8, 3.0))
    light = per_object(rng, scene.labels, rng.choice([0.1, 0.3, 0.7]), 1.0) * _shade(rng, scene)
    light *= 1 + rng.uniform(0, 0.3) * texture(rng, size, scene.diameter * rng.uniform(0.15, 0.6))
    ground = rng.uniform(0.0, 0.25)
    haze = rng.uniform(0, 0.5) * blur(light, scene.diameter * 0.3) if scene.diameter < 40 else 0.05
    return blur(ground + light + haze, rng.uniform(0.3, 1.5)), scene.labels


def _rods(rng: Rng, size: int) -> Drawn:
    """Bacteria: capsules, alone or in colonies; fluorescent, or dark with a halo (phase contrast)."""
    longest = rng.uniform(2, 6)
    scene = stamped(
        rng,
        size,
        draw_diameter(rng, MIN_DIAMETER, 40),
        aspect=(1.3, longest),
        capsule=True,
        spacing=(0.9, 3.5),
    )
    light = per_object(rng, scene.labels, 0.5, 1.0) * _shade(rng, scene)
    if chance(rng, 0.5):
        mask = (scene.labels > 0).astype(np.float32)
        halo = blur(mask, max(1.0, scene.diameter * rng.uniform(0.15, 0.4))) * (1 - mask)
        light = rng.uniform(0.3, 0.8) * halo - light * rng.uniform(0.3, 1.0)
    # Neighbours in a colony are told apart by a thin dark (or bright) line.
    light = light * (1 - rng.uniform(0.2, 0.8) * blur(outline(scene.labels), 0.6))
    return light + 0.1 * rng.uniform(0, 1) * texture(rng, size, 40), scene.labels


def _tissue(rng: Rng, size: int) -> Drawn:
    """Cells packed side by side: membranes bright or dark, from hair-thin to thick, some cells missing."""
    scene = tessellated(rng, size, draw_diameter(rng, 9, 150))
    width = max(rng.uniform(0.04, 0.3), 1.2 / scene.diameter)
    membrane = np.exp(-((scene.height / np.float32(width)) ** 2))
    light = membrane * (1 + 0.25 * texture(rng, size, scene.diameter * 0.7))
    inside = per_object(rng, scene.labels, 0, 1)
    light = light + rng.uniform(0, 0.5) * inside
    light += (
        rng.uniform(0, 0.3) * texture(rng, size, rng.uniform(3, 0.5 * scene.diameter + 4)) * (1 - membrane)
    )
    labels = scene.labels
    if chance(rng, 0.4):
        missing = (rng.random(int(labels.max()) + 1) < rng.uniform(0.05, 0.5))[labels]
        light = np.where(missing, light.min() + rng.uniform(0, 0.4), light)
        labels = np.where(missing, 0, labels)
    if chance(rng, 0.6):
        labels = np.where(scene.height < width * rng.uniform(0.3, 0.9), 0, labels)
    return blur(light, rng.uniform(0, 1.0)), labels


def _textured(rng: Rng, size: int) -> Drawn:
    """Objects that differ from their ground in texture and a little in brightness only."""
    scene = stamped(rng, size, draw_diameter(rng, 14), irregular=rng.choice([0.0, 0.15]), spacing=(0.9, 3.0))
    mask = scene.labels > 0
    ground = texture(rng, size, rng.uniform(3, 40))
    figure = texture(rng, size, rng.uniform(2, max(3.0, scene.diameter * 0.5)))
    contrast = rng.uniform(0.6, 2.5) * rng.choice([-1, 1])
    light = np.where(mask, figure * rng.uniform(0.2, 1) + contrast, ground * rng.uniform(0.2, 0.8))
    light = light + per_object(rng, scene.labels, -0.4, 0.4)
    if chance(rng, 0.5):
        light = light + rng.uniform(-1.5, 1.5) * blur(outline(scene.labels), rng.uniform(0.5, 1.2))
    return blur(light, rng.uniform(0.2, 1.2)), scene.labels


def _stained(rng: Rng, size: int) -> Drawn:
    """Dark objects on bright ground in the colours of a stain (H&E, Pap, DAB), or plain brightfield."""
    scene = stamped(rng, size, draw_diameter(rng), irregular=rng.choice([0.05, 0.2]), spacing=(0.85, 3.0))
    palette = np.array(
        [
            [[0.93, 0.75, 0.86], [0.38, 0.22, 0.55]],
            [[0.85, 0.70, 0.82], [0.55, 0.35, 0.65]],
            [[0.92, 0.90, 0.88], [0.45, 0.28, 0.15]],
            [[0.85, 0.90, 0.93], [0.20, 0.30, 0.60]],
            [[0.90, 0.90, 0.90], [0.35, 0.35, 0.35]],
        ]
    )[rng.integers(5)]
    ground, stain = np.clip(palette + rng.normal(0, 0.06, (2, 3)), 0, 1).astype(np.float32)
    stained = per_object(rng, scene.labels, rng.uniform(0.3, 0.7), 1.0) * (1.25 - 0.5 * np.sqrt(scene.height))
    stained *= 1 + 0.25 * texture(rng, size, max(2.5, scene.diameter * 0.2))
    stroma = rng.uniform(0, 0.25) * np.clip(
        texture(rng, size, scene.diameter * rng.uniform(0.6, 3), 4), -1, 3
    )
    depth = blur(np.where(scene.labels > 0, stained, stroma).astype(np.float32), rng.uniform(0.5, 1.3))
    if chance(rng, 0.25):
        depth = np.maximum(depth, 0.8 * smooth(rng, size, 6) - np.float32(1.6))
    return np.asarray(ground + (stain - ground) * depth[..., None], np.float32), scene.labels


def _blobs(rng: Rng, size: int) -> Drawn:
    """A few large irregular objects with ragged outlines: organoids, spread cells, colonies."""
    scene = stamped(
        rng,
        size,
        draw_diameter(rng, 40),
        irregular=rng.uniform(0.2, 0.6),
        warp=0.2,
        aspect=(1, 2.5),
        spacing=(0.9, 2.5),
    )
    light = per_object(rng, scene.labels, 0.3, 1.0) * _shade(rng, scene)
    light += (
        (scene.labels > 0)
        * rng.uniform(0, 0.35)
        * texture(rng, size, scene.diameter * rng.uniform(0.1, 0.5), 4)
    )
    if chance(rng, 0.4):
        light += rng.uniform(0.2, 0.8) * np.exp(-(((scene.height - 0.6) / 0.2) ** 2)) * (scene.labels > 0)
    if chance(rng, 0.4):
        light += rng.uniform(0.3, 1.2) * blur(outline(scene.labels), rng.uniform(0.6, 2.0))
    return light + rng.uniform(0, 0.12) * texture(rng, size, rng.uniform(4, 60)), scene.labels


def _rings(rng: Rng, size: int) -> Drawn:
    """Hollow objects: axons in myelin (the object is the inside) or shells (the object is the whole)."""
    scene = stamped(rng, size, draw_diameter(rng, 12), irregular=rng.choice([0.0, 0.15]), spacing=(0.8, 2.2))
    wall = max(rng.uniform(0.1, 0.45), 3.0 / scene.diameter)
    sheath = (scene.labels > 0) & (scene.height < wall)
    ground = 0.5 + rng.uniform(0.03, 0.2) * texture(rng, size, rng.uniform(3, 25), 4)
    light = np.where(scene.labels > 0, 0.5 + rng.uniform(-0.1, 0.4) + 0.1 * texture(rng, size, 8), ground)
    light = np.where(sheath, rng.uniform(-0.3, 0.2) + 0.05 * smooth(rng, size, 5), light).astype(np.float32)
    labels = np.where(sheath, 0, scene.labels) if chance(rng, 0.7) else scene.labels
    return blur(light, rng.uniform(0.3, 1.0)), labels


def _pebbles(rng: Rng, size: int) -> Drawn:
    """Grains lit from one side, packed, some in the shadow of others: pebbles, powders, seeds."""
    diameter = draw_diameter(rng, 9)
    if chance(rng, 0.5):
        scene = tessellated(rng, size, diameter)
        gap = max(rng.uniform(0.05, 0.3), 2.0 / diameter)
        labels = np.where(scene.height > gap, scene.labels, 0)
        height = np.clip((scene.height - gap) * 1.5, 0, 1)
    else:
        scene = stamped(
            rng, size, diameter, exponent=rng.uniform(2, 3.5), irregular=0.12, spacing=(0.75, 1.4)
        )
        labels, height = scene.labels, scene.height
    relief = blur(np.sqrt(height) * np.float32(diameter / 4), max(0.6, diameter / 25))
    slope_y, slope_x = np.gradient(relief)
    angle = rng.uniform(0, 2 * np.pi)
    lit = np.clip(np.cos(angle) * slope_x + np.sin(angle) * slope_y, -1.5, 1.5) * rng.uniform(0.05, 0.35)
    figure = (
        per_object(rng, labels, 0.35, 0.9)
        + lit
        + rng.uniform(0.03, 0.15) * texture(rng, size, diameter / 3, 4)
    )
    ground = rng.uniform(0, 0.35) + 0.06 * texture(rng, size, 5)
    return blur(np.where(labels > 0, figure, ground), rng.uniform(0, 0.9)), labels


def _cells(rng: Rng, size: int) -> Drawn:
    """Cells with a nucleus and a faint body; the object is the body, as in phase contrast."""
    scene = stamped(
        rng,
        size,
        draw_diameter(rng, 20),
        irregular=rng.uniform(0, 0.35),
        warp=0.15,
        aspect=(1, 2.2),
        spacing=(0.9, 2.5),
    )
    body = per_object(rng, scene.labels, 0.2, 0.6) * (1 + 0.3 * texture(rng, size, scene.diameter * 0.25))
    core = 1 / (1 + np.exp(-(scene.height - rng.uniform(0.4, 0.7)) * np.float32(scene.diameter * 0.5)))
    light = body + rng.uniform(-0.5, 0.8) * core * (scene.labels > 0)
    light += rng.uniform(-0.6, 0.8) * blur(outline(scene.labels), rng.uniform(0.6, 1.5))
    return light + 0.05 * texture(rng, size, 20), scene.labels


def _reliefs(rng: Rng, size: int) -> Drawn:
    """Flat objects with raised figures and rims, lit from one side: coins, seals, fossils, diatoms."""
    scene = stamped(
        rng,
        size,
        draw_diameter(rng, 24),
        irregular=rng.choice([0.0, 0.08]),
        aspect=(1, 1.3),
        spacing=(1.0, 2.2),
    )
    mask = scene.labels > 0
    figures = texture(rng, size, scene.diameter * rng.uniform(0.1, 0.5))
    # Plateaus with steep sides rather than hills.
    surface = np.tanh(rng.uniform(1, 4) * figures) * rng.uniform(0.2, 1)
    if chance(rng, 0.6):
        wide = rng.uniform(0.04, 0.15)
        surface += rng.uniform(0.5, 1.5) * np.exp(-(((scene.height - wide) / wide) ** 2))
    surface = np.where(mask, surface + rng.uniform(0.3, 1.5), 0).astype(np.float32)
    slope_y, slope_x = np.gradient(blur(surface, max(0.6, scene.diameter / rng.uniform(30, 80))))
    angle = rng.uniform(0, 2 * np.pi)
    lit = (np.cos(angle) * slope_x + np.sin(angle) * slope_y) * rng.uniform(0.3, 2.0)
    ground = rng.uniform(0, 0.6) + rng.uniform(0, 0.12) * smooth(rng, size, size * rng.uniform(0.3, 1.5))
    light = ground + mask * (per_object(rng, scene.labels, 0.0, 0.5) + rng.choice([-0.3, 0.0, 0.2]))
    if chance(rng, 0.5):
        shift = np.rint(scene.diameter * rng.uniform(0.02, 0.08) * np.array([np.sin(angle), np.cos(angle)]))
        shadow = np.roll(mask, shift.astype(int), (0, 1)) & ~mask
        light -= rng.uniform(0.1, 0.4) * blur(shadow.astype(np.float32), max(0.6, scene.diameter / 40))
    return blur(light + lit, rng.uniform(0, 0.9)), scene.labels


KINDS: dict[str, Callable[[Rng, int], Drawn]] = {
    "nuclei": _nuclei,
    "rods": _rods,
    "tissue": _tissue,
    "textured": _textured,
    "stained": _stained,
    "blobs": _blobs,
    "rings": _rings,
    "pebbles": _pebbles,
    "cells": _cells,
    "reliefs": _reliefs,
}
"""The kinds of scene, by name."""


# ---------------------------------------------------------------------------------------------- the camera


def _debris(rng: Rng, size: int, light: Float) -> Float:
    """Specks that are no objects."""
    count = int(rng.integers(1, 25))
    specks = np.zeros((size, size), np.float32)
    where = rng.integers(0, size, (count, 2))
    specks[where[:, 0], where[:, 1]] = rng.uniform(0.3, 1.0, count)
    sigma = rng.uniform(0.5, 1.3)
    specks = blur(specks, sigma) * np.float32(2 * np.pi * sigma**2 + 0.5)
    # No brighter than the objects, or stretching the contrast would hide these.
    strength = rng.choice([-1, 1]) * rng.uniform(0.2, 0.8) * np.ptp(light)
    return light + np.float32(strength) * specks


def _expose(rng: Rng, light: Float) -> Float:
    """Stretch to 0..1 with a random black level, contrast and gamma."""
    low, high = float(light.min()), float(light.max())
    light = (light - low) / max(high - low, 1e-6)
    light = light ** np.float32(np.exp(rng.normal(0, 0.35)))
    contrast = 1.0 if chance(rng, 0.5) else rng.uniform(0.25, 1.0)
    return np.asarray(rng.uniform(0, 1 - contrast) + contrast * light, np.float32)


def _illumination(rng: Rng, size: int) -> Float:
    """A factor about 1: a slow gradient, a darkened rim, or both."""
    factor = 1 + rng.uniform(0, 0.35) * 0.5 * smooth(rng, size, size * rng.uniform(0.5, 1.5))
    if chance(rng, 0.4):
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        centre = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
        away = (axis[:, None] - centre[0]) ** 2 + (axis[None] - centre[1]) ** 2
        factor = factor * (1 - rng.uniform(0.1, 0.5) * away / 2)
    return np.asarray(np.clip(factor, 0.2, 2), np.float32)


def _colour_map(rng: Rng) -> Float:
    """A random colour map, shape (256, 3): from one colour to another by way of a third."""
    luminance = np.array([0.3, 0.59, 0.11])
    # The ends keep apart in brightness: a map of one tone would hide the objects.
    target = np.array([rng.uniform(0, 0.35), 0.5, rng.uniform(0.6, 1.0)])[:, None]
    tint = rng.uniform(-1, 1, (3, 3)) * rng.uniform(0.1, 0.6)
    stops = target + tint - (tint @ luminance)[:, None]
    stops[1] = (stops[0] + stops[2]) / 2 + rng.normal(0, 0.12, 3)
    position = np.linspace(0, 1, 256)
    channels = [np.interp(position, [0, 0.5, 1], stops[:, channel]) for channel in range(3)]
    return np.asarray(np.clip(np.stack(channels, axis=-1), 0, 1), np.float32)


def _noise(rng: Rng, image: Float) -> Float:
    """Shot noise (variance proportional to the signal, its Gaussian limit) plus read noise."""
    strength = float(np.exp(rng.uniform(np.log(0.003), np.log(0.12)))) if chance(rng, 0.85) else 0.0
    shot = rng.uniform(0, 1)
    variance = 1 - shot + 2 * shot * np.clip(image, 0, 1)
    deviation = np.asarray(strength * np.sqrt(variance), np.float32)
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32)
    if chance(rng, 0.2):
        grain = blur(grain, 0.7) * np.float32(2.2)
    if image.ndim == 3 and chance(rng, 0.5):
        grain = rng.standard_normal(image.shape, dtype=np.float32)
    elif image.ndim == 3:
        grain = grain[..., None]
    return image + deviation * grain


def _photograph(rng: Rng, drawn: Float) -> NDArray[np.uint8]:
    """From the scene's light to the image that a camera stores."""
    size = drawn.shape[0]
    if drawn.ndim == 2:
        light = _debris(rng, size, drawn) if chance(rng, 0.2) else drawn
        light = _expose(rng, blur(light, rng.uniform(0, 1.2) if chance(rng, 0.4) else 0.0))
        light = light * _illumination(rng, size) if chance(rng, 0.5) else light
        light = _noise(rng, light)
        light = 1 - light if chance(rng, 0.3) else light
        levels = (np.clip(light, 0, 1) * 255).astype(np.uint8)
        if chance(rng, 0.7):
            return np.repeat(levels[..., None], 3, axis=2)
        return (_colour_map(rng) * 255).astype(np.uint8)[levels]
    if chance(rng, 0.5):
        drawn = drawn * _illumination(rng, size)[..., None]
    return (np.clip(_noise(rng, drawn), 0, 1) * 255).astype(np.uint8)


def _tidy(labels: Labels) -> Labels:
    """Split objects into connected pieces, drop crumbs and number what is left from 1."""
    pieces: Labels = connected_components(labels, connectivity=1, background=0)
    areas = np.bincount(pieces.ravel())
    keep = areas >= MIN_AREA
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0)
    return np.asarray(numbers[pieces], np.int32)


def synthetic_sample(
    rng: np.random.Generator, size: int = 256, kind: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw one random image with instance labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        The only source of randomness: the same state gives the same sample.
    size : int, default 256
        Side of the image in pixels, at least 32.
    kind : str, optional
        One of `KINDS`; by default one is drawn at random.

    Returns
    -------
    image : ndarray, shape (size, size, 3), uint8
    labels : ndarray, shape (size, size), int32
        0 background, 1..N the objects, each connected; objects are 6 to 200 pixels in diameter, log-uniform
        over images, and N may be 0 by chance.

    Raises
    ------
    ValueError
        If the size is under 32 or the kind is unknown.

    Examples
    --------
    >>> image, labels = synthetic_sample(np.random.default_rng(0), size=64)
    >>> image.shape, image.dtype, labels.shape, labels.dtype
    ((64, 64, 3), dtype('uint8'), (64, 64), dtype('int32'))
    """
    if size < 32:
        raise ValueError(f"A synthetic image needs at least 32 pixels a side, not {size}.")
    if kind is None:
        kind = str(rng.choice(list(KINDS)))
    elif kind not in KINDS:
        raise ValueError(f"There is no kind of scene called {kind!r}; take one of {', '.join(KINDS)}.")
    drawn, labels = KINDS[kind](rng, size)
    return _photograph(rng, np.asarray(drawn, np.float32)), _tidy(labels)
