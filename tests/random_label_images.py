"""Random label images as segmentations, for formats that hold them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from napari_sam.annotation.records import ObjectClass
from napari_sam.formats import Calibration, Item, Segmentation

GREATEST = 2**62 - 1
IDS = st.one_of(st.integers(1, 300), st.integers(2**16 - 2, 2**16 + 1), st.integers(2**31 - 2, 2**31 + 1))
NUMBERS = st.floats(1e-6, 1e6, allow_subnormal=False)
OFFSETS = st.one_of(st.just(0.0), st.floats(-1e6, 1e6))
UNITS = ("", "micrometer", "nanometer", "second", "furlong")
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=6).filter(
    lambda name: bool(name.strip())
)


@st.composite
def calibrations(draw: st.DrawFn, axes: str, units: Iterable[str] = UNITS) -> Calibration:
    if draw(st.booleans()):
        return Calibration(axes, (1.0,) * len(axes), (0.0,) * len(axes), ("",) * len(axes))
    scale, translate, unit = (
        tuple(draw(each) for _ in axes) for each in (NUMBERS, OFFSETS, st.sampled_from(list(units)))
    )
    return Calibration(axes, scale, translate, unit)


@st.composite
def label_images(
    draw: st.DrawFn,
    *,
    axes: tuple[str, ...] = ("yx", "qyx", "zyx", "tyx", "qqyx", "tzyx", "czyx"),
    ids: st.SearchStrategy[int] = IDS,
    plain: bool = False,
    described: bool = False,
    side: int = 9,
) -> Segmentation:
    """Objects with holes, in parts, touching, of a single pixel; on some planes or on none."""
    letters = draw(st.sampled_from(axes))
    shape = tuple(draw(st.integers(1, 3)) for _ in letters[2:])
    shape += draw(st.integers(1, side)), draw(st.integers(1, side))
    numbers = draw(st.lists(ids, max_size=5, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.array([0, *numbers], dtype=np.int64)
    # Coarse blocks with some noise: holes, parts, single pixels.
    coarse = rng.integers(0, len(values), shape)
    noise = rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 1.0]))
    blocks = coarse[..., (np.arange(shape[-2]) // 3)[:, None], np.arange(shape[-1]) // 3]
    labels = values[np.where(noise, coarse, blocks)]
    pixels = Calibration.plain(len(shape)) if plain else draw(calibrations(letters))
    found = Segmentation.of_labels(labels, pixels)
    return draw(descriptions(found)) if described else found


@st.composite
def descriptions(draw: st.DrawFn, found: Segmentation) -> Segmentation:
    """The same objects with classes, scores, sources and attributes."""
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    classes = [ObjectClass(3 * n + 1, name, f"#{n}a00ff") for n, name in enumerate(names)]
    items = [
        Item(
            item.id,
            item.masks,
            draw(st.sampled_from(["", *names])),
            draw(st.one_of(st.none(), st.floats(0, 1))),
            draw(st.sampled_from(["", "clicked", "automatic"])),
            draw(st.dictionaries(NAMES, st.one_of(st.integers(), NAMES), max_size=2)),
        )
        for item in found.items
    ]
    return Segmentation(found.shape, items, classes, found.calibration)


def assert_same(found: Segmentation, wanted: Segmentation) -> None:
    """All but the name is the same."""
    assert found.shape == wanted.shape
    assert found.calibration == wanted.calibration
    assert found.classes == wanted.classes
    assert found.items == wanted.items
