"""``napari-sam train``: folders in, a model out; interrupted, resumed, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave
from typer.testing import CliRunner, Result

from napari_sam import load_model
from napari_sam.cli import app
from napari_sam.training.progress import run_path
from napari_sam.training.synthetic import synthetic_sample

SHORT = ("--windows", "1", "--objects", "1", "--part", "decoder", "--device", "cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three images and their labels."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number in (1, 3, 6):
        image, labels = synthetic_sample(np.random.default_rng(number), 96, "nuclei")
        imsave(folder / "images" / f"{number}.png", image, check_contrast=False)
        imsave(folder / "labels" / f"{number}.png", labels.astype(np.uint8), check_contrast=False)
    return folder


def arguments(folders: Path, output: Path, *more: object) -> list[str]:
    given = ["train", "--images", folders / "images", "--labels", folders / "labels", "-o", output, *SHORT]
    return [str(one) for one in (*given, *more)]


def run(folders: Path, output: Path, *more: object) -> Result:
    return CliRunner().invoke(app, arguments(folders, output, *more))


def test_it_trains_and_says_what_came_out(folders: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    held = ("--val-images", folders / "images", "--val-labels", folders / "labels")
    done = run(folders, output, "--steps", 1, *held)
    assert done.exit_code == 0, done.output
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("as it was: IoU 0.")
    assert last.startswith(f"{output}: IoU 0.")
    assert last.endswith("of 1")
    assert load_model(output, device="cpu").name == str(output)
    again = run(folders, output, "--steps", 1)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_ctrl_c_keeps_the_best_and_resume_goes_on(folders: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    command = [sys.executable, "-m", "napari_sam", *arguments(folders, output, "--steps", 100_000)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as p:
        while not run_path(output).exists() and p.poll() is None:
            time.sleep(0.1)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        stdout, stderr = p.communicate()
    assert p.returncode == 130, stderr
    assert "--resume goes on from here" in stderr
    assert stdout.splitlines()[-1].startswith(f"{output}: IoU")
    assert load_model(output, device="cpu")
    steps = int(stdout.splitlines()[-1].rpartition(" of ")[2])
    done = run(folders, output, "--steps", steps + 1, "--resume")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].endswith(f"of {steps + 1}")
    assert not run_path(output).exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--index", "."], "either --images and --labels, or --index"),
        (["--val-images", "."], "either --val-images and --val-labels, or a share"),
        (["--val", "2"], "between 0 and 1"),
        (["--model", "nono"], "There is no model 'nono'"),
        (["--part", "lora"], "no attention"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    more: list[str], message: str, folders: Path, tmp_path: Path
) -> None:
    done = run(folders, tmp_path / "x.safetensors", *more)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
