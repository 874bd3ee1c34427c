"""What automatic runs found stays with a document, through files and crashes, outside its history."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_document import PLANES, SHAPE, Commands, random_document

from napari_sam.annotation import Document, Plane
from napari_sam.annotation import autosave as autosave_module
from napari_sam.annotation.archive import load_annotation, save_annotation
from napari_sam.annotation.autosave import Autosave
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask

IDENTITY = ImageIdentity(SHAPE, "uint8", "xxh3_128:0123456789abcdef0123")
seeds = st.integers(0, 2**31)


def found_on(plane: Plane, seed: int, count: int | None = None) -> MaskCandidates:
    """A run on a plane of an image of the shape `SHAPE`."""
    chance = np.random.default_rng(seed)
    height, width = size = plane.size_in(SHAPE)
    count = int(chance.integers(0, 7)) if count is None else count
    masks = [Mask((0, 0), chance.random(size) < chance.choice([0.02, 0.5, 1.0]), size) for _ in range(count)]
    return MaskCandidates.of(
        masks,
        chance.random(count),
        chance.random(count),
        chance.random((count, 2)) * 5 + 1 / 3,
        np.tile([0, 0, width, height], (count, 1)),
        size,
        model="nano",
        digest="xxh3_128:12ab",
        contrast_limits=None if chance.random() < 0.5 else (float(chance.random()), float("inf")),
        gamma=float(chance.random()),
        prompted=bool(chance.random() < 0.5),
    )


def with_candidates(seed: int, steps: int = 10) -> Document:
    document = random_document(seed, steps)
    chance = random.Random(seed)
    for plane in chance.sample(PLANES, chance.randint(0, len(PLANES))):
        document.keep_candidates(plane, found_on(plane, seed))
    return document


# The document


def test_candidates_are_kept_told_of_and_no_step() -> None:
    document, told = Document(SHAPE), []
    document.candidates_changed.connect(told.append)
    plane, other = PLANES[0], PLANES[2]
    found, newer = found_on(plane, 1), found_on(plane, 2)
    document.keep_candidates(plane, found)
    document.keep_candidates(plane, found)  # is kept already
    before = document.snapshot
    document.keep_candidates(other, found_on(other, 3))
    document.keep_candidates(plane, newer)
    assert told == [plane, other, plane]
    assert document.candidates[plane] is newer
    assert before.candidates == {plane: found}
    assert not document.undo_text
    Commands(document, 5).add_many()
    document.undo()
    assert set(document.candidates) == {plane, other}
    document.keep_candidates(plane, None)
    document.keep_candidates(plane, None)  # is forgotten already
    assert told == [plane, other, plane, plane]
    assert set(document.candidates) == {other}
    assert Document.of(document.snapshot).candidates == document.candidates
    with pytest.raises(TypeError):
        document.candidates[plane] = found  # type: ignore[index]


@pytest.mark.parametrize("index", [(4, None, None), (-1, None, None), (None, None), (0, 1, None, None)])
def test_a_plane_that_the_image_does_not_have_is_refused(index: tuple[int | None, ...]) -> None:
    with pytest.raises(AnnotationError, match="has no plane"):
        Document(SHAPE).keep_candidates(Plane(index), found_on(PLANES[0], 0))


def test_masks_of_another_size_are_refused() -> None:
    document = Document(SHAPE)
    with pytest.raises(AnnotationError, match=r"4 x 8 pixels are not of plane \[0, :, :\]"):
        document.keep_candidates(PLANES[0], found_on(PLANES[2], 0))
    assert not document.candidates


# The file


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds)
def test_saving_and_loading_is_the_identity(tmp_path: Path, seed: int) -> None:
    snapshot = with_candidates(seed).snapshot
    path = save_annotation(tmp_path / "a.napari-sam.zip", snapshot, IDENTITY, overwrite=True)
    loaded, identity, info = load_annotation(path)
    assert loaded == snapshot
    assert identity == IDENTITY
    assert info.version == 1
    with zipfile.ZipFile(path) as archive:
        arrays = [name for name in archive.namelist() if name.startswith("candidates/")]
        assert len(arrays) == 2 * len(snapshot.candidates)
        assert ("candidates" in json.loads(archive.read("annotation.json"))) == bool(arrays)


def test_arrays_can_be_read_as_documented(tmp_path: Path) -> None:
    plane = Plane((2, None, None))
    found = found_on(plane, 4, 5)
    document = Document(SHAPE)
    document.keep_candidates(plane, found)
    path = save_annotation(tmp_path / "a.napari-sam.zip", document.snapshot)
    with zipfile.ZipFile(path) as archive:
        (entry,) = json.loads(archive.read("annotation.json"))["candidates"]
        table = np.load(io.BytesIO(archive.read(entry["table"])))
        bits = np.load(io.BytesIO(archive.read(entry["bits"])))
    assert entry["plane"] == [2, None, None]
    at = 0
    for index, row in enumerate(table):
        x0, y0, x1, y1 = row["box"]
        size = y1 - y0, x1 - x0
        taken = (size[0] * size[1] + 7) // 8
        full = np.zeros(SHAPE[1:], dtype=bool)
        full[y0:y1, x0:x1] = np.unpackbits(bits[at : at + taken], count=size[0] * size[1]).reshape(size)
        at += taken
        np.testing.assert_array_equal(full, found.mask(index).to_array())
    assert at == len(bits)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Damaged:
    """A file with one run, parts of which can be replaced."""

    def __init__(self, folder: Path) -> None:
        document = Document(SHAPE)
        document.keep_candidates(PLANES[0], found_on(PLANES[0], 1, 5))
        self.path = save_annotation(folder / "a.napari-sam.zip", document.snapshot, overwrite=True)
        with zipfile.ZipFile(self.path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}
        self.table = np.load(io.BytesIO(self.files["candidates/0.npy"]))
        self.bits = np.load(io.BytesIO(self.files["candidates/0-bits.npy"]))

    def write(self, table: Any = None, bits: Any = None, **entry: Any) -> None:
        if table is not None:
            self.files["candidates/0.npy"] = table if isinstance(table, bytes) else npy(table)
        if bits is not None:
            self.files["candidates/0-bits.npy"] = bits if isinstance(bits, bytes) else npy(bits)
        data = json.loads(self.files["annotation.json"])
        data["candidates"][0].update(entry)
        self.files["annotation.json"] = json.dumps(data).encode()
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)

    def column(self, name: str, value: Any) -> Any:
        table = self.table.copy()
        table[name] = value
        return table


DAMAGE: list[tuple[Callable[[Damaged], None], str]] = [
    (lambda d: d.write(table=b"elsewhere.npy"), "not an array"),
    (lambda d: d.write(bits=d.files["candidates/0-bits.npy"][:40]), "not an array"),
    (lambda d: d.write(bits=d.bits[:-1]), "Masks of these boxes take|fewer bits"),
    (lambda d: d.write(bits=d.bits.astype(np.int16)), "another type or length"),
    (lambda d: d.write(bits=npy(d.bits)[:-1]), "another type or length"),
    (lambda d: d.write(bits=d.bits[None]), "another type or length"),
    (lambda d: d.write(table=d.table["area"]), "another type or length"),
    (lambda d: d.write(table=np.array([{}], dtype=object)), "another type or length"),
    (
        lambda d: d.write(bits=npy(d.bits).replace(b"(%d,)" % len(d.bits), b"(%d,)" % 10**15)),
        "another type or length",
    ),
    (lambda d: d.write(table=d.column("area", 1)), "areas"),
    (lambda d: d.write(table=d.column("box", [0, 0, 2**62, 2**62])), "fewer bits"),
    (lambda d: d.write(table=d.column("box", [-1, 0, 1, 1])), "beyond a plane"),
    (lambda d: d.write(plane=[9, None, None]), "not a plane"),
    (lambda d: d.write(plane=[None, 3, None]), "candidates"),
    (lambda d: d.write(model=5), "not a text"),
    (lambda d: d.write(gamma="high"), "not a number"),
    (lambda d: d.write(contrast_limits=[1]), "not two numbers"),
]


@pytest.mark.parametrize("number", range(len(DAMAGE)))
def test_what_is_damaged_is_named(tmp_path: Path, number: int) -> None:
    damage, said = DAMAGE[number]
    damaged = Damaged(tmp_path)
    damage(damaged)
    with pytest.raises(AnnotationError, match=said):
        load_annotation(damaged.path)


def test_a_file_that_is_missing_and_a_plane_that_is_there_twice_are_named(tmp_path: Path) -> None:
    damaged = Damaged(tmp_path)
    data = json.loads(damaged.files["annotation.json"])
    twice = {**data, "candidates": data["candidates"] * 2}
    damaged.files["annotation.json"] = json.dumps(twice).encode()
    damaged.write()
    with pytest.raises(AnnotationError, match="there twice"):
        load_annotation(damaged.path)
    damaged.files["annotation.json"] = json.dumps(data).encode()
    del damaged.files["candidates/0.npy"]
    damaged.write()
    with pytest.raises(AnnotationError, match=r"candidates\[0\]\.table: no such file"):
        load_annotation(damaged.path)


def test_bits_that_belong_to_no_pixel_are_refused(tmp_path: Path) -> None:
    damaged = Damaged(tmp_path)
    x0, y0, x1, y1 = damaged.table["box"].T
    lengths = (x1 - x0) * (y1 - y0)
    odd = int(np.flatnonzero(lengths % 8)[0])
    bits = damaged.bits.copy()
    bits[np.cumsum((lengths + 7) // 8)[odd] - 1] |= 1
    damaged.write(bits=bits)
    with pytest.raises(AnnotationError, match="areas"):
        load_annotation(damaged.path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds)
def test_whatever_is_wrong_with_an_array_is_an_annotation_error(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    damaged = Damaged(tmp_path)
    name = chance.choice(["candidates/0.npy", "candidates/0-bits.npy"])
    content = bytearray(damaged.files[name])
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    damaged.files[name] = bytes(content)
    damaged.write()
    try:
        (found,) = load_annotation(damaged.path)[0].candidates.values()
    except AnnotationError:
        return
    # What is wrong with scores or points cannot be seen.
    assert [found.mask(index).area for index in range(len(found))] == found.areas.tolist()


def test_what_does_not_fit_into_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document((2000, 3000))
    whole = Mask.from_array(np.ones((2000, 3000), dtype=bool))
    found = MaskCandidates.of([whole], [1], [1], [(0, 0)], [(0, 0, 3000, 2000)], whole.shape)
    document.keep_candidates(Plane((None, None)), found)
    path = save_annotation(tmp_path / "a.napari-sam.zip", document.snapshot)
    assert path.stat().st_size < found.nbytes / 10
    assert load_annotation(path)[0] == document.snapshot
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=found.nbytes))
    with pytest.raises(AnnotationError, match="more automatic masks than fit into memory"):
        load_annotation(path)


# What is not saved yet


@pytest.fixture
def autosave(tmp_path: Path) -> Autosave:
    return Autosave(tmp_path / "kept", pytest.fail)


@pytest.mark.parametrize("delay", [autosave_module.DELAY, -1.0], ids=["at once", "plane by plane"])
def test_candidates_are_recovered(autosave: Autosave, monkeypatch: pytest.MonkeyPatch, delay: float) -> None:
    monkeypatch.setattr(autosave_module, "DELAY", delay)
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY, "cells.tif")
    for seed, plane in enumerate(PLANES):
        document.keep_candidates(plane, found_on(plane, seed))
    assert handle.flush()
    written = document.snapshot
    handle.close()
    (entry,) = autosave.recoverable(IDENTITY)
    assert (entry.objects, entry.planes, entry.problem) == (0, len(PLANES), "")
    assert entry.load() == written


def test_random_work_with_candidates_is_in_the_file_after_every_flush(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    commands = Commands(document, 7)
    chance = random.Random(7)
    for seed in range(20):
        for _ in range(3):
            commands.step()
        plane = chance.choice(PLANES)
        document.keep_candidates(plane, found_on(plane, seed) if chance.random() < 0.7 else None)
        assert handle.flush()
    written = document.snapshot
    assert written.candidates
    handle.close()
    (entry,) = autosave.recoverable()
    assert entry.load() == written


def test_a_run_is_written_once(autosave: Autosave) -> None:
    document = Document(SHAPE)
    document.keep_candidates(PLANES[0], found_on(PLANES[0], 1))
    handle = autosave.attach(document, IDENTITY, unsaved=False)
    assert handle.flush()
    assert handle.path is None  # it is in a file of the user's
    commands = Commands(document, 2)
    commands.add_many()
    assert handle.flush()
    seen: list[str] = []
    assert handle._journal is not None
    handle._journal._connection.set_trace_callback(seen.append)
    for _ in range(3):
        commands.add_many()
        assert handle.flush()
    document.keep_candidates(PLANES[1], found_on(PLANES[1], 2))
    assert handle.flush()
    assert sum(text.startswith("INSERT INTO candidates") for text in seen) == 1
    assert sum(text.startswith("INSERT OR REPLACE INTO objects") for text in seen) == 6
    handle.close(discard=True)
    assert autosave.recoverable() == []


def test_nothing_is_left_of_what_is_forgotten(autosave: Autosave) -> None:
    document = Document(SHAPE)
    handle = autosave.attach(document, IDENTITY)
    document.keep_candidates(PLANES[0], None)
    assert handle.flush()
    assert handle.path is None
    document.keep_candidates(PLANES[0], found_on(PLANES[0], 1))
    assert handle.flush()
    path = handle.path
    assert path is not None
    document.keep_candidates(PLANES[0], None)
    handle.close()
    assert not path.exists()


def left_behind(autosave: Autosave) -> tuple[Path, Snapshot]:
    document = with_candidates(3, 30)
    document.keep_candidates(PLANES[1], found_on(PLANES[1], 3, 4))
    handle = autosave.attach(document, IDENTITY)
    assert handle.flush()
    path = handle.path
    assert path is not None
    handle.close()
    return path, document.snapshot


def test_files_of_older_versions_have_no_candidates(autosave: Autosave) -> None:
    path, snapshot = left_behind(autosave)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE candidates")
    connection.close()
    (entry,) = autosave.recoverable()
    assert (entry.problem, entry.planes) == ("", 0)
    loaded = entry.load()
    assert loaded.objects == snapshot.objects
    assert loaded.candidates == {}


@pytest.mark.parametrize("bits", [b"", b"junk", None], ids=["nothing", "junk", "cut off"])
def test_damaged_candidates_are_reported_and_the_file_is_kept(autosave: Autosave, bits: bytes | None) -> None:
    path, _ = left_behind(autosave)
    with sqlite3.connect(path) as connection:
        if bits is None:
            connection.execute("UPDATE candidates SET bits = substr(bits, 1, length(bits) - 3)")
        else:
            connection.execute("UPDATE candidates SET bits = ?", (bits,))
    connection.close()
    (entry,) = autosave.recoverable()
    with pytest.raises(AnnotationError, match="cannot be read"):
        entry.load()
    assert path.exists()
