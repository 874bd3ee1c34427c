"""Programs are killed at any moment, and what they had done a second before is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_while_annotating import checksum

from napari_sam.annotation import Document
from napari_sam.annotation.autosave import Autosave

COUNT = 50
LOST = 1.0
"""Seconds that may be lost."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    program = Path(__file__).with_name("killed_while_annotating.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Not with pytest's threads: what is forked off should be as a program of its own.
    subprocess.run([sys.executable, str(program), str(folder), str(COUNT), "7"], check=True, env=environment)
    return folder


def test_fifty_killed_programs_lose_a_second_at_most(killed: Path) -> None:
    kills = {int(number): when for number, when in json.loads((killed / "kills.json").read_text()).items()}
    assert sorted(kills) == list(range(COUNT))
    with_accepted = unsaved = 0
    for number, end in kills.items():
        log = killed / f"{number}.log"
        lines = log.read_text().splitlines() if log.exists() else []
        states = [line.split() for line in lines if line.count(" ") == 3]
        entries = Autosave(killed / str(number)).recoverable()
        assert all(not entry.problem for entry in entries)
        old = [index for index, (when, *_) in enumerate(states) if float(when) < end - LOST]
        if not entries:
            # Nothing was there a second ago, or nothing at all at some time since then.
            recent = states[old[-1] :] if old else states
            assert not old or any(count == "0" for _, count, _, _ in recent), f"{number} lost everything"
            continue
        (entry,) = entries
        snapshot = entry.load()
        found = [index for index, state in enumerate(states) if state[3] == checksum(snapshot)]
        assert found, f"{number} was never in the state that was recovered"
        assert not old or found[-1] >= old[-1], f"{number} lost more than a second"
        accepted = ",".join(str(item.uid) for item in snapshot.objects if item.accepted)
        assert accepted == states[found[-1]][2].strip("-")
        document = Document.of(snapshot)
        assert sum(item.area for item in document.objects) == (document.to_labels() != 0).sum()
        with_accepted += bool(old and states[old[-1]][2] != "-")
        unsaved += found[-1] < len(states) - 1
    # The test was one: objects had been accepted in time, and some were killed with work not written yet.
    assert with_accepted >= 10
    assert unsaved >= 5
