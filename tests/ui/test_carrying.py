"""Propagation on the worker's side: plane by plane, with clicks in between, stopped and begun again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam.annotation import Answer, Document, Look, Plane, SamObject
from napari_sam.annotation.planes import Planes
from napari_sam.annotation.propagation_run import PropagationRun
from napari_sam.annotation.series import Series
from napari_sam.errors import Cancelled, ImageError
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.models import load_model
from napari_sam.models.base import PromptableModel
from napari_sam.models.hiera import HieraSize
from napari_sam.models.sam2 import build_sam2
from napari_sam.ui.carrying import Carried, Carrying
from napari_sam.ui.plane import View
from napari_sam.ui.segmenter import Segmenter

SIZE = (64, 96)
LOOK = Look((0.0, 255.0), 1.0)


class Stack:
    """A disc that moves to the right; some planes cannot be read."""

    def __init__(self, length: int = 5) -> None:
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        self.truth = np.stack([(y - 32) ** 2 + (x - 24 - 4 * z) ** 2 < 144 for z in range(length)])
        noise = np.random.default_rng(1).normal(0, 4, self.truth.shape)
        self.array = (self.truth * 150 + 40 + noise).astype(np.uint8)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.broken: set[int] = set()

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.uint8]:
        if index[0] in self.broken:
            raise OSError("Input/output error.\nand more")
        return self.array[index]


def sam2() -> PromptableModel:
    """Untrained and small, but with a memory."""
    torch.manual_seed(0)
    model = build_sam2(HieraSize(16, 1, (1, 2, 3, 1), (4,)), image_size=128)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5)
    return model.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", params=["nano", "sam2"])
def model(request: pytest.FixtureRequest) -> PromptableModel:
    return load_model("nano", device="cpu") if request.param == "nano" else sam2()


@pytest.fixture
def stack() -> Stack:
    return Stack()


def segmenter_of(model: PromptableModel) -> Segmenter:
    segmenter = Segmenter()
    segmenter._model = model
    return segmenter


def carrying_of(stack: Stack, known: int = 2) -> Carrying:
    document = Document(stack.shape)
    base = {Plane((known, None, None)): Answer(((Mask.from_array(stack.truth[known]), None),))}
    document.add_objects([SamObject(0, 0, base=base)])
    series = Series.through(Plane((known, None, None)), stack.shape)
    run = PropagationRun.of(document.objects, series, look=LOOK)
    return Carrying(run, Planes(stack), lambda at: view_of(stack, at), "z")


def view_of(stack: Stack, at: int) -> View:
    return View(stack, Plane((at, None, None)), (0.0, 255.0), 1.0, 0)


def all_of(segmenter: Segmenter, carrying: Carrying) -> list[Carried]:
    found = []
    while (one := segmenter.carry_on(carrying)) is not None:
        found.append(one)
    return found


def bits(found: list[Carried]) -> dict[int, list[bytes | None]]:
    return {
        one.position: [
            None if answer is None else answer.mask.to_array().tobytes()
            for planes in one.masks.values()
            for answer in planes.values()
        ]
        for one in found
    }


def test_clicks_in_between_change_nothing(model: PromptableModel, stack: Stack) -> None:
    segmenter = segmenter_of(model)
    undisturbed = bits(all_of(segmenter, carrying_of(stack)))
    assert sorted(undisturbed) == [0, 1, 3, 4]
    prompts = Prompts.create(SIZE, points=[[30, 32]])
    before = segmenter.segment(view_of(stack, 4), prompts).mask
    carrying, found = carrying_of(stack), []
    while (one := segmenter.carry_on(carrying)) is not None:
        found.append(one)
        for at in (one.position, 0, 4):
            answer = segmenter.segment(view_of(stack, at), prompts)
    assert bits(found) == undisturbed
    assert answer.mask == before


def test_stopped_it_forgets_what_it_remembers(model: PromptableModel, stack: Stack) -> None:
    segmenter, carrying = segmenter_of(model), carrying_of(stack)
    assert segmenter.carry_on(carrying) is not None
    carrying.stop.set()
    with pytest.raises(Cancelled):
        segmenter.carry_on(carrying)
    assert segmenter._carrying is None
    assert carrying._steps is None


def test_another_one_takes_its_place_and_it_begins_again(model: PromptableModel, stack: Stack) -> None:
    segmenter, first, second = segmenter_of(model), carrying_of(stack), carrying_of(stack, 0)
    began = segmenter.carry_on(first)
    assert began is not None
    assert len(all_of(segmenter, second)) == 4
    assert segmenter._carrying is None
    # What was remembered is gone, and found again.
    assert bits(all_of(segmenter, first))[began.position] == bits([began])[began.position]


def test_a_model_that_goes_takes_the_memory_with_it(stack: Stack) -> None:
    segmenter, carrying = segmenter_of(sam2()), carrying_of(stack)
    assert segmenter.carry_on(carrying) is not None
    segmenter._forget()
    assert carrying._steps is None


def test_a_plane_that_cannot_be_read_is_named(model: PromptableModel, stack: Stack) -> None:
    segmenter, carrying = segmenter_of(model), carrying_of(stack)
    stack.broken = {4}
    with pytest.raises(ImageError, match=r"4.*Input/output error\).*kept"):
        all_of(segmenter, carrying)
    assert segmenter._carrying is None


def test_embeddings_of_a_stack_drive_out_no_others(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = segmenter_of(load_model("nano", device="cpu"))
    prompts = Prompts.create(SIZE, points=[[30, 32]])
    displayed = [view_of(stack, 2), view_of(stack, 0)]
    for view in displayed:
        segmenter.segment(view, prompts)
    room = segmenter._embeddings.nbytes * 3 // 2
    monkeypatch.setattr("napari_sam.ui.segmenter.CACHE_BYTES", room)
    all_of(segmenter, carrying_of(stack))
    assert all(view.key in segmenter._embeddings for view in displayed)
    assert len(segmenter._embeddings) == 3
