"""Synthetic films of cells that crawl, change shape and divide, with what is true of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Movie", "moving_cells"]

_WAVES = 3
"""Waves along an outline: ellipses, triangles, squares."""
_ELONGATED = 4
"""Frames before a division in which a cell grows long."""
_APART = 0.62
"""Half the way between two daughters, in radii of their mother."""


@dataclass(frozen=True)
class Movie:
    """A film of cells.

    Attributes
    ----------
    image : ndarray, shape (T, H, W), uint8
    labels : ndarray, shape (T, H, W), uint16
        Each cell from its birth to its division has a number of its own, from 1 on; 0 is background.
    parents : dict of int to int
        Of cells that came from a division, the number of their mother.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    parents: dict[int, int]


@dataclass(frozen=True)
class _Cell:
    number: int
    centre: NDArray[np.float64]  # y, x
    velocity: NDArray[np.float64]
    radius: float
    waves: NDArray[np.complex128]  # of the outline, as shares of the radius
    light: float
    divides: int = -1  # frame
    axis: float = 0.0  # along which it grows long before that, radians
    parent: int = 0
    grain: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))


def moving_cells(
    frames: int = 40,
    size: tuple[int, int] = (192, 192),
    *,
    cells: int = 6,
    divisions: int = 3,
    speed: float = 2.0,
    seed: int = 0,
) -> Movie:
    """Make a film of fluorescent cells, some of which divide.

    Cells are blobs with slowly changing outlines on a persistent random walk; they push each other away and
    turn round at the border. Before a division a cell grows long; its daughters have half its area each, and
    grow. Light is blurred and has the noise of photons and of a camera.

    Parameters
    ----------
    frames : int, default 40
    size : tuple of int, default (192, 192)
        Height and width, in pixels.
    cells : int, default 6
        At the beginning.
    divisions : int, default 3
        Of different cells, evenly spread over the film.
    speed : float, default 2.0
        Pixels per frame that a cell moves in the mean.
    seed : int, default 0

    Raises
    ------
    ValueError
        If there are more divisions than cells.

    Examples
    --------
    >>> movie = moving_cells(12, (96, 96), cells=2, divisions=1)
    >>> movie.image.shape, int(movie.labels.max()), movie.parents
    ((12, 96, 96), 4, {3: 1, 4: 1})
    """
    if divisions > cells:
        raise ValueError(f"Of {cells} cells no {divisions} can divide.")
    rng = np.random.default_rng(seed)
    radius = 0.3 * np.sqrt(size[0] * size[1] / (cells + divisions)) / 1.2
    alive = _sown(rng, size, cells, radius, speed)
    at = np.linspace(0, frames, divisions + 2)[1:-1].astype(int)
    alive = [replace(cell, divides=int(at[i])) if i < divisions else cell for i, cell in enumerate(alive)]
    image = np.empty((frames, *size), dtype=np.uint8)
    labels = np.empty((frames, *size), dtype=np.uint16)
    parents: dict[int, int] = {}
    count = cells
    for frame in range(frames):
        born: list[_Cell] = []
        for cell in alive:
            if cell.divides == frame:
                born += _daughters(rng, cell, count + 1)
                parents.update({count + 1: cell.number, count + 2: cell.number})
                count += 2
            else:
                born.append(cell)
        alive = born
        labels[frame], light = _drawn(alive, frame, size)
        image[frame] = _photographed(rng, light)
        alive = _moved(rng, alive, size, radius, speed)
    return Movie(image, labels, parents)


def _sown(
    rng: np.random.Generator, size: tuple[int, int], count: int, radius: float, speed: float
) -> list[_Cell]:
    """Cells at random places, as far from each other as a few tries give."""
    low, high = np.full(2, 1.3 * radius), np.array(size) - 1.3 * radius
    places = np.empty((0, 2))
    for _ in range(count):
        tried = rng.uniform(low, np.maximum(high, low + 1), (60, 2))
        apart = np.hypot(*(tried[:, None] - places[None]).transpose(2, 0, 1))
        places = np.concatenate([places, tried[[apart.min(axis=1, initial=np.inf).argmax()]]])
    return [
        _Cell(
            number,
            centre,
            rng.normal(0, speed / np.sqrt(2), 2),
            radius * rng.uniform(0.85, 1.15),
            _random_waves(rng),
            rng.uniform(0.55, 1.0),
            axis=rng.uniform(0, np.pi),
            grain=rng.uniform(0.7, 1.3, (3, 3)),
        )
        for number, centre in enumerate(places, start=1)
    ]


def _random_waves(rng: np.random.Generator) -> NDArray[np.complex128]:
    finer = 0.05 / np.arange(1, _WAVES + 1)
    return np.asarray((rng.normal(0, 1, (_WAVES, 2)) @ np.array([1, 1j])) * finer)


def _daughters(rng: np.random.Generator, cell: _Cell, number: int) -> list[_Cell]:
    way = np.array([np.sin(cell.axis), np.cos(cell.axis)])
    return [
        replace(
            cell,
            number=number + index,
            centre=cell.centre + side * _APART * cell.radius * way,
            velocity=cell.velocity + side * 0.12 * cell.radius * way,
            radius=cell.radius / np.sqrt(2),
            waves=_random_waves(rng),
            light=cell.light * rng.uniform(0.95, 1.1),
            divides=-1,
            parent=cell.number,
            grain=rng.uniform(0.7, 1.3, (3, 3)),
        )
        for index, side in enumerate((-1, 1))
    ]


def _moved(
    rng: np.random.Generator, cells: list[_Cell], size: tuple[int, int], radius: float, speed: float
) -> list[_Cell]:
    """The cells one frame later."""
    places = np.array([cell.centre for cell in cells])
    sizes = np.array([cell.radius for cell in cells])
    way = places[:, None] - places[None]
    apart = np.hypot(way[..., 0], way[..., 1]) + np.eye(len(cells)) * 1e9
    # Where two cells would overlap, both give way.
    lack = np.clip(1.15 * (sizes[:, None] + sizes[None]) - apart, 0, None)
    push = (way / apart[..., None] * lack[..., None]).sum(axis=1) * 0.25
    later = []
    for cell, pushed in zip(cells, push, strict=True):
        velocity = 0.85 * cell.velocity + np.sqrt(1 - 0.85**2) * rng.normal(0, speed / np.sqrt(2), 2)
        centre = cell.centre + velocity + pushed
        border = 1.2 * cell.radius
        inside = np.clip(centre, border, np.array(size) - border)
        velocity = np.where(inside == centre, velocity, -velocity)
        later.append(
            replace(
                cell,
                centre=inside,
                velocity=velocity,
                waves=0.93 * cell.waves + np.sqrt(1 - 0.93**2) * _random_waves(rng),
                radius=cell.radius + 0.04 * max(0.0, radius - cell.radius),
                axis=cell.axis + rng.normal(0, 0.03),
            )
        )
    return later


def _drawn(
    cells: list[_Cell], frame: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Numbers of cells, and their light before any lens."""
    labels, light = np.zeros(size, dtype=np.uint16), np.zeros(size)
    nearest = np.ones(size)
    grid = np.mgrid[: size[0], : size[1]].astype(float)
    for cell in cells:
        y, x = grid - cell.centre[:, None, None]
        # Along the axis of a coming division a cell grows as long as its two daughters.
        left = cell.divides - frame
        long = 1 + 0.45 * max(0.0, 1 - left / _ELONGATED) if left > 0 else 1.0
        along = (x * np.cos(cell.axis) + y * np.sin(cell.axis)) / long
        across = (y * np.cos(cell.axis) - x * np.sin(cell.axis)) * np.sqrt(long)
        angle = np.exp(1j * np.arctan2(across, along))
        outline = 1 + 2 * sum((wave * angle ** (k + 2)).real for k, wave in enumerate(cell.waves))
        depth = np.hypot(along, across) / (cell.radius * outline)
        own = depth < nearest
        nearest[own] = depth[own]
        labels[own] = cell.number
        where = np.array([across, along])[:, own] / cell.radius * 0.8 + 1
        texture = ndimage.map_coordinates(cell.grain, where, order=1, mode="nearest")
        light[own] = cell.light * texture * np.sqrt(1 - 0.7 * depth[own] ** 2)
    return labels, light


def _photographed(rng: np.random.Generator, light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Light through a lens on a camera."""
    seen = 12 + 150 * (ndimage.gaussian_filter(light, 1.2) + 0.06 * ndimage.gaussian_filter(light, 12))
    seen = rng.poisson(seen * 0.5) / 0.5 + rng.normal(0, 3, light.shape)
    return np.asarray(np.clip(seen, 0, 255), dtype=np.uint8)
