"""Where the objects of synthetic scenes are, and the smooth noise that scenes are made of.

Everything is done for all objects, or all pixels, at once: 256 x 256 pixels take a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "Scene",
    "blur",
    "chance",
    "draw_diameter",
    "outline",
    "per_object",
    "smooth",
    "stamped",
    "tessellated",
    "texture",
]

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Rng = np.random.Generator

MIN_DIAMETER, MAX_DIAMETER = 6.0, 200.0
STAMP_BUDGET = 4.5
"""Pixels that one scene may spend on stamping objects, in multiples of the image's area."""


@dataclass(frozen=True, slots=True)
class Scene:
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
    weights: Float = np.where(distance < 1, near, far).astype(np.float32)
    return weights


def smooth(rng: Rng, size: int, wavelength: float) -> Float:
    """Smooth noise of about unit variance whose bumps are ``wavelength`` pixels wide."""
    cells = int(np.clip(size / max(wavelength, 2.0), 1, size // 2))
    basis = _spline_basis(size, cells)
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return np.asarray(2.0 * (basis @ coarse @ basis.T), np.float32)


def texture(rng: Rng, size: int, wavelength: float, octaves: int = 3) -> Float:
    """Fractal noise of about unit variance: each octave half as wide and about half as strong."""
    decay = rng.uniform(0.4, 0.9)
    total = np.zeros((size, size), np.float32)
    power = 0.0
    for octave in range(octaves):
        total += decay**octave * smooth(rng, size, wavelength / 2**octave)
        power += decay ** (2 * octave)
    return total / np.float32(np.sqrt(power))


def blur(image: Float, sigma: float) -> Float:
    """Gaussian blur, ``sigma`` in pixels."""
    if sigma < 0.2:
        return image
    blurred: Float = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    return blurred


def outline(labels: Labels) -> Float:
    """1 on the pixels whose right or lower neighbour has another label, else 0."""
    edge = np.zeros(labels.shape, np.float32)
    edge[:, :-1] = labels[:, :-1] != labels[:, 1:]
    edge[:-1] = np.maximum(edge[:-1], labels[:-1] != labels[1:])
    return edge


def per_object(rng: Rng, labels: Labels, low: float, high: float) -> Float:
    """A random value for each object, painted on its pixels (background: 0)."""
    values = rng.uniform(low, high, int(labels.max()) + 1).astype(np.float32)
    values[0] = 0
    return values[labels]


def chance(rng: Rng, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


# ------------------------------------------------------------------------------------------ where objects are


def draw_diameter(rng: Rng, low: float = MIN_DIAMETER, high: float = MAX_DIAMETER) -> float:
    """A diameter in pixels, log-uniform."""
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


def stamped(
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
) -> Scene:
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
    angle = column(common + rng.uniform(-1, 1, count) * (np.pi if chance(rng, 0.6) else 0.4))

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
        dy += (strength * smooth(rng, size, wavelength)).ravel()[pixel]
        dx += (strength * smooth(rng, size, wavelength)).ravel()[pixel]

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
    # A pixel of several objects goes to the one it is deepest in (they touch) or the topmost (they overlap).
    rank = height if chance(rng, 0.7) else (which + height).astype(np.float32)
    top = np.zeros(size * size, np.float32)
    np.maximum.at(top, pixel, rank)
    owner = rank == top[pixel]
    labels = np.zeros(size * size, np.int32)
    heights = np.zeros(size * size, np.float32)
    labels[pixel[owner]] = which[owner] + 1
    heights[pixel[owner]] = height[owner]
    return Scene(labels.reshape(size, size), heights.reshape(size, size), diameter)


SECTORS = 256


def _radii(rng: Rng, count: int, strength: float) -> Float:
    """Relative radius of each object by direction, shape (count, SECTORS + 1): a few random harmonics."""
    order = np.arange(2, 7)
    amplitude = rng.normal(0, strength, (count, len(order))) / order
    phase = rng.uniform(0, 2 * np.pi, (count, len(order), 1))
    theta = np.linspace(0, 2 * np.pi, SECTORS + 1)
    wave = np.cos(order[None, :, None] * theta + phase)
    radii = 1 + 2 * (amplitude[:, :, None] * wave).sum(axis=1)
    return np.asarray(np.clip(radii, 0.35, 1.4), np.float32)


def _sector(along: Float, across: Float) -> NDArray[np.int64]:
    theta = np.arctan2(across, along)
    return ((theta + np.float32(np.pi)) * np.float32(SECTORS / (2 * np.pi))).astype(np.int64)


def tessellated(rng: Rng, size: int, diameter: float, *, warp: float = 0.15) -> Scene:
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
    y = (y + strength * smooth(rng, size, wavelength)) / spacing + shift[0] + 1
    x = (x + strength * smooth(rng, size, wavelength)) / spacing * stretch + shift[1] + 1
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
    return Scene(nearest + 1, np.minimum(wall, 1).astype(np.float32), diameter)
