"""Label images as TIFF and OME-TIFF, ours and those of others."""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from random_label_images import GREATEST, IDS, assert_same, label_images

from napari_sam.errors import FormatError
from napari_sam.formats import Calibration, Format, Item, Segmentation, losses
from napari_sam.formats.label_planes import label_planes
from napari_sam.formats.label_tiff import OME_TIFF, TIFF, needs_bigtiff, read_tiff
from napari_sam.inference.mask import Mask

BOTH = pytest.mark.parametrize("kind", [TIFF, OME_TIFF], ids=["tiff", "ome"])


def path_of(folder: Path, kind: Format) -> Path:
    return folder / f"labels{kind.suffixes[0]}"


def back(folder: Path, kind: Format, found: Segmentation) -> Segmentation:
    path = path_of(folder, kind)
    kind.write(path, [found])
    assert kind.recognises is not None
    assert kind.recognises(path)
    assert kind.read is not None
    (again,) = kind.read(path, found.shape)
    return again


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiff")


@given(label_images(axes=("yx", "qyx", "zyx", "tyx", "qqyx", "zcyx", "qqqyx", "tczyx", "yxyx")))
def test_ome_tiff_comes_back(place: Path, found: Segmentation) -> None:
    assert_same(back(place, OME_TIFF, found), found)


@given(
    label_images(
        axes=("yx", "qyx", "tzyx", "qqqqyx", "yxyx"),
        ids=st.one_of(IDS, st.sampled_from([-1, -200, -(2**40), 2**32, GREATEST, -GREATEST])),
    )
)
def test_tiff_comes_back(place: Path, found: Segmentation) -> None:
    assert_same(back(place, TIFF, found), found)


@given(label_images(), st.sampled_from([TIFF, OME_TIFF]))
def test_others_read_the_same_labels(place: Path, found: Segmentation, kind: Format) -> None:
    path = path_of(place, kind)
    kind.write(path, [found])
    labels = tifffile.imread(path)
    np.testing.assert_array_equal(labels.reshape(found.shape), found.to_labels())
    assert labels.dtype == found.to_labels().dtype


def test_planes_are_those_of_to_labels() -> None:
    left, right = np.zeros((2, 4, 6), dtype=bool)
    left[:, :4], right[:, 2:] = True, True
    masks = Mask.from_array(left), Mask.from_array(right)
    for scores in ((None, 0.5), (0.5, 0.5), (0.7, 0.5), (None, None)):
        items = [Item(n + 1, {(1,): masks[n]}, score=scores[n]) for n in range(2)]
        found = Segmentation((3, 4, 6), items)
        np.testing.assert_array_equal(list(label_planes(found, found.label_type)), found.to_labels())


def test_the_type_holds_all_ids() -> None:
    def kind(*ids: int) -> str:
        return Segmentation.of_labels(np.array([[0, *ids]])).label_type.str[1:]

    assert [kind(), kind(255), kind(256), kind(2**31), kind(2**32)] == ["u1", "u1", "u2", "u4", "u8"]
    assert [kind(-1), kind(-1, 255), kind(-1, 2**32)] == ["i1", "i2", "i8"]


def test_ome_says_sizes_offsets_and_units(tmp_path: Path) -> None:
    calibration = Calibration(
        "tzyx",
        (30.0, 2.0, 0.25, 0.5),
        (5.0, -7.0, 3.5, 0.0),
        ("second", "micrometer", "micrometer", "furlong"),
    )
    found = Segmentation.of_labels(np.ones((2, 3, 4, 5), dtype=int), calibration)
    OME_TIFF.write(tmp_path / "a.ome.tif", [found])
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "TZYX"
        assert all(page.compression == 8 for page in file.pages)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (30, "s")
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (2, "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (0.25, "µm")
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.5, "reference frame")
    assert [plane["PositionZ"] for plane in pixels["Plane"]] == [-7, -5, -3] * 2
    assert {plane["PositionY"] for plane in pixels["Plane"]} == {3.5}


def test_tiff_says_its_resolution(tmp_path: Path) -> None:
    calibration = Calibration("yx", (0.5, 0.25), (1.0, 2.0), ("micrometer", "micrometer"))
    TIFF.write(tmp_path / "a.tif", [Segmentation.of_labels(np.eye(3, dtype=int), calibration)])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages.first.tags
        assert tags["ResolutionUnit"].value == 3
        assert [np.divide(*tags[f"{axis}Resolution"].value) for axis in "XY"] == [40000, 20000]
    huge = replace(calibration, scale=(1e-300, 1e-300))
    TIFF.write(tmp_path / "b.tif", [Segmentation.of_labels(np.eye(3, dtype=int), huge)])
    assert read_tiff(tmp_path / "b.tif")[0].calibration == huge


def test_big_files_are_bigtiff() -> None:
    assert needs_bigtiff((4, 2**15, 2**15), np.dtype("u1"))
    assert needs_bigtiff((1, 2**15, 2**15), np.dtype("i4"))
    assert not needs_bigtiff((1, 2**15, 2**15), np.dtype("u2"))


@BOTH
def test_what_is_lost(kind: Format) -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    found = Segmentation(
        (2, 2), [Item(5, {(): mask}, "cell", 0.5), Item(7, {(): mask}, "cell", 0.5, "clicked")]
    )
    assert losses([found], kind) == [
        f"{kind.title} holds no classes: 2 objects will lose theirs.",
        f"{kind.title} holds no scores: 2 objects will lose theirs.",
        f"{kind.title} holds one object per pixel: where 2 objects overlap, the best one gets it.",
    ]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def refused(kind: Format, found: Segmentation, why: str) -> None:
        with pytest.raises(FormatError, match=why):
            kind.write(path_of(tmp_path, kind), [found])

    refused(OME_TIFF, Segmentation((1, 1, 1, 1, 1, 1)), "at most 5 axes")
    refused(OME_TIFF, Segmentation.of_labels(np.array([[2**32]])), "at most 32 bits")
    refused(OME_TIFF, Segmentation.of_labels(np.array([[2**31, -1]])), "at most 32 bits")
    refused(TIFF, Segmentation((0, 4)), "without pixels")


LABELS = np.zeros((3, 20, 30), dtype=np.int32)
LABELS[0, 2:9, 3:20] = 7
LABELS[1:, 5, 5] = 70000
LABELS[2, 10:, :4] = 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"ome": True},
        {"metadata": None},
        {"metadata": None, "tile": (16, 16)},
        {"metadata": None, "compression": "zlib", "predictor": True},
        {"metadata": None, "rowsperstrip": 3, "byteorder": ">"},
        {"volumetric": True, "tile": (16, 16, 16)},
        {"bigtiff": True, "contiguous": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u8"])
def test_label_images_of_others_are_read(tmp_path: Path, dtype: str, options: dict) -> None:
    if options.get("imagej") and dtype not in ("u1", "u2"):
        pytest.skip("ImageJ has no other types of whole numbers")
    if options.get("ome") and dtype == "u8":
        pytest.skip("OME has no ids of 64 bits")
    if options.get("predictor") and dtype == "u8":
        pytest.skip("differences have at most 32 bits")
    labels = (LABELS % 100).astype(dtype)
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", labels, **options)
    (found,) = read_tiff(tmp_path / "a.tif", (3, 20, 30))
    np.testing.assert_array_equal(found.to_labels(), labels)
    assert found.calibration.is_plain


def patched(path: Path, **tags: int) -> None:
    """Change values of tags of the first page."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages.first.tags[name].overwrite(value)


def test_packbits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    # Three copies of 7, then a 0 and a 9 as they are.
    tifffile.imwrite(path, np.array([[256 - 2, 7, 1, 0, 9]], "u1"), metadata=None)
    patched(path, Compression=32773)
    assert read_tiff(path)[0].to_labels().tolist() == [[7, 7, 7, 0, 9]]
    patched(path, Compression=34925)
    with pytest.raises(FormatError, match="compressed by LZMA, which is not read here"):
        read_tiff(path)


def test_sizes_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    labels = LABELS.astype("u2")
    tifffile.imwrite(
        path, labels, imagej=True, resolution=(4, 2), metadata={"axes": "ZYX", "spacing": 3, "unit": "um"}
    )
    expected = Calibration("zyx", (3.0, 0.5, 0.25), (0.0,) * 3, ("micrometer",) * 3)
    assert read_tiff(path)[0].calibration == expected
    tifffile.imwrite(path, labels[0], resolution=(20000, 10000), resolutionunit="CENTIMETER", metadata=None)
    expected = Calibration("yx", (1.0, 0.5), (0.0,) * 2, ("micrometer",) * 2)
    assert read_tiff(path)[0].calibration == expected
    tifffile.imwrite(path, labels[0], resolution=(72, 72), resolutionunit="INCH", metadata=None)
    assert read_tiff(path)[0].calibration.is_plain
    about = {"axes": "TYX", "PhysicalSizeX": 2, "PhysicalSizeXUnit": "nm", "TimeIncrement": 4}
    planes = {"PositionX": [6.0] * 3, "PositionXUnit": ["nm"] * 3}
    tifffile.imwrite(path, labels, ome=True, metadata=about | {"Plane": planes})
    expected = Calibration("tyx", (4.0, 1.0, 2.0), (0.0, 0.0, 6.0), ("second", "", "nanometer"))
    assert read_tiff(path)[0].calibration == expected


def test_several_images_are_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(LABELS, photometric="minisblack", metadata={"axes": "ZYX"})
        file.write(LABELS[0, :5], metadata={"axes": "YX"})
    first, second = read_tiff(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(first.to_labels(), LABELS)
    np.testing.assert_array_equal(second.to_labels(), LABELS[0, :5])


def test_colours_and_fractions_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 4, 3), "u1"), photometric="rgb")
    with pytest.raises(FormatError, match="it has colours"):
        read_tiff(path)
    assert not TIFF.recognises(path)
    tifffile.imwrite(path, np.zeros((4, 4), "f4"))
    with pytest.raises(FormatError, match="float32, where ids are whole numbers"):
        read_tiff(path)
    assert not TIFF.recognises(path)
    path.write_bytes(b"nothing of the kind")
    assert not TIFF.recognises(path)
    with pytest.raises(FormatError, match="is damaged or of another kind"):
        read_tiff(path)
    tifffile.imwrite(path, np.zeros((4, 4), "u1"))
    with pytest.raises(FormatError, match=r"of the shape \(4, 4\), not \(5, 5\)"):
        read_tiff(path, (5, 5))


def test_sizes_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 4), "u1"), metadata=None)
    patched(path, ImageLength=2**31, ImageWidth=2**31)
    with pytest.raises(FormatError, match="GiB of memory at once"):
        read_tiff(path)
    tifffile.imwrite(path, np.zeros((16, 16), "u1"), metadata=None, tile=(16, 16), compression="zlib")
    patched(path, TileWidth=2**20, TileLength=2**20)
    with pytest.raises(FormatError, match="GiB of memory at once"):
        read_tiff(path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    bomb = zlib.compress(bytes(2**27), 1)
    tifffile.imwrite(path, iter([bomb]), shape=(4, 4), dtype="u1", compression="zlib", metadata=None)
    with pytest.raises(FormatError, match="holds more than it says"):
        read_tiff(path)


def test_noise_is_no_label_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 2**16, (1024, 1024)).astype("u2")
    tifffile.imwrite(path, noise)
    with pytest.raises(FormatError, match="more scattered, objects than fit"):
        read_tiff(path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="P:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="1"><TiffData>'
        '<UUID FileName="../../secret.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.zeros((4, 4), "u1"), description=text, metadata=None)
    with pytest.raises(FormatError, match="not followed"):
        read_tiff(path)


@pytest.fixture(scope="module")
def samples(place: Path) -> list[bytes]:
    found = Segmentation.of_labels(LABELS, Calibration("zyx", (2.0,) * 3, (1.0,) * 3, ("micrometer",) * 3))
    files = []
    for kind in (TIFF, OME_TIFF):
        kind.write(path_of(place, kind), [found])
        files.append(path_of(place, kind).read_bytes())
    tifffile.imwrite(place / "c.tif", LABELS.astype("u2"), imagej=True)
    tifffile.imwrite(place / "d.tif", LABELS, tile=(16, 16), photometric="minisblack", compression="zlib")
    return [*files, (place / "c.tif").read_bytes(), (place / "d.tif").read_bytes()]


@given(st.data())
def test_damaged_files_give_a_sentence(place: Path, samples: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(0, 4))):
        # Most of what matters is in the first page's tags.
        near = st.integers(0, min(600, len(content) - 1))
        at = data.draw(st.one_of(near, st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    path = place / "damaged.ome.tif"
    path.write_bytes(content)
    TIFF.recognises(path)
    # `formats.read` puts errors of the operating system into words.
    with contextlib.suppress(FormatError, OSError):
        assert read_tiff(path)
