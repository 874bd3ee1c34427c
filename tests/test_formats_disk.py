"""A disk that is full, for real: in every format, the old file stays whole and the error names the path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from napari_sam.formats import FORMATS

pytest.importorskip("resource")

# From some point on, the system refuses files of more than 2,000 bytes, as a full disk refuses what comes.
SCRIPT = """
import json, resource, signal, sys, warnings
from pathlib import Path
import numpy as np
from napari_sam.errors import FormatError
from napari_sam.formats import FORMATS, Calibration, Segmentation, write

warnings.simplefilter("ignore")
large = np.zeros((90, 90), dtype=np.uint16)
ids = np.random.default_rng(0).permutation(np.arange(1, 45 * 45 + 1, dtype=np.uint16))
large[1::2, 1::2] = ids.reshape(45, 45)

def pair(name):
    axes = "tyx" if name == "ctc" else "yx"
    calibration = Calibration(axes, *((value,) * len(axes) for value in (1.0, 0.0, "")))
    both = (np.where(large < 5, large, 0), large)
    return [Segmentation.of_labels(one[(None,) * (len(axes) - 2)], calibration) for one in both]

def contents(path):
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one: one.read_bytes() for one in files}

places, before, pairs = {}, {}, {}
for name, kind in FORMATS.items():
    places[name] = Path(sys.argv[1], name, "Zellen – 細胞 1" + kind.suffixes[0])
    places[name].parent.mkdir()
    pairs[name] = pair(name)
    write(places[name], pairs[name][0], name)
    before[name] = contents(places[name])
    assert before[name]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
said = {}
for name, path in places.items():
    try:
        write(path, pairs[name][1], name, overwrite=True)
    except FormatError as error:
        said[name] = str(error)
    else:
        said[name] = "was written"
    assert contents(path) == before[name], f"{name}: the old file changed"
    assert list(path.parent.iterdir()) == [path], f"{name}: something was left"
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("full")
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FORMATS)
def test_the_error_names_the_path(name: str, said: dict[str, str]) -> None:
    place = str(Path(name, f"Zellen – 細胞 1{FORMATS[name].suffixes[0]}"))
    assert f"{place} cannot be written: " in said[name]
