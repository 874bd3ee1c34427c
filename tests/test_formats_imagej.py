from __future__ import annotations

import json
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_segmentation import segmentations
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import FORMATS, Calibration, Item, Segmentation, find_format, losses, read, write
from napari_sam.inference.mask import Mask

RING = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 2], [1, 1, 1, 2, 2]])
TWO = Segmentation(
    (3, 5),
    [
        Item(5, {(): Mask.from_array(RING == 1)}, "cell/ü", 0.75, "automatic", {"a\\b\n%": "\\%41"}),
        Item(-(2**61), {(): Mask.from_array(RING == 2)}),
    ],
    [ObjectClass(4, "cell/ü", "#0a0b0c"), ObjectClass(2, "nobody", "#ffffff")],
    Calibration("yx", (0.5, 0.25), (-1.0, 2.0), ("micrometer", "micrometer")),
    "two ü.png",
)


def region(kind: ROI_TYPE, points: Any = (), **more: Any) -> ImagejRoi:
    """A region as ImageJ writes it."""
    if len(points):
        left, top = np.min(points, axis=0).tolist()
        right, bottom = np.max(points, axis=0).tolist()
        more = {"left": left, "top": top, "right": right, "bottom": bottom, **more}
        more |= {"n_coordinates": len(points), "integer_coordinates": np.subtract(points, (left, top))}
    return ImagejRoi(roitype=kind, **more)


def path_region(numbers: list[float], **more: Any) -> ImagejRoi:
    path = np.array(numbers, dtype=np.float32)
    return ImagejRoi(roitype=ROI_TYPE.RECT, multi_coordinates=path, shape_roi_size=len(path), **more)


def stored(path: Path, *regions: ImagejRoi | bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, one in enumerate(regions):
            archive.writestr(f"{number}.roi", one if isinstance(one, bytes) else one.tobytes())
    return path


def pixels(found: Segmentation) -> list[list[int]]:
    return (found.to_labels() > 0).astype(int).tolist()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that every example writes anew."""
    return tmp_path_factory.mktemp("folder with ü") / "RoiSet.zip"


@settings(max_examples=60)
@given(found=segmentations().filter(lambda found: found.items))
@example(found=TWO)
def test_what_is_written_is_read_again(place: Path, found: Segmentation) -> None:
    assert losses([found], FORMATS["imagej-roi"]) == []
    write(place, found, overwrite=True)
    assert find_format(place).name == "imagej-roi"
    assert read(place) == read(place, shape=found.shape) == [found]


def test_without_a_region_nothing_is_known_of_the_image(place: Path) -> None:
    write(place, Segmentation((3, 4)), "imagej-roi", overwrite=True)
    assert read(place, "imagej-roi", shape=(5, 6)) == [Segmentation((5, 6))]
    with pytest.raises(FormatError, match="give its shape"):
        read(place, "imagej-roi")
    with pytest.raises(FormatError, match="of the shape"):
        read(write(place, TWO, overwrite=True), shape=(3, 6))


def test_an_image_without_objects_comes_back(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.zip", np.zeros((3, 4), dtype=int))
    assert find_format(path).name == "imagej-roi"
    assert read(path, shape=(3, 4)) == [Segmentation((3, 4))]
    with pytest.raises(FormatError, match=r"empty\.zip .*: give its shape"):
        read(path)


@settings(max_examples=30)
@given(found=segmentations(most_axes=2).filter(lambda found: found.items))
@example(found=TWO)
def test_roifile_sees_the_same_pixels(place: Path, found: Segmentation) -> None:
    write(place, found, overwrite=True)
    regions = roifile.roiread(place)
    assert isinstance(regions, list)
    for one, (item, _, mask) in zip(regions, found.masks(), strict=True):
        rings = [shapely.Polygon(ring) for ring in one.coordinates(multi=True)]
        seen = np.zeros(mask.shape, dtype=bool)
        y, x = np.indices(mask.shape) + 0.5
        for ring in rings:
            seen ^= np.asarray(shapely.contains_xy(ring, x, y))
        np.testing.assert_array_equal(seen, mask.to_array())
        assert one.name.split(" ")[0] == str(item.id)
        column, row, width, height = mask.bbox_xywh
        assert (one.left, one.top, one.right, one.bottom) == (column, row, column + width, row + height)
        assert one.roitype == (ROI_TYPE.RECT if one.composite else ROI_TYPE.TRACED)


def test_what_imagej_shows(place: Path) -> None:
    write(place, TWO, overwrite=True)
    assert zipfile.ZipFile(place).namelist() == ["5 cell_ü.roi", f"{-(2**61)}.roi"]
    first, second = roifile.roiread(place)
    assert (first.name, first.hexcolor(first.stroke_color), first.composite) == ("5 cell/ü", "#0a0b0c", True)
    assert (second.name, second.stroke_color, second.composite) == (str(-(2**61)), bytes(4), False)
    # Java takes a backslash in properties for something else.
    assert "\\" not in first.props
    assert first.props.isascii()


def test_one_region_alone(tmp_path: Path) -> None:
    one = Segmentation(TWO.shape, TWO.items[:1], TWO.classes, TWO.calibration, TWO.name)
    path = write(tmp_path / "a.roi", one)
    assert path.read_bytes()[:4] == b"Iout"
    assert read(path) == [one]
    with pytest.raises(FormatError, match="holds one object on one plane, not 2"):
        write(tmp_path / "b.roi", TWO)


@pytest.mark.parametrize(
    ("axes", "position"),
    [
        ("zyx", (2, 0, 0, 0)),
        ("tyx", (2, 0, 0, 0)),
        ("czyx", (0, 2, 3, 1)),
        ("qqqyx", (0, 4, 2, 3)),
        ("yx", (0, 0, 0, 0)),
    ],
)
def test_positions_are_where_imagej_looks_for_them(place: Path, axes: str, position: Any) -> None:
    count = len(axes) - 2
    index = tuple(range(1, count + 1))
    whole = Calibration(axes, (1.0,) * (count + 2), (0.0,) * (count + 2), ("",) * (count + 2))
    item = Item(3, {index: Mask.from_array(np.ones((2, 2)))})
    found = Segmentation((*(at + 2 for at in index), 2, 2), [item], calibration=whole)
    write(place, found, overwrite=True)
    (one,) = roifile.roiread(place)
    assert (one.position, one.c_position, one.z_position, one.t_position) == position
    assert read(place) == [found]


def test_what_imagej_cannot_hold(tmp_path: Path) -> None:
    masks = {(0, 0, 0, 0): Mask.from_array(np.ones((2, 2)))}
    with pytest.raises(FormatError, match="axes c, z and t at most"):
        write(tmp_path / "a.zip", Segmentation((1, 1, 1, 1, 2, 2), [Item(1, masks)]), "imagej-roi")
    wide = Segmentation((2, 2**24 + 1), [Item(1, {(): Mask((0, 0), np.ones((1, 1)), (2, 2**24 + 1))})])
    with pytest.raises(FormatError, match="planes of up to"):
        write(tmp_path / "a.zip", wide)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("corner", [32760, 60530, 70000, 2**24 - 9])
def test_coordinates_of_more_than_16_bits(place: Path, corner: int) -> None:
    shape = (corner + 9, corner + 9)
    bits = np.ones((9, 9), dtype=bool)
    hollow = bits.copy()
    hollow[4, 4] = False
    places = [((corner, corner), bits), ((0, corner), hollow), ((corner, 0), bits)]
    masks = [Mask(origin, drawn, shape) for origin, drawn in places]
    found = Segmentation(shape, [Item(n, {(): mask}) for n, mask in enumerate(masks, 1)])
    write(place, found, overwrite=True)
    assert read(place) == [found]
    for one, mask in zip(roifile.roiread(place), masks, strict=True):
        column, row, width, height = mask.bbox_xywh
        seen = np.concatenate(one.coordinates(multi=True))
        assert seen.min(axis=0).tolist() == [column, row]
        assert seen.max(axis=0).tolist() == [column + width, row + height]


def oval_of_imagej(width: int, height: int) -> NDArray[np.bool_]:
    """The rule of OvalRoi.getMask: centres of pixels in the ellipse."""
    y, x = np.indices((height, width))
    across, down = x - width / 2 + 0.5, y - height / 2 + 0.5
    return across**2 / (width / 2) ** 2 + down**2 / (height / 2) ** 2 <= 1


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40))
@example(1, 1)
@example(2, 2)
@example(13, 13)
def test_ovals_have_the_pixels_that_imagej_gives_them(place: Path, width: int, height: int) -> None:
    oval = region(ROI_TYPE.OVAL, left=3, top=2, right=3 + width, bottom=2 + height)
    (found,) = read(stored(place, oval), shape=(50, 50))
    expected = np.zeros((50, 50), dtype=bool)
    expected[2 : 2 + height, 3 : 3 + width] = oval_of_imagej(width, height)
    np.testing.assert_array_equal(found.to_labels() > 0, expected)


FINE = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
CORNERS = [(0, 0), (3, 0), (3, 2), (0, 2)]
BLOCK = [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (region(ROI_TYPE.POLYGON, CORNERS), BLOCK),
        (region(ROI_TYPE.FREEHAND, CORNERS), BLOCK),
        (region(ROI_TYPE.TRACED, CORNERS), BLOCK),
        (region(ROI_TYPE.FREEHAND, CORNERS, subtype=ROI_SUBTYPE.ELLIPSE), BLOCK),
        (region(ROI_TYPE.RECT, left=0, top=0, right=3, bottom=2), BLOCK),
        (
            region(ROI_TYPE.RECT, options=FINE, xd=-5.0, yd=0.25, widthd=7.6, heightd=2.0),
            BLOCK,
        ),
        (ImagejRoi.frompoints(np.array([(0.4, 0.4), (2.6, 0.4), (2.6, 1.6), (0.4, 1.6)])), BLOCK),
        (region(ROI_TYPE.RECT, left=-2, top=-1, right=3, bottom=2), BLOCK),
        (path_region([0, 0, 0, 1, 3, 0, 1, 3, 2, 1, 0, 2, 4]), BLOCK),
        (path_region([0, 0, 0, 1, 3, 0, 1, 3, 2, 1, 0, 2]), BLOCK),
        (
            path_region([0, 0, 0, 1, 3, 0, 1, 3, 3, 1, 0, 3, 4, 0, 1, 1, 1, 1, 2, 1, 2, 2, 1, 2, 1, 4]),
            [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]],
        ),
        # Control points far out of the way: the curves bulge by half and by three quarters of that.
        (path_region([0, 0, 0, 2, 1.5, 4, 3, 0, 4]), [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
        (path_region([0, 0, 0, 3, 0, 4, 3, 4, 3, 0, 4]), [[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]]),
    ],
)
def test_regions_of_others(tmp_path: Path, one: ImagejRoi, expected: list[list[int]]) -> None:
    (found,) = read(stored(tmp_path / "a.zip", one), shape=(3, 4))
    assert pixels(found) == expected


def test_names_groups_and_colours_of_others(tmp_path: Path) -> None:
    box = {"left": 0, "top": 0, "right": 3, "bottom": 2}
    path = stored(
        tmp_path / "a.zip",
        region(ROI_TYPE.RECT, **box, name="7", group=3, stroke_color=b"\xff\x01\x02\x03"),
        region(ROI_TYPE.RECT, **box, name="0001-0002"),
        region(ROI_TYPE.POINT, [(1, 1)]),
        region(ROI_TYPE.LINE, x2=5.0, y2=5.0),
        region(ROI_TYPE.RECT, **box, subtype=ROI_SUBTYPE.TEXT),
    )
    with pytest.warns(FormatWarning, match=r"3 objects of .* no regions with an area"):
        (found,) = read(path)
    assert found.shape == (2, 3)
    assert [(item.id, item.class_name, item.attributes) for item in found.items] == [
        (7, "group 3", {}),
        (8, "", {"name": "0001-0002"}),
    ]
    assert found.classes == (ObjectClass(1, "group 3", "#010203"),)


def test_stacks_of_others(tmp_path: Path) -> None:
    box = {"left": 0, "top": 0, "right": 3, "bottom": 2}
    simple = stored(tmp_path / "a.zip", *(region(ROI_TYPE.RECT, **box, position=at) for at in (0, 1, 3)))
    (found,) = read(simple)
    assert (found.shape, found.calibration.axes) == ((3, 2, 3), "zyx")
    assert [list(item.masks) for item in found.items] == [[(0,)], [(0,)], [(2,)]]
    # In a stack of 2 times and 2 channels, the third image is the first channel of the second time.
    (found,) = read(simple, shape=(2, 2, 9, 9))
    assert [list(item.masks) for item in found.items] == [[(0, 0)], [(0, 0)], [(1, 0)]]
    hyper = stored(tmp_path / "b.zip", region(ROI_TYPE.RECT, **box, c_position=2, z_position=1, t_position=3))
    (found,) = read(hyper)
    assert (found.shape, found.calibration.axes) == ((3, 2, 2, 3), "tcyx")
    assert [list(item.masks) for item in found.items] == [[(2, 1)]]
    for path, shape in [(simple, (2, 9, 9)), (hyper, (9, 9)), (hyper, (2, 2, 9, 9))]:
        with pytest.raises(FormatError, match=r"image of the shape|has the shape"):
            read(path, shape=shape)


def test_a_region_that_was_added_in_imagej(place: Path) -> None:
    labels = np.zeros((3, 4, 5), dtype=int)
    labels[1, :2, :2] = 7
    write(place, Segmentation.of_labels(labels), overwrite=True)
    with zipfile.ZipFile(place, "a") as archive:
        new = region(ROI_TYPE.RECT, left=0, top=0, right=2, bottom=2, position=3)
        archive.writestr("new.roi", new.tobytes())
    (found,) = read(place)
    assert [(item.id, list(item.masks)) for item in found.items] == [(7, [(1,)]), (8, [(2,)])]


def own(value: Any) -> ImagejRoi:
    text = value if isinstance(value, str) else json.dumps(value)
    return region(ROI_TYPE.RECT, left=0, top=0, right=2, bottom=2, props=f"napari_sam: {text}\n")


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [b""],
        [b"Iout" + bytes(20)],
        [b"Jout" + bytes(100)],
        [region(ROI_TYPE.POLYGON, CORNERS).tobytes()[:70]],
        [region(ROI_TYPE.POINT, [(1, 1)])],
        [region(ROI_TYPE.RECT, left=0, top=0, right=2, bottom=2, z_position=-1)],
        [region(ROI_TYPE.RECT, left=0, top=0, right=2, bottom=2, z_position=2**31 - 1, t_position=2**31 - 1)],
        [region(ROI_TYPE.OVAL, options=FINE, widthd=1e38, heightd=1e38)],
        [region(ROI_TYPE.RECT, options=FINE, widthd=1e38, heightd=1e38)],
        [region(ROI_TYPE.RECT, options=FINE, widthd=np.inf, heightd=2.0)],
        [path_region([0, 1, np.nan, 1, 2, 2])],
        [path_region([1, 0, 0])],
        [path_region([4])],
        [path_region([0, 1])],
        [path_region([0, 1, 1, 1, 2])],
        [path_region([0, 1, 1, 2, 2])],
        [path_region([2, 1, 1, 2, 2])],
        [path_region([0, 1, 1, 7, 2, 2])],
        [path_region([0, 1, 1, 4, 4])],
        [own("{")],
        [own([])],
        [own({"id": 0})],
        [own({"id": "1"})],
        [own({"id": 1}), own({"id": 1})],
        [own({"id": 1, "plane": [0]})],
        [own({"id": 1, "score": "high"})],
        [own({"id": 1, "class": 4})],
        [own({"id": 1, "attributes": 4})],
        [own({"id": 1, "image": {"shape": [4]}})],
        [own({"class": "a"})],
    ],
)
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_malformed_files_are_errors_that_name_the_file(
    tmp_path: Path, regions: list[ImagejRoi | bytes]
) -> None:
    path = stored(tmp_path / "a.zip", *regions)
    with pytest.raises(FormatError, match=r"a\.zip.*\.$"):
        read(path, "imagej-roi")


def test_bombs(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.roi", b"Iout" + bytes(2**27))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="256 MiB unpacked"):
            read(path)
        big = {"left": 0, "top": 0, "right": 30000, "bottom": 30000}
        with pytest.raises(FormatError, match="more than 1 GiB"):
            read(stored(path, region(ROI_TYPE.RECT, **big)))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_damaged_regions_are_read_or_told(place: Path, data: st.DataObject) -> None:
    """Some bytes of good regions are others, or the end is missing."""
    good = data.draw(
        st.sampled_from(
            [
                region(ROI_TYPE.POLYGON, CORNERS, name="7", group=3),
                ImagejRoi.frompoints(np.array([(0.4, 0.4), (2.6, 0.4), (2.6, 1.6)])),
                path_region([0, 0, 0, 1, 3, 0, 1, 3, 2, 1, 0, 2, 4]),
                region(ROI_TYPE.OVAL, left=1, top=1, right=8, bottom=9),
                own({"id": 4, "score": 0.5}),
            ]
        )
    ).tobytes()
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, min(len(damaged), 150) - 1))] = data.draw(st.integers(0, 255))
    path = stored(place, bytes(damaged))
    try:
        (found,) = read(path, "imagej-roi")
    except FormatError as error:
        told = str(error)
    else:
        told = str(write(path, found, overwrite=True))
        assert read(path) == [found]
    assert str(path) in told


@settings(max_examples=100)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::napari_sam.errors.FormatWarning")
def test_damaged_zip_files_are_read_or_told(place: Path, data: st.DataObject) -> None:
    write(place, TWO, overwrite=True)
    whole = bytearray(place.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(whole[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))])
    try:
        read(place, "imagej-roi")
    except FormatError as error:
        told = str(error)
    else:
        told = str(place)
    assert str(place) in told


def test_other_zip_files_are_not_taken_for_regions(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    recognises = FORMATS["imagej-roi"].recognises
    assert recognises is not None
    assert not recognises(path)
    assert not recognises(tmp_path / "missing.zip")
    # They are not read as no regions, either.
    for kind in ("", "imagej-roi"):
        with pytest.raises(FormatError, match=r"a\.zip .* has no \.roi files"):
            read(path, kind, shape=(3, 4))
    path.write_bytes(b"PK\x03\x04")
    assert not recognises(path)


def test_thousands_of_regions(place: Path) -> None:
    rng = np.random.default_rng(0)
    bits = ((np.indices((40, 40)) - 19.5) ** 2).sum(axis=0) < 300
    items = [
        Item(number, {(): Mask(tuple(rng.integers(0, 4056, 2).tolist()), bits, (4096, 4096))})
        for number in range(1, 1001)
    ]
    found = Segmentation((4096, 4096), items)
    started = time.process_time()
    write(place, found, overwrite=True)
    assert time.process_time() - started < 2
    assert read(place) == [found]
