"""What is measured of objects: what scikit-image says of each by its own mask, in pixels and in units."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import dask.array
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_segmentation import WORDS, label_images, segmentations
from skimage.data import coins
from skimage.measure import label, regionprops_table

from napari_sam.errors import FormatError
from napari_sam.formats import (
    FORMATS,
    Calibration,
    Item,
    Segmentation,
    measure,
    measuring,
    read,
    region_strips,
    write,
)
from napari_sam.inference.mask import Mask

FLAT = ["area", "centroid", "bbox", "axis_major_length", "axis_minor_length"]
SHAPE = ["perimeter", "eccentricity", "solidity"]
INTENSITY = ["intensity_mean", "intensity_min", "intensity_max"]


def same(table: pd.DataFrame, expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-6, err_msg=name)


@given(label_images(most_axes=2, greatest=1000), st.integers(0, 99))
def test_the_same_as_scikit_image(labels: np.ndarray, seed: int) -> None:
    image = np.random.default_rng(seed).integers(-9, 2**16, labels.shape)
    found = Segmentation.of_labels(labels)
    if not found.items:
        return
    expected = regionprops_table(labels, image, properties=("label", *FLAT, *SHAPE, *INTENSITY))
    table = measure(found, image)
    same(table, {"id": expected.pop("label"), **expected})
    assert table["intensity_sum"].tolist() == [image[labels == number].sum() for number in table["id"]]
    assert table["score"].isna().all()


@given(segmentations(attributes=False), st.booleans())
def test_each_by_its_own_mask(found: Segmentation, whole: bool) -> None:
    try:
        table = measure(found, per="object" if whole else "plane")
    except FormatError:
        assert whole
        assert found.calibration.axes.startswith("qq")
        return
    assert list(table["id"].unique()) == [item.id for item in found.items]
    size = "volume" if "volume" in table else "area"
    np.testing.assert_array_equal(table.groupby("id")[size].sum(), [i.area for i in sorted_items(found)])
    if not whole and len(table):
        planes = [name for name in table.columns if name in "tzc" or name.startswith("axis-")]
        for row, (item, index, mask) in zip(table.to_dict("records"), found.masks(), strict=True):
            assert tuple(row[name] for name in planes) == index
            assert (row["class"], row["source"]) == (item.class_name, item.source)
            alone = measure(Segmentation(mask.shape, [Item(1, {(): mask})]))
            for name in ("area", "centroid-0", "bbox-3", *FLAT[3:], *SHAPE):
                assert row[name] == pytest.approx(alone[name][0], abs=1e-6)


def sorted_items(found: Segmentation) -> list[Item]:
    return sorted(found.items, key=lambda item: item.id)


def grains(axes: str, scale: tuple[float, ...], unit: str = "micrometer") -> tuple[np.ndarray, Segmentation]:
    rng = np.random.default_rng(0)
    labels = label(rng.random((6, 12, 15)[3 - len(axes) :]) > 0.6, connectivity=1)
    translate = (10.0, -4.0, 3.0)[3 - len(axes) :]
    return labels, Segmentation.of_labels(labels, Calibration(axes, scale, translate, (unit,) * len(axes)))


def test_units_of_square_pixels() -> None:
    labels, found = grains("yx", (0.5, 0.5))
    expected = regionprops_table(labels, properties=[*FLAT, "perimeter"], spacing=0.5)
    table = measure(found)
    same(table, {f"{name}_um": expected[name] for name in (*FLAT[3:], "perimeter")})
    same(table, {"area_um2": expected["area"], "centroid-0_um": expected["centroid-0"] - 4})
    same(table, {"centroid-1_um": expected["centroid-1"] + 3})
    # A box is between edges: the first pixel reaches from a quarter before its centre, which is at -4.
    same(table, {"bbox-0_um": expected["bbox-0"] * 0.5 - 4.25, "bbox-3_um": expected["bbox-3"] * 0.5 + 2.75})


def test_pixels_that_are_not_square() -> None:
    labels, found = grains("yx", (0.5, 0.2), "nanometer")
    expected = regionprops_table(labels, properties=FLAT, spacing=(0.5, 0.2))
    table = measure(found)
    same(table, {f"{name}_nm": expected[name] for name in FLAT[3:]} | {"area_nm2": expected["area"]})
    same(table, {"centroid-1_nm": expected["centroid-1"] + 3})
    assert "perimeter" in table
    assert "perimeter_nm" not in table


@pytest.mark.parametrize(
    ("units", "scale", "ending"),
    [
        (("", ""), (2.0, 2.0), "scaled"),
        (("", ""), (1.0, 1.0), None),
        (("micrometer", "nanometer"), (1.0, 1.0), None),
        (("light year", "light year"), (2.0, 2.0), "light_year2"),
        (("micrometer", "micrometer"), (1e-300, 1e300), None),
    ],
)
def test_names_of_units(units: tuple[str, str], scale: tuple[float, float], ending: str | None) -> None:
    found = Segmentation.of_labels(np.eye(3, dtype=int), Calibration("yx", scale, (0.0, 0.0), units))
    names = [name.removeprefix("area_") for name in measure(found).columns if name.startswith("area_")]
    assert names == ([] if ending is None else [ending])


def test_whole_objects() -> None:
    labels, found = grains("zyx", (2.0, 0.5, 0.5))
    table = measure(found, labels, per="object")
    same(table, {"id": np.arange(labels.max()) + 1, "intensity_mean": np.arange(labels.max()) + 1})
    pixels = regionprops_table(labels, properties=FLAT)
    same(table, {("volume" if name == "area" else name): values for name, values in pixels.items()})
    units = regionprops_table(labels, properties=FLAT, spacing=(2, 0.5, 0.5))
    same(table, {f"{name}_um": units[name] for name in FLAT[3:]} | {"volume_um3": units["area"]})
    same(table, {"centroid-0_um": units["centroid-0"] + 10})
    assert not {"perimeter", "eccentricity", "area", "z"} & set(table.columns)
    thick = table.index[table["volume"] == table["volume"].max()]
    alone = np.where(labels == table["id"][thick[0]], 1, 0)
    same(table.loc[thick[:1]], regionprops_table(alone, properties=["solidity"]))
    assert table["solidity"][table["volume"] < 4].isna().all()  # no more than a plane goes through these


def test_times_and_channels_are_rows_of_their_own() -> None:
    labels = np.ones((2, 3, 4, 5), dtype=int)
    calibration = Calibration("tzyx", (1.0,) * 4, (0.0,) * 4, ("second", *("micrometer",) * 3))
    found = Segmentation.of_labels(labels, calibration)
    table = measure(found, per="object")
    assert table[["t", "volume", "volume_um3"]].to_numpy().tolist() == [[0, 60, 60], [1, 60, 60]]
    table = measure(found)
    assert table[["t", "z"]].to_numpy().tolist() == [[t, z] for t in range(2) for z in range(3)]
    in_time = replace(found, calibration=Calibration("qtyx", (1.0,) * 4, (0.0,) * 4, ("",) * 4))
    assert measure(in_time).columns[4:6].tolist() == ["axis-0", "t"]
    assert measure(in_time, labels, per="object")["volume"].tolist() == [40, 40, 40]
    unknown = replace(found, calibration=None)
    with pytest.raises(FormatError, match="Of the axes 'qqyx', several could be the depth"):
        measure(unknown, per="object")
    with pytest.raises(FormatError, match="not per 'pixel'"):
        measure(found, per="pixel")  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", range(-3, 4))
@pytest.mark.parametrize("per", ["plane", "object"])
def test_channels_anywhere(axis: int, per: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.kron(np.arange(12).reshape(2, 2, 3), np.ones((1, 3, 3), dtype=int))
    stack = rng.random((*labels.shape, 2)).astype(np.float32)
    image = np.moveaxis(stack, -1, axis)
    # Lazy arrays are read in the same pieces.
    for given_image in (image, dask.array.from_array(image, chunks=2)):
        table = measure(Segmentation.of_labels(labels), given_image, channel_axis=axis, per=per)
        for channel in range(2):
            inside = [stack[labels == number][:, channel] for number in table["id"]]
            expected = {
                f"intensity_{name}-{channel}": np.array(
                    [getattr(np, name)(one.astype(float)) for one in inside]
                )
                for name in ("mean", "min", "max", "sum")
            }
            same(table, expected)


def test_pixels_of_others_do_not_matter() -> None:
    image = np.full((4, 4), np.nan)
    image[0, 0], image[1, 1] = 2.5, np.inf
    mask = np.eye(4, dtype=bool)
    mask[1, 1] = mask[2, 2] = mask[3, 3] = False
    mask[0, 1] = True
    image[0, 1] = 1
    table = measure(Segmentation((4, 4), [Item(3, {(): Mask.from_array(mask)})]), image)
    assert table["intensity_sum"].tolist() == [3.5]
    assert measure(Segmentation.of_labels(np.eye(4, dtype=int)), mask)["intensity_sum"].tolist() == [1]


@pytest.mark.parametrize(
    ("image", "axis", "sentence"),
    [
        (np.zeros((3, 5)), None, "does not fit objects of one of the shape"),
        (np.zeros((3, 4, 2)), None, "say which axis is channels"),
        (np.zeros((3, 4, 2)), 5, "has no axis 5"),
        (np.zeros((3, 4, 0)), 2, "does not fit"),
        (np.zeros((3, 4), dtype=complex), None, "of the type complex128 cannot be measured"),
        ([["a"] * 4] * 3, None, "cannot be measured"),
    ],
)
def test_images_that_do_not_fit(image: object, axis: int | None, sentence: str) -> None:
    for labels in (np.zeros((3, 4), dtype=int), np.ones((3, 4), dtype=int)):
        with pytest.raises(FormatError, match=sentence):
            measure(Segmentation.of_labels(labels), image, channel_axis=axis)


@pytest.mark.parametrize("per", ["plane", "object"])
@pytest.mark.parametrize("axis", [None, 0])
def test_nothing_has_the_same_columns(per: str, axis: int | None) -> None:
    calibration = Calibration("zyx", (2.0, 1.0, 1.0), (0.0,) * 3, ("micrometer",) * 3)
    image = np.zeros((2, 3, 4) if axis is None else (5, 2, 3, 4))
    tables = [
        measure(
            Segmentation.of_labels(np.full((2, 3, 4), value), calibration), image, channel_axis=axis, per=per
        )
        for value in (0, 1)
    ]
    assert [len(table) for table in tables] == [0, 1 if per == "object" else 2]
    assert tables[0].dtypes.to_dict() == tables[1].dtypes.to_dict()


def test_large_objects_and_many(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = label(coins() > 130)
    found = Segmentation.of_labels(labels)
    before = measure(found, coins())
    monkeypatch.setattr(region_strips, "_AT_ONCE", 200)
    pd.testing.assert_frame_equal(measure(found, coins()), before)


def test_an_object_larger_than_memory_is_refused() -> None:
    shape = (2**17, 2**14, 2**14)
    corners = {
        (at,): Mask((side, side), np.ones((1, 1), dtype=bool), shape[1:])
        for at, side in ((0, 0), (2**17 - 1, 2**14 - 1))
    }
    found = Segmentation(shape, [Item(1, corners)])
    assert measure(found)["area"].tolist() == [1, 1]
    with pytest.raises(FormatError, match=r"Measuring an object of this size would take .* GiB of memory"):
        measure(found, per="object")


@pytest.mark.parametrize("shape", [(2**22, 2**22), (2**17, 2**13, 2**13), (1, 2**33)])
def test_label_images_of_absurd_sizes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = Mask((0, 0), np.ones((1, 1), dtype=bool), shape[-2:])
    found = Segmentation(shape, [Item(1, {(0,) * (len(shape) - 2): mask})])
    if math.prod(shape) > 2**40:
        with pytest.raises(FormatError, match=r"A label image of the shape .* GiB are free: cut it"):
            found.to_labels()
    assert measure(found)["area"].tolist() == [1]
    for name in ("tiff", "ome-tiff", "npy", "npz", "ome-zarr", "ome-zarr-0.4", *["png"][len(shape) - 2 :]):
        with pytest.raises(FormatError, match="cut the image"):
            write(tmp_path / f"a{FORMATS[name].suffixes[0]}", found, name)
    assert not list(tmp_path.iterdir())


@settings(max_examples=20)
@given(st.lists(st.tuples(WORDS, WORDS, st.none() | st.floats(0, 1)), min_size=1, max_size=4))
@example([("a,b", '"', None), ("\r", "=1+1", 0.1), ("é\nü", "'", 1 / 3)])
def test_tables_come_back(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str, float | None]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    mask = Mask((1, 0), np.ones((2, 1), dtype=bool), (3, 3))
    found = [
        Segmentation((3, 3), [Item(2**40 + 3, {(): mask}, kind, score)], name=name)
        for name, kind, score in told
    ]
    write(folder / "a.csv", found)
    write(folder / "a.parquet", found)
    packed = pyarrow.parquet.read_table(folder / "a.parquet")
    with (folder / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert packed.column_names == list(rows[0])
    for name, kind in zip(("image", "class"), (0, 1), strict=True):
        texts = [one[kind] for one in told]
        assert [row[name] for row in rows] == packed[name].to_pylist() == texts
    scores = [one[2] for one in told]
    assert [float(row["score"]) if row["score"] else None for row in rows] == scores
    assert packed["score"].to_pandas().replace(np.nan, None).tolist() == scores
    assert [int(row["id"]) for row in rows] == packed["id"].to_pylist() == [2**40 + 3] * len(told)
    assert {float(row["centroid-0"]) for row in rows} == {1.5}


def test_tables_with_intensities(tmp_path: Path) -> None:
    labels = np.array([[0, 5], [9, 9]])
    target = measuring(FORMATS["parquet"], np.stack([labels, labels * 2]), channel_axis=0, per="object")
    path = write(tmp_path / "Größen μ.parquet", labels, target)
    table = pd.read_parquet(path)
    assert table["intensity_sum-1"].tolist() == [10, 36]
    with pytest.raises(FormatError, match=r"TIFF.* holds no measurements: write csv or parquet"):
        measuring(FORMATS["tiff"])
    with pytest.raises(FormatError, match="can be written only"):
        read(path)


def test_halves_of_letters_are_written(tmp_path: Path) -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    found = Segmentation((2, 2), [Item(1, {(): mask}, "\ud800")], name="\udfff")
    for name in ("csv", "parquet"):
        write(tmp_path / f"a.{name}", found)
    assert pd.read_csv(tmp_path / "a.csv")["class"].tolist() == ["\\ud800"]


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(FormatError, match=r"pip install 'napari-sam\[parquet\]'"):
        write(tmp_path / "a.parquet", np.eye(2, dtype=int))


def test_parents_are_a_column_where_there_are_some(tmp_path: Path) -> None:
    labels = np.array([[3, 3, 0, 5, 8]])
    plain = Segmentation.of_labels(labels, name="plain")
    items = [replace(item, attributes={"parent": 3} if item.id > 3 else {}) for item in plain.items]
    found = Segmentation(plain.shape, items, name="lineage")
    table = measure(found)
    assert table.columns[:5].tolist() == ["id", "class", "score", "source", "parent"]
    assert dict(zip(table["id"], table["parent"], strict=True)) == {3: 0, 5: 3, 8: 3}
    assert "parent" not in measure(plain)
    path = tmp_path / "both.csv"
    write(path, [plain, found])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["parent"] for row in rows] == ["0", "0", "0", "0", "3", "3"]
