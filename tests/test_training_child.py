"""Training in a process of its own: what it is told, and what it tells."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from napari_sam import load_model
from napari_sam.errors import NapariSamError
from napari_sam.training.child import _sources, main, parse
from napari_sam.training.progress import FitResult, Progress
from napari_sam.training.synthetic import synthetic_sample
from napari_sam.ui.training_run import LayerPair, Wanted, _order


def wanted(tmp_path: Path, **changed: object) -> Wanted:
    image, labels = synthetic_sample(np.random.default_rng(1), 96, "nuclei")
    stack, ids = np.zeros((3, 96, 96, 3), np.uint8), np.zeros((3, 96, 96), np.int32)
    stack[1], ids[1], stack[2], ids[2] = image, labels, image, labels
    layer = LayerPair("my stack", stack, ids, (10.0, 200.0), 0.5)
    given = {
        "pairs": [layer], "images": "", "labels": "", "model": "nano", "device": "cpu", "part": "decoder",
        "minutes": 60.0, "partial": False, "output": tmp_path / "out.safetensors", "resume": False,
    }  # fmt: skip
    return Wanted(**(given | changed))  # type: ignore[arg-type]


def told(order: dict[str, object]) -> list[Progress | FitResult | NapariSamError | None]:
    """What it tells whose input ends after the first line."""
    output = io.StringIO()
    main(io.StringIO(json.dumps(order) + "\n"), output)
    return [parse(line) for line in output.getvalue().splitlines()]


def test_layers_arrive_as_they_are_displayed_and_only_planes_with_labels(tmp_path: Path) -> None:
    order = _order(wanted(tmp_path), tmp_path)
    assert np.load(order["layers"][0]["image"]).shape == (2, 96, 96, 3)
    sources = _sources(json.loads(json.dumps(order["layers"])))
    assert [source.name for source in sources] == ["my stack, plane 0", "my stack, plane 1"]
    assert {(source.limits, source.gamma) for source in sources} == {((10.0, 200.0), 0.5)}
    assert sources[0].read().pixels.dtype == np.float32


def test_it_tells_how_far_it_is_and_ends_with_its_input(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    *progress, result = told(_order(wanted(tmp_path), scratch))
    assert isinstance(result, FitResult)
    assert result.stopped
    assert result.output == tmp_path / "out.safetensors"
    assert load_model(result.output, device="cpu")
    assert all(isinstance(one, Progress) for one in progress)
    assert isinstance(progress[-1], Progress)
    assert progress[-1].measured == result.measured
    assert not scratch.exists()


def test_what_is_wrong_arrives_as_a_sentence(tmp_path: Path) -> None:
    order = _order(wanted(tmp_path, pairs=[], images="no folder", labels="none"), tmp_path / "none")
    (error,) = told(order)
    assert isinstance(error, NapariSamError)
    assert str(error).startswith("There is no folder or file no folder")
    for line in ("", "a warning", "[]", "{}", '{"progress": {}}'):
        assert parse(line) is None
