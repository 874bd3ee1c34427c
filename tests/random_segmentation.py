"""Objects of all kinds, for what is written to be read again."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_sam.annotation.records import ObjectClass
from napari_sam.formats import Calibration, Item, Segmentation
from napari_sam.inference.mask import Mask

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda t: t == t.strip()
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
ATTRIBUTES = st.dictionaries(
    WORDS | st.sampled_from(["id", "score", "area", "predicted_iou", "iscrowd"]),
    NUMBERS | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.lists(NUMBERS, max_size=3),
    max_size=3,
)


@st.composite
def label_images(draw: st.DrawFn, most_axes: int = 4, greatest: int = 2**31 - 1) -> NDArray[np.int64]:
    """With holes, touching objects, single pixels: each pixel is drawn, or patches are."""
    axes = draw(st.integers(2, most_axes))
    shape = (*draw(st.lists(st.integers(1, 3), min_size=axes - 2, max_size=axes - 2)), 0, 0)
    shape = (*shape[:-2], draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = np.unique([0, *draw(st.lists(st.integers(1, greatest), min_size=1, max_size=5)), 1])
    labels = rng.choice(ids, shape) * (rng.random(shape) < draw(st.sampled_from([0.05, 0.5, 1])))
    if draw(st.booleans()):
        size = draw(st.integers(2, 5))
        labels = labels[..., ::size, ::size].repeat(size, -2).repeat(size, -1)[..., : shape[-2], : shape[-1]]
    return labels


@st.composite
def segmentations(
    draw: st.DrawFn, most_axes: int = 4, classes: bool = True, attributes: bool = True, **more: Any
) -> Segmentation:
    """Objects of one image, some of which overlap, with all that can be said of them."""
    labels = draw(label_images(most_axes, **more))
    found = Segmentation.of_labels(labels)
    kinds = [
        ObjectClass(number, name, f"#{draw(st.integers(0, 2**24 - 1)):06x}")
        for number, name in draw(
            st.dictionaries(st.integers(1, 99), WORDS, max_size=3 if classes else 0)
        ).items()
    ]
    kinds = list({one.name: one for one in kinds}.values())
    items = []
    for item in found.items:
        masks = dict(item.masks)
        if draw(st.booleans()):  # grows over its neighbours
            index, mask = next(iter(masks.items()))
            masks[index] = mask | Mask((0, 0), np.ones((2, 1), dtype=bool)[: mask.shape[0]], mask.shape)
        items.append(
            Item(
                item.id,
                masks,
                draw(st.sampled_from(["", *(one.name for one in kinds)])),
                draw(st.none() | NUMBERS),
                draw(st.sampled_from(["", "clicked", "automatic", "imported"])),
                draw(ATTRIBUTES) if attributes else {},
            )
        )
    axes = len(found.shape)
    sizes = st.lists(st.floats(1e-6, 1e6), min_size=axes, max_size=axes).map(tuple)
    calibration = draw(
        st.just(Calibration.plain(axes))
        | st.builds(
            Calibration,
            st.just("tczyx"[-axes:]),
            sizes,
            st.lists(NUMBERS, min_size=axes, max_size=axes).map(tuple),
            st.lists(st.sampled_from(["", "micrometer"]), min_size=axes, max_size=axes).map(tuple),
        )
    )
    return Segmentation(found.shape, items, kinds, calibration, draw(st.just("") | WORDS))
