"""``napari-sam convert`` and ``napari-sam formats``, and the Python function behind them."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.data import coins
from skimage.io import imsave
from typer.testing import CliRunner, Result

import napari_sam
from napari_sam.annotation.records import ObjectClass
from napari_sam.cli import app
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import FORMATS, Calibration, Feature, Item, Segmentation, convert, read, write
from napari_sam.inference.mask import Mask

LABELS = np.kron(np.array([[0, 5, 5], [9, 0, 5], [9, 9, 0]]), np.ones((4, 4), dtype=int))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def several(*names: str, side: int = 6) -> list[Segmentation]:
    """Images with an object each, that has as many pixels as its image has number."""
    return [
        Segmentation(
            (side, side),
            [Item(7, {(): Mask((0, 0), np.ones((1, number), dtype=bool), (side, side))}, "cell")],
            [ObjectClass(1, "cell", "#ff0000")],
            name=name,
        )
        for number, name in enumerate(names, 1)
    ]


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.read is not None])
def test_any_format_to_any_other(tmp_path: Path, name: str) -> None:
    first = tmp_path / "Zellen äöü 細胞.tif"
    labels = LABELS[None] if name == "ctc" else LABELS
    write(first, labels)
    path = tmp_path / "a b" / f"Größe µm{FORMATS[name].suffixes[0]}"
    path.parent.mkdir()
    done = run(first, path, "--to", name)
    assert (done.exit_code, done.stdout) == (0, f"{path}\n"), done.output
    back = path.parent / "zurück.npy"
    arguments = ["--shape", "12,12"] if name == "yolo" else []
    assert run(path, back, *arguments).exit_code == 0
    found = np.load(back)
    if Feature.IDS in FORMATS[name].holds:
        np.testing.assert_array_equal(found, labels)
    else:
        np.testing.assert_array_equal(found > 0, labels > 0)


def test_an_annotation_becomes_a_table_with_intensities(tmp_path: Path) -> None:
    imsave(tmp_path / "coins.png", coins())
    annotation = napari_sam.Annotation(coins(), "nano")
    annotation.document.add_objects(
        Segmentation.of_labels((coins() > 200).astype(int)).to_document().snapshot.objects, "Import"
    )
    annotation.save(tmp_path / "coins.napari-sam.zip")
    done = run(tmp_path / "coins.napari-sam.zip", tmp_path / "a.csv", "--image", tmp_path / "coins.png")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["intensity_sum"].tolist() == [coins()[coins() > 200].sum()]
    assert table["source"].tolist() == ["imported"]


def test_colours_and_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "labels.tif", LABELS)
    imsave(tmp_path / "rgb.png", rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    np.save(tmp_path / "two.npy", rng.random((2, 12, 12)))
    assert run(tmp_path / "labels.tif", tmp_path / "rgb.csv", "--image", tmp_path / "rgb.png").exit_code == 0
    assert "intensity_mean-2" in pd.read_csv(tmp_path / "rgb.csv")
    two = (
        tmp_path / "labels.tif",
        tmp_path / "two.parquet",
        "--image",
        tmp_path / "two.npy",
        "--channel-axis",
    )
    assert run(*two, 0).exit_code == 0
    assert "intensity_mean-1" in pd.read_parquet(tmp_path / "two.parquet")
    for axis in (1, 3):
        done = run(*two, axis, "--force")
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1


def test_whole_objects(tmp_path: Path) -> None:
    write(tmp_path / "stack.tif", np.stack([LABELS, LABELS]))
    assert run(tmp_path / "stack.tif", tmp_path / "a.csv", "--per", "object").exit_code == 0
    assert pd.read_csv(tmp_path / "a.csv")["volume"].tolist() == [96, 96]
    assert run(tmp_path / "stack.tif", tmp_path / "b.csv").exit_code == 0
    assert pd.read_csv(tmp_path / "b.csv")["axis-0"].tolist() == [0, 1, 0, 1]
    done = run(tmp_path / "stack.tif", tmp_path / "b.npy", "--per", "object")
    assert done.exit_code == 2
    assert "holds no measurements: write csv or parquet." in done.stderr


def test_losses_are_told_before_anything_is_written(tmp_path: Path) -> None:
    calibration = Calibration("yx", (0.5, 0.5), (0.0, 0.0), ("micrometer",) * 2)
    found = Segmentation((6, 6), several("a")[0].items, calibration=calibration)
    write(tmp_path / "a.geojson", found)
    done = run(tmp_path / "a.geojson", tmp_path / "a.png")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "napari-sam: warning: Labels (PNG) holds no classes: 1 object will lose theirs.",
        "napari-sam: warning: Labels (PNG) holds no sizes of pixels: 1 object will be in pixels.",
    ]
    write(tmp_path / "large.geojson", np.array([[2**20]]))
    done = run(tmp_path / "large.geojson", tmp_path / "large.png")
    assert done.exit_code == 2
    assert "holds ids from 1 to 65535, not 1048576" in done.stderr
    assert not (tmp_path / "large.png").exists()


def test_what_was_not_read_is_told(tmp_path: Path) -> None:
    point = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 1]}}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    done = run(tmp_path / "a.geojson", tmp_path / "a.csv", "--shape", "4,5")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("napari-sam: warning: 1 object of ")


def test_images_of_one_file_become_files(tmp_path: Path) -> None:
    source = tmp_path / "data.coco.json"
    write(source, several("../../weg/a.png", "A.tif", "", "b:?.ome.tif"))
    out = tmp_path / "out"
    done = run(source, out, "--to", "tiff")
    assert done.exit_code == 0, done.output
    names = ["a.tif", "A_2.tif", "data.tif", "b__.tif"]
    assert done.stdout.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert [tifffile.imread(out / name).sum() for name in names] == [7, 14, 21, 28]
    # One sentence for all of them.
    assert done.stderr.count("4 objects will lose theirs") == 1
    assert done.stderr.count("\n") == 1

    before = (out / "a.tif").stat().st_mtime_ns
    (out / "data.tif").unlink()
    done = run(source, out, "--to", "tiff")
    assert done.exit_code == 2
    assert f"{out / 'a.tif'} exists" in done.stderr
    assert not (out / "data.tif").exists()
    assert (out / "a.tif").stat().st_mtime_ns == before
    assert run(source, out, "--to", "tiff", "--force").exit_code == 0
    assert (out / "data.tif").exists()


def test_several_images_stay_in_one_file_where_that_is_possible(tmp_path: Path) -> None:
    write(tmp_path / "data.coco.json", several("a", "b"))
    assert run(tmp_path / "data.coco.json", tmp_path / "set", "--to", "yolo-folder").exit_code == 0
    assert [one.name for one in read(tmp_path / "set", "yolo-folder")] == ["a", "b"]
    assert run(tmp_path / "data.coco.json", tmp_path / "all.csv").exit_code == 0
    assert pd.read_csv(tmp_path / "all.csv")["image"].tolist() == ["a", "b"]


def test_a_folder_that_is_there_is_never_replaced_by_something_else(tmp_path: Path) -> None:
    write(tmp_path / "one.tif", LABELS)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for name in ("npy", "yolo-folder", "ome-zarr", "csv"):
        assert run(tmp_path / "one.tif", mine, "--to", name, "--force").exit_code == 0
        assert (mine / f"one{FORMATS[name].suffixes[0]}").exists()
    assert (mine / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("missing.tif", "a.csv"), "There is no file missing.tif"),
        (("one.tif", "a.docx"), "a.docx is of no format that is known here"),
        (("one.tif", "a"), "is of no format that is known here"),
        (("one.tif", "a.csv", "--to", "word"), "There is no format 'word'"),
        (("one.tif", "a.csv", "--from", "word"), "There is no format 'word'"),
        (("one.tif", "one.tif"), "one.tif exists"),
        (("one.tif", "missing/a.csv"), "The folder missing does not exist"),
        (("two.coco.json", "missing/a", "--to", "npy"), "The folder missing does not exist"),
        (("two.coco.json", "one.tif", "--to", "npy"), "one.tif is a file, and a folder is needed"),
        (
            ("two.coco.json", "a.tif"),
            "two.coco.json holds 2 images, and Labels (TIFF) holds one: ",
        ),
        (("one.tif", "a.csv", "--shape", "4"), "'4' is not the shape of an image"),
        (("one.tif", "a.csv", "--shape", "4,-4"), "is not the shape of an image"),
        (("one.tif", "a.csv", "--shape", "4,4"), "is of an image of the shape (12, 12), not (4, 4)"),
        (("one.tif", "a.csv", "--shape", "4,4", "--image", "one.tif"), "is given twice"),
        (("one.tif", "a.csv", "--image", "missing.tif"), "There is no image file missing.tif"),
        (("a.csv", "b.tif"), "There is no file a.csv"),
        (("cut.tif", "b.npy"), "cut.tif"),
        (("table.csv", "b.npy"), "can be written only"),
        (("lines.txt", "b.npy"), "shape"),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write("one.tif", LABELS)
    write("two.coco.json", several("a", "b"))
    write("table.csv", LABELS)
    Path("cut.tif").write_bytes(Path("one.tif").read_bytes()[:100])
    Path("lines.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    before = sorted(tmp_path.iterdir())
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stderr.startswith("napari-sam: ")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_convert_in_python(tmp_path: Path) -> None:
    write(tmp_path / "one.geojson", several("a")[0])
    with pytest.warns(FormatWarning, match="holds no classes"):
        paths = convert(tmp_path / "one.geojson", tmp_path / "a.tif")
    assert paths == [tmp_path / "a.tif"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FormatWarning)
        with pytest.raises(FormatError, match="exists"):
            convert(tmp_path / "one.geojson", tmp_path / "a.tif")
        assert convert(tmp_path / "one.geojson", tmp_path / "a.tif", overwrite=True) == paths


def test_the_list_of_formats() -> None:
    done = CliRunner().invoke(app, ["formats"])
    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert list(rows) == list(FORMATS)
    assert rows["coco"].endswith("everything")
    assert rows["geojson"].endswith("all but several images in one file")
    assert rows["csv"].endswith("measurements; written only")
    assert "*.ome.zarr/" in rows["ome-zarr"]


def test_what_is_there_is_replaced_by_an_option_of_the_shell(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name, LABELS)
    done = run(tmp_path / "a.tif", tmp_path / "b.tif")
    assert done.exit_code == 2
    assert done.stderr == (
        f"napari-sam: {tmp_path / 'b.tif'} exists: choose another name, or use --force to replace it.\n"
    )


def test_what_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "one.tif", LABELS)
    path = tmp_path / f"{'ä' * 126}.npy"  # too long for most systems
    done = run(tmp_path / "one.tif", path)
    assert done.exit_code == 2
    assert f"{path} cannot be written: " in done.stderr


def test_the_program_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    write(tmp_path / "ä b.tif", LABELS)
    code = (
        "import sys; from napari_sam.cli import main; sys.argv[1:] = ['convert', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print(*{'torch', 'napari', 'pandas', 'zarr'} & set(sys.modules))"
    )
    arguments = [sys.executable, "-c", code, tmp_path / "ä b.tif", tmp_path / "ö ü.geojson"]
    done = subprocess.run(arguments, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[1:] == ["", ""]
    assert (tmp_path / "ö ü.geojson").exists()
