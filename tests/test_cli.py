from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.data import coins
from skimage.io import imread

import napari_sam
from napari_sam.cli import app
from napari_sam.errors import ImageError
from napari_sam.inference.files import read_plane, write_labels
from napari_sam.inference.predictor import SamPredictor

IMAGE = coins()


class CommandLine:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        with pytest.raises(SystemExit) as done:
            app([str(a) for a in arguments], prog_name="napari-sam")
        captured = self._capsys.readouterr()
        return int(done.value.code or 0), captured.out, captured.err


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "coins.png"
    Image.fromarray(IMAGE).save(path)
    return path


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    predictor = SamPredictor(napari_sam.load_model("nano", device="cpu"))
    predictor.set_image(IMAGE)
    return predictor


def test_a_point_gives_the_mask_that_python_gives(
    call: CommandLine, image: Path, tmp_path: Path, predictor: SamPredictor
) -> None:
    out = tmp_path / "out.tif"
    code, printed, errors = call(
        "predict", image, "--point", "100,56", "--device", "cpu", "-o", out, "--json"
    )
    assert (code, errors) == (0, "")
    masks, scores, _ = predictor.predict(np.array([[100, 56]]), np.array([1]))
    best = masks[np.argmax(scores)]
    labels = tifffile.imread(out)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, best)
    said = json.loads(printed)
    ys, xs = np.nonzero(best)
    assert said["area"] == best.sum()
    assert said["box"] == [xs.min(), ys.min(), xs.max(), ys.max()]
    assert said["score"] == pytest.approx(scores.max(), abs=1e-4)


def test_several_points_and_a_box_are_one_object(
    call: CommandLine, image: Path, tmp_path: Path, predictor: SamPredictor
) -> None:
    out = tmp_path / "out.png"
    code, printed, _ = call(
        *("predict", image, "--point", "100,56", "--point", "60.5,30,0", "--box", "125,80,75,30"),
        *("--device", "cpu", "--output", out),
    )
    assert code == 0
    assert str(out) in printed
    masks, _, _ = predictor.predict(
        np.array([[100, 56], [60.5, 30]]), np.array([1, 0]), box=[75, 30, 125, 80], multimask_output=False
    )
    np.testing.assert_array_equal(imread(out), masks[0])


def test_logits_of_an_earlier_prediction(
    call: CommandLine, image: Path, tmp_path: Path, predictor: SamPredictor
) -> None:
    _, _, low_res = predictor.predict(np.array([[100, 56]]), np.array([1]), multimask_output=False)
    np.save(tmp_path / "logits.npy", low_res[0])
    out = tmp_path / "out.npy"
    code, _, errors = call(
        *("predict", image, "--point", "100,56", "--mask-input", tmp_path / "logits.npy"),
        *("--device", "cpu", "-o", out),
    )
    assert (code, errors) == (0, "")
    masks, _, _ = predictor.predict(
        np.array([[100, 56]]), np.array([1]), mask_input=low_res, multimask_output=False
    )
    np.testing.assert_array_equal(np.load(out), masks[0])
    # As `predict` returns and takes them.
    np.save(tmp_path / "logits.npy", low_res)
    code, _, errors = call(
        *("predict", image, "--point", "100,56", "--mask-input", tmp_path / "logits.npy"),
        *("--device", "cpu", "-o", tmp_path / "again.npy"),
    )
    assert (code, errors) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), masks[0])


def test_a_plane_of_a_stack(call: CommandLine, tmp_path: Path, predictor: SamPredictor) -> None:
    stack = np.zeros((3, 2, *IMAGE.shape), dtype=np.uint8)
    stack[2, 1] = IMAGE
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    masks, _, _ = predictor.predict(box=[75, 30, 125, 80], multimask_output=False)
    start = ("predict", tmp_path / "stack.tif", "--box", "75,30,125,80", "--device", "cpu")
    code, _, errors = call(*start, "-o", tmp_path / "a.tif", "--plane", "2,1")
    assert (code, errors) == (0, "")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), masks[0])
    code, _, errors = call(*start, "-o", tmp_path / "b.npy", "--plane", "2", "--plane", "-1")
    assert (code, errors) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), masks[0])
    code, _, errors = call(*start, "-o", tmp_path / "c.tif")
    assert code == 2
    assert f"(3, 2, {IMAGE.shape[0]}, {IMAGE.shape[1]})" in errors
    code, _, errors = call(*start, "-o", tmp_path / "c.tif", "--plane", "3,0")
    assert code == 2
    assert "choose 0 to 2" in errors


GOOD = ("--point", "100,56")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to segment"),
        (("--point", "100"), "'100' is not a point"),
        (("--point", "1,2,3,4"), "is not a point"),
        (("--point", "a,b"), "is not a point"),
        (("--point", "nan,2"), "finite"),
        (("--point", "1,2,7"), "not 7"),
        (("--point", "1,2,0", "--point", "3,4,0"), "add a point on the object"),
        (("--point", "1000,2"), "384 pixels wide and 303 high"),
        (("--box", "1,2,3"), "is not a box"),
        (("--box", "1,2,1,9"), "no area"),
        (("--box", "1,2,3,4", "--box", "5,6,7,8"), "--box once"),
        ((*GOOD, "--plane", "x"), "is not a plane"),
        ((*GOOD, "--plane", "0"), "leave --plane away"),
        ((*GOOD, "--model", "nono"), "nono"),
        ((*GOOD, "--device", "abacus"), "abacus"),
        ((*GOOD, "--mask-input", "missing.npy"), "missing.npy"),
    ],
)
def test_mistakes_are_one_sentence(
    call: CommandLine, image: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    code, printed, errors = call("predict", image, *arguments, "-o", tmp_path / "out.tif")
    assert (code, printed) == (2, "")
    assert message in errors
    assert errors.startswith("napari-sam: ")
    assert errors.endswith(".\n")
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", ["tif", "png", "npy", "jpg"])
def test_files_that_are_no_images(call: CommandLine, tmp_path: Path, suffix: str) -> None:
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(b"this is not an image" * 10)
    code, _, errors = call("predict", broken, *GOOD, "-o", tmp_path / "out.tif")
    assert code == 2
    assert f"{broken} cannot be read as an image" in errors
    assert errors.count("\n") == 1
    code, _, errors = call("predict", tmp_path / f"none.{suffix}", *GOOD, "-o", tmp_path / "out.tif")
    assert code == 2
    assert "check the path" in errors


def test_outputs_are_checked_and_not_overwritten(call: CommandLine, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_text("mine")
    start = ("predict", image, *GOOD, "--device", "cpu", "-o")
    code, _, errors = call(*start, out)
    assert code == 2
    assert "--force" in errors
    assert out.read_text() == "mine"
    code, _, errors = call(*start, out, "--force")
    assert (code, errors) == (0, "")
    assert tifffile.imread(out).shape == IMAGE.shape
    for wrong, message in (("out.bmp", ".tif"), ("nowhere/out.tif", "does not exist")):
        code, _, errors = call(*start, tmp_path / wrong)
        assert code == 2
        assert message in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coins.png", "out.tif"]


@pytest.mark.parametrize("name", ["image.tif", "link.tif"])
def test_an_image_is_not_replaced_by_its_mask(call: CommandLine, tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "image.tif", IMAGE)
    (tmp_path / "link.tif").symlink_to("image.tif")
    before = (tmp_path / "image.tif").read_bytes()
    code, _, errors = call("predict", tmp_path / "image.tif", *GOOD, "-o", tmp_path / name, "--force")
    assert code == 2
    assert "is the image itself: choose another name" in errors
    assert (tmp_path / "image.tif").read_bytes() == before


def test_usage() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "napari_sam", *arguments], capture_output=True, text=True, check=False
        )

    assert run("--version").stdout == f"napari-sam {napari_sam.__version__}\n"
    shown = run("predict", "--help")
    assert shown.returncode == 0
    assert "--mask-input" in shown.stdout
    missing = run("predict", "image.png")
    assert missing.returncode == 2
    assert "Missing option" in missing.stderr


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, "u1"), (255, "u1"), (256, "u2"), (65536, "u4"), (2**40, "u8")]
)
def test_labels_have_the_smallest_type(tmp_path: Path, largest: int, dtype: str) -> None:
    labels = np.array([[0, largest, 0]], dtype=np.int64)
    for suffix in ("tif", "npy", "png"):
        path = tmp_path / f"labels.{suffix}"
        if suffix == "png" and largest > 65535:
            with pytest.raises(ImageError, match="65535"):
                write_labels(path, labels)
            assert not path.exists()
            continue
        write_labels(path, labels)
        back = read_plane(path)
        assert back.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(back, labels)


def test_a_failure_while_writing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels.npy"
    write_labels(out, np.ones((2, 2), dtype=int))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_labels(out, np.zeros((2, 2), dtype=int), force=True)
    assert np.load(out).all()
    assert list(tmp_path.iterdir()) == [out]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.tif", np.ones((2, 2), dtype=int))
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_tiff(tmp_path: Path, planar: str) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    pixels = colour if planar == "contig" else colour.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "c.tif", pixels, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_plane(tmp_path / "c.tif"), colour)


def test_gray_tiff_with_three_columns_is_not_colour(tmp_path: Path) -> None:
    stack = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    np.testing.assert_array_equal(read_plane(tmp_path / "s.tif", [1]), stack[1])
