"""Propagation measured: synthetic films, samples of objects, scores, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.io import imsave

import napari_sam
from napari_sam.evaluation import volumes
from napari_sam.evaluation.moving_cells import Movie, moving_cells
from napari_sam.evaluation.propagated import (
    Solid,
    evaluate_stack,
    every_nth,
    first,
    middle,
    solids,
    stack_iou,
)
from napari_sam.evaluation.tracks import id_switches
from napari_sam.inference.mask import Mask
from napari_sam.inference.video_frames import open_video


@pytest.fixture(scope="module")
def movie() -> Movie:
    return moving_cells(10, (96, 96), cells=2, divisions=1, seed=1)


def _column(*planes: int, side: int = 3) -> Solid:
    mask = Mask((1, 1), np.ones((side, side), dtype=bool), (9, 9))
    return Solid(5, dict.fromkeys(planes, mask))


def test_a_film_is_the_same_for_the_same_seed(movie: Movie) -> None:
    again, other = (moving_cells(10, (96, 96), cells=2, divisions=1, seed=seed) for seed in (1, 2))
    assert np.array_equal(movie.image, again.image)
    assert np.array_equal(movie.labels, again.labels)
    assert not np.array_equal(movie.image, other.image)


def test_cells_stay_in_one_piece_and_divide_into_two_where_their_mother_was(movie: Movie) -> None:
    assert movie.parents == {3: 1, 4: 1}
    for frame in movie.labels:
        for number in np.unique(frame)[1:]:
            assert ndimage.label(frame == number)[1] == 1
    born = [int(np.flatnonzero((movie.labels == number).any(axis=(1, 2)))[0]) for number in (3, 4)]
    assert born == [5, 5]
    mother = movie.labels[4] == 1
    assert not (movie.labels[5:] == 1).any()
    for number in (3, 4):
        daughter = movie.labels[5] == number
        assert (daughter & ndimage.binary_dilation(mother, iterations=6)).sum() == daughter.sum()
    # Light is where cells are.
    inside, outside = movie.image[movie.labels > 0], movie.image[movie.labels == 0]
    assert inside.mean() > 3 * outside.mean()


def test_more_divisions_than_cells() -> None:
    with pytest.raises(ValueError, match="Of 1 cells no 2 can divide"):
        moving_cells(5, cells=1, divisions=2)


def test_objects_on_enough_planes_are_sampled_the_same_each_time() -> None:
    labels = np.zeros((8, 6, 40), dtype=np.uint16)
    for number in range(1, 21):
        labels[: 4 + number % 4, 2, 2 * number - 1] = number
    assert [solid.label for solid in solids(labels)] == [n for n in range(1, 21) if n % 4]
    some = [solid.label for solid in solids(labels, 5)]
    assert len(some) == 5
    assert some == sorted(some) == [solid.label for solid in solids(labels, 5)]
    assert some != [solid.label for solid in solids(labels, 5, seed=1)]


def test_which_planes_are_clicked_at() -> None:
    assert middle(_column(*range(3, 12))) == [7]
    # Its middle plane may not have it.
    assert middle(_column(0, 1, 2, 8, 9, 10)) == [2]
    assert first(_column(4, 5, 6)) == [4]
    assert every_nth(10)(_column(*range(2, 27))) == [7, 17]
    assert every_nth(10)(_column(2, 3, 4)) == [3]


def test_iou_counts_all_planes() -> None:
    truth = _column(0, 1, 2).masks
    assert stack_iou(truth, truth) == 1
    assert stack_iou(truth, _column(1, 2, 3).masks) == 0.5
    assert stack_iou(truth, {}) == 0
    assert stack_iou(truth, _column(0, 1, 2, side=6).masks) == pytest.approx(9 / 36)


def test_tracks_that_swap_and_tracks_that_wander() -> None:
    a, b, c = (Mask((2 * n, 0), np.ones((2, 4), dtype=bool), (6, 4)) for n in range(3))
    truth = {1: dict.fromkeys(range(4), a), 2: dict.fromkeys(range(4), b)}
    assert id_switches(truth, {7: truth[1], 9: truth[2]}) == 0
    assert id_switches(truth, {7: {0: a, 1: a, 2: b, 3: b}, 9: {0: b, 1: b, 2: a, 3: a}}) == 2
    # Away in between, and back again.
    assert id_switches(truth, {7: {0: a, 1: c, 3: a}}) == 0
    # The other object has no track of its own.
    assert id_switches(truth, {7: {0: a, 1: a, 2: b, 3: b}}) == 1
    assert id_switches(truth, {}) == 0


def test_tracks_of_a_film_are_better_than_copies_of_the_first_mask(movie: Movie) -> None:
    model = napari_sam.load_model("nano", device="cpu")
    cells = solids(movie.labels)
    found = evaluate_stack(model, open_video(movie.image), cells, first, reach=lambda cell: cell.span)
    assert [result.label for result in found.objects] == [1, 2, 3, 4]
    assert all(result.clicks == 1 and result.clicked > 0.8 for result in found.objects)
    assert np.mean([result.iou for result in found.objects]) > 0.85
    assert all(result.iou > result.copied for result in found.objects)
    assert all(
        masks.keys() <= set(cell.span) for cell, masks in zip(cells, found.masks.values(), strict=True)
    )


def test_the_command(
    tmp_path: Path, movie: Movie, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, array in (("image", movie.image), ("labels", movie.labels)):
        imsave(tmp_path / f"{name}.tif", array, check_contrast=False)
    (tmp_path / "index.csv").write_text(
        "dataset,id,split,image,labels\nfilm,1,train,image.tif,labels.tif\n", encoding="utf-8"
    )
    written = tmp_path / "out.json"

    def run(*arguments: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["volumes", "--films", "0", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            volumes.main()
        return left.value.code, *capsys.readouterr()

    code, shown, _ = run("--index", tmp_path, "--objects", "1", "--device", "cpu", "--json", written)
    assert code == 0
    assert "| film | the middle plane |" in shown
    table = json.loads(written.read_text())
    assert [line["clicks"] for line in table["lines"]] == ["the middle plane", "every 10th plane"]
    assert len(table["objects"]) == 2
    code, _, told = run()
    assert code == 2
    assert "There is nothing to measure" in told
