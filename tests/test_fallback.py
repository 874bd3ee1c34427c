"""Devices that run out of memory or fail: the real model, whose device throws what real devices throw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
import pytest
import torch
from skimage.data import coins
from unreliable import FAILED, OUT_OF_MEMORY, Unreliable, first

import napari_sam
from napari_sam.errors import DeviceError, DeviceWarning
from napari_sam.inference.engine import decode, encode
from napari_sam.inference.fallback import in_chunks, on_device_of, on_some_device, telling
from napari_sam.inference.image import as_rgb
from napari_sam.inference.prompts import Prompts
from napari_sam.models.base import Embedding, PromptableModel
from napari_sam.models.nano import Nano

PLANE = as_rgb(coins()[:128, :256])
SIZE = (128, 256)
CLICKS = [Prompts.create(SIZE, [[x, 56]]) for x in (100, 155, 215, 44, 60, 70, 80)]


@contextmanager
def told() -> Iterator[list[str]]:
    sentences: list[str] = []
    with telling(sentences.append):
        yield sentences


@pytest.fixture(scope="module")
def expected() -> list[list[np.ndarray]]:
    """The masks of the clicks, when all goes well."""
    nano = napari_sam.load_model("nano", device="cpu")
    found = decode(nano, encode(nano, PLANE), CLICKS, multimask=True)
    return [[mask.to_array() for mask in p.masks] for p in found]


def masks(model: PromptableModel, embedding: Embedding) -> list[list[np.ndarray]]:
    return [[m.to_array() for m in p.masks] for p in decode(model, embedding, CLICKS, multimask=True)]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:30])
def test_memory_that_comes_free_is_used(error: Exception) -> None:
    model = Unreliable(first(1, error))
    with told() as sentences:
        encode(model, PLANE)
    assert model.calls == [0, 0]
    assert model.device == torch.device("cpu:0")
    assert sentences == []


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, FAILED], ids=lambda error: str(error)[:30])
def test_encoding_goes_on_on_the_cpu(error: Exception, expected: list[list[np.ndarray]]) -> None:
    model = Unreliable(lambda _: error)
    with pytest.warns(DeviceWarning, match=r"^[^.]*nano goes on on the CPU[^.]*\.$"):
        embedding = encode(model, PLANE)
    assert model.device == torch.device("cpu")
    np.testing.assert_array_equal(masks(model, embedding), expected)


def test_objects_are_decoded_in_smaller_groups(expected: list[list[np.ndarray]]) -> None:
    model = Unreliable(lambda size: OUT_OF_MEMORY[0] if size > 2 else None)
    embedding = encode(model, PLANE)
    with told() as sentences:
        found = masks(model, embedding)
    assert model.calls == [0, 7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert model.device == torch.device("cpu:0")
    assert len(sentences) == 1
    assert "fewer objects are decoded at once" in sentences[0]
    np.testing.assert_array_equal(found, expected)


def test_decoding_goes_on_on_the_cpu(expected: list[list[np.ndarray]]) -> None:
    model = Unreliable(lambda size: OUT_OF_MEMORY[0] if size else None)
    embedding = encode(model, PLANE)
    with told() as sentences:
        found = masks(model, embedding)
    # Halved, tried twice alone, then one on the CPU and the others together.
    assert model.calls == [0, 7, 3, 1, 1, 1, 1, 6]
    assert model.device == torch.device("cpu")
    assert len(sentences) == 2
    np.testing.assert_array_equal(found, expected)


def test_a_failed_device_is_left_at_once(expected: list[list[np.ndarray]]) -> None:
    model = Unreliable(lambda size: FAILED if size else None)
    embedding = encode(model, PLANE)
    with told() as sentences:
        found = masks(model, embedding)
    assert model.device == torch.device("cpu")
    assert len(sentences) == 1
    assert "an illegal memory access was encountered" in sentences[0]
    assert "\n" not in sentences[0]
    np.testing.assert_array_equal(found, expected)


def test_embeddings_follow_the_model() -> None:
    model = Unreliable(lambda size: OUT_OF_MEMORY[0] if size else None, dtype="bfloat16")
    embedding = encode(model, PLANE)
    # Pixels are kept as they are.
    assert {t.dtype for t in embedding.tensors} == {torch.bfloat16, torch.int16}
    with told():
        found = masks(model, embedding)
    assert {t.dtype for t in on_device_of(model, embedding).tensors} == {torch.float32, torch.int16}
    np.testing.assert_array_equal(masks(model, on_device_of(model, embedding)), found)
    on_meta = Nano().to("meta")
    assert {t.device.type for t in on_device_of(on_meta, embedding).tensors} == {"meta"}
    assert on_device_of(model, encode(model, PLANE)).original_size == SIZE


def test_an_embedding_that_is_there_is_not_copied() -> None:
    nano = napari_sam.load_model("nano", device="cpu")
    embedding = encode(nano, PLANE)
    assert on_device_of(nano, embedding) is embedding


def test_a_device_that_keeps_the_weights_is_one_sentence() -> None:
    class Lost(Unreliable):
        def prepare(self, *_: object) -> Self:
            raise FAILED

    with pytest.raises(DeviceError, match=r"^The CPU failed \(CUDA error: .*\): .*\.$"):
        encode(Lost(lambda _: FAILED), PLANE)


@pytest.mark.parametrize("error", OUT_OF_MEMORY[1:2] + OUT_OF_MEMORY[-1:])
def test_nothing_helps_a_full_cpu(error: Exception) -> None:
    model = Unreliable(lambda _: None)
    model.prepare(torch.device("cpu"), torch.float32)

    def attempt() -> None:
        raise error

    with pytest.raises(DeviceError, match=r"^There is not enough memory on the CPU [^.]*\.$"):
        on_some_device(model, attempt)
    with told(), pytest.raises(DeviceError, match="on the CPU"):
        in_chunks(model, [1, 2, 3, 4], 4, lambda _: attempt())


def test_defects_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="must match"):
        encode(Unreliable(lambda _: RuntimeError("The size of tensor a must match")), PLANE)
    assert not issubclass(DeviceError, MemoryError)


LIMITED = """
import resource, sys
import numpy as np, torch
import napari_sam
from napari_sam.errors import DeviceError
from napari_sam.inference.engine import encode, segment
from napari_sam.inference.prompts import Prompts

torch.set_num_threads(1)
model = napari_sam.load_model("nano", device="cpu")
plane = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
segment(model, encode(model, plane), Prompts.create((256, 256), [[9, 9]]))
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, -1))
try:
    encode(model, np.zeros((2048, 2048, 3), np.uint8))
except DeviceError as error:
    print(error)
found = segment(model, encode(model, plane), Prompts.create((256, 256), [[9, 9]]))
print(found.mask.shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory work so on Linux only")
def test_a_cpu_that_is_really_full() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    sentence, shape = done.stdout.splitlines()
    assert sentence.startswith("There is not enough memory on the CPU for this image")
    assert shape == "(256, 256)"
