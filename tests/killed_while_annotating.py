"""Programs that annotate until they are killed, and a log of what each of them did.

One process imports everything once and forks the others: ``killed_while_annotating.py FOLDER COUNT SEED``.
Number N keeps its annotation in FOLDER/N and writes FOLDER/N.log, a line for each state of the document
before anybody else hears of it: the time, the number of objects, the accepted uids, and a checksum.
FOLDER/kills.json says when they ended.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import xxhash
from random_document import SHAPE, Commands

from napari_sam.annotation import Document, Snapshot
from napari_sam.annotation.autosave import Autosave
from napari_sam.annotation.schema import to_json

AT_ONCE = 8
LONGEST = 2.2
"""Seconds."""


def checksum(snapshot: Snapshot) -> str:
    """Of all that is saved."""
    return xxhash.xxh3_64_hexdigest(json.dumps(to_json(snapshot, created=""), sort_keys=True).encode())


def annotate(folder: Path, number: int, seed: int) -> None:
    """Work, until somebody ends it."""
    document = Document(SHAPE)
    log = os.open(folder / f"{number}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def note(*_: object) -> None:
        snapshot = document.snapshot
        accepted = ",".join(str(item.uid) for item in snapshot.objects if item.accepted)
        os.write(
            log,
            f"{time.time():.4f} {len(snapshot.objects)} {accepted or '-'} {checksum(snapshot)}\n".encode(),
        )

    document.changed.connect(note)
    Autosave(folder / str(number)).attach(document, name=str(number))
    commands = Commands(document, seed)
    while True:
        commands.step()
        # Now and then a burst, and at times a pause.
        time.sleep(commands.random.choice([0, 0.01, 0.03, 0.2], p=[0.3, 0.4, 0.25, 0.05]))


def main(folder: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    waiting, living, kills = list(range(count)), {}, {}
    while waiting or living:
        while waiting and len(living) < AT_ONCE:
            number = waiting.pop()
            pid = os.fork()
            if pid == 0:
                try:
                    annotate(folder, number, seed + number)
                except Exception:  # noqa: BLE001  # nothing of the parent's may run in the child
                    traceback.print_exc()
                finally:
                    os._exit(1)
            living[number] = pid, time.time() + chance.uniform(0.02, LONGEST)
        time.sleep(0.002)
        for number, (pid, end) in list(living.items()):
            if time.time() >= end:
                kills[number] = time.time()
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                assert os.WTERMSIG(status) == signal.SIGKILL, number
                del living[number]
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
