from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imread
from typer.testing import CliRunner

import napari_sam
from napari_sam.cli import app
from napari_sam.demo import CLICKS, DemoResult, has_display, run, segment_clicks
from napari_sam.errors import NapariSamError
from napari_sam.inference.predictor import SamPredictor


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run(tmp_path_factory.mktemp("demo") / "new" / "demo-out", show=False)


def test_labels_are_one_number_per_coin(result: DemoResult) -> None:
    labels = tifffile.imread(result.files[0])
    np.testing.assert_array_equal(labels, result.labels)
    assert labels.shape == result.image.shape
    assert labels.max() <= len(CLICKS) == len(result.scores) == 24


def test_first_object_is_the_mask_of_its_click(result: DemoResult) -> None:
    predictor = SamPredictor(napari_sam.load_model("nano"))
    predictor.set_image(result.image)
    masks, scores, _ = predictor.predict([CLICKS[0]], [1])
    np.testing.assert_array_equal(result.labels == 1, masks[np.argmax(scores)])
    assert result.scores[0] == pytest.approx(scores.max(), abs=1e-4)


def test_earlier_objects_are_not_overwritten(result: DemoResult) -> None:
    model = napari_sam.load_model("nano")
    one, _ = segment_clicks(model, result.image, CLICKS[:1])
    same_twice, scores = segment_clicks(model, result.image, (CLICKS[0], CLICKS[0]))
    np.testing.assert_array_equal(same_twice, one)
    assert scores[0] == scores[1]


def test_table_describes_the_labels(result: DemoResult) -> None:
    with result.files[2].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == np.unique(result.labels[result.labels > 0]).tolist()
    for row in rows:
        ys, xs = np.nonzero(result.labels == int(row["id"]))
        assert int(row["area_px"]) == ys.size
        assert float(row["x"]) == pytest.approx(xs.mean(), abs=0.051)
        assert float(row["y"]) == pytest.approx(ys.mean(), abs=0.051)
        assert (int(row["box_x"]), int(row["box_y"])) == (xs.min(), ys.min())
        assert (int(row["box_width"]), int(row["box_height"])) == (np.ptp(xs) + 1, np.ptp(ys) + 1)
        assert float(row["predicted_iou"]) == pytest.approx(result.scores[int(row["id"]) - 1], abs=6e-4)


def test_overlay_shows_image_and_objects(result: DemoResult) -> None:
    overlay = imread(result.files[1])
    height, width = result.image.shape
    assert overlay.shape == (2 * height, 2 * width, 3)
    background = result.labels == 0
    plain = overlay[::2, ::2][background]
    np.testing.assert_allclose(plain, np.stack([result.image[background]] * 3, axis=-1), atol=1)
    coloured = overlay[::2, ::2][~background].astype(int)
    assert (np.ptp(coloured, axis=-1) > 0).mean() > 0.9


def test_it_says_where_the_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(tmp_path / "out", show=False)
    printed = capsys.readouterr().out
    for path in result.files:
        assert str(path.resolve()) in printed
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["labels.tif", "overlay.png", "table.csv"]


def test_files_of_others_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "table.csv"
    mine.write_text("mine")
    with pytest.raises(NapariSamError, match=r"table.csv exists: .*--force"):
        run(tmp_path, show=False)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert mine.read_text() == "mine"
    run(tmp_path, show=False, force=True)
    assert mine.read_text().startswith("id,")
    # What is in the default folder is of the demo before.
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(show=False)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--no-show"])
    assert (done.exit_code, "exists" in done.stderr) == (2, True)
    assert CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--no-show", "--force"]).exit_code == 0


def test_without_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    with pytest.raises(NapariSamError, match="--no-show"):
        run(tmp_path / "out", show=True)
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()


@pytest.mark.gui
@pytest.mark.usefixtures("qapp")
def test_the_result_is_shown_in_napari(tmp_path: Path) -> None:
    import napari
    from qtpy.QtCore import QTimer

    shown: dict[str, np.ndarray] = {}

    def look_and_close() -> None:
        viewer = napari.current_viewer()
        if viewer is not None:
            timer.stop()
            shown.update({layer.name: np.asarray(layer.data) for layer in viewer.layers})
            viewer.close()

    timer = QTimer()
    timer.timeout.connect(look_and_close)
    timer.start(100)
    result = run(tmp_path, show=True)
    assert list(shown) == ["coins", "objects"]
    np.testing.assert_array_equal(shown["coins"], result.image)
    np.testing.assert_array_equal(shown["objects"], result.labels)


def test_clicks_lie_on_separate_coins(result: DemoResult) -> None:
    points = np.array(CLICKS)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distances[~np.eye(len(points), dtype=bool)].min() > 40
    xs, ys = points.T.astype(int)
    assert (result.image[ys, xs] > 80).all()
