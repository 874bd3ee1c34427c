"""Label images as PNG, NPY and NPZ."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy
from PIL import Image
from random_label_images import GREATEST, IDS, assert_same, label_images
from skimage.io import imread

from napari_sam.errors import FormatError
from napari_sam.formats import Calibration, Format, Item, Segmentation, losses
from napari_sam.formats.label_arrays import NPY, NPZ, PNG
from napari_sam.inference.mask import Mask

ANY = st.one_of(IDS, st.sampled_from([-1, -200, -(2**40), 2**32, GREATEST, -GREATEST]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


def back(folder: Path, kind: Format, found: Segmentation) -> Segmentation:
    path = folder / f"labels{kind.suffixes[0]}"
    kind.write(path, [found])
    assert kind.recognises is None or kind.recognises(path)
    assert kind.read is not None
    (again,) = kind.read(path, found.shape)
    return again


@given(label_images(axes=("yx",), ids=st.integers(1, 2**16 - 1), plain=True))
def test_png_comes_back(place: Path, found: Segmentation) -> None:
    assert_same(back(place, PNG, found), found)
    np.testing.assert_array_equal(imread(place / "labels.png"), found.to_labels())


@given(label_images(axes=("yx", "qyx", "qqyx", "qqqqyx"), ids=ANY, plain=True))
def test_npy_comes_back(place: Path, found: Segmentation) -> None:
    assert_same(back(place, NPY, found), found)
    labels = np.load(place / "labels.npy")
    np.testing.assert_array_equal(labels, found.to_labels())
    assert labels.dtype == found.to_labels().dtype


@given(label_images(axes=("yx", "zyx", "qqyx", "tczyx", "qqqqyx"), ids=ANY, described=True))
def test_npz_comes_back(place: Path, found: Segmentation) -> None:
    assert_same(back(place, NPZ, found), found)
    with np.load(place / "labels.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["labels"], found.to_labels())
        assert arrays["id"].tolist() == [item.id for item in found.items]
        assert arrays["class"].tolist() == [item.class_name for item in found.items]
        np.testing.assert_array_equal(
            arrays["score"], [np.nan if i.score is None else i.score for i in found.items]
        )


def test_images_without_pixels(tmp_path: Path) -> None:
    for kind in (NPY, NPZ):
        for shape in ((0, 4), (3, 0, 4), (0, 4, 4)):
            assert back(tmp_path, kind, Segmentation(shape)).shape == shape


def test_what_is_lost() -> None:
    mask = Mask.from_array(np.ones((2, 2)))
    pixels = Calibration("zyx", (2.0, 1.0, 1.0), (0.0,) * 3, ("",) * 3)
    items = [Item(5, {(0,): mask}, "cell", 0.5), Item(7, {(0,): mask})]
    found = Segmentation((1, 2, 2), items, calibration=pixels)
    overlap = "one object per pixel: where 2 objects overlap, the best one gets it."
    assert losses([found], NPZ) == [f"{NPZ.title} holds {overlap}"]
    assert losses([found], NPY) == [
        f"{NPY.title} holds no classes: 1 object will lose theirs.",
        f"{NPY.title} holds no scores: 1 object will lose theirs.",
        f"{NPY.title} holds {overlap}",
        f"{NPY.title} holds no sizes of pixels: 2 objects will be in pixels.",
    ]
    assert len(losses([found], PNG)) == 5


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.array([[2**16]]), "from 1 to 65535"),
        (np.array([[-1]]), "from 1 to 65535"),
        (np.ones((2, 3, 4), int), "holds one plane"),
        (np.zeros((0, 4), int), "without pixels"),
    ],
)
def test_what_png_cannot_hold(tmp_path: Path, labels: np.ndarray, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        PNG.write(tmp_path / "a.png", [Segmentation.of_labels(labels)])


def test_pngs_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    labels = np.array([[0, 1, 1], [0, 2, 2]], dtype="u1")
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.ravel())
    palette.save(path)
    assert read(PNG, path).to_labels().tolist() == labels.tolist()
    Image.fromarray(labels == 1).save(path)
    assert read(PNG, path).to_labels().tolist() == (labels == 1).tolist()
    Image.fromarray(np.zeros((3, 3, 3), "u1")).save(path)
    assert not PNG.recognises(path)
    with pytest.raises(FormatError, match="it has colours"):
        read(PNG, path)
    path.write_bytes(b"\x89PNG")
    assert not PNG.recognises(path)
    assert not PNG.recognises(tmp_path / "missing.png")


def read(kind: Format, path: Path) -> Segmentation:
    assert kind.read is not None
    (one,) = kind.read(path, None)
    return one


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_png_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, zlib.compress(b"\0\5\6")))
    assert read(PNG, path).to_labels().tolist() == [[5, 6]]
    path.write_bytes(png(2**20, 2**20, b""))
    with pytest.raises(FormatError, match="GiB of memory at once"):
        read(PNG, path)
    path.write_bytes(png(15000, 15000, b""))
    with pytest.raises(FormatError, match="exceeds limit"):
        read(PNG, path)
    # More than it says.
    path.write_bytes(png(2, 1, zlib.compress(bytes(10**7))))
    with contextlib.suppress(FormatError):
        assert read(PNG, path).shape == (1, 2)


def test_arrays_of_others(tmp_path: Path) -> None:
    labels = np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", np.asfortranarray(labels))
    np.testing.assert_array_equal(read(NPY, tmp_path / "a.npy").to_labels(), labels)
    np.save(tmp_path / "a.npy", labels.astype(">i4"))
    np.testing.assert_array_equal(read(NPY, tmp_path / "a.npy").to_labels(), labels)
    np.savez(tmp_path / "a.npz", labels)
    np.testing.assert_array_equal(read(NPZ, tmp_path / "a.npz").to_labels(), labels)
    np.savez_compressed(tmp_path / "a.npz", image=labels.astype("f4"), labels=labels)
    np.testing.assert_array_equal(read(NPZ, tmp_path / "a.npz").to_labels(), labels)
    np.savez(tmp_path / "a.npz", labels, labels)
    with pytest.raises(FormatError, match="2 arrays, of which none is called labels"):
        read(NPZ, tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", labels.astype(float))
    with pytest.raises(FormatError, match="float64, where ids are whole numbers"):
        read(NPY, tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(FormatError, match="it has the shape"):
        read(NPY, tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(FormatError, match="may run programs"):
        read(NPY, tmp_path / "a.npy")


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    "shape", [(2**40, 2**40), (2**62, 4), (-1, 4), (4, -1, -4), (10**30, 2), (True, 16), ()], ids=str
)
def test_npy_sizes_are_checked(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(header(shape) + bytes(16))
    try:
        assert read(NPY, tmp_path / "a.npy").shape == (1, 16)
    except FormatError as error:
        assert "a.npy" in str(error)  # noqa: PT017


def test_npz_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", header((2, 2)) + b"\0\1\1\0")
        archive.writestr("id.npy", header((2**26,)) + bytes(2**26))
    with pytest.raises(FormatError, match=r"more in id\.npy than makes sense"):
        read(NPZ, path)
    # Says that it holds 64 GiB.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", header((2**18, 2**18)) + bytes(100))
    content = path.read_bytes()
    size = len(header((2**18, 2**18))) + 100
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 2**31)))
    with pytest.raises(FormatError, match="cut off or damaged"):
        read(NPZ, path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("score", np.array([np.inf])),
        ("score", np.array(["much"])),
        ("score", np.array([0.5, 0.5])),
        ("class", np.array([3])),
        ("id", np.array([[7]])),
        ("id", np.array([1.5])),
        ("attributes", np.array(["{"])),
        ("attributes", np.array(["[]"])),
        ("source", np.array([1])),
        ("axes", np.array("zyx")),
        ("axes", np.array("ab")),
        ("axes", np.array(2)),
        ("scale", np.array([0.0, 1])),
        ("scale", np.array([[1.0, 1]])),
        ("units", np.array([1, 2])),
        ("class_id", np.array([-4])),
        ("class_name", np.array([" "])),
        ("class_colour", np.array(["red"])),
        ("class_colour", np.array([])),
        ("class_name", np.array([1j])),
    ],
    ids=str,
)
def test_wrong_tables_give_a_sentence(tmp_path: Path, name: str, array: np.ndarray) -> None:
    found = Segmentation(
        (2, 2), [Item(3, {(): Mask.from_array(np.eye(2))}, "cell", 0.5, "clicked", {"a": 1})]
    )
    path = tmp_path / "a.npz"
    NPZ.write(path, [found])
    with np.load(path) as arrays:
        table = dict(arrays)
    np.savez(path, **table)
    assert_same(read(NPZ, path), found)
    np.savez(path, **(table | {name: array}))
    with pytest.raises(FormatError, match=r"a\.npz"):
        read(NPZ, path)


@pytest.fixture(scope="module")
def samples(place: Path) -> list[tuple[Format, bytes]]:
    labels = np.kron(np.array([[0, 7, 7], [300, 0, 7]]), np.ones((5, 5), dtype=int))
    found = Segmentation.of_labels(labels)
    files = []
    for kind in (PNG, NPY, NPZ):
        path = place / f"sample{kind.suffixes[0]}"
        kind.write(path, [found])
        files.append((kind, path.read_bytes()))
    return files


@given(st.data())
def test_damaged_files_give_a_sentence(
    place: Path, samples: list[tuple[Format, bytes]], data: st.DataObject
) -> None:
    kind, original = data.draw(st.sampled_from(samples))
    content = bytearray(original)
    for _ in range(data.draw(st.integers(0, 4))):
        near = st.integers(0, min(150, len(content) - 1))
        at = data.draw(st.one_of(near, st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    path = place / f"damaged{kind.suffixes[0]}"
    path.write_bytes(content)
    assert kind.recognises is None or kind.recognises(path) in (True, False)
    with contextlib.suppress(FormatError):
        read(kind, path)
