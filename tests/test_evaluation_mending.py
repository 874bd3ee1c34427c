"""Masks that are wrong in a known way, and what a model makes of them and a click."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.io import imsave

import napari_sam
from napari_sam.evaluation import mending
from napari_sam.evaluation.interactive import targets, with_model
from napari_sam.evaluation.mending import KINDS, Mended, mend, mending_table, spoil
from napari_sam.inference.image import as_rgb
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

HALF, PIECE, LEAK, NEIGHBOUR, WIDE = KINDS


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two discs of radius 15 that touch, and one far from them, brighter than the ground."""
    y, x = np.indices((200, 256))
    labels = np.zeros((200, 256), dtype=np.uint16)
    for number, (row, column) in enumerate(((60, 60), (60, 91), (140, 180)), 1):
        labels[np.hypot(y - row, x - column) <= 15] = number
    image = np.where(labels > 0, 170, 60) + np.random.default_rng(0).normal(0, 4, labels.shape)
    image[:, 75:77] -= 40  # the border between the two
    return image.clip(0, 255).astype(np.uint8), labels


@pytest.mark.parametrize("seed", range(5))
def test_each_mask_is_wrong_in_its_way(seed: int) -> None:
    _, labels = scene()
    truth, other = labels == 1, labels == 2
    wrong = spoil(truth, other, np.random.default_rng(seed))
    assert tuple(wrong) == KINDS
    area = truth.sum()
    for kind in (HALF, PIECE):
        assert not (wrong[kind] & ~truth).any()
    assert 0.25 < wrong[HALF].sum() / area < 0.75
    assert 0.7 < wrong[PIECE].sum() / area < 0.85
    for kind in (LEAK, NEIGHBOUR, WIDE):
        assert (truth & ~wrong[kind]).sum() == 0
    assert 1.05 < wrong[LEAK].sum() / area < 1.3
    assert (wrong[NEIGHBOUR] & other).sum() == other.sum()
    assert ndimage.label(wrong[NEIGHBOUR])[1] == 1
    assert wrong[WIDE].sum() / area == pytest.approx(1.25**2, abs=0.1)
    assert NEIGHBOUR not in spoil(truth, np.zeros_like(truth), np.random.default_rng(seed))


@dataclass(frozen=True)
class Said:
    """The mask that was given, or nothing."""

    mask: Mask
    low_res_logits = np.zeros((256, 256), dtype=np.float32)


def test_what_is_asked_and_compared() -> None:
    _, labels = scene()
    asked: list[Prompts] = []

    def ask(prompts: Sequence[Prompts]) -> list[Said]:
        asked.extend(prompts)
        return [Said(p.mask or Mask.empty((200, 256))) for p in prompts]

    found = mend(ask, labels, targets(labels))
    assert [one.kind for one in found] == [*KINDS, *KINDS, *(kind for kind in KINDS if kind != NEIGHBOUR)]
    assert all(one.after == pytest.approx(one.before) for one in found)
    assert all(0 < one.before < 1 and one.alone == 0 for one in found)
    given, alone = asked[: len(found)], asked[len(found) :]
    truth = [labels == number for number in (1, 2, 3) for _ in range(5 if number < 3 else 4)]
    for one, prompts, without, own in zip(found, given, alone, truth, strict=True):
        assert prompts.mask is not None
        wrong = prompts.mask.to_array()
        assert (wrong & own).sum() / (wrong | own).sum() == pytest.approx(one.before)
        clicks = prompts.points.astype(int).tolist()
        assert len(clicks) == (0 if one.kind == WIDE else 1)
        for (x, y), label in zip(clicks, prompts.labels, strict=True):
            # The click is on the error, and says what it should.
            assert own[y, x] == label != wrong[y, x]
            assert label == (one.kind in (HALF, PIECE))
        assert without.mask is None
        assert without.points[: len(clicks)].tolist() == prompts.points.tolist()
        x, y = without.points[-1].astype(int)
        assert own[y, x]
        assert without.labels[-1] == 1


def test_small_objects_are_left_out() -> None:
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[3:10, 3:10] = 1
    labels[20:28, 20:28] = 2
    empty = [Said(Mask.empty((40, 40)))]
    found = mend(lambda prompts: empty * len(prompts), labels, targets(labels))
    assert len(found) == 4
    assert mend(lambda prompts: empty * len(prompts), labels, targets(labels)[:1]) == []


def test_nano_mends_discs() -> None:
    image, labels = scene()
    ask = with_model(napari_sam.load_model("nano", device="cpu"))(as_rgb(image))
    found = mend(ask, labels, targets(labels))
    for one in found:
        assert one.after > max(0.8, one.before - 0.05), one


def test_means_are_over_objects_and_then_over_data_sets() -> None:
    one = [Mended(HALF, 0.5, 0.9, 0.7), Mended(HALF, 0.3, 0.7, 0.5), Mended(WIDE, 0.6, 0.8, 0.8)]
    table = mending_table({"a": one, "b": [Mended(HALF, 0.2, 0.4, 0.2)]}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert rows == [
        ["a", HALF, "2", "0.400", "0.800", "0.600"],
        ["a", WIDE, "1", "0.600", "0.800", "0.800"],
        ["b", HALF, "1", "0.200", "0.400", "0.200"],
        ["mean of data sets", HALF, "3", "0.300", "0.600", "0.400"],
        ["mean of data sets", WIDE, "1", "0.600", "0.800", "0.800"],
    ]
    assert "mean" not in mending_table({"a": one})


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, array in zip(("image", "labels"), scene(), strict=True):
        imsave(tmp_path / f"{name}.tif", array, check_contrast=False)
    index = tmp_path / "index.csv"
    index.write_text("dataset,id,split,image,labels\ndiscs,1,val,image.tif,labels.tif\n", encoding="utf-8")

    def run(*arguments: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mending", "--index", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            mending.main()
        return left.value.code, *capsys.readouterr()

    code, shown, _ = run(tmp_path, "--objects", "1", "--device", "cpu")
    assert code == 0
    assert "| discs | half is missing " in shown
    code, _, told = run(tmp_path / "nowhere")
    assert code == 2
    assert told.startswith("Error: ")
