"""Where files go: no folder is lost but one that the format wrote itself, no image, and names may be long."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import FormatError
from napari_sam.formats import (
    FORMATS,
    Calibration,
    Feature,
    Format,
    Segmentation,
    convert,
    find_format,
    read,
    write,
)
from napari_sam.formats.folders import holds_only

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import zarr
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import write_image

FOLDERS = [name for name, one in FORMATS.items() if one.is_folder]
LABELS = np.zeros((2, 20, 30), dtype=int)
LABELS[0, 3:9, 4:20] = 5
LABELS[1, 10:, 25:] = 9
TIME = Calibration("tyx", (1.0,) * 3, (0.0,) * 3, ("",) * 3)
QUIET = pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def one_of(kind: Format) -> Segmentation:
    """Objects that a format holds."""
    whole = Feature.STACKS in kind.holds or kind.is_folder or kind.name in ("csv", "parquet")
    return Segmentation.of_labels(LABELS, TIME) if whole else Segmentation.of_labels(LABELS[0])


@pytest.mark.parametrize("name", ["spectra", "Contra", "xtra", "extra.d", "01_gt tra", "res", "a_tra_"])
def test_a_name_that_happens_to_end_so_is_no_folder_of_tracks(tmp_path: Path, name: str) -> None:
    assert not FORMATS["ctc"].fits(Path(name))
    source = write(tmp_path / "stack.tif", LABELS)
    (tmp_path / name).mkdir()
    (tmp_path / name / "raw.txt").write_text("years")
    with pytest.raises(FormatError, match="is of no format"):
        convert(source, tmp_path / name, overwrite=True)
    assert contents(tmp_path / name) == {"raw.txt": b"years"}


@pytest.mark.parametrize("name", ["TRA", "tra", "01_RES", "02_res", "a_TRA", "01_GT/TRA"])
def test_names_of_the_challenge_are_known(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    assert write(path, Segmentation.of_labels(LABELS, TIME)) == path
    assert find_format(path).name == "ctc"
    np.testing.assert_array_equal(read(path)[0].to_labels(), LABELS)


def spoil_with_a_file(path: Path) -> None:
    (path / "thesis.docx").write_text("years")


def spoil_below(path: Path) -> None:
    deepest = max(
        (one for one in path.rglob("*") if one.is_dir()), key=lambda one: len(one.parts), default=path
    )
    (deepest / "notes.md").write_text("years")


def spoil_with_a_hidden_folder(path: Path) -> None:
    (path / ".git").mkdir()
    (path / ".git" / "HEAD").write_text("ref")


def spoil_with_an_empty_folder(path: Path) -> None:
    (path / "raw").mkdir()


def spoil_with_a_link(path: Path) -> None:
    first = next(one for one in sorted(path.rglob("*")) if one.is_file())
    elsewhere = path.parent / "elsewhere"
    first.rename(elsewhere)
    first.symlink_to(elsewhere)


def leave_files_only(path: Path) -> None:
    """A folder of somebody with a fitting name, and nothing else of the format."""
    shutil.rmtree(path)
    path.mkdir()
    (path / "mask000.tif").write_bytes(b"an image of somebody")


SPOILS = [
    spoil_with_a_file,
    spoil_below,
    spoil_with_a_hidden_folder,
    spoil_with_an_empty_folder,
    spoil_with_a_link,
    leave_files_only,
]


@QUIET
@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_other_files_is_never_replaced(
    tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    kind = FORMATS[name]
    path = write(tmp_path / f"mine{kind.suffixes[0]}", one_of(kind), name)
    spoil(path)
    source = write(tmp_path / "stack.npy", LABELS)
    before = contents(path)
    for overwrite in (False, True):
        with pytest.raises(FormatError, match=r"mine.* holds other files: choose another name\.$"):
            write(path, one_of(kind), name, overwrite=overwrite)
        with pytest.raises(FormatError, match="holds other files"):
            convert(source, path, to=name, overwrite=overwrite)
    assert contents(path) == before


@QUIET
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("labels", [LABELS, LABELS * 0])
def test_what_the_format_wrote_and_empty_folders_are_replaced(
    tmp_path: Path, name: str, labels: np.ndarray
) -> None:
    kind = FORMATS[name]
    path = tmp_path / f"mine{kind.suffixes[0]}"
    path.mkdir()
    for _ in range(2):
        with pytest.raises(FormatError, match="exists: choose another name, or say"):
            write(path, Segmentation.of_labels(labels, TIME), name)
        assert write(path, Segmentation.of_labels(labels, TIME), name, overwrite=True) == path
        # What a system leaves there is nobody's.
        (path / ".DS_Store").touch()
    assert write(path, one_of(kind), name, overwrite=True) == path
    assert not (path / ".DS_Store").exists()
    assert any(item.area for one in read(path, name) for item in one.items)


@QUIET
def test_one_version_of_ome_zarr_takes_the_place_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for name in ("ome-zarr", "ome-zarr-0.4", "ome-zarr"):
        write(path, LABELS, name, overwrite=True)
        assert find_format(path).name == name


@QUIET
def test_words_among_the_labels_of_yolo_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yolo", Segmentation.of_labels(LABELS[0], name="a.png"), "yolo-folder")
    (path / "labels" / "notes.txt").write_text("years of work\n")
    with pytest.raises(FormatError, match="holds other files"):
        write(path, LABELS, "yolo-folder", overwrite=True)
    assert (path / "labels" / "notes.txt").exists()


@QUIET
@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if not one.is_folder])
@pytest.mark.parametrize("empty", [True, False])
def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path, name: str, empty: bool) -> None:
    kind = FORMATS[name]
    source = write(tmp_path / "plane.npy", LABELS[0])
    path = tmp_path / f"mine{kind.suffixes[0]}"
    path.mkdir()
    if not empty:
        (path / "raw.txt").write_text("years")
    before = contents(path)
    with pytest.raises(FormatError, match=r"is a folder, and .* is a file"):
        write(path, one_of(kind), name, overwrite=True)
    with pytest.raises(FormatError, match=r"is a folder, and .* is a file"):
        convert(source, path, overwrite=True)
    assert path.is_dir()
    assert contents(path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is open to root")
def test_a_folder_into_which_nobody_can_look_is_not_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a_RES", Segmentation.of_labels(LABELS, TIME), "ctc")
    (path / "closed").mkdir(mode=0)
    with pytest.raises(FormatError, match="cannot be written: Permission denied"):
        write(path, Segmentation.of_labels(LABELS, TIME), "ctc", overwrite=True)
    assert (path / "closed").is_dir()


@given(st.lists(st.sampled_from(["a.txt", "b/a.txt", "b/c/a.txt", "b/", "a.md", "Thumbs.db"]), max_size=4))
def test_what_a_folder_holds(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("held")
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if name.endswith("/") else place.touch()
    assert holds_only(folder) == (set(names) <= {"Thumbs.db"})
    filled = any(name.startswith("b/") and name != "b/" for name in names)
    assert holds_only(folder, r"(.*/)?a\.txt") == ("a.md" not in names and ("b/" not in names or filled))


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of another program, without labels."""
    path = tmp_path / "image ü.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3 if request.param == "0.5" else 2)
    pixels = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale = {"z": 3.0, "y": 0.5, "x": 0.5}
        write_image(pixels, group, axes="zyx", fmt=format_from_version(request.param), scale=scale)
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("to", ["", "ome-zarr", "ome-zarr-0.4"])
def test_labels_are_added_to_an_image(image: Path, tmp_path: Path, to: str, overwrite: bool) -> None:
    source = write(tmp_path / "my cells.tif", LABELS)
    before = contents(image)
    (added,) = convert(source, image, to=to, overwrite=overwrite)
    assert added == image / "labels" / "my-cells"
    assert write(image, LABELS, to, overwrite=overwrite) == image / "labels" / "objects"
    after = contents(image)
    assert {name: after[name] for name in before} == before
    for one in read(image):
        np.testing.assert_array_equal(one.to_labels(), LABELS)
        assert one.calibration.scale == (3.0, 0.5, 0.5)


def test_labels_of_an_image_are_replaced_only_if_that_is_said(image: Path) -> None:
    write(image, LABELS)
    before = contents(image)
    with pytest.raises(FormatError, match="exists: choose another name, or say"):
        write(image, LABELS * 2)
    assert contents(image) == before
    write(image, LABELS * 2, overwrite=True)
    np.testing.assert_array_equal(read(image)[0].to_labels(), LABELS * 2)
    after = contents(image)
    pixels = [name for name in before if not name.startswith("labels")]
    assert all(after[name] == before[name] for name in pixels)


def test_an_image_of_any_name_gets_labels_and_one_only(image: Path, tmp_path: Path) -> None:
    path = image.rename(tmp_path / "image")
    source = write(tmp_path / "stack.tif", LABELS)
    (added,) = convert(source, path, to="ome-zarr")
    assert added == path / "labels" / "stack"
    two = write(tmp_path / "two.coco.json", [Segmentation((2, 2), name=name) for name in "ab"])
    before = contents(path)
    with pytest.raises(FormatError, match="holds 2 images"):
        convert(two, path, to="ome-zarr", overwrite=True)
    assert contents(path) == before


def test_other_stores_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "array.zarr"
    zarr.create_array(path, shape=(4, 4), dtype="u1")[...] = 1
    before = contents(path)
    with pytest.raises(FormatError, match="holds other files"):
        write(path, LABELS, overwrite=True)
    # Several images in one store, of which each has its labels.
    zarr.open_group(tmp_path / "plate.zarr", mode="w").create_group("A/1/0")
    with pytest.raises(FormatError, match="holds other files"):
        write(tmp_path / "plate.zarr", LABELS, overwrite=True)
    # Damaged, it may have been an image.
    (tmp_path / "damaged.zarr").mkdir()
    (tmp_path / "damaged.zarr" / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="holds other files"):
        write(tmp_path / "damaged.zarr", LABELS, overwrite=True)
    assert contents(path) == before


def test_the_name_of_an_annotation_is_checked_before_anything_is_made(tmp_path: Path) -> None:
    source = write(tmp_path / "one.tif", LABELS)
    before = sorted(tmp_path.iterdir())
    told = r"[\\/]foo\.bar does not end in \.napari-sam\.zip, as files of the format annotation do: choose"
    with pytest.raises(FormatError, match=told):
        convert(source, tmp_path / "foo.bar", to="annotation")
    with pytest.raises(FormatError, match=told):
        write(tmp_path / "foo.bar", LABELS, "annotation")
    assert sorted(tmp_path.iterdir()) == before
    # A folder gets a file with a name that fits.
    (tmp_path / "out").mkdir()
    assert convert(source, tmp_path / "out", to="annotation") == [tmp_path / "out" / "one.napari-sam.zip"]


LONGEST = 255


@QUIET
@pytest.mark.parametrize("letter", ["a", "ä", "細", "𠀀", "."])
@pytest.mark.parametrize("name", FORMATS)
def test_names_may_be_as_long_as_the_system_takes_them(tmp_path: Path, name: str, letter: str) -> None:
    kind = FORMATS[name]
    room = LONGEST - 1 - len(kind.suffixes[0])
    path = tmp_path / f"x{letter * (room // len(letter.encode()))}{kind.suffixes[0]}"
    try:
        path.touch()
    except OSError:
        pytest.skip("names are shorter here")
    path.unlink()
    for overwrite in (False, True):
        write(path, one_of(kind), name, overwrite=overwrite)
        assert list(tmp_path.iterdir()) == [path]
    if kind.read is not None:
        assert read(path, name, shape=LABELS[0].shape if name == "yolo" else None)


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".napari-sam.zip"])
def test_a_name_that_the_system_does_not_take_is_told(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "one.tif", LABELS)
    path = tmp_path / f"{'ä' * 2000}{suffix}"
    with pytest.raises(FormatError, match="cannot be written: "):
        write(path, LABELS)
    with pytest.raises(FormatError, match="cannot be written: "):
        convert(source, path)
    with pytest.raises(FormatError, match="cannot be read: "):
        read(path)
    assert list(tmp_path.iterdir()) == [source]
