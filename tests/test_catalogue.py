"""The list of models in words; neither napari nor Qt is needed for it."""

from __future__ import annotations

from napari_sam.models.zoo import ZOO
from napari_sam.ui.catalogue import catalogue


def test_every_model_is_listed_once_under_what_it_costs() -> None:
    lines = catalogue({"nano", "vit_b_lm"})
    assert sorted(line.name for line in lines if line.name) == sorted(ZOO)
    titles = [line.title for line in lines]
    assert titles[:4] == ["Ready to use", "nano", "vit_b_lm", "Downloaded when chosen"]


def test_what_is_to_be_downloaded_says_how_much() -> None:
    lines = {line.name: line for line in catalogue({"nano", "vit_b"})}
    assert lines["vit_h"].detail == "natural images · 2.6 GB"
    assert lines["vit_b_lm"].detail == "light microscopy · about 375 MB"
    assert lines["vit_b"].detail == "natural images"
    assert "Not on this computer: 2.6 GB to download, once." in lines["vit_h"].tip
    assert "On this computer." in lines["vit_b"].tip
    assert "SAM 2.1, for natural images and video" in lines["sam2.1_hiera_tiny"].tip
    for name, line in lines.items():
        assert not name or (ZOO[name].licence in line.tip and ZOO[name].citation in line.tip)


def test_own_checkpoints_are_ready_and_show_their_path() -> None:
    lines = catalogue({"nano"}, ["/data/mine/best.pt"])
    assert lines[2][:3] == ("/data/mine/best.pt", "best.pt", "your checkpoint")
    assert lines[2].tip == "/data/mine/best.pt"
