from __future__ import annotations

import threading

import numpy as np
import pytest

import napari_sam
from napari_sam.inference.abandon import Abandoned, abandonable
from napari_sam.inference.engine import encode


def test_the_network_stops_before_its_next_layer() -> None:
    model = napari_sam.load_model("nano", device="cpu")
    plane = np.zeros((64, 64, 3), np.uint8)
    layers = [m for m in model.image_encoder.modules() if not list(m.children())]
    ran: list[object] = []
    counting = [layer.register_forward_hook(lambda layer, *_: ran.append(layer)) for layer in layers]
    with abandonable(model, threading.Event()):
        encode(model, plane)
    whole = len(ran)
    assert whole > 10

    abandoned = threading.Event()
    stopping = layers[4].register_forward_hook(lambda *_: abandoned.set())
    ran.clear()
    with pytest.raises(Abandoned), abandonable(model, abandoned):
        encode(model, plane)
    assert 0 < len(ran) < whole

    for handle in (*counting, stopping):
        handle.remove()
    encode(model, plane)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_another_thread_that_uses_the_model_goes_on() -> None:
    model = napari_sam.load_model("nano", device="cpu")
    plane = np.zeros((64, 64, 3), np.uint8)
    abandoned, done = threading.Event(), []
    abandoned.set()
    with abandonable(model, abandoned):
        thread = threading.Thread(target=lambda: done.append(encode(model, plane)))
        thread.start()
        thread.join()
        with pytest.raises(Abandoned):
            encode(model, plane)
    assert len(done) == 1
