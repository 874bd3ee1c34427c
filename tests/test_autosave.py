"""What is not saved yet is in a file all the same, and that costs nobody anything."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_document import PLANES, SHAPE, Commands, random_document

from napari_sam.annotation import Answer, Document, SamObject, Snapshot
from napari_sam.annotation.autosave import DELAY, FOLDER_VARIABLE, Autosave, AutosaveFile
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.recovery import DISCARDED, KEPT
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask

IDENTITY = ImageIdentity(SHAPE, "uint8", "xxh3_128:0123456789abcdef0123")
OTHER = ImageIdentity(SHAPE, "uint8", "xxh3_128:ffff456789abcdef0123")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def autosave(tmp_path: Path, said: list[str]) -> Iterator[Autosave]:
    yield Autosave(tmp_path / "kept", said.append)
    deadline = time.monotonic() + 20
    while any(thread.name == "napari-sam autosave" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread outlives the last file"
        time.sleep(0.001)


def add(document: Document, count: int = 1) -> None:
    bits = np.ones((1, 1), dtype=bool)
    place = len(document)
    for number in range(place, place + count):
        row, column = divmod(number, SHAPE[2])
        mask = Mask((row % SHAPE[1], column), bits, SHAPE[1:])
        document.add_objects([SamObject(0, 0, base={PLANES[0]: Answer(((mask, 0.5),))})])


def attached(autosave: Autosave, begun: bool) -> tuple[Document, AutosaveFile]:
    """A document that is kept, with an object in its file if that was begun."""
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY, "cells.tif")
    if begun:
        add(document)
        assert handle.flush()
    return document, handle


def left_behind(autosave: Autosave, snapshot: Snapshot, identity: ImageIdentity = IDENTITY) -> Path:
    handle = autosave.attach(Document.of(snapshot), identity, "left")
    assert handle.flush()
    path = handle.path
    assert path is not None
    handle.close()
    return path


def test_random_work_is_in_the_file_after_every_flush(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY, "cells.tif")
    commands = Commands(document, 3)
    for _ in range(40):
        for _ in range(4):
            commands.step()
        assert handle.flush()
    written = document.snapshot
    assert written.objects
    assert autosave.recoverable() == []  # somebody is at work on it
    handle.close()
    (entry,) = autosave.recoverable()
    assert (entry.name, entry.objects, entry.shape) == ("cells.tif", len(written.objects), SHAPE)
    assert (entry.identity, entry.problem) == (IDENTITY, "")
    assert abs(entry.time.timestamp() - time.time()) < 60
    assert entry.load() == written
    assert entry.load() == written


def test_changes_arrive_by_themselves(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document)
    begin = time.monotonic()
    while handle.path is None or not rows(handle.path):
        assert time.monotonic() - begin < DELAY + 10
        time.sleep(0.01)
    handle.close()


def rows(path: Path) -> int:
    """How many objects a copy of the file holds, as it would be found after a crash."""
    copy = path.with_name("copy")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    with sqlite3.connect(copy) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM objects").fetchall()
    connection.close()
    return int(count)


def test_only_what_changed_is_written(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document, 20)
    handle.flush()
    seen: list[str] = []
    assert handle._journal is not None
    handle._journal._connection.set_trace_callback(seen.append)
    document.set_class([document.objects[4].uid], 0)
    document.delete([document.objects[7].uid])
    document.undo()
    document.delete([document.objects[9].uid])
    handle.flush()
    assert sum(text.startswith("INSERT OR REPLACE INTO objects") for text in seen) == 1
    assert sum(text.startswith("DELETE FROM objects") for text in seen) == 1
    assert seen.count("COMMIT") == 1
    handle._journal._connection.set_trace_callback(None)
    handle.close()


def test_next_numbers_are_kept_whatever_was_undone(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document, 3)
    # A new object with an id that was free: no other value of the document changes.
    document.delete([document.objects[1].uid])
    assert handle.flush()
    document.paint(PLANES[0], (slice(5, 6), slice(5, 6)), np.array([[2]]))
    document.undo()
    handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot


def test_a_change_costs_the_one_who_makes_it_little(autosave: Autosave) -> None:
    document = Document((10, 500, 500))
    bits = np.ones((3, 3), dtype=bool)
    masks = [Mask((i // 100 * 4, i % 100 * 4), bits, (500, 500)) for i in range(5000)]
    document.add_objects([SamObject(0, 0, base={PLANES[0]: Answer(((m, 0.5),))}) for m in masks])
    handle = autosave.attach(document, IDENTITY)
    assert handle.flush(30)
    took = []
    on_changed = handle._on_changed
    document.changed.disconnect(on_changed)

    def timed(changes: object) -> None:
        begin = time.perf_counter()
        on_changed(changes)  # type: ignore[arg-type]
        took.append(time.perf_counter() - begin)

    document.changed.connect(timed)
    for item in document.objects[:100]:
        document.set_class([item.uid], 0)
        document.paint(PLANES[0], (slice(499, 500), slice(0, 1)), np.array([[item.id]]))
    assert len(took) == 100
    assert np.median(took) < 0.0005
    document.changed.disconnect(timed)
    document.changed.connect(on_changed)
    handle.close(discard=True)


def test_nothing_is_written_for_nothing(autosave: Autosave, tmp_path: Path) -> None:
    handle = autosave.attach(Document(SHAPE), IDENTITY)
    assert handle.flush()
    handle.close()
    saved = autosave.attach(random_document(1), IDENTITY, unsaved=False)
    assert saved.flush()
    saved.close()
    assert not (tmp_path / "kept").exists()


def test_what_was_saved_is_written_whole_from_the_next_change_on(autosave: Autosave) -> None:
    document = random_document(1)
    handle = autosave.attach(document, IDENTITY, unsaved=False)
    add(document)
    handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot


@pytest.mark.parametrize("discard", [True, False])
def test_a_file_goes_when_it_is_not_wanted_or_empty(
    autosave: Autosave, tmp_path: Path, discard: bool
) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document, 2)
    handle.flush()
    assert len(list((tmp_path / "kept").glob("*.sqlite"))) == 1
    if not discard:
        document.delete([item.uid for item in document.objects])
    handle.close(discard=discard)
    handle.close()
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_closed_file_hears_nothing(autosave: Autosave) -> None:
    document = random_document(1)
    before = document.snapshot
    handle = autosave.attach(document, IDENTITY)
    handle.close()
    add(document)
    assert len(document.changed) == 0
    assert autosave.recoverable()[0].load() == before


def test_several_images_have_files_of_their_own(autosave: Autosave) -> None:
    documents = [random_document(seed) for seed in (1, 2, 3)]
    handles = [
        autosave.attach(document, identity, str(number))
        for number, (document, identity) in enumerate(
            zip(documents, [IDENTITY, OTHER, IDENTITY], strict=True)
        )
    ]
    threads = [t for t in threading.enumerate() if t.name == "napari-sam autosave"]
    assert len(threads) == 1
    for handle in handles:
        assert handle.flush()
        handle.close()
    assert [entry.name for entry in autosave.recoverable()] == ["2", "1", "0"]
    assert [entry.name for entry in autosave.recoverable(OTHER)] == ["1"]
    for entry in autosave.recoverable():
        assert entry.load() == documents[int(entry.name)].snapshot


def test_what_is_recovered_can_be_worked_on_and_is_kept_again(autosave: Autosave) -> None:
    left_behind(autosave, random_document(8).snapshot)
    (entry,) = autosave.recoverable()
    document = Document.of(entry.load())
    handle = autosave.attach(document, IDENTITY)
    handle.flush()
    entry.discard()
    assert autosave.recoverable() == []
    add(document)
    handle.close()
    (again,) = autosave.recoverable()
    assert again.load() == document.snapshot


def test_discarded_files_are_kept_for_a_while(autosave: Autosave, tmp_path: Path) -> None:
    snapshot = random_document(8).snapshot
    names = []
    for _ in range(KEPT + 2):
        names.append(left_behind(autosave, snapshot).name)
        autosave.recoverable()[0].discard()
    assert autosave.recoverable() == []
    kept = {path.name for path in (tmp_path / "kept" / DISCARDED).iterdir()}
    assert kept == set(names[2:])
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [DISCARDED]
    # They can be had back by moving them back.
    shutil.copy(tmp_path / "kept" / DISCARDED / names[-1], tmp_path / "kept")
    assert autosave.recoverable()[0].load() == snapshot


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert Autosave().folder == tmp_path / "mine"
    assert Autosave(tmp_path).folder == tmp_path
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert Autosave().folder.name == "annotations"
    assert Autosave(tmp_path / "none").recoverable() == []


# What goes wrong


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "garbage":
        data[:] = os.urandom(5000)
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "header":
        data[:100] = bytes(100)
    elif how == "middle":
        data[4096:8192] = os.urandom(4096)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute(how)
        connection.close()
        return
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "said_of_it"),
    [
        ("garbage", "cannot be read"),
        ("cut", "cannot be read"),
        ("header", "cannot be read"),
        ("middle", "cannot be read"),
        ("PRAGMA user_version = 7", "version 7 .* update napari-sam"),
        ("DROP TABLE objects", "cannot be read"),
        ("UPDATE document SET data = x'00'", "cannot be read"),
        ("UPDATE document SET time = 'late'", "cannot be read"),
        ("ALTER TABLE document DROP COLUMN name", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_and_kept(
    autosave: Autosave, how: str, said_of_it: str
) -> None:
    path = left_behind(autosave, random_document(5).snapshot)
    left_behind(autosave, random_document(6).snapshot, OTHER)
    damage(path, how)
    before = path.read_bytes()
    entries = {entry.path: entry for entry in autosave.recoverable()}
    assert len(entries) == 2
    entry = entries.pop(path)
    assert entry in autosave.recoverable(IDENTITY)
    assert entry not in autosave.recoverable(OTHER)
    assert entry.problem.count("\n") == 0
    with pytest.raises(AnnotationError, match=said_of_it) as error:
        entry.load()
    assert str(error.value) == entry.problem
    assert str(path) in entry.problem
    assert path.read_bytes() == before
    entry.discard()
    assert (path.parent / DISCARDED / path.name).read_bytes() == before
    assert [one.problem for one in autosave.recoverable()] == [""]


def test_an_object_that_is_damaged_is_said_when_it_is_loaded(autosave: Autosave) -> None:
    path = left_behind(autosave, random_document(5).snapshot)
    damage(path, "UPDATE objects SET data = x'00'")
    (entry,) = autosave.recoverable()
    with pytest.raises(AnnotationError, match="cannot be read"):
        entry.load()
    assert path.exists()


def test_a_file_without_anything_is_not_offered(autosave: Autosave, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.sqlite").write_bytes(b"")
    assert autosave.recoverable() == []
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [DISCARDED]


def half_written(path: Path, statements: tuple[str, ...]) -> Path:
    """A copy of a file while a transaction is in the file itself, and what it was is beside it."""
    copy = path.with_name("half.sqlite")
    connection = sqlite3.connect(path, isolation_level=None)
    # What does not fit into memory is written before the end.
    for statement in (
        "PRAGMA journal_mode = DELETE",
        "PRAGMA cache_size = 1",
        "BEGIN IMMEDIATE",
        *statements,
    ):
        connection.execute(statement)
    for ending in ("", "-journal"):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    connection.execute("ROLLBACK")
    connection.close()
    path.unlink()
    return copy


def test_a_file_whose_program_was_ended_while_it_was_made_is_not_offered(
    autosave: Autosave, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    path = half_written(
        folder / "a.sqlite", ("CREATE TABLE t (x)", "INSERT INTO t VALUES (zeroblob(100000))")
    )
    assert path.stat().st_size > 4096
    assert autosave.recoverable() == []
    assert [path.name for path in folder.iterdir()] == [DISCARDED]


def test_half_a_step_in_the_file_itself_is_taken_back(autosave: Autosave) -> None:
    """Where SQLite cannot keep changes in a second file."""
    snapshot = random_document(5).snapshot
    path = left_behind(autosave, snapshot)
    half_written(path, ("UPDATE objects SET data = zeroblob(100000)",))
    (entry,) = autosave.recoverable()
    assert entry.problem == ""
    assert entry.load() == snapshot


def test_a_file_that_is_gone_is_said_to_be(autosave: Autosave) -> None:
    path = left_behind(autosave, random_document(5).snapshot)
    (entry,) = autosave.recoverable()
    path.unlink()
    with pytest.raises(AnnotationError, match="not there any more"):
        entry.load()
    entry.discard()
    assert autosave.recoverable() == []


def test_a_file_in_use_is_left_alone(autosave: Autosave) -> None:
    left_behind(autosave, random_document(5).snapshot)
    (entry,) = autosave.recoverable()
    from napari_sam.annotation.journal import lock_of

    with lock_of(entry.path):
        assert autosave.recoverable() == []
        for use in (entry.load, entry.discard):
            with pytest.raises(AnnotationError, match="in use by another program"):
                use()
    assert autosave.recoverable() == [entry]


def test_a_folder_that_cannot_be_made_is_told_once_and_tried_again(
    tmp_path: Path, autosave: Autosave, said: list[str]
) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY, "cells.tif")
    for _ in range(3):
        add(document)
        assert not handle.flush()
    (sentence,) = said
    assert "cells.tif" in sentence
    assert str(tmp_path / "kept") in sentence
    (tmp_path / "kept").unlink()
    add(document)
    assert handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot
    assert len(said) == 1


@pytest.mark.parametrize("begun", [True, False])
def test_a_full_disk_is_told_once_and_tried_again(
    autosave: Autosave, said: list[str], begun: bool, tmp_path: Path
) -> None:
    document, handle = attached(autosave, begun)
    commands = Commands(document, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, hard))
    try:
        while handle.flush():
            add(document)
            commands.step()
        while not document.snapshot.objects:
            commands.step()
        assert not handle.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(said) == 1
    commands.step()
    assert handle.flush()
    handle.close()
    (entry,) = autosave.recoverable()
    assert entry.load() == document.snapshot


def test_what_could_not_be_written_is_tried_again_without_a_change(
    tmp_path: Path, autosave: Autosave, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next change, nobody looked whether the disk had room again."""
    monkeypatch.setattr("napari_sam.annotation.autosave.RETRY", 0.05)
    (tmp_path / "kept").write_text("a file where the folder should be")
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document)
    assert not handle.flush()
    time.sleep(0.2)
    assert handle.path is None
    (tmp_path / "kept").unlink()
    deadline = time.monotonic() + 10
    while handle.path is None or not rows(handle.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot
    assert len(said) == 1


def test_what_cannot_be_written_at_the_end_is_not_tried_again(tmp_path: Path, autosave: Autosave) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document)
    # The thread ends at once, which the fixture waits for.
    handle.close()


def test_who_cannot_be_told_stops_nobody(tmp_path: Path, autosave: Autosave) -> None:
    """The thread ended with the error, and nothing was written any more, of any document."""

    def tell(sentence: str) -> None:
        raise RuntimeError("the window is gone")

    (tmp_path / "file").write_text("where a folder should be")
    document = Document(SHAPE)
    handle = Autosave(tmp_path / "file", tell).attach(document)
    add(document)
    assert not handle.flush()
    other, kept = attached(autosave, begun=True)
    add(other)
    assert kept.flush()
    kept.close()
    handle.close()
    assert autosave.recoverable()[0].load() == other.snapshot


def test_an_error_in_the_thread_that_writes_is_told_and_it_goes_on(
    autosave: Autosave, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, handle = attached(autosave, begun=True)
    errors: list[str] = []
    work = AutosaveFile.work

    def once(self: AutosaveFile) -> bool:
        monkeypatch.setattr(AutosaveFile, "work", work)
        raise RuntimeError("nobody thought of that")

    monkeypatch.setattr(AutosaveFile, "work", once)
    monkeypatch.setattr(threading, "excepthook", lambda info: errors.append(str(info.exc_value)))
    add(document)
    assert not handle.flush(0.5)
    assert errors == ["nobody thought of that"]
    add(document)
    assert handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot


def test_a_folder_that_was_emptied_is_filled_again(autosave: Autosave, tmp_path: Path) -> None:
    document = random_document(5)
    handle = autosave.attach(document, IDENTITY)
    handle.flush()
    shutil.rmtree(tmp_path / "kept")
    add(document)
    assert handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot


def test_the_end_of_a_program_waits_for_what_is_not_written(tmp_path: Path) -> None:
    program = """
import sys
from random_document import random_document
from napari_sam.annotation.autosave import Autosave
document = random_document(5)
handle = Autosave(sys.argv[1]).attach(document)
print(len(document), "torch" in sys.modules, flush=True)
"""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, env=here
    )
    (entry,) = Autosave(tmp_path).recoverable()
    assert done.stdout.split() == [str(entry.objects), "False"]
    assert len(entry.load().objects) == entry.objects > 0
    assert done.stderr == ""


def test_a_name_that_is_no_text_is_kept_all_the_same(
    autosave: Autosave, said: list[str], tmp_path: Path
) -> None:
    """A file of Linux may have a name that is not in UTF-8."""
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY, os.fsdecode(b"caf\xe9.tif"))
    for _ in range(2):
        add(document)
        assert handle.flush()
    assert len(list((tmp_path / "kept").glob("*.sqlite"))) == 1
    handle.close()
    (entry,) = autosave.recoverable()
    assert (entry.name, entry.problem, said) == (r"caf\udce9.tif", "", [])
    assert entry.load() == document.snapshot


@pytest.mark.parametrize("begun", [False, True])
def test_what_cannot_be_written_leaves_no_files_behind(
    autosave: Autosave, said: list[str], tmp_path: Path, begun: bool
) -> None:
    document, handle = attached(autosave, begun)
    bits = Mask((0, 3), np.ones((1, 1), dtype=bool), SHAPE[1:])
    wrong: Any = object()
    for _ in range(3):
        document.add_objects([SamObject(0, 0, base={PLANES[1]: Answer(((bits, 0.5),), model=wrong)})])
        assert not handle.flush()
    assert len(list((tmp_path / "kept").glob("*.sqlite"))) == begun
    (sentence,) = said
    assert "save it yourself" in sentence
    for _ in range(3):
        document.undo()
    add(document)
    assert handle.flush()
    handle.close()
    (entry,) = autosave.recoverable()
    assert entry.load() == document.snapshot


def test_a_gesture_is_written_less_often_the_longer_that_takes(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    add(document)
    assert handle.flush()
    (item,) = document.objects
    assert handle._journal is not None
    seen: list[str] = []

    def slowly(statement: str) -> None:
        if statement == "COMMIT":
            begin = time.thread_time()
            while time.thread_time() < begin + 0.5:
                pass
            seen.append(statement)

    handle._journal._connection.set_trace_callback(slowly)

    def put(*, column: int) -> None:
        mask = Mask((0, column), np.ones((1, 1), dtype=bool), SHAPE[1:])
        document.put_propagated({item.uid: {PLANES[1]: Answer(((mask, 0.5),))}}, gesture="run")

    put(column=0)
    assert handle.flush()
    put(column=1)
    time.sleep(3 * DELAY)
    assert len(seen) == 1
    # Who does something else meanwhile does not wait, nor does who asks.
    document.delete([item.uid])
    deadline = time.monotonic() + 60
    while len(seen) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    document.undo()
    assert handle.flush()
    handle.close()
    assert autosave.recoverable()[0].load() == document.snapshot
