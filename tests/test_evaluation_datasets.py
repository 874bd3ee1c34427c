"""What is evaluated on: folders and indexes, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from napari_sam.errors import ImageError
from napari_sam.evaluation.datasets import LabelledFile, Sample, list_folders, list_index, some_of_each


@pytest.fixture
def scene() -> np.ndarray:
    labels = np.zeros((60, 100), dtype=np.uint8)
    labels[5:15, 10:30] = 40
    labels[20:40, 50:70] = 90
    return labels


@pytest.fixture
def data(tmp_path: Path, scene: np.ndarray) -> Path:
    """Two planes and a volume of two data sets, with an index."""
    volume = np.stack([scene * (z % 2) for z in range(7)])
    imsave(tmp_path / "plane.png", scene, check_contrast=False)
    imsave(tmp_path / "labels.png", scene.astype(np.uint16), check_contrast=False)
    imsave(tmp_path / "volume.tif", volume, check_contrast=False)
    imsave(tmp_path / "volume_labels.tif", volume.astype(np.uint16), check_contrast=False)
    (tmp_path / "index.csv").write_text(
        "dataset,id,split,image,labels,modality\n"
        "flat,one,val,plane.png,labels.png,drawing\n"
        "flat,two,train,plane.png,labels.png\n"
        "deep,three,val,volume.tif,volume_labels.tif,\n"
    )
    return tmp_path


def read(files: list[LabelledFile], step: int = 10) -> list[Sample]:
    return [sample for file in files for sample in file.planes(step)]


def test_an_index_lists_planes_and_volumes(data: Path, scene: np.ndarray) -> None:
    samples = read(list_index(data, "val"), step=3)
    assert [(s.dataset, s.name) for s in samples] == [
        ("flat", "one"),
        ("deep", "three/1"),
        ("deep", "three/4"),
    ]
    assert np.array_equal(samples[0].image, scene)
    assert np.array_equal(samples[1].labels, scene)
    assert not samples[2].labels.any()
    assert [s.modality for s in samples] == ["drawing", "", ""]
    assert [file.name for file in list_index(data / "index.csv", "train")] == ["two"]
    assert [file.name for file in list_index(data, "val", ["flat"])] == ["one"]
    assert len(list_index(data, None)) == 3


def test_what_an_index_must_have(data: Path) -> None:
    with pytest.raises(ImageError, match="no test items"):
        list_index(data, "test")
    with pytest.raises(ImageError, match="no val items of moon"):
        list_index(data, "val", ["moon"])
    with pytest.raises(ImageError, match=r"no index\.csv"):
        list_index(data / "nowhere", "val")
    (data / "index.csv").write_text("dataset,id,image\n")
    with pytest.raises(ImageError, match="no column labels, split"):
        list_index(data, "val")
    (data / "index.csv").write_bytes(b"\xff\xfe\x00dataset\x80")
    with pytest.raises(ImageError, match="cannot be read as a table"):
        list_index(data, "val")


@pytest.fixture
def folders(tmp_path: Path, scene: np.ndarray) -> tuple[Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for stem in ("b", "a", "c"):
        imsave(images / f"{stem}.png", np.stack([scene] * 3, axis=-1), check_contrast=False)
    (images / "notes.txt").write_text("no image")
    np.save(labels / "a.npy", scene.astype(np.int32))
    imsave(labels / "b_labels.tif", scene, check_contrast=False)
    return images, labels


def test_folders_are_paired_by_names(folders: tuple[Path, Path]) -> None:
    files = list_folders(*folders)
    samples = read(files[:2])
    assert [(s.dataset, s.name, s.image.shape) for s in samples] == [
        ("images", "a", (60, 100, 3)),
        ("images", "b", (60, 100, 3)),
    ]
    assert np.array_equal(samples[0].labels, samples[1].labels)
    with pytest.raises(ImageError, match=r"c\.png has no labels"):
        read(files[2:])


def test_images_and_labels_may_be_in_one_folder(tmp_path: Path, scene: np.ndarray) -> None:
    for name in ("a", "a_labels", "b", "b_masks"):
        np.save(tmp_path / f"{name}.npy", scene)
    files = list_folders(tmp_path, tmp_path)
    assert [(file.name, file.labels.stem) for file in files if file.labels] == [
        ("a", "a_labels"),
        ("b", "b_masks"),
    ]


def test_what_folders_must_have(folders: tuple[Path, Path], tmp_path: Path, scene: np.ndarray) -> None:
    images, labels = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="No image in"):
        list_folders(images, tmp_path / "empty")
    with pytest.raises(ImageError, match="There is no folder"):
        list_folders(images, tmp_path / "nowhere")
    np.save(images / "a.npy", scene)
    with pytest.raises(ImageError, match=r"holds both a\.npy and a\.png"):
        list_folders(images, labels)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((5, 100), dtype=int), "must be of the same size"),
        (np.zeros((60, 100)), "labels are whole numbers"),
        (np.zeros((60, 100, 3), dtype=np.uint8), "is a colour image"),
        (np.zeros((2, 2, 60, 100), dtype=int), "have 2 or 3"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray, sentence: str) -> None:
    image = np.zeros(labels.shape if labels.ndim == 4 else (60, 100), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ImageError, match=sentence):
        read([LabelledFile("d", "n", tmp_path / "image.npy", tmp_path / "labels.npy")])


def test_some_files_of_each_data_set_are_drawn_in_their_order() -> None:
    files = [LabelledFile(dataset, str(n), Path(), None) for n in range(20) for dataset in "ab"]
    drawn = some_of_each(files, 5, seed=3)
    assert drawn == some_of_each(files, 5, seed=3) != some_of_each(files, 5, seed=4)
    assert [sum(file.dataset == dataset for file in drawn) for dataset in "ab"] == [5, 5]
    places = [files.index(file) for file in drawn]
    assert places == sorted(places)
    assert some_of_each(files, None) == some_of_each(files, 99) == files
