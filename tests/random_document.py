"""Documents that random commands lead to, with every kind of prompt and answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from napari_sam.annotation import Answer, Document, Look, ObjectClass, Plane, SamObject, Source
from napari_sam.errors import AnnotationError, PromptError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts

SHAPE = (4, 9, 8)
PLANES = [Plane((0, None, None)), Plane((2, None, None)), Plane((None, 3, None)), Plane((None, None, 5))]


class Commands:
    """A user, a model and a brush.

    Parameters
    ----------
    document : Document
        Of the shape `SHAPE`.
    seed : int
    """

    def __init__(self, document: Document, seed: int) -> None:
        self.document = document
        self.random = np.random.default_rng(seed)
        self.all: list[Callable[[], object]] = [
            self.prompt,
            self.prompt,
            self.prompt,
            self.refine,
            self.answer_nobody_waits_for,
            self.choose,
            self.accept,
            self.accept,
            document.reject,
            self.open,
            self.delete,
            self.merge,
            self.split,
            self.classes,
            self.add_many,
            self.brush,
            self.overlaps,
            self.propagate,
            self.divide,
            self.parent,
            document.undo,
            document.redo,
        ]

    def step(self) -> None:
        """Do something; commands that make no sense at the moment do nothing."""
        with contextlib.suppress(AnnotationError, PromptError):
            self.all[self.random.integers(len(self.all))]()

    def plane(self) -> Plane:
        return PLANES[self.random.integers(len(PLANES))]

    def blob(self, plane: Plane, *, some: bool = False) -> Mask:
        row, column = plane.axes
        full = np.zeros((SHAPE[row], SHAPE[column]), dtype=bool)
        top, left = (self.random.integers(0, n) for n in full.shape)
        part = full[top : top + 4, left : left + 4]
        part[:] = self.random.random(part.shape) < 0.7
        if some:
            part[0, 0] = True
        return Mask.from_array(full)

    def prompts(self, plane: Plane) -> Prompts:
        row, column = plane.axes
        height, width = size = SHAPE[row], SHAPE[column]
        count = int(self.random.integers(1, 4))
        xy = self.random.random((count, 2)) * [width - 1, height - 1]
        rare: dict[str, object] = {
            "box": [0.25, 0.1, *(self.random.random(2) + 1)],
            "mask": self.blob(plane, some=True),
            "scribbles": [(self.random.random((5, 2)), 1), (self.random.random((1, 2)), 0)],
            "lasso": [[-1, -1], [3, -1], [1 / 3, 3]],
            "mask_input": self.random.normal(size=(256, 256)) if self.random.random() < 0.1 else None,
        }
        chosen = {key: value for key, value in rare.items() if self.random.random() < 0.3}
        return Prompts.create(size, xy, self.random.integers(0, 2, count), **chosen)  # type: ignore[arg-type]

    def answer(self, plane: Plane, prompts: Prompts | None = None) -> Answer:
        count = int(self.random.integers(1, 4))
        scores = [None if self.random.random() < 0.2 else float(np.float32(self.random.random()))] * count
        look = Look((-1.5, float(self.random.random())), 0.7) if self.random.random() < 0.5 else Look()
        return Answer(
            tuple((self.blob(plane), score) for score in scores),
            chosen=int(self.random.integers(count)),
            prompts=prompts,
            model="nano" if prompts else "",
            digest="xxh128:12ab" if prompts else "",
            look=look,
        )

    def prompt(self) -> None:
        plane = self.plane()
        self.document.set_prompts(
            {**self.document.current.prompts, plane: self.prompts(plane)}, "Add point", "drag"
        )
        item = self.document.current
        if self.random.random() < 0.8:
            self.document.answer(item.uid, plane, self.answer(plane, item.prompts[plane]))

    def refine(self) -> None:
        self.document.refine(self.plane())

    def answer_nobody_waits_for(self) -> None:
        for plane, prompts in self.document.current.prompts.items():
            self.document.answer(self.document.current.uid, plane, self.answer(plane, prompts))

    def choose(self) -> None:
        for plane in self.document.current.answers:
            self.document.choose(plane, int(self.random.integers(3)))

    def accept(self) -> None:
        if not self.document.current.is_empty:
            self.document.accept()

    def some(self, count: int) -> list[int]:
        uids = [item.uid for item in self.document.objects]
        return [int(uid) for uid in self.random.permutation(uids)[:count]]

    def open(self) -> None:
        for uid in self.some(1):
            self.document.open(uid)

    def delete(self) -> None:
        self.document.delete(self.some(1))

    def merge(self) -> None:
        self.document.merge(self.some(2))

    def split(self) -> None:
        for uid in self.some(1):
            self.document.split(uid)

    def classes(self) -> None:
        self.document.set_classes(
            [ObjectClass(1, "nucleus", "#ff0000"), ObjectClass(7, "Zelle ü", "#00ff00")]
        )
        self.document.set_class(self.some(2), int(self.random.choice([0, 1, 7])))

    def add_many(self) -> None:
        plane = self.plane()
        drafts = [SamObject(0, 0, source=Source.AUTOMATIC, base={plane: self.answer(plane)}) for _ in "ab"]
        self.document.add_objects(drafts)

    def brush(self) -> None:
        plane = PLANES[self.random.integers(2)]
        top, left = self.random.integers(0, 7), self.random.integers(0, 6)
        values = np.full((2, 2), self.random.choice([0, self.document.current.id, 40, 300, -3]))
        self.document.paint(plane, (slice(top, top + 2), slice(left, left + 2)), values, "stroke")

    def propagate(self) -> None:
        self.document.put_propagated(
            {
                uid: {plane: self.answer(plane) if self.random.random() < 0.8 else None for plane in PLANES}
                for uid in [*self.some(2), 10**6]
            },
            gesture="run" if self.random.random() < 0.5 else None,
        )

    def divide(self) -> None:
        for uid in self.some(1):
            self.document.divide(uid, PLANES[1])

    def parent(self) -> None:
        self.document.set_parent(self.some(1), (self.some(1) or [0])[0] if self.random.random() < 0.8 else 0)

    def overlaps(self) -> None:
        self.document.overwrite = bool(self.random.integers(2))


def random_document(seed: int, steps: int = 60) -> Document:
    """What `steps` random commands lead to."""
    document = Document(SHAPE)
    commands = Commands(document, seed)
    for _ in range(steps):
        commands.step()
    return document
