"""Any 200 commands can be undone and redone and saved, and pixels always have one owner, who claims them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_sam.annotation import Answer, Document, ObjectClass, Plane, SamObject, Snapshot, Source
from napari_sam.annotation.lineage import has_cycle
from napari_sam.annotation.overlap import claims
from napari_sam.annotation.propagating import is_annotated
from napari_sam.annotation.schema import from_json, to_json
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

SHAPE = (4, 9, 8)
PLANES = [Plane((0, None, None)), Plane((2, None, None)), Plane((None, 3, None)), Plane((None, None, 5))]

planes = st.sampled_from(PLANES)
seeds = st.integers(0, 2**31)


def size(plane: Plane) -> tuple[int, int]:
    row, column = plane.axes
    return SHAPE[row], SHAPE[column]


def blob(plane: Plane, seed: int) -> Mask:
    """A ragged rectangle, sometimes empty."""
    random = np.random.default_rng(seed)
    height, width = size(plane)
    full = np.zeros((height, width), dtype=bool)
    top, left = random.integers(0, height), random.integers(0, width)
    part = full[top : top + random.integers(1, 5), left : left + random.integers(1, 5)]
    part[:] = random.random(part.shape) < 0.8
    return Mask.from_array(full)


def some_prompts(plane: Plane, seed: int) -> Prompts:
    random = np.random.default_rng(seed)
    height, width = size(plane)
    count = random.integers(1, 4)
    points = np.stack([random.integers(0, width, count), random.integers(0, height, count)], axis=1)
    return Prompts.create((height, width), points=points, labels=random.integers(0, 2, count))


def an_answer(plane: Plane, seed: int, prompts: Prompts | None = None) -> Answer:
    count = 1 if seed % 2 else 3
    candidates = tuple((blob(plane, seed + 7 * i), 0.5 + i / 10) for i in range(count))
    return Answer(candidates, chosen=seed % count, prompts=prompts, model="nano" if prompts else "")


def same(a: Snapshot, b: Snapshot) -> bool:
    """Uids are never given out twice, also after an undo."""
    return replace(a, next_uid=0) == replace(b, next_uid=0)


class Annotating(RuleBasedStateMachine):
    """A user, a model that answers late, and a brush, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.document = Document(SHAPE)
        self.initial = self.document.snapshot
        self.shown = np.zeros(SHAPE, dtype=np.int32)
        self.shown_classes = np.zeros(SHAPE, dtype=np.int32)
        self.document.changed.connect(self._show)
        self.asked: list[tuple[int, Plane, Prompts]] = []

    def _show(self, changes: object) -> None:
        self.before = self.shown.copy()
        for plane, boxes in changes.regions.items():  # type: ignore[attr-defined]
            for box in boxes:
                before = self.document.labels_before(changes, plane, box)  # type: ignore[arg-type]
                np.testing.assert_array_equal(self.before[plane.slices][box], before)
                self.shown[plane.slices][box] = self.document.labels_in(plane, box)
                self.shown_classes[plane.slices][box] = self.document.labels_in(plane, box, classes=True)

    @initialize()
    def classes(self) -> None:
        self.document.set_classes([ObjectClass(1, "nucleus", "#ff0000"), ObjectClass(2, "cell", "#00ff00")])

    @rule(plane=planes, seed=seeds, gesture=st.sampled_from([None, "drag"]))
    def prompt(self, plane: Plane, seed: int, gesture: str | None) -> None:
        drawn = {p: q for p, q in self.document.current.prompts.items() if p != plane}
        drawn[plane] = some_prompts(plane, seed)
        self.document.set_prompts(drawn, "Add point", gesture)
        current = self.document.current
        if plane in current.prompts:
            self.asked.append((current.uid, plane, current.prompts[plane]))

    @rule(plane=planes)
    def clear(self, plane: Plane) -> None:
        drawn = {p: q for p, q in self.document.current.prompts.items() if p != plane}
        self.document.set_prompts(drawn, "Delete points")

    @precondition(lambda self: self.asked)
    @rule(seed=seeds, newest=st.booleans())
    def model_answers(self, seed: int, newest: bool) -> None:
        uid, plane, prompts = self.asked.pop(-1 if newest else seed % len(self.asked))
        taken = self.document.answer(uid, plane, an_answer(plane, seed, prompts))
        item = self.document.get(uid)
        assert not taken or (item is not None and plane in item.answers)

    @rule(seed=seeds)
    def choose(self, seed: int) -> None:
        answers = self.document.current.answers
        if answers:
            plane = list(answers)[seed % len(answers)]
            self.document.choose(plane, seed % len(answers[plane].candidates))

    @rule(plane=planes)
    def refine(self, plane: Plane) -> None:
        self.document.refine(plane)

    @rule(overwrite=st.booleans())
    def rule_for_overlaps(self, overwrite: bool) -> None:
        self.document.overwrite = overwrite

    @rule()
    def accept(self) -> None:
        if self.document.current.is_empty:
            with pytest.raises(AnnotationError):
                self.document.accept()
        else:
            kept = self.document.accept()
            assert kept.accepted

    @rule()
    def reject(self) -> None:
        self.document.reject()

    def _pick(self, seed: int, count: int = 1) -> list[int]:
        objects = self.document.objects
        random = np.random.default_rng(seed)
        return [objects[i].uid for i in random.permutation(len(objects))[:count]]

    @rule(seed=seeds)
    def open(self, seed: int) -> None:
        for uid in self._pick(seed):
            assert self.document.open(uid).uid == self.document.current.uid

    @rule(seed=seeds)
    def open_and_leave_as_it_is(self, seed: int) -> None:
        for uid in self._pick(seed):
            if uid != self.document.current.uid:
                item, labels = self.document.get(uid), self.shown.copy()
                self.document.open(uid)
                # What has neither prompts nor masks cannot be accepted.
                accepts = not seed % 2 and not item.is_empty
                if accepts:
                    self.document.accept()
                else:
                    self.document.reject()
                assert self.document.get(uid) == replace(item, accepted=item.accepted or accepts)
                np.testing.assert_array_equal(self.shown, labels)

    @rule(seed=seeds, count=st.integers(0, 3))
    def delete(self, seed: int, count: int) -> None:
        self.document.delete(self._pick(seed, count))

    @rule(seed=seeds, count=st.integers(2, 3))
    def merge(self, seed: int, count: int) -> None:
        uids = self._pick(seed, count)
        if len(uids) > 1:
            area, before = sum(self.document.get(uid).area for uid in uids), self.document.snapshot
            try:
                merged = self.document.merge(uids)
            except AnnotationError:
                # Of prompts alone nothing would be left.
                assert (area, self.document.snapshot) == (0, before)
            else:
                assert merged.area == area
                assert not merged.is_empty

    @rule(seed=seeds)
    def split(self, seed: int) -> None:
        for uid in self._pick(seed):
            try:
                area = self.document.get(uid).area
                assert sum(part.area for part in self.document.split(uid)) == area
            except AnnotationError:
                pass

    @rule(seed=seeds, count=st.integers(1, 3), which=st.integers(0, 2))
    def set_class(self, seed: int, count: int, which: int) -> None:
        ids = [0, *(one.id for one in self.document.classes)]
        self.document.set_class(self._pick(seed, count), ids[which % len(ids)])

    @rule(seed=seeds, plane=planes, count=st.integers(1, 4))
    def add_many(self, seed: int, plane: Plane, count: int) -> None:
        drafts = [
            SamObject(0, 0, source=Source.AUTOMATIC, base={plane: an_answer(plane, seed + i)})
            for i in range(count)
        ]
        assert all(item.accepted for item in self.document.add_objects(drafts))

    @rule(seed=seeds, plane=planes)
    def import_labels(self, seed: int, plane: Plane) -> None:
        ids = [-7, 3, 50, 60]
        drafts = [
            SamObject(0, number, source=Source.IMPORTED, base={plane: an_answer(plane, seed + 100 + number)})
            for number in ids
        ]
        if any(self.document.with_id(number) for number in ids):
            before = self.document.snapshot
            with pytest.raises(AnnotationError):
                self.document.add_objects(drafts, keep_ids=True)
            assert self.document.snapshot == before
        else:
            added = self.document.add_objects(drafts, keep_ids=True)
            assert [item.id for item in added] == ids

    @rule(seed=seeds, plane=st.sampled_from(PLANES[:2]), gesture=st.sampled_from([None, "stroke"]))
    def brush(self, seed: int, plane: Plane, gesture: str | None) -> None:
        random = np.random.default_rng(seed)
        top, left = random.integers(0, 7), random.integers(0, 6)
        box = slice(top, top + 2), slice(left, left + 2)
        ids = [0, self.document.current.id, *(item.id for item in self.document.objects), 40, -3]
        before = self.shown[plane.slices][box].copy()
        values = np.where(random.random((2, 2)) < 0.7, random.choice(ids), before)
        assert self.document.paint(plane, box, values, gesture) == (before != values).any()
        np.testing.assert_array_equal(self.shown[plane.slices][box], values)

    @rule(seed=seeds, count=st.integers(1, 3), gesture=st.sampled_from([None, "run"]))
    def propagate(self, seed: int, count: int, gesture: str | None) -> None:
        uids = self._pick(seed, count)
        known = {uid: {p for p in PLANES if is_annotated(self.document.get(uid), p)} for uid in uids}
        before = {uid: self.document.get(uid) for uid in uids}
        masks = {
            uid: {p: an_answer(p, seed + i) if (seed + i) % 4 else None for i, p in enumerate(PLANES)}
            for uid in uids
        }
        self.document.put_propagated({**masks, 10**6: masks.get(uids[0] if uids else 0, {})}, "Go", gesture)
        for uid in uids:
            item = self.document.get(uid)
            if item is None:
                assert not before[uid].prompts
                continue
            for p in PLANES:
                if p in known[uid]:
                    assert item.base.get(p) == before[uid].base.get(p)
                else:
                    base, sent = item.base.get(p), masks[uid][p]
                    gone = sent is None or sent.mask.is_empty
                    assert base == (None if gone else replace(sent, propagated=True))
            assert (item.prompts, item.answers, item.hand) == (
                before[uid].prompts,
                before[uid].answers,
                before[uid].hand,
            )
            assert item.accepted == before[uid].accepted

    @rule(seed=seeds, z=st.integers(0, 3))
    def divide(self, seed: int, z: int) -> None:
        for uid in self._pick(seed):
            before, count = self.document.get(uid), len(self.document)
            try:
                children = self.document.divide(uid, Plane((z, None, None)))
            except AnnotationError:
                assert (self.document.get(uid), len(self.document)) == (before, count)
                continue
            mother = self.document.get(uid)
            assert mother.area + sum(child.area for child in children) == before.area
            assert all(child.parent == uid and child.class_id == before.class_id for child in children)
            assert max(p.index[0] for p in mother.masks) < z
            assert {p.index[0] for child in children for p in child.masks} >= {z}

    @rule(seed=seeds, count=st.integers(1, 3), none=st.booleans())
    def set_parent(self, seed: int, count: int, none: bool) -> None:
        parent = 0 if none else (self._pick(seed + 1) or [0])[0]
        uids = self._pick(seed, count)
        try:
            self.document.set_parent(uids, parent)
        except AnnotationError:
            assert parent
            return
        assert all(self.document.get(uid).parent == parent for uid in uids)

    @rule(times=st.integers(1, 4))
    def undo(self, times: int) -> None:
        for _ in range(times):
            self.document.undo()

    @rule(times=st.integers(1, 4))
    def redo(self, times: int) -> None:
        for _ in range(times):
            self.document.redo()

    @rule()
    def save_and_load(self) -> None:
        saved = json.loads(json.dumps(to_json(self.document.snapshot)))
        loaded, _, _ = from_json(saved)
        assert loaded == self.document.snapshot
        np.testing.assert_array_equal(Document.of(loaded).to_labels(), self.shown)

    @invariant()
    def the_labels_shown_are_those_of_the_document(self) -> None:
        np.testing.assert_array_equal(self.shown, self.document.to_labels())
        np.testing.assert_array_equal(self.shown_classes, self.document.to_labels(classes=True))

    @invariant()
    def every_pixel_has_one_owner(self) -> None:
        total = sum(item.area for item in self.document.objects)
        assert total == np.count_nonzero(self.document.to_labels())
        assert all(not m.is_empty for item in self.document.objects for m in item.masks.values())

    @invariant()
    def accepted_objects_are_counted(self) -> None:
        assert self.document.accepted == len([item for item in self.document.objects if item.accepted])

    @invariant()
    def nobody_has_what_it_does_not_claim(self) -> None:
        for item in self.document.objects:
            for plane, claim in claims(item, SHAPE, item.masks).items():
                assert (item.masks[plane] - claim).is_empty

    @invariant()
    def nobody_descends_from_itself(self) -> None:
        assert not has_cycle({item.uid: item for item in self.document.objects})

    @invariant()
    def ids_are_unique(self) -> None:
        ids = [item.id for item in self.document.objects]
        assert len(set(ids)) == len(ids)
        assert all(
            item.id != self.document.current.id
            for item in self.document.objects
            if item.uid != self.document.current.uid
        )

    def teardown(self) -> None:
        # Answers that came after an undo belong to no step before there is one.
        self.document.set_classes([*self.document.classes, ObjectClass(9, "last", "#0000ff")])
        passed = [self.document.snapshot]
        while text := self.document.undo():
            assert text == self.document.redo_text
            passed.append(self.document.snapshot)
            self.the_labels_shown_are_those_of_the_document()
        assert same(self.document.snapshot, self.initial)
        while passed:
            # Every state on the way, not just the last, is the one that it was.
            assert same(self.document.snapshot, passed.pop())
            self.the_labels_shown_are_those_of_the_document()
            self.every_pixel_has_one_owner()
            self.document.redo()
        assert not self.document.redo_text


TestAnnotating = Annotating.TestCase
TestAnnotating.settings = settings(
    max_examples=8, stateful_step_count=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
