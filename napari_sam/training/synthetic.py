"""Synthetic images with instance labels, drawn fast enough to be made anew for every training step.

The scenes imitate what microscopes and cameras see (nuclei, rods, tissue, pebbles, myelinated axons, ...), but spread
sizes, densities, contrasts and colours far beyond any one data set, so that a model learns to follow the
prompt instead of the look of its training images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected_components

__all__ = ["KINDS", "synthetic_sample"]

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Rng = np.random.Generator

MIN_DIAMETER, MAX_DIAMETER = 6.0, 200.0
MIN_AREA = 12
STAMP_BUDGET = 4.5
"""Pixels that one scene may spend on stamping objects, in multiples of the image's area."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where the objects are.

    ``height`` is 0 outside and on the rim of an object and rises to 1 at its centre.
    """

    labels: Labels
    height: Float
    diameter: float


# --------------------------------------------------------------------------------------------- small tools


@lru_cache(maxsize=256)
def _spline_basis(size: int, cells: int) -> Float:
    """Cubic B-spline weights, shape (size, cells + 3), spreading coarse values over ``size`` pixels."""
    position = (np.arange(size) + 0.5) * cells / size
    distance = np.abs(position[:, None] - np.arange(-1, cells + 2)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _smooth(rng: Rng, size: int, wavelength: float) -> Float:
    """Smooth noise of about unit variance whose bumps are ``wavelength`` pixels wide."""
    cells = int(np.clip(size / max(wavelength, 2.0), 1, size // 2))
    basis = _spline_basis(size, cells)
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return 2.0 * (basis @ coarse @ basis.T)


def _texture(rng: Rng, size: int, wavelength: float, octaves: int = 3) -> Float:
    """Fractal noise of about unit variance: each octave half as wide and about half as strong."""
    decay = rng.uniform(0.4, 0.9)
    total = np.zeros((size, size), np.float32)
    power = 0.0
    for octave in range(octaves):
        total += decay**octave * _smooth(rng, size, wavelength / 2**octave)
        power += decay ** (2 * octave)
    return total / np.float32(np.sqrt(power))


def _blur(image: Float, sigma: float) -> Float:
    if sigma < 0.2:
        return image
    blurred: Float = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    return blurred


def _outline(labels: Labels) -> Float:
    """1 on the pixels whose right or lower neighbour has another label, else 0."""
    edge = np.zeros(labels.shape, np.float32)
    edge[:, :-1] = labels[:, :-1] != labels[:, 1:]
    edge[:-1] = np.maximum(edge[:-1], labels[:-1] != labels[1:])
    return edge


def _per_object(rng: Rng, labels: Labels, low: float, high: float) -> Float:
    """A random value for each object, painted on its pixels (background: 0)."""
    values = rng.uniform(low, high, int(labels.max()) + 1).astype(np.float32)
    values[0] = 0
    return values[labels]


def _tidy(labels: Labels) -> Labels:
    """Split objects into connected pieces, drop crumbs and number what is left from 1."""
    pieces = connected_components(labels, connectivity=1, background=0)
    areas = np.bincount(pieces.ravel())
    keep = areas >= MIN_AREA
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return numbers[pieces]


def _chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


# ------------------------------------------------------------------------------------------ where objects are


def _diameter(rng: Rng, low: float = MIN_DIAMETER, high: float = MAX_DIAMETER) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _centres(rng: Rng, size: int, spacing: float, limit: int) -> Float:
    """Centres, shape (N, 2): on a jittered grid, anywhere, or in clusters."""
    wanted = int(np.clip((size / spacing) ** 2 * 1.2, 2, limit))
    style = rng.random()
    if style < 0.45:
        side = int(np.ceil(size / spacing)) + 1
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
        jitter = rng.uniform(-0.5, 0.5, grid.shape) * rng.uniform(0.3, 1.0)
        centres = (grid + jitter + rng.uniform(-0.5, 0.5, 2)) * spacing
        centres = centres[rng.permutation(len(centres))[:limit]]
    elif style < 0.75:
        centres = rng.uniform(-0.05 * size, 1.05 * size, (wanted, 2))
    else:
        clusters = rng.uniform(0, size, (int(rng.integers(1, 6)), 2))
        spread = max(spacing * np.sqrt(wanted / len(clusters)) * rng.uniform(0.3, 0.7), spacing * 0.5)
        centres = clusters[rng.integers(0, len(clusters), wanted)] + rng.normal(0, spread, (wanted, 2))
    inside = np.all((centres > -0.1 * size) & (centres < 1.1 * size), axis=1)
    if not inside.any():
        return np.full((1, 2), size / 2, np.float32)
    return centres[inside].astype(np.float32)


def _stamped(
    rng: Rng,
    size: int,
    diameter: float,
    *,
    aspect: tuple[float, float] = (1.0, 1.8),
    exponent: float = 2.0,
    capsule: bool = False,
    irregular: float = 0.0,
    warp: float = 0.1,
    spacing: tuple[float, float] = (0.8, 2.5),
) -> _Scene:
    """Ellipses, superellipses or capsules, all rasterised at once in windows of one size."""
    aspects = rng.uniform(*aspect, 2)
    stretch = float(aspects.max())
    reach = 0.75 * diameter * (stretch if capsule else np.sqrt(stretch)) * (1 + irregular)
    half = int(np.ceil(min(reach, size))) + 1
    limit = max(4, int(STAMP_BUDGET * size * size / (2 * half + 1) ** 2))
    pitch = diameter * (np.sqrt(stretch) if capsule else 1.0) * rng.uniform(*spacing)
    centres = _centres(rng, size, max(pitch, 3.0), limit)
    count = len(centres)

    def column(values: NDArray[np.floating]) -> Float:
        return values.astype(np.float32)[:, None, None]

    spread = rng.uniform(0.0, 0.3)
    radius = column(diameter / 2 * np.clip(np.exp(rng.normal(0, spread, count)), 0.5, 1.45))
    ratio = column(rng.uniform(aspects.min(), stretch, count))
    common = rng.uniform(0, np.pi)
    angle = column(common + rng.uniform(-1, 1, count) * (np.pi if _chance(rng, 0.6) else 0.4))

    offsets = np.arange(-half, half + 1)
    corner = np.floor(centres).astype(np.int64)
    rows = corner[:, 0, None, None] + offsets[None, :, None]
    columns = corner[:, 1, None, None] + offsets[None, None, :]
    visible = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    which, flat_row, flat_column = np.nonzero(visible)
    pixel = (corner[which, 0] + offsets[flat_row]) * size + corner[which, 1] + offsets[flat_column]
    fraction = centres - corner
    dy = (offsets[flat_row] - fraction[which, 0]).astype(np.float32)
    dx = (offsets[flat_column] - fraction[which, 1]).astype(np.float32)
    if warp > 0:
        wavelength = diameter * rng.uniform(0.4, 1.0)
        strength = np.float32(warp * wavelength * rng.uniform(0.3, 1.0))
        dy += (strength * _smooth(rng, size, wavelength)).ravel()[pixel]
        dx += (strength * _smooth(rng, size, wavelength)).ravel()[pixel]

    radius, ratio, angle = (values.ravel() for values in (radius, ratio, angle))
    cosine, sine = np.cos(angle)[which], np.sin(angle)[which]
    along = (cosine * dx + sine * dy) / radius[which]
    across = (cosine * dy - sine * dx) / radius[which]
    if capsule:
        bend = rng.normal(0, 0.05, count).astype(np.float32)
        across = across - bend[which] * along**2
        along = np.maximum(np.abs(along) - (ratio - 1)[which], 0)
    else:
        root = np.sqrt(ratio)
        along, across = along / root[which], across * root[which]
    if exponent == 2.0:
        rho = np.sqrt(along**2 + across**2)
    else:
        rho = (np.abs(along) ** exponent + np.abs(across) ** exponent) ** np.float32(1 / exponent)
    if irregular > 0:
        rho = rho / _radii(rng, count, irregular)[which, _sector(along, across)]

    inside = rho < 1
    pixel, which, height = pixel[inside], which[inside].astype(np.int32), 1 - rho[inside]
    # A pixel that several objects cover goes to the one it is deepest in (they touch) or the topmost (they overlap).
    rank = height if _chance(rng, 0.7) else (which + height).astype(np.float32)
    top = np.zeros(size * size, np.float32)
    np.maximum.at(top, pixel, rank)
    owner = rank == top[pixel]
    labels = np.zeros(size * size, np.int32)
    heights = np.zeros(size * size, np.float32)
    labels[pixel[owner]] = which[owner] + 1
    heights[pixel[owner]] = height[owner]
    return _Scene(labels.reshape(size, size), heights.reshape(size, size), diameter)


SECTORS = 256


def _radii(rng: Rng, count: int, strength: float) -> Float:
    """Relative radius of each object by direction, shape (count, SECTORS + 1): a few random harmonics."""
    order = np.arange(2, 7)
    amplitude = rng.normal(0, strength, (count, len(order))) / order
    phase = rng.uniform(0, 2 * np.pi, (count, len(order), 1))
    theta = np.linspace(0, 2 * np.pi, SECTORS + 1)
    wave = np.cos(order[None, :, None] * theta + phase)
    return np.clip(1 + (amplitude[:, :, None] * wave).sum(axis=1) * 2, 0.35, 1.4).astype(np.float32)


def _sector(along: Float, across: Float) -> NDArray[np.int64]:
    theta = np.arctan2(across, along)
    return ((theta + np.float32(np.pi)) * np.float32(SECTORS / (2 * np.pi))).astype(np.int64)


def _tessellated(rng: Rng, size: int, diameter: float, *, warp: float = 0.15) -> _Scene:
    """Voronoi cells of a jittered grid: the nearest seed among the nine grid cells around a pixel."""
    spacing = np.float32(diameter)
    side = int(np.ceil(size / spacing)) + 4
    stretch = np.float32(rng.uniform(0.7, 1.0))
    jitter = rng.uniform(0.5, 1.0)
    seeds = (0.5 + jitter * rng.uniform(-0.5, 0.5, (2, side, side))).astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    wavelength = diameter * rng.uniform(0.3, 1.0)
    strength = np.float32(warp * wavelength * rng.uniform(0, 1))
    shift = rng.uniform(0, 1, 2).astype(np.float32)
    y = (y + strength * _smooth(rng, size, wavelength)) / spacing + shift[0] + 1
    x = (x + strength * _smooth(rng, size, wavelength)) / spacing * stretch + shift[1] + 1
    y, x = np.clip(y, 1, side - 1.01), np.clip(x, 1, side - 1.01)
    row, column = y.astype(np.int32), x.astype(np.int32)
    first = np.full((size, size), np.inf, np.float32)
    second = first.copy()
    nearest = np.zeros((size, size), np.int32)
    flat_y, flat_x = seeds.reshape(2, -1)
    for step_y in (-1, 0, 1):
        for step_x in (-1, 0, 1):
            cell = (row + step_y) * side + column + step_x
            away = (row + step_y + flat_y[cell] - y) ** 2 + (column + step_x + flat_x[cell] - x) ** 2
            closer = away < first
            second = np.where(closer, first, np.minimum(second, away))
            nearest = np.where(closer, cell, nearest)
            first = np.minimum(first, away)
    # Half the gap between the two nearest seeds is (about) the distance to the wall between them.
    wall = np.sqrt(second) - np.sqrt(first)
    return _Scene(nearest + 1, np.minimum(wall, 1).astype(np.float32), diameter)


# ---------------------------------------------------------------------------------------------------- looks

Drawn = tuple[Float, Labels]
"""An image, (size, size) or (size, size, 3), values about 0..1, and its labels."""


def _shade(rng: Rng, scene: _Scene) -> Float:
    """How bright an object is inside: flat, domed, or brighter at the rim."""
    style = rng.random()
    if style < 0.4:
        return np.ones_like(scene.height)
    rim = np.sqrt(np.clip(scene.height, 0, 1))
    return 0.45 + 0.55 * rim if style < 0.8 else 1.1 - 0.5 * rim


def _nuclei(rng: Rng, size: int) -> Drawn:
    """Fluorescent nuclei: bright on dark, some ten times brighter than others, haze between them."""
    scene = _stamped(rng, size, _diameter(rng), irregular=rng.choice([0.0, 0.1]), spacing=(0.8, 3.0))
    light = _per_object(rng, scene.labels, rng.choice([0.1, 0.3, 0.7]), 1.0) * _shade(rng, scene)
    light *= 1 + rng.uniform(0, 0.3) * _texture(rng, size, scene.diameter * rng.uniform(0.15, 0.6))
    ground = rng.uniform(0.0, 0.25)
    haze = rng.uniform(0, 0.5) * _blur(light, scene.diameter * 0.3) if scene.diameter < 40 else 0.05
    return _blur(ground + light + haze, rng.uniform(0.3, 1.5)), scene.labels


def _rods(rng: Rng, size: int) -> Drawn:
    """Bacteria: capsules, alone or in colonies; fluorescent, or dark with a halo (phase contrast)."""
    longest = rng.uniform(2, 6)
    scene = _stamped(
        rng, size, _diameter(rng, MIN_DIAMETER, 40), aspect=(1.3, longest), capsule=True, spacing=(0.9, 3.5)
    )
    light = _per_object(rng, scene.labels, 0.5, 1.0) * _shade(rng, scene)
    if _chance(rng, 0.5):
        mask = (scene.labels > 0).astype(np.float32)
        halo = _blur(mask, max(1.0, scene.diameter * rng.uniform(0.15, 0.4))) * (1 - mask)
        light = rng.uniform(0.3, 0.8) * halo - light * rng.uniform(0.3, 1.0)
    # Neighbours in a colony are told apart by a thin dark (or bright) line.
    light = light * (1 - rng.uniform(0.2, 0.8) * _blur(_outline(scene.labels), 0.6))
    return light + 0.1 * rng.uniform(0, 1) * _texture(rng, size, 40), scene.labels


def _tissue(rng: Rng, size: int) -> Drawn:
    """Cells packed side by side: membranes bright or dark, from hair-thin to thick, some cells missing."""
    scene = _tessellated(rng, size, _diameter(rng, 9, 150))
    width = max(rng.uniform(0.04, 0.3), 1.2 / scene.diameter)
    membrane = np.exp(-((scene.height / np.float32(width)) ** 2))
    light = membrane * (1 + 0.25 * _texture(rng, size, scene.diameter * 0.7))
    inside = _per_object(rng, scene.labels, 0, 1)
    light = light + rng.uniform(0, 0.5) * inside
    light += (
        rng.uniform(0, 0.3) * _texture(rng, size, rng.uniform(3, 0.5 * scene.diameter + 4)) * (1 - membrane)
    )
    labels = scene.labels
    if _chance(rng, 0.4):
        missing = (rng.random(int(labels.max()) + 1) < rng.uniform(0.05, 0.5))[labels]
        light = np.where(missing, light.min() + rng.uniform(0, 0.4), light)
        labels = np.where(missing, 0, labels)
    if _chance(rng, 0.6):
        labels = np.where(scene.height < width * rng.uniform(0.3, 0.9), 0, labels)
    return _blur(light, rng.uniform(0, 1.0)), labels


def _textured(rng: Rng, size: int) -> Drawn:
    """Objects that differ from their ground in texture and a little in brightness only."""
    scene = _stamped(rng, size, _diameter(rng, 14), irregular=rng.choice([0.0, 0.15]), spacing=(0.9, 3.0))
    mask = scene.labels > 0
    ground = _texture(rng, size, rng.uniform(3, 40))
    figure = _texture(rng, size, rng.uniform(2, max(3.0, scene.diameter * 0.5)))
    contrast = rng.uniform(0.6, 2.5) * rng.choice([-1, 1])
    light = np.where(mask, figure * rng.uniform(0.2, 1) + contrast, ground * rng.uniform(0.2, 0.8))
    light = light + _per_object(rng, scene.labels, -0.4, 0.4)
    if _chance(rng, 0.5):
        light = light + rng.uniform(-1.5, 1.5) * _blur(_outline(scene.labels), rng.uniform(0.5, 1.2))
    return _blur(light, rng.uniform(0.2, 1.2)), scene.labels


def _stained(rng: Rng, size: int) -> Drawn:
    """Dark objects on bright ground in the colours of a stain (H&E, Pap, DAB), or plain brightfield."""
    scene = _stamped(rng, size, _diameter(rng), irregular=rng.choice([0.05, 0.2]), spacing=(0.85, 3.0))
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
    depth = _per_object(rng, scene.labels, rng.uniform(0.3, 0.7), 1.0) * (1.25 - 0.5 * np.sqrt(scene.height))
    depth *= 1 + 0.25 * _texture(rng, size, max(2.5, scene.diameter * 0.2))
    stroma = rng.uniform(0, 0.25) * np.clip(
        _texture(rng, size, scene.diameter * rng.uniform(0.6, 3), 4), -1, 3
    )
    depth = _blur(np.where(scene.labels > 0, depth, stroma), rng.uniform(0.5, 1.3))
    if _chance(rng, 0.25):
        depth = np.maximum(depth, 0.8 * _smooth(rng, size, 6) - 1.6)
    return ground + (stain - ground) * depth[..., None], scene.labels


def _blobs(rng: Rng, size: int) -> Drawn:
    """A few large irregular objects with ragged outlines: organoids, spread cells, colonies."""
    scene = _stamped(
        rng,
        size,
        _diameter(rng, 40),
        irregular=rng.uniform(0.2, 0.6),
        warp=0.2,
        aspect=(1, 2.5),
        spacing=(0.9, 2.5),
    )
    light = _per_object(rng, scene.labels, 0.3, 1.0) * _shade(rng, scene)
    light += (
        (scene.labels > 0)
        * rng.uniform(0, 0.35)
        * _texture(rng, size, scene.diameter * rng.uniform(0.1, 0.5), 4)
    )
    if _chance(rng, 0.4):
        light += rng.uniform(0.2, 0.8) * np.exp(-(((scene.height - 0.6) / 0.2) ** 2)) * (scene.labels > 0)
    if _chance(rng, 0.4):
        light += rng.uniform(0.3, 1.2) * _blur(_outline(scene.labels), rng.uniform(0.6, 2.0))
    return light + rng.uniform(0, 0.12) * _texture(rng, size, rng.uniform(4, 60)), scene.labels


def _rings(rng: Rng, size: int) -> Drawn:
    """Hollow objects: axons in myelin (the object is the inside) or shells (the object is the whole)."""
    scene = _stamped(rng, size, _diameter(rng, 12), irregular=rng.choice([0.0, 0.15]), spacing=(0.8, 2.2))
    wall = max(rng.uniform(0.1, 0.45), 3.0 / scene.diameter)
    sheath = (scene.labels > 0) & (scene.height < wall)
    ground = 0.5 + rng.uniform(0.03, 0.2) * _texture(rng, size, rng.uniform(3, 25), 4)
    light = np.where(scene.labels > 0, 0.5 + rng.uniform(-0.1, 0.4) + 0.1 * _texture(rng, size, 8), ground)
    light = np.where(sheath, rng.uniform(-0.3, 0.2) + 0.05 * _smooth(rng, size, 5), light).astype(np.float32)
    labels = np.where(sheath, 0, scene.labels) if _chance(rng, 0.7) else scene.labels
    return _blur(light, rng.uniform(0.3, 1.0)), labels


def _pebbles(rng: Rng, size: int) -> Drawn:
    """Grains lit from one side, packed, some in the shadow of others: pebbles, powders, seeds."""
    diameter = _diameter(rng, 9)
    if _chance(rng, 0.5):
        scene = _tessellated(rng, size, diameter)
        gap = max(rng.uniform(0.05, 0.3), 2.0 / diameter)
        labels = np.where(scene.height > gap, scene.labels, 0)
        height = np.clip((scene.height - gap) * 1.5, 0, 1)
    else:
        scene = _stamped(
            rng, size, diameter, exponent=rng.uniform(2, 3.5), irregular=0.12, spacing=(0.75, 1.4)
        )
        labels, height = scene.labels, scene.height
    relief = _blur(np.sqrt(height) * np.float32(diameter / 4), max(0.6, diameter / 25))
    slope_y, slope_x = np.gradient(relief)
    angle = rng.uniform(0, 2 * np.pi)
    lit = np.clip(np.cos(angle) * slope_x + np.sin(angle) * slope_y, -1.5, 1.5) * rng.uniform(0.05, 0.35)
    figure = (
        _per_object(rng, labels, 0.35, 0.9)
        + lit
        + rng.uniform(0.03, 0.15) * _texture(rng, size, diameter / 3, 4)
    )
    ground = rng.uniform(0, 0.35) + 0.06 * _texture(rng, size, 5)
    return _blur(np.where(labels > 0, figure, ground), rng.uniform(0, 0.9)), labels


def _cells(rng: Rng, size: int) -> Drawn:
    """Cells with a nucleus and a faint body; the object is the body, as in phase contrast."""
    scene = _stamped(
        rng,
        size,
        _diameter(rng, 20),
        irregular=rng.uniform(0, 0.35),
        warp=0.15,
        aspect=(1, 2.2),
        spacing=(0.9, 2.5),
    )
    body = _per_object(rng, scene.labels, 0.2, 0.6) * (1 + 0.3 * _texture(rng, size, scene.diameter * 0.25))
    core = 1 / (1 + np.exp(-(scene.height - rng.uniform(0.4, 0.7)) * np.float32(scene.diameter * 0.5)))
    light = body + rng.uniform(-0.5, 0.8) * core * (scene.labels > 0)
    light += rng.uniform(-0.6, 0.8) * _blur(_outline(scene.labels), rng.uniform(0.6, 1.5))
    return light + 0.05 * _texture(rng, size, 20), scene.labels


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
    specks = _blur(specks, sigma) * np.float32(2 * np.pi * sigma**2 + 0.5)
    # No brighter than the objects, or stretching the contrast would hide these.
    return light + rng.choice([-1, 1]) * rng.uniform(0.2, 0.8) * np.ptp(light) * specks


def _expose(rng: Rng, light: Float) -> Float:
    """Stretch to 0..1 with a random black level, contrast and gamma."""
    low, high = float(light.min()), float(light.max())
    light = (light - low) / max(high - low, 1e-6)
    light = light ** np.float32(np.exp(rng.normal(0, 0.35)))
    contrast = 1.0 if _chance(rng, 0.5) else rng.uniform(0.25, 1.0)
    return np.float32(rng.uniform(0, 1 - contrast)) + np.float32(contrast) * light


def _illumination(rng: Rng, size: int) -> Float:
    """A factor about 1: a slow gradient, a darkened rim, or both."""
    factor = 1 + rng.uniform(0, 0.35) * 0.5 * _smooth(rng, size, size * rng.uniform(0.5, 1.5))
    if _chance(rng, 0.4):
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        centre = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
        away = (axis[:, None] - centre[0]) ** 2 + (axis[None] - centre[1]) ** 2
        factor = factor * (1 - rng.uniform(0.1, 0.5) * away / 2)
    return np.clip(factor, 0.2, 2).astype(np.float32)


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
    return np.clip(np.stack(channels, axis=-1), 0, 1).astype(np.float32)


def _noise(rng: Rng, image: Float) -> Float:
    """Shot noise (variance proportional to the signal, its Gaussian limit) plus read noise."""
    strength = float(np.exp(rng.uniform(np.log(0.003), np.log(0.12)))) if _chance(rng, 0.85) else 0.0
    shot = rng.uniform(0, 1)
    deviation = np.float32(strength) * np.sqrt(
        np.float32(1 - shot) + np.float32(2 * shot) * np.clip(image, 0, 1)
    )
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32)
    if _chance(rng, 0.2):
        grain = _blur(grain, 0.7) * np.float32(2.2)
    if image.ndim == 3 and _chance(rng, 0.5):
        return image + deviation * rng.standard_normal(image.shape, dtype=np.float32)
    return image + deviation * (grain[..., None] if image.ndim == 3 else grain)


def _photograph(rng: Rng, drawn: Float) -> NDArray[np.uint8]:
    """From the scene's light to the image that a camera stores."""
    size = drawn.shape[0]
    if drawn.ndim == 2:
        light = _debris(rng, size, drawn) if _chance(rng, 0.2) else drawn
        light = _expose(rng, _blur(light, rng.uniform(0, 1.2) if _chance(rng, 0.4) else 0.0))
        light = light * _illumination(rng, size) if _chance(rng, 0.5) else light
        light = _noise(rng, light)
        light = 1 - light if _chance(rng, 0.3) else light
        levels = (np.clip(light, 0, 1) * 255).astype(np.uint8)
        if _chance(rng, 0.7):
            return np.repeat(levels[..., None], 3, axis=2)
        return (_colour_map(rng) * 255).astype(np.uint8)[levels]
    if _chance(rng, 0.5):
        drawn = drawn * _illumination(rng, size)[..., None]
    return (np.clip(_noise(rng, drawn), 0, 1) * 255).astype(np.uint8)


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
