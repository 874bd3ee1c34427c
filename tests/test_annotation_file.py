"""What is saved is what was there, whoever reads it; what is damaged is said to be."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from random_document import PLANES, SHAPE, Commands, random_document

import napari_sam
from napari_sam.annotation import Answer, Document, Look, Plane, SamObject, Snapshot
from napari_sam.annotation.archive import SUFFIX, load_annotation, save_annotation
from napari_sam.annotation.fields import Field
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.mask_table import MaskTable, read_masks
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.errors import AnnotationError, ImageError
from napari_sam.inference.candidates import MaskCandidates
from napari_sam.inference.mask import Mask
from napari_sam.inference.strokes import Scribble

IDENTITY = ImageIdentity((4, 9, 8, 3), "uint8", "xxh3_128:0123")
seeds = st.integers(0, 2**31)


def through_text(data: dict[str, Any]) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


@cache
def rich() -> Snapshot:
    """A document with something of every kind."""
    for seed in range(500):
        document = random_document(seed)
        # What is rare comes first, and the rest is added to it.
        if document.snapshot.opened is None or not document.current.taken:
            continue
        commands = Commands(document, seed)
        for _ in range(3):
            with contextlib.suppress(AnnotationError):
                commands.propagate()
                commands.parent()
        current, plane = document.current, PLANES[0]
        before = current.prompts.get(plane) or commands.prompts(plane)
        line = Scribble(np.array([[1.0, 1.0], [4.0, 2.0]]), 1)
        lasso = np.array([[1.0, 1.0], [5.0, 1.0], [3.0, 6.0]])
        drawn = replace(before, scribbles=(line,), lasso=lasso)
        document.set_prompts({**current.prompts, plane: drawn})
        snapshot = document.snapshot
        kinds = {kind for item in snapshot.objects for kind, value in vars(item).items() if value}
        every_kind = {"prompts", "taken", "hand", "base", "answers", "masks", "parent"} <= kinds
        carried = any(answer.propagated for item in snapshot.objects for answer in item.base.values())
        if every_kind and carried and snapshot.opened and snapshot.classes:
            return snapshot
    raise AssertionError


_BITS = [np.random.default_rng(seed).random(SHAPE[1:]) < 0.1 for seed in range(4)]
RUN = MaskCandidates.of(
    map(Mask.from_array, _BITS), [0.9, 0.8, 0.7, 0.6], [1] * 4, [(1, 2)] * 4, [(0, 0, 8, 9)] * 4, SHAPE[1:]
)


# JSON


@settings(max_examples=60, deadline=None)
@given(seed=seeds, steps=st.integers(0, 80))
def test_saving_and_loading_is_the_identity(seed: int, steps: int) -> None:
    snapshot = random_document(seed, steps).snapshot
    data = through_text(to_json(snapshot, IDENTITY, created="2026-01-02T03:04:05+00:00"))
    loaded, identity, info = from_json(data)
    assert loaded == snapshot
    assert identity == IDENTITY
    assert (info.version, info.created) == (1, "2026-01-02T03:04:05+00:00")
    document = Document.of(loaded)
    np.testing.assert_array_equal(document.to_labels(), Document.of(snapshot).to_labels())
    assert through_text(to_json(document.snapshot, IDENTITY, created=info.created)) == data


def test_a_document_of_every_kind_is_kept_with_its_types() -> None:
    loaded, identity, _ = from_json(through_text(to_json(rich())))
    assert loaded == rich()
    assert identity is None
    drawn = [p for item in loaded.objects for p in item.prompts.values()]
    assert {p.points.dtype for p in drawn} == {np.dtype(np.float64)}
    assert {p.labels.dtype for p in drawn} == {np.dtype(np.int64)}


def test_scores_and_limits_that_are_not_finite_are_kept() -> None:
    mask = Mask.from_array(np.eye(3))
    answer = Answer(((mask, float("inf")), (mask, None)), look=Look((0.0, float("inf")), 2.0))
    snapshot = Snapshot(
        (3, 3), (SamObject(1, 1, base={Plane((None, None)): answer}),), 2, next_id=2, next_uid=3
    )
    assert from_json(through_text(to_json(snapshot)))[0] == snapshot


def test_numbers_of_numpy_can_be_saved() -> None:
    mask = Mask.from_array(np.eye(3))
    answer = Answer(((mask, np.float32(0.1)),), chosen=np.int64(0))  # type: ignore[arg-type]
    item = SamObject(np.int64(1), np.uint8(1), base={Plane((None, None)): answer})  # type: ignore[arg-type]
    snapshot = Snapshot((np.int64(3), 3), (item,), 2, next_id=2, next_uid=3)  # type: ignore[arg-type]
    assert from_json(through_text(to_json(snapshot)))[0] == snapshot


def test_a_mask_that_occurs_often_is_there_once_and_again_one_object() -> None:
    masks = [Mask.from_array(np.eye(5)), Mask.from_array(np.eye(5)), Mask.from_array(np.ones((5, 5)))]
    plane = Plane((None, None))
    answer = Answer(tuple((m, 0.5) for m in masks))
    item = SamObject(1, 1, base={plane: answer}, masks={plane: masks[0]})
    data = to_json(Snapshot((5, 5), (item,), 2, next_id=2, next_uid=3))
    assert len(data["masks"]) == 2
    loaded = from_json(data)[0].objects[0]
    assert loaded.masks[plane] is loaded.base[plane].candidates[0][0] is loaded.base[plane].candidates[1][0]


# pycocotools 2.0 decodes in a way that numpy 2 finds old-fashioned
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=60, deadline=None)
@given(
    seed=seeds, height=st.integers(1, 70), width=st.integers(1, 70), density=st.sampled_from([0.01, 0.5, 1])
)
def test_run_lengths_are_those_of_coco(seed: int, height: int, width: int, density: float) -> None:
    bits = np.random.default_rng(seed).random((height, width)) <= density
    mask = Mask((3, 5), bits, (200, 300))
    table = MaskTable()
    number = table.number(mask)
    (entry,) = through_text({"masks": table.entries})["masks"]
    np.testing.assert_array_equal(coco.decode(entry["rle"]).reshape(mask.bits.shape), mask.bits)
    assert read_masks([Field([entry])], 2**20) == [[mask]]
    again = MaskTable(table.encoded)
    assert again.number(mask) == number
    assert again.entries[0] is table.entries[0]


def test_long_runs_and_large_planes_are_read() -> None:
    bits = np.zeros((3000, 3000), dtype=bool)
    bits[0, 0] = bits[-1, -1] = bits[1500, 1500] = True
    table = MaskTable()
    mask = Mask((2**40, 7), bits, (2**41, 9000))
    table.number(mask)
    assert read_masks([Field(through_text({"m": table.entries})["m"])], 2**24) == [[mask]]


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "0",
        "P",
        "\x7f1",
        "ü",
        "Ü9",
        "51 ",
        "PPPPPPPPPPPP1",
        "ooooooo",
        "5",
        "99999999",
        "1N",
        "o1",
        "55O5",
    ],
)
def test_run_lengths_of_another_size_are_refused(counts: str) -> None:
    entry = {"plane": [9, 9], "origin": [0, 0], "rle": {"size": [5, 5], "counts": counts}}
    with pytest.raises(AnnotationError, match=r"damaged \(\[0\]\.rle\.counts"):
        read_masks([Field([entry])], 2**20)


def test_masks_that_would_not_fit_into_memory_are_refused() -> None:
    data = to_json(rich())
    data["masks"][0]["rle"]["size"] = [2**30, 2**30]
    with pytest.raises(AnnotationError, match="GiB of memory are free"):
        from_json(data)


def test_a_newer_version_asks_for_an_update() -> None:
    data = {"format": "napari-sam annotation", "version": 2, "surprise": []}
    with pytest.raises(AnnotationError, match=r"version 2 .* update napari-sam"):
        from_json(data)


@pytest.mark.parametrize("data", [None, [], 3, {}, {"format": "COCO"}])
def test_something_else_is_no_annotation(data: Any) -> None:
    with pytest.raises(AnnotationError, match="is no annotation"):
        from_json(data)


def change(data: Any, path: str, value: Any) -> Any:
    at = data
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in keys:
        at = at[key]
    at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 0, "version: too small"),
        ("version", True, "version: not a whole number"),
        ("shape", [9], "shape: not the shape of an image"),
        ("shape", [4, 9, 9], "of another size"),
        ("next_uid", 1, "next_uid: taken"),
        ("current", None, "current: not a whole number"),
        ("objects", {}, "objects: not a list"),
        ("objects.0.accepted", 1, r"objects\[0\].accepted: neither"),
        ("objects.0.id", 0, r"objects\[0\].id: 0 is background"),
        ("objects.0.id", 2**70, r"objects\[0\].id: too large"),
        ("objects.0.source", "dreamt", "an unknown source"),
        ("objects.0.masks.0.mask", 10**6, "too large"),
        ("objects.0.masks.0.plane", [0, None], "not a plane"),
        ("objects.0.masks.0.plane", [4, None, None], "not a plane"),
        ("objects.0.masks.0.plane", [None, None, 0], "not a plane of the last two axes"),
        ("masks.0.origin", [8, 8], "reaches beyond its plane"),
        ("masks.0.origin", [-1, 0], "too small"),
        ("masks.0.rle", None, "not a JSON object"),
        ("image.digest", 5, "not a text"),
        ("classes", [{"id": 1, "name": "a", "colour": "b"}] * 2, "two classes"),
        ("objects.0.parent", -1, r"objects\[0\].parent: too small"),
        ("objects.0.parent", 2, "descends from itself"),
        ("objects.0.parent", 9, "a parent that there has never been"),
        ("objects.0.base.0.propagated", 1, r"base\[0\].propagated: neither"),
    ],
)
def test_what_is_damaged_is_named(path: str, value: Any, said: str) -> None:
    snapshot = Document.of(Snapshot(SHAPE, current=1, next_uid=2))
    full = np.ones(SHAPE[-2:], dtype=bool)
    snapshot.add_objects([SamObject(0, 0, base={PLANES[0]: Answer(((Mask.from_array(full), 0.5),))})])
    data = through_text(to_json(snapshot.snapshot, IDENTITY))
    from_json(data)
    with pytest.raises(AnnotationError, match=said):
        from_json(change(data, path, value))


def test_what_was_not_carried_over_and_has_no_parent_is_written_as_before() -> None:
    """Programs that know neither read such files, and we read theirs."""
    mask = Mask.from_array(np.eye(3))
    plane = Plane((None, None))
    item = SamObject(1, 1, base={plane: Answer(((mask, 0.5),), propagated=True)}, parent=2)
    data = to_json(Snapshot((3, 3), (item, SamObject(2, 2)), 3, next_id=3, next_uid=4))
    assert data["objects"][0].pop("parent") == 2
    assert data["objects"][0]["base"][0].pop("propagated") is True
    assert "parent" not in data["objects"][1]
    loaded = from_json(data)[0].objects[0]
    assert loaded == replace(item, base={plane: Answer(((mask, 0.5),))}, parent=0)
    again = to_json(Snapshot((3, 3), (loaded,), 3, next_id=3, next_uid=4))["objects"][0]
    assert "parent" not in again
    assert "propagated" not in again["base"][0]


def test_nobody_descends_from_itself_in_a_file() -> None:
    family = tuple(SamObject(uid, uid, parent=uid % 3 + 1) for uid in (1, 2, 3))
    with pytest.raises(AnnotationError, match="an object that descends from itself"):
        from_json(to_json(Snapshot((3, 3), family, 4, next_id=9, next_uid=9)))
    # Not even after the changes of one are rejected.
    line = (SamObject(1, 1), SamObject(2, 2, parent=1))
    opened = SamObject(1, 1, parent=2)
    from_json(to_json(Snapshot((3, 3), line, 1, next_id=9, next_uid=9)))
    with pytest.raises(AnnotationError, match="an object that descends from itself"):
        from_json(to_json(Snapshot((3, 3), line, 1, opened, next_id=9, next_uid=9)))


def test_two_objects_with_one_id_are_refused() -> None:
    first = SamObject(1, 5)
    for second, what in ((SamObject(1, 6), "uid"), (SamObject(2, 5), "id")):
        with pytest.raises(AnnotationError, match=f"the same {what}"):
            from_json(to_json(Snapshot((3, 3), (first, second), 3, next_id=9, next_uid=9)))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with every key of it."""
    keys = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


JUNK = [None, True, -1, 0, 1, 3, 10**6, 2**63, 10**400, 1e308, 0.5, "", "x", "as drawn", "nan", "é"]
JUNK += [[], {}, [[]], [[1, 2], [3]], [None, None], [0, 0], [9**9, 9**9], {"mask": 0}, [["1", "2"]]]


@settings(max_examples=200, deadline=None)
@given(seed=seeds, count=st.integers(1, 3))
def test_whatever_is_wrong_is_an_annotation_error(seed: int, count: int) -> None:
    chance = random.Random(seed)
    data = through_text(to_json(rich(), IDENTITY))
    for _ in range(count):
        container, key = chance.choice(places(data))
        action = chance.choice(["junk", "junk", "delete", "twice", "swap", "text"])
        if action == "delete":
            del container[key]
        elif action == "twice" and isinstance(container, list):
            container.append(container[key])
        elif action == "swap":
            other, place = chance.choice(places(data))
            container[key] = through_text({"": other[place]})[""]
        elif action == "text" and isinstance(container[key], str) and container[key]:
            letters = list(container[key])
            letters[chance.randrange(len(letters))] = chance.choice("0AOPo~\x00ü")
            container[key] = "".join(letters)
        else:
            container[key] = through_text({"": chance.choice(JUNK)})[""]
    said = ""
    try:
        snapshot = from_json(data)[0]
    except AnnotationError as error:
        said = str(error)
    if said:
        assert re.fullmatch("The annotation (is|holds masks of) .+", said)
        return
    # What is not refused can be worked on, and saved again.
    document = Document.of(snapshot)
    document.delete([item.uid for item in document.objects])
    data = through_text(to_json(snapshot, created="now"))
    assert through_text(to_json(from_json(data)[0], created="now")) == data


def test_logits_are_exact_float32() -> None:
    seed = next(s for s in range(500) if logits(random_document(s).snapshot))
    snapshot = random_document(seed).snapshot
    data = through_text(to_json(snapshot))
    assert from_json(data)[0] == snapshot
    (drawn, *_) = [p for o in data["objects"] for p in o["prompts"] if "logits" in p]
    read = np.frombuffer(base64.b64decode(drawn["logits"]), dtype="<f4").reshape(256, 256)
    assert any(np.array_equal(read, one) for one in logits(snapshot))


def logits(snapshot: Snapshot) -> list[Any]:
    drawn = [p for item in snapshot.objects for p in item.prompts.values()]
    return [p.mask_input for p in drawn if p.mask_input is not None]


# The file


def test_a_file_holds_everything_and_is_of_use_without_us(tmp_path: Path) -> None:
    path = save_annotation(tmp_path / f"cells{SUFFIX}", rich(), IDENTITY)
    loaded, identity, info = load_annotation(path)
    assert (loaded, identity) == (rich(), IDENTITY)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", info.created)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["README.txt", "annotation.json", "labels.tif"]
        labels = tifffile.imread(io.BytesIO(archive.read("labels.tif")))
        assert "4 x 9 x 8" in archive.read("README.txt").decode()
        lines = archive.read("annotation.json").decode().splitlines()
    np.testing.assert_array_equal(labels, Document.of(rich()).to_labels())
    # One line for each object, so that a person can look at it.
    assert sum(line.startswith('{"uid"') for line in lines) == len(rich().objects)


def test_the_json_of_a_file_is_read_by_itself(tmp_path: Path) -> None:
    path = save_annotation(
        tmp_path / f"cells{SUFFIX}", replace(rich(), candidates={PLANES[0]: RUN}), IDENTITY
    )
    alone = tmp_path / "prompts.json"
    with zipfile.ZipFile(path) as archive:
        alone.write_bytes(archive.read("annotation.json"))
    assert load_annotation(alone)[:2] == (rich(), IDENTITY)
    alone.write_text('{"format": "COCO"}')
    with pytest.raises(AnnotationError, match=r"prompts.json is no annotation"):
        load_annotation(alone)
    alone.write_text("{")
    with pytest.raises(AnnotationError, match=r"prompts.json cannot be read as an annotation"):
        load_annotation(alone)


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [([1], "uint8"), ([300], "uint16"), ([1, 70000], "uint32"), ([-3, 200], "int16"), ([], "uint8")],
)
@pytest.mark.parametrize("shape", [(6, 7), (2, 6, 7), (2, 1, 6, 7), (1, 5, 3), (1, 1), (3, 4, 1)])
def test_labels_have_the_smallest_type_and_the_shape_of_the_image(
    tmp_path: Path, shape: tuple[int, ...], ids: list[int], dtype: str
) -> None:
    document = Document(shape)
    plane = Plane((*(0 for _ in shape[:-2]), None, None))
    for place, number in enumerate(ids[: shape[-1]] if max(ids, default=0) < 300 else ids[-1:]):
        document.paint(plane, (slice(0, 1), slice(place, place + 1)), np.array([[number]]))
    path = save_annotation(tmp_path / f"a{SUFFIX}", document.snapshot)
    with zipfile.ZipFile(path) as archive:
        labels = tifffile.imread(io.BytesIO(archive.read("labels.tif")))
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels.reshape(shape), document.to_labels())
    assert labels.squeeze().shape == tuple(n for n in shape if n > 1)
    assert load_annotation(path)[0] == document.snapshot


def test_files_are_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    path = save_annotation(tmp_path / f"a{SUFFIX}", rich())
    with pytest.raises(AnnotationError, match="exists"):
        save_annotation(path, Snapshot((3, 3)))
    assert load_annotation(path)[0] == rich()
    save_annotation(path, Snapshot((3, 3), next_uid=1), overwrite=True)
    assert load_annotation(path)[0] == Snapshot((3, 3), next_uid=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.zip", "ends in"), (f"no/a{SUFFIX}", "does not exist"), (f"folder{SUFFIX}", "is a folder")],
)
def test_places_that_cannot_be_written_are_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / f"folder{SUFFIX}").mkdir()
    with pytest.raises(AnnotationError, match=said):
        save_annotation(tmp_path / name, rich(), overwrite=True)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = save_annotation(tmp_path / f"a{SUFFIX}", rich())
    before = path.read_bytes()
    noise = np.random.default_rng(0).random((400, 400)) < 0.5
    item = SamObject(1, 1, masks={Plane((None, None)): Mask.from_array(noise)})
    large = Snapshot((400, 400), (item,), 2, next_id=2, next_uid=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(AnnotationError, match=f"{re.escape(str(path))} cannot be written"):
            save_annotation(path, large, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    save_annotation(path, large, overwrite=True)
    assert load_annotation(path)[0] == large


SAVING = """
import sys
from napari_sam.annotation.archive import load_annotation, save_annotation
snapshots = [load_annotation(path)[0] for path in sys.argv[1:]]
print("begin", flush=True)
while True:
    for snapshot in snapshots:
        save_annotation(sys.argv[1], snapshot, overwrite=True)
"""


def test_a_killed_program_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    known = [rich(), random_document(5, 200).snapshot]
    path, other = (save_annotation(tmp_path / f"{i}{SUFFIX}", one) for i, one in enumerate(known))
    command = [sys.executable, "-c", SAVING, str(path), str(other)]
    for delay in (0.01, 0.05):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begin\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        assert load_annotation(path)[0] in known


def packed(path: Path, text: str | bytes, name: str = "annotation.json") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as an annotation"),
        ("[" * 100_000, "cannot be read as an annotation"),
        (b"\xff\xfe\x00", "cannot be read as an annotation"),
        ('{"format": NaN}', "NaN is not JSON"),
        ('{"format": ' + "1" * 5000 + "}", "cannot be read as an annotation"),
        ("{}", "is no annotation"),
        ('{"format": "napari-sam annotation", "version": 12}', "version 12 .* update napari-sam"),
        ('{"format": "napari-sam annotation", "version": 1}', r"damaged \(program: missing\)"),
    ],
)
def test_files_with_other_texts_are_refused_by_name(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = packed(tmp_path / f"a{SUFFIX}", text)
    with pytest.raises(AnnotationError, match=said) as error:
        load_annotation(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_annotation_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIX}"
    with pytest.raises(AnnotationError, match="There is no annotation"):
        load_annotation(path)
    path.write_bytes(b"")
    with pytest.raises(AnnotationError, match="cannot be read as an annotation"):
        load_annotation(path)
    with pytest.raises(AnnotationError, match="is no annotation"):
        load_annotation(packed(path, "{}", "other.json"))


def test_a_bomb_is_not_opened(tmp_path: Path) -> None:
    path = packed(tmp_path / f"a{SUFFIX}", " " * (2**26 + 1))
    assert path.stat().st_size < 2**20
    begin = time.process_time()
    with pytest.raises(AnnotationError, match="it was not opened"):
        load_annotation(path)
    assert time.process_time() - begin < 0.5


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_any_wrong_byte_is_an_annotation_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{SUFFIX}"
    save_annotation(path, rich(), overwrite=True)
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
    said = str(path)
    try:
        assert load_annotation(path)[0] == rich()
    except AnnotationError as error:
        said = str(error)
    assert str(path) in said


# Which image


class Lazy:
    """An array of any size that counts what is read of it."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "uint16") -> None:
        self.shape, self.dtype, self.read = shape, np.dtype(dtype), 0

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        starts = np.array([part.start for part in index])
        sides = tuple(part.stop - part.start for part in index)
        assert (starts >= 0).all()
        assert (starts + sides <= self.shape).all()
        self.read += int(np.prod(sides))
        return np.full(sides, starts.sum() % 1000, dtype=self.dtype)


def test_an_image_is_told_from_others_by_shape_type_and_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 200, (40, 50, 3)).astype(np.uint8)
    images = [
        image,
        image[:-1],
        image.swapaxes(0, 1),
        image.astype(np.int8),
        image.astype(np.uint16),
        image + 1,
    ]
    images += [
        np.zeros((4, 9)),
        np.zeros((9, 4)),
        np.zeros((4, 9), np.float32),
        np.zeros((36,)),
        np.zeros((1, 4, 9)),
    ]
    identities = [ImageIdentity.of(one) for one in images]
    assert len({one.digest for one in identities}) == len(images)
    assert identities[0] == ImageIdentity((40, 50, 3), "uint8", identities[0].digest)
    changed = image.copy()
    changed[17, 3, 1] += 1
    assert ImageIdentity.of(changed) != identities[0]


def test_the_identity_is_the_same_on_every_computer() -> None:
    image = np.arange(2 * 700 * 700).reshape(2, 700, 700).astype(np.float32)
    digest = "xxh3_128:033374f3c73004e8b67b7ea4e3d39da2"
    assert ImageIdentity.of(image).digest == digest


@pytest.mark.parametrize("shape", [(30, 20), (3, 500, 600), (700, 501, 3), (2, 3, 4, 150, 200)])
def test_the_identity_is_the_same_in_every_kind_of_array(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 60000, shape).astype(np.uint16)
    identity = ImageIdentity.of(image)
    assert ImageIdentity.of(image.astype(">u2")) == identity
    assert ImageIdentity.of(np.asfortranarray(image)) == identity
    assert (
        ImageIdentity.of(dask.array.from_array(image, chunks=(1, *(n // 3 + 1 for n in shape[1:]))))
        == identity
    )
    np.save(tmp_path / "image.npy", image)
    assert ImageIdentity.of(np.load(tmp_path / "image.npy", mmap_mode="r")) == identity
    other = image.copy()
    other[..., -1] += 1  # a change along one side is seen: blocks are everywhere
    other[-1] += 1
    assert other.size > 2**18 or ImageIdentity.of(other) != identity


def test_of_large_images_little_is_read_everywhere() -> None:
    for shape in [(1000, 50, 2000, 2000), (10**6, 10**6), (100_000, 100_000, 3), (5, 10**9), (10**12,)]:
        lazy = Lazy(shape)
        begin = time.process_time()
        identity = ImageIdentity.of(lazy)
        assert time.process_time() - begin < 0.2
        assert 0 < lazy.read <= 32 * 4096
        assert identity.shape == shape


def test_a_shifted_or_another_large_image_is_another_one() -> None:
    image = np.random.default_rng(0).random((1200, 1300), dtype=np.float32)
    assert ImageIdentity.of(np.roll(image, 1, axis=0)) != ImageIdentity.of(image)
    inverted = replace(ImageIdentity.of(-image), digest="")
    assert inverted == replace(ImageIdentity.of(image), digest="")
    assert ImageIdentity.of(-image) != ImageIdentity.of(image)


def test_images_of_something_else_are_refused() -> None:
    with pytest.raises(ImageError, match="its values are not numbers"):
        ImageIdentity.of(np.array([["a", "b"]]))


def test_the_annotation_of_an_image_with_a_broken_plane_is_saved_and_opened(tmp_path: Path) -> None:
    image = np.zeros((4, 9, 8), dtype=np.uint8)
    annotation = napari_sam.Annotation(image, labels=np.eye(9, 8, dtype=int) * np.ones((4, 1, 1), int))
    whole = annotation.save(tmp_path / "whole.napari-sam.zip")
    broken = dask.array.concatenate([dask.array.from_array(image[:3]), broken_plane()])
    with pytest.raises(ImageError, match=r"cannot be recognised, because parts of it cannot be read \(disk"):
        ImageIdentity.of(broken)
    with pytest.raises(AnnotationError, match="may have been made on another image: parts of this one"):
        napari_sam.Annotation.load(whole, broken)
    with pytest.warns(UserWarning, match="may have been made on another image"):
        found = napari_sam.Annotation.load(whole, broken, force=True)
    again = napari_sam.Annotation.load(found.save(tmp_path / "broken.napari-sam.zip"), broken)
    np.testing.assert_array_equal(again.to_labels(), annotation.to_labels())


def broken_plane() -> dask.array.Array:
    def fail(_: object) -> np.ndarray:
        raise OSError("disk is gone")

    return dask.array.zeros((1, 9, 8), dtype=np.uint8).map_blocks(
        fail, dtype=np.uint8, meta=np.empty(0, np.uint8)
    )


# Without us


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_program_in_the_documentation_reads_a_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "annotation-file.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    for program in programs:
        exec(program, namespace)
    labels = np.zeros(SHAPE, dtype=np.int32)
    for number, plane, mask in namespace["read_masks"](save_annotation(tmp_path / f"a{SUFFIX}", rich())):
        labels[plane[0]][mask] = number
    np.testing.assert_array_equal(labels, Document.of(rich()).to_labels())
    path = save_annotation(tmp_path / f"b{SUFFIX}", replace(rich(), candidates={PLANES[0]: RUN}))
    for index, (row, bits) in enumerate(namespace["read_run"](path)):
        np.testing.assert_array_equal(bits, RUN.bits(index))
        assert row["predicted_iou"] == RUN.predicted_iou[index]
    assert index == len(RUN) - 1


def test_the_documentation_names_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "annotation-file.md").read_text()
    data = to_json(replace(rich(), candidates={PLANES[0]: RUN}), IDENTITY)

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()

    assert not {key for key in keys(data) if f"`{key}`" not in page}
