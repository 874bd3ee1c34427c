"""Label images as OME-Zarr, in stores of their own and beside images."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_label_images import GREATEST, IDS, assert_same, label_images

from napari_sam.errors import FormatError
from napari_sam.formats import Calibration, Format, Item, Segmentation, losses
from napari_sam.formats.ome_zarr import OME_ZARR, OME_ZARR_04, write_into
from napari_sam.inference.mask import Mask

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import zarr
    from ome_zarr.format import format_from_version
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr.writer import write_image

BOTH = pytest.mark.parametrize("kind", [OME_ZARR, OME_ZARR_04], ids=["0.5", "0.4"])
ANY = st.one_of(IDS, st.sampled_from([-1, -200, -(2**40), 2**32, GREATEST, -GREATEST]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zarr")


def read(path: Path) -> Segmentation:
    assert OME_ZARR.read is not None
    (one,) = OME_ZARR.read(path, None)
    return one


def back(folder: Path, kind: Format, found: Segmentation) -> Segmentation:
    path = folder / "labels.zarr"
    shutil.rmtree(path, ignore_errors=True)
    kind.write(path, [found])
    assert [one.recognises(path) for one in (OME_ZARR, OME_ZARR_04)] == [
        kind is OME_ZARR,
        kind is OME_ZARR_04,
    ]
    return read(path)


AXES = ("yx", "qyx", "zyx", "cyx", "qqyx", "zcyx", "tczyx", "qqqyx", "yxyx")


@settings(max_examples=50)
@given(
    label_images(axes=AXES, ids=ANY, described=True),
    st.sampled_from([OME_ZARR, OME_ZARR_04]),
)
def test_it_comes_back(place: Path, found: Segmentation, kind: Format) -> None:
    assert_same(back(place, kind, found), found)


def nodes(path: Path) -> list[Any]:
    location = parse_url(path, fmt=format_from_version("0.5" if (path / "zarr.json").exists() else "0.4"))
    assert location is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return list(Reader(location)())


@BOTH
def test_the_package_reads_it(tmp_path: Path, kind: Format) -> None:
    labels = np.zeros((2, 600, 40), dtype=int)
    labels[0, :500, 5:30] = 70000
    labels[1, 100:, 20:] = 3
    pixels = Calibration(
        "zyx", (2.0, 0.5, 0.25), (1.0, 0.0, -7.0), ("micrometer", "micrometer", "micrometer")
    )
    found = Segmentation.of_labels(labels, pixels)
    items = [Item(i.id, i.masks, "cell", 0.25, "clicked", {"flag": 1}) for i in found.items]
    found = Segmentation(found.shape, items, calibration=pixels)
    kind.write(tmp_path / "a.zarr", [found])
    _, node = nodes(tmp_path / "a.zarr" / "labels")
    fine, half, quarter = (np.asarray(level) for level in node.data)
    np.testing.assert_array_equal(fine, labels)
    assert fine.dtype == np.uint32
    np.testing.assert_array_equal(half, labels[:, 1::2, 1::2])
    np.testing.assert_array_equal(quarter, labels[:, 2::4, 2::4])
    about = node.metadata
    assert [axis["name"] for axis in about["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in about["axes"]} == {"micrometer"}
    assert about["coordinateTransformations"][:2] == [
        [
            {"type": "scale", "scale": [2, 0.5, 0.25]},
            {"type": "translation", "translation": [1, 0, -7]},
        ],
        [
            {"type": "scale", "scale": [2, 1, 0.5]},
            {"type": "translation", "translation": [1, 0.25, -6.875]},
        ],
    ]
    cell = {"class": "cell", "score": 0.25, "source": "clicked", "attributes": {"flag": 1}}
    assert about["properties"] == {3: cell, 70000: cell}
    colour = [int(found.classes[0].colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    assert about["color"] == {3: [*colour, 1], 70000: [*colour, 1]}


@given(label_images(axes=AXES, described=True))
@settings(max_examples=15)
def test_metadata_are_as_the_specification_has_them(place: Path, found: Segmentation) -> None:
    from ome_zarr_models import v04, v05

    for kind, model in ((OME_ZARR, v05.ImageLabel), (OME_ZARR_04, v04.ImageLabel)):
        back(place, kind, found)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.from_zarr(zarr.open_group(place / "labels.zarr" / "labels" / "objects", mode="r"))


@BOTH
def test_what_is_lost(kind: Format) -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    found = Segmentation((2, 2), [Item(5, {(): mask}, "cell", 0.5), Item(7, {(): mask})])
    assert losses([found], kind) == [
        f"{kind.title} holds one object per pixel: where 2 objects overlap, the best one gets it."
    ]


@BOTH
def test_what_cannot_be_written(tmp_path: Path, kind: Format) -> None:
    for found, why in (
        (Segmentation((1,) * 6), "at most 5 axes"),
        (Segmentation((0, 4)), "without pixels"),
        (Segmentation((1, 1), [Item(1, {}, attributes={"a": float("nan")})]), "attributes"),
    ):
        with pytest.raises(FormatError, match=why):
            kind.write(tmp_path / "a.zarr", [found])


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of the package's own writer."""
    path = tmp_path / "image ü.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3 if request.param == "0.5" else 2)
    pixels = np.arange(2 * 2 * 20 * 30, dtype=np.uint16).reshape(2, 2, 20, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_image(
            pixels,
            group,
            axes="czyx",
            fmt=format_from_version(request.param),
            scale={"c": 1.0, "z": 3.0, "y": 0.5, "x": 0.5},
        )
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


LABELS = np.zeros((2, 20, 30), dtype=int)
LABELS[0, 3:9, 4:20] = 5
LABELS[1, 10:, 25:] = 300


def test_labels_go_beside_an_image(image: Path) -> None:
    before = contents(image)
    found = Segmentation.of_labels(LABELS)
    assert write_into(image, found) == image / "labels" / "objects"
    assert write_into(image, found, "more.2") == image / "labels" / "more.2"
    after = contents(image)
    assert {name: after[name] for name in before} == before
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} == {"labels"}
    assert not [
        name for name in after if "/." in name and Path(name).name not in (".zgroup", ".zattrs", ".zarray")
    ]
    read_ones = OME_ZARR.read(image, LABELS.shape)
    assert [one.name for one in read_ones] == ["objects", "more.2"]
    for one in read_ones:
        np.testing.assert_array_equal(one.to_labels(), LABELS)
        # Plain labels are where the image is.
        assert one.calibration == Calibration("zyx", (3.0, 0.5, 0.5), (0.0,) * 3, ("",) * 3)
    of_image, _, *of_labels = nodes(image)
    assert of_image.data[0].shape == (2, 2, 20, 30)
    assert [node.metadata["name"] for node in of_labels] == ["objects", "more.2"]
    np.testing.assert_array_equal(np.asarray(of_labels[0].data[0]), LABELS)


def test_labels_beside_an_image_are_replaced_only_if_that_is_said(image: Path) -> None:
    write_into(image, Segmentation.of_labels(LABELS))
    before = contents(image)
    with pytest.raises(FormatError, match="exists: choose another name"):
        write_into(image, Segmentation.of_labels(LABELS * 2))
    assert contents(image) == before
    write_into(image, Segmentation.of_labels(LABELS * 2), overwrite=True)
    np.testing.assert_array_equal(read(image).to_labels(), LABELS * 2)
    assert len(list((image / "labels").iterdir())) == len({Path(n).parts[1] for n in before if "labels" in n})


def test_an_interrupted_write_leaves_the_image_as_it_was(image: Path) -> None:
    bad = Segmentation((2, 20, 30), [Item(1, {}, attributes={"a": float("nan")})])
    before = contents(image)
    with pytest.raises(FormatError):
        write_into(image, bad)
    assert contents(image) == before
    write_into(image, Segmentation.of_labels(LABELS))
    before = contents(image)
    with pytest.raises(FormatError):
        write_into(image, bad, overwrite=True)
    assert contents(image) == before


def test_what_cannot_go_beside_an_image(image: Path, tmp_path: Path) -> None:
    found = Segmentation.of_labels(LABELS)
    own = "0.5" if (image / "zarr.json").exists() else "0.4"
    for name in ("", "../other", "/absolute", ".hidden", "a/b", "a\\b", "ü"):
        with pytest.raises(FormatError, match="cannot be the name"):
            write_into(image, found, name)
    with pytest.raises(FormatError, match="do not fit"):
        write_into(image, found, version={"0.4": "0.5", "0.5": "0.4"}[own])
    write_into(image, found, version=own)
    with pytest.raises(FormatError, match="is no Zarr"):
        write_into(tmp_path / "nothing.zarr", found)
    with pytest.raises(FormatError, match="no image"):
        write_into(image / "labels", found)
    (image / "labels").rename(tmp_path / "elsewhere")
    (image / "labels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="is a link"):
        write_into(image, found, "more")


def test_an_image_without_labels_is_none_of_ours(image: Path) -> None:
    assert not OME_ZARR.recognises(image)
    assert not OME_ZARR_04.recognises(image)
    with pytest.raises(FormatError, match="has no labels"):
        read(image)


def changed(path: Path, *keys: Any, value: Any) -> None:
    """Set a value in a JSON file."""
    about = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(about))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    found = Segmentation.of_labels(LABELS)
    items = [Item(i.id, i.masks, "cell", 0.5) for i in found.items]
    OME_ZARR_04.write(tmp_path / "a.zarr", [Segmentation(found.shape, items)])
    return tmp_path / "a.zarr"


@pytest.mark.parametrize(
    ("keys", "value", "why"),
    [
        (["multiscales", 0, "datasets", 0, "path"], "/etc", "not followed"),
        (["multiscales", 0, "datasets", 0, "path"], "../objects/0", "not followed"),
        (["multiscales", 0, "datasets", 0, "path"], "https://example.org/0", "not followed"),
        (["multiscales", 0, "datasets", 0, "path"], 3, "not followed"),
        (["multiscales", 0, "datasets"], [], "has no image"),
        (["multiscales", 0, "version"], "9", "version 9"),
        (["multiscales", 0, "axes"], ["y", "x"], "does not name its 3 axes"),
        (["multiscales", 0, "datasets", 0, "coordinateTransformations"], "x", "coordinate transformations"),
        (
            ["multiscales", 0, "datasets", 0, "coordinateTransformations", 0],
            {"type": "scale", "path": "s"},
            "is placed by",
        ),
        (
            ["multiscales", 0, "datasets", 0, "coordinateTransformations", 0, "scale"],
            [1, 1, 0],
            "positive numbers",
        ),
        (["image-label", "properties"], 3, "properties"),
        (["image-label", "properties", 0, "label-value"], "5", "which is no number"),
        (["image-label"], [], "properties"),
        (["napari-sam"], [], "napari-sam"),
        (["napari-sam", "classes"], [{"id": "x"}], "classes"),
        (["napari-sam", "axes"], "abc", "Axes are named"),
    ],
)
def test_wrong_metadata_give_a_sentence(store: Path, keys: list[Any], value: Any, why: str) -> None:
    changed(store / "labels" / "objects" / ".zattrs", *keys, value=value)
    with pytest.raises(FormatError, match=why):
        read(store)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("chunks", [1, 2**20, 2**20], "GiB of memory at once"),
        ("shape", [2, 2**40, 2**40], "GiB of memory at once"),
        ("shape", [2**50, 20, 30], "more than makes sense"),
        ("shape", [2, -1, 30], "which cannot be"),
        ("shape", [20, 30], "2 axes"),
        ("dtype", "<f4", "no label image"),
        ("dtype", "|O", "no label image"),
        ("filters", [{"id": "pickle"}], "filters, which are not run"),
        ("compressor", {"id": "pickle"}, "packed by"),
        ("compressor", {"id": "lzma"}, "packed by"),
    ],
)
def test_wrong_arrays_give_a_sentence(store: Path, key: str, value: Any, why: str) -> None:
    changed(store / "labels" / "objects" / "0" / ".zarray", key, value=value)
    with pytest.raises(FormatError, match=why):
        read(store)


def test_labels_elsewhere_are_not_followed(store: Path, tmp_path: Path) -> None:
    for name in ("../../other", "/etc", "http://example.org/a", "", ".."):
        changed(store / "labels" / ".zattrs", "labels", value=[name])
        assert not OME_ZARR_04.recognises(store)
        with pytest.raises(FormatError, match="not followed"):
            read(store)
    changed(store / "labels" / ".zattrs", "labels", value=["objects"])
    chunk = store / "labels" / "objects" / "0" / "0" / "0" / "0"
    chunk.rename(tmp_path / "chunk")
    chunk.symlink_to("/dev/zero")
    with pytest.raises(FormatError, match="has a link"):
        read(store)


COMPRESSORS = ["blosc", "zstd", "gzip", "zlib", "lz4"]


def packed(path: Path, name: str, version: int, **more: Any) -> Path:
    """A store of another program, packed in some way; the path of its only chunk."""
    import numcodecs
    from zarr import codecs

    found = Segmentation.of_labels(LABELS.repeat(30, 1)[:1])
    (OME_ZARR if version == 3 else OME_ZARR_04).write(path, [found])
    group = zarr.open_group(path / "labels" / "objects", mode="a")
    if version == 2:
        packing = getattr(numcodecs, {"lz4": "LZ4", "gzip": "GZip"}.get(name, name.capitalize()))()
    else:
        packing = getattr(codecs, f"{name.capitalize()}Codec")()
    array = group.create_array(
        "0", shape=found.shape, chunks=found.shape, dtype="u2", compressors=packing, overwrite=True, **more
    )
    array[...] = found.to_labels()
    np.testing.assert_array_equal(read(path).to_labels(), found.to_labels())
    (chunk,) = (
        f for f in (path / "labels" / "objects" / "0").rglob("*") if f.is_file() and f.name[0] not in ".z"
    )
    return chunk


@pytest.mark.parametrize(
    ("name", "version"), [*((n, 2) for n in COMPRESSORS), *((n, 3) for n in COMPRESSORS[:3])]
)
def test_bombs_are_refused(tmp_path: Path, name: str, version: int) -> None:
    import numcodecs

    chunk = packed(tmp_path / "a.zarr", name, version)
    packing = {
        "blosc": numcodecs.Blosc(cname="zstd"),
        "zstd": numcodecs.Zstd(),
        "gzip": numcodecs.GZip(),
        "zlib": numcodecs.Zlib(),
        "lz4": numcodecs.LZ4(),
    }[name]
    chunk.write_bytes(packing.encode(np.zeros(2**27, "u1")))
    if name == "lz4":  # packs least of all: it is too large as it is
        assert chunk.stat().st_size > 2**17
    with pytest.raises(FormatError, match=r"holds more than it says|larger than what they hold"):
        read(tmp_path / "a.zarr")


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_are_read_and_looked_into(tmp_path: Path, location: str) -> None:
    import numcodecs
    from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

    chunk = packed(tmp_path / "a.zarr", "zstd", 3)
    folder = tmp_path / "a.zarr" / "labels" / "objects"
    labels = read(tmp_path / "a.zarr").to_labels()
    shutil.rmtree(folder / "0")
    packing = [BytesCodec(), ZstdCodec()]
    sharding = ShardingCodec(chunk_shape=(1, 200, 15), codecs=packing, index_location=location)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            folder,
            name="0",
            shape=labels.shape,
            chunks=labels.shape,
            dtype="u2",
            serializer=sharding,
            compressors=None,
        )
    array[...] = labels
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").to_labels(), labels)
    bomb = numcodecs.Zstd().encode(np.zeros(2**24, "u1"))
    content = bytearray(chunk.read_bytes())
    at = content.index(b"\x28\xb5\x2f\xfd")
    content[at : at + len(bomb[:32])] = bomb[:32]
    chunk.write_bytes(content)
    with pytest.raises(FormatError, match="holds more than it says"):
        read(tmp_path / "a.zarr")


def test_chunks_that_are_several_planes_deep_are_unpacked_once(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (3, 7, 8, 9))
    OME_ZARR.write(tmp_path / "a.zarr", [Segmentation.of_labels(labels)])
    group = zarr.open_group(tmp_path / "a.zarr" / "labels" / "objects", mode="a")
    group.create_array("0", shape=labels.shape, chunks=(2, 4, 8, 9), dtype="u1", overwrite=True)[...] = labels
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").to_labels(), labels)


@pytest.fixture(scope="module")
def samples(place: Path) -> list[tuple[Path, dict[str, bytes]]]:
    found = Segmentation.of_labels(LABELS)
    found = Segmentation(found.shape, [Item(i.id, i.masks, "cell", 0.5) for i in found.items])
    result = []
    for kind in (OME_ZARR, OME_ZARR_04):
        path = place / f"sample-{kind.name}.zarr"
        kind.write(path, [found])
        result.append((path, contents(path)))
    return result


@given(st.data())
@settings(max_examples=150)
def test_damaged_files_give_a_sentence(
    samples: list[tuple[Path, dict[str, bytes]]], data: st.DataObject
) -> None:
    path, files = data.draw(st.sampled_from(samples))
    # A file's name is drawn, and what it has: bytes changed, or another value somewhere in its JSON.
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    if files[name].startswith(b"{") and data.draw(st.booleans()):
        about = json.loads(files[name])
        _spoil(about, data)
        content = bytearray(json.dumps(about).encode())
    (path / name).write_bytes(content)
    try:
        assert all(one.recognises(path) in (True, False) for one in (OME_ZARR, OME_ZARR_04))
        with contextlib.suppress(FormatError, OSError):
            assert OME_ZARR.read(path, None)
    finally:
        (path / name).write_bytes(files[name])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf"), "", "..", "/", [], {}, [[]]]
    ),
)


def _spoil(about: Any, data: st.DataObject) -> None:
    """Another value somewhere."""
    while isinstance(about, dict | list) and about:
        key = data.draw(
            st.sampled_from(sorted(about) if isinstance(about, dict) else list(range(len(about))))
        )
        if not isinstance(about[key], dict | list) or not about[key] or data.draw(st.integers(0, 3)) == 0:
            about[key] = data.draw(VALUES)
            return
        about = about[key]


def test_deflate_checked_in_pieces_is_what_was_packed(tmp_path: Path) -> None:
    # More than 64 KiB of honest deflate are unpacked twice, and read.
    noise = np.random.default_rng(0).integers(0, 200, (1, 300, 400)).astype("u2")
    OME_ZARR_04.write(tmp_path / "a.zarr", [Segmentation((1, 300, 400), [Item(1, {})])])
    folder = tmp_path / "a.zarr" / "labels" / "objects" / "0"
    changed(folder / ".zarray", "compressor", value={"id": "zlib", "level": 1})
    changed(folder / ".zarray", "dtype", value="<u2")
    (folder / "0" / "0").mkdir(parents=True)
    (folder / "0" / "0" / "0").write_bytes(zlib.compress(noise.tobytes(), 1))
    assert (folder / "0" / "0" / "0").stat().st_size > 2**16
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").to_labels(), noise)
