"""Objects in videos: what is read and kept, what goes wrong, and what must not depend on it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import torch
import zarr
from narrow_sam2 import narrow_sam2
from numpy.typing import NDArray

from napari_sam import SamVideoPredictor, load_model
from napari_sam.errors import Cancelled, ImageError, ModelError, PromptError
from napari_sam.inference.video_state import VideoState
from napari_sam.models.sam2 import Sam2

FRAMES = np.random.default_rng(0).integers(0, 256, (8, 40, 60), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Sam2:
    return narrow_sam2()


@pytest.fixture
def predictor(model: Sam2) -> SamVideoPredictor:
    return SamVideoPredictor(model)


class Watched:
    """An array that counts what is read, and cannot read some of it."""

    def __init__(self, array: NDArray[Any], broken: tuple[int, ...] = ()) -> None:
        self.array, self.shape, self.dtype, self.broken = array, array.shape, array.dtype, set(broken)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> NDArray[Any]:
        self.read.append(index)
        if index in self.broken:
            raise OSError(5, "Input/output error")
        return self.array[index]


def _prompted(predictor: SamVideoPredictor, video: Any = FRAMES) -> VideoState:
    """Two objects on frame 0, another one on frame 3."""
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
    predictor.add_new_points_or_box(state, 0, 2, box=[5, 5, 40, 30])
    predictor.add_new_points_or_box(state, 3, 7, points=[[50, 30], [2, 2]], labels=[1, 0])
    return state


def _all(outputs: Iterator[tuple[int, list[int], torch.Tensor]]) -> dict[int, torch.Tensor]:
    return {frame: logits for frame, _, logits in outputs}


def _into(found: dict[int, torch.Tensor], outputs: Iterator[tuple[int, list[int], torch.Tensor]]) -> None:
    """Collect what comes, also before an error."""
    found.update((frame, logits) for frame, _, logits in outputs)


def _assert_equal(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor], atol: float = 1e-3) -> None:
    assert list(one) == list(other)
    for frame, logits in one.items():
        torch.testing.assert_close(logits, other[frame], atol=atol, rtol=0)


def test_only_models_with_a_memory() -> None:
    with pytest.raises(ModelError, match=r"nano has no memory for videos: load one of SAM 2 or 2\.1\."):
        SamVideoPredictor(load_model("nano", device="cpu"))


def test_a_click_reads_one_frame_and_each_frame_is_read_once(predictor: SamVideoPredictor) -> None:
    video = Watched(FRAMES)
    state = predictor.init_state(video)
    assert video.read == []
    frame, ids, logits = predictor.add_new_points_or_box(state, 5, 1, points=[[20, 10]], labels=[1])
    assert (frame, ids, tuple(logits.shape), logits.dtype) == (5, [1], (1, 1, 40, 60), torch.float32)
    predictor.add_new_points_or_box(state, 5, 1, points=[[30, 10]], labels=[0], clear_old_points=False)
    assert video.read == [5]
    assert list(_all(predictor.propagate_in_video(state))) == [5, 6, 7]
    assert list(_all(predictor.propagate_in_video(state, reverse=True))) == [5, 4, 3, 2, 1, 0]
    assert sorted(video.read) == list(range(8))


def test_which_frames(predictor: SamVideoPredictor) -> None:
    """As in the official code: the limit counts frames after the first, and backward from 0 is nowhere."""
    state = _prompted(predictor)
    frames = lambda **options: list(_all(predictor.propagate_in_video(state, **options)))  # noqa: E731
    assert frames(start_frame_idx=2, max_frame_num_to_track=3) == [2, 3, 4, 5]
    assert frames(start_frame_idx=2, max_frame_num_to_track=3, reverse=True) == [2, 1, 0]
    assert frames(reverse=True) == []
    assert frames(start_frame_idx=7, max_frame_num_to_track=0) == [7]
    with pytest.raises(PromptError, match=r"There is no frame 8: the video has 8, counted from 0\."):
        frames(start_frame_idx=8)


@pytest.mark.parametrize("kind", ["dask", "zarr", "list", "gray colour"])
def test_any_array_of_frames(predictor: SamVideoPredictor, kind: str) -> None:
    expected = _all(predictor.propagate_in_video(_prompted(predictor)))
    arrays: dict[str, Callable[[], Any]] = {
        "dask": lambda: dask.array.from_array(FRAMES, chunks=(1, -1, -1)),
        "zarr": lambda: zarr.array(FRAMES, chunks=(1, 40, 60)),
        "list": FRAMES.tolist,
        "gray colour": lambda: np.repeat(FRAMES[..., None], 3, axis=-1),
    }
    video: Any = arrays[kind]()
    if kind == "list":
        video = np.array(video, dtype=np.uint8).tolist()
        state = predictor.init_state(video, contrast_limits=(0, 255))
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
        found = predictor.add_new_points_or_box(state, 0, 2, box=[5, 5, 40, 30])[2]
        assert found.shape == (2, 1, 40, 60)
    else:
        _assert_equal(_all(predictor.propagate_in_video(_prompted(predictor, video))), expected)


def test_objects_do_not_depend_on_each_other(predictor: SamVideoPredictor) -> None:
    """Those tracked in one pass and those whose memories are of other frames."""
    together = _all(predictor.propagate_in_video(_prompted(predictor), start_frame_idx=3))
    for index, obj_id in enumerate((1, 2, 7)):
        state = _prompted(predictor)
        for other in {1, 2, 7} - {obj_id}:
            predictor.remove_object(state, other)
        alone = _all(predictor.propagate_in_video(state, start_frame_idx=3))
        _assert_equal(alone, {frame: logits[[index]] for frame, logits in together.items()})


def test_memories_matter(predictor: SamVideoPredictor) -> None:
    """The same frame after other frames has another mask; otherwise the tests here would see nothing."""
    forward = _all(predictor.propagate_in_video(_prompted(predictor)))
    state = _prompted(predictor, np.concatenate([FRAMES[:1], FRAMES[4:5], FRAMES[2:]]))
    changed = _all(predictor.propagate_in_video(state))
    assert (forward[5] - changed[5]).abs().max() > 1e-2 * forward[5].std()


def test_corrections_stay_and_change_what_follows(predictor: SamVideoPredictor, model: Sam2) -> None:
    state = _prompted(predictor)
    before = _all(predictor.propagate_in_video(state))
    corrected = predictor.add_new_points_or_box(state, 4, 1, points=[[5, 35]], labels=[1])[2]
    after = _all(predictor.propagate_in_video(state, start_frame_idx=4))
    torch.testing.assert_close(after[4], corrected)
    assert (after[6][0] - before[6][0]).abs().max() > 1e-3
    # As in the official code, on demand: the correction is overwritten.
    official = SamVideoPredictor(model, add_all_frames_to_correct_as_cond=False)
    state = _prompted(official)
    before = _all(official.propagate_in_video(state))
    official.add_new_points_or_box(state, 4, 1, points=[[5, 35]], labels=[1])
    _assert_equal(
        _all(official.propagate_in_video(state, start_frame_idx=4)), {k: before[k] for k in range(4, 8)}
    )


def test_a_frame_that_cannot_be_read(predictor: SamVideoPredictor) -> None:
    """In the middle, from a lazy array: what was done is kept, and the way goes on behind it."""

    @dask.delayed
    def load(index: int) -> NDArray[np.uint8]:
        if index == 4:
            raise OSError("the disk is gone")
        return FRAMES[index]

    video = dask.array.stack([dask.array.from_delayed(load(i), (40, 60), np.uint8) for i in range(8)])
    state = _prompted(predictor, video)
    done: dict[int, torch.Tensor] = {}
    with pytest.raises(ImageError, match=r"^Frame 4 cannot be read \(the disk is gone\): what was done"):
        _into(done, predictor.propagate_in_video(state))
    _assert_equal(
        done, {k: v for k, v in _all(predictor.propagate_in_video(_prompted(predictor))).items() if k < 4}
    )
    assert list(_all(predictor.propagate_in_video(state, start_frame_idx=5))) == [5, 6, 7]
    with pytest.raises(ImageError, match="Frame 4"):
        predictor.add_new_mask(state, 4, 9, np.ones((40, 60), dtype=bool))
    assert state.obj_ids == [1, 2, 7]


def test_cancelled_between_frames_and_taken_up_again(predictor: SamVideoPredictor) -> None:
    expected = _all(predictor.propagate_in_video(_prompted(predictor)))
    state, cancelled = _prompted(predictor), threading.Event()
    found: dict[int, torch.Tensor] = {}
    frames = predictor.propagate_in_video(state, cancelled=cancelled)
    _into(found, itertools.islice(frames, 3))
    cancelled.set()
    with pytest.raises(Cancelled, match=r"^Cancelled: the frames before frame 3 are done\.$"):
        next(frames)
    found |= _all(predictor.propagate_in_video(state, start_frame_idx=3))
    _assert_equal(found, expected)


@pytest.mark.parametrize("layer", ["image_encoder.trunk", "memory_attention.norm", "memory_encoder.fuser"])
def test_cancelled_within_a_frame(predictor: SamVideoPredictor, layer: str) -> None:
    state, cancelled = _prompted(predictor), threading.Event()
    expected = _all(predictor.propagate_in_video(_prompted(predictor)))
    frames = predictor.propagate_in_video(state, cancelled=cancelled)
    next(frames)
    # Not while the model computes for prompts that are there already.
    handle = predictor.model.get_submodule(layer).register_forward_pre_hook(lambda *_: cancelled.set())
    try:
        with pytest.raises(Cancelled, match="frame 1"):
            next(frames)
    finally:
        handle.remove()
    assert all(1 not in known.tracked for known in state.objects.values())
    found = _all(predictor.propagate_in_video(state, start_frame_idx=1))
    _assert_equal(found, {k: expected[k] for k in range(1, 8)})


def test_a_cancelled_prompt_changes_nothing(predictor: SamVideoPredictor) -> None:
    state, cancelled = predictor.init_state(FRAMES), threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled, match=r"^Cancelled: nothing has changed\.$"):
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1], cancelled=cancelled)
    assert state.obj_ids == []


def _changed_midway(
    predictor: SamVideoPredictor, state: VideoState, at: dict[int, Callable[[], object]], masks: bool
) -> list[tuple[int, list[int]]]:
    """Frames and objects of a propagation, while which something is done after some of the frames."""
    came = []
    if masks:
        for found in predictor.propagate(state):
            assert len(found.logits) == len(found.scores) == len(found.obj_ids)
            came.append((found.frame_idx, found.obj_ids))
            at.get(found.frame_idx, int)()
    else:
        for frame, ids, logits in predictor.propagate_in_video(state):
            assert len(logits) == len(ids)
            came.append((frame, ids))
            at.get(frame, int)()
    return came


@pytest.mark.parametrize("masks", [False, True])
def test_objects_that_come_and_go_during_propagation(predictor: SamVideoPredictor, masks: bool) -> None:
    state = _prompted(predictor)

    def prompt(obj_id: int) -> Callable[[], object]:
        return lambda: predictor.add_new_points_or_box(state, 4, obj_id, points=[[30, 30]], labels=[1])

    def again() -> None:
        predictor.remove_object(state, 2)
        prompt(2)()

    came = _changed_midway(predictor, state, {2: prompt(9), 4: prompt(1), 5: again}, masks)
    assert came == [(frame, [1, 2, 7]) for frame in range(6)] + [(6, [1, 7]), (7, [1, 7])]
    assert {tuple(ids) for _, ids in _changed_midway(predictor, state, {}, masks)} == {(1, 7, 9, 2)}

    ends: list[Callable[[], object]] = [
        lambda: predictor.reset_state(state),
        lambda: [predictor.remove_object(state, obj_id) for obj_id in state.obj_ids],
    ]
    for end in ends:
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
        came = _changed_midway(predictor, state, {3: end}, masks)
        assert [frame for frame, _ in came] == [0, 1, 2, 3]


def test_memory_is_bounded_and_the_masks_are_the_same(
    predictor: SamVideoPredictor, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """With room for one embedding and next to no memories, which go to files that do not stay."""
    expected = _all(predictor.propagate_in_video(_prompted(predictor)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = _prompted(predictor)
    state = VideoState(whole.frames, cache_bytes=1, store_bytes=20_000)
    state.objects = whole.objects
    found = {}
    for frame, _, logits in predictor.propagate_in_video(state):
        found[frame] = logits
        assert state.store.nbytes <= 20_000
        assert len(state._embeddings) == 1
    assert len(list(tmp_path.rglob("*.npy"))) > 20
    _assert_equal(found, expected, atol=0)
    backward = dict(_all(predictor.propagate_in_video(whole, start_frame_idx=7, reverse=True)))
    assert list(backward) == list(range(7, -1, -1))
    del whole
    predictor.reset_state(state)
    assert list(tmp_path.rglob("*.npy")) == []


def test_a_full_disk_is_told(predictor: SamVideoPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_sam.errors import DeviceError

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    state = VideoState(predictor.init_state(FRAMES).frames, store_bytes=1)
    monkeypatch.setattr(np, "save", full)
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
    with pytest.raises(
        DeviceError, match=r"^The temporary folder has no room .* \(No space left on device\)"
    ):
        _all(predictor.propagate_in_video(state))


def test_masks_in_boxes_and_bits_are_those_of_the_logits(predictor: SamVideoPredictor) -> None:
    expected = _all(predictor.propagate_in_video(_prompted(predictor)))
    for found in predictor.propagate(_prompted(predictor)):
        assert found.obj_ids == [1, 2, 7]
        assert found.logits.shape == (3, 32, 32)
        assert found.scores.shape == found.presence.shape == (3,)
        for index in range(3):
            mask = found.mask(index).to_array()
            np.testing.assert_array_equal(mask, (expected[found.frame_idx][index, 0] > 0).numpy())


def test_an_object_that_is_not_there() -> None:
    predictor = SamVideoPredictor(narrow_sam2(presence=-30.0))
    state = _prompted(predictor)
    for found in predictor.propagate(state):
        assert (found.presence < 0).all()
        assert (found.logits == -1024).all()
        assert found.mask(0).is_empty
    # A mask says that it is there all the same.
    logits = predictor.add_new_mask(state, 5, 1, np.ones((40, 60), dtype=bool))[2]
    torch.testing.assert_close(logits[0], torch.full((1, 40, 60), 10.0))
    assert (logits[1:] < -1000).all()
    logits = predictor.add_new_mask(state, 6, 1, np.zeros((40, 60), dtype=bool))[2]
    torch.testing.assert_close(logits[0], torch.full((1, 40, 60), -10.0))


@pytest.mark.parametrize("version", ["2", "2.1"])
def test_few_and_constant_frames(version: str) -> None:
    """One frame, also corrected after propagation; and nothing to see on any."""
    predictor = SamVideoPredictor(narrow_sam2(version))
    for count in (1, 2):
        state = predictor.init_state(np.full((count, 20, 30), 1000, dtype=np.uint16))
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
        assert len(_all(predictor.propagate_in_video(state))) == count
        again = predictor.add_new_points_or_box(state, 0, 1, points=[[2, 3]], labels=[1])[2]
        assert again.isfinite().all()
        assert all(logits.isfinite().all() for logits in _all(predictor.propagate_in_video(state)).values())


def test_a_prompt_after_all_others_were_taken_back(predictor: SamVideoPredictor) -> None:
    """Nothing is left to condition a correction on: it is a prompt like the first."""
    state = predictor.init_state(FRAMES)
    first = predictor.add_new_points_or_box(state, 2, 1, points=[[20, 10]], labels=[1])[2]
    _all(predictor.propagate_in_video(state))
    predictor.clear_all_prompts_in_frame(state, 2, 1, need_output=False)
    with pytest.raises(PromptError, match=r"^Object 1 has no prompts"):
        _all(predictor.propagate_in_video(state))
    predictor.add_new_points_or_box(state, 4, 1, points=[[20, 10]], labels=[1])
    assert list(_all(predictor.propagate_in_video(state))) == [4, 5, 6, 7]
    predictor.reset_state(state)
    assert state.obj_ids == []
    torch.testing.assert_close(
        predictor.add_new_points_or_box(state, 2, 1, points=[[20, 10]], labels=[1])[2], first
    )


def test_pixels_of_one_object_only(model: Sam2) -> None:
    predictor = SamVideoPredictor(model, non_overlap_masks=True)
    expected = _all(SamVideoPredictor(model).propagate_in_video(_prompted(predictor)))
    for frame, _, logits in predictor.propagate_in_video(_prompted(predictor)):
        assert ((logits > 0).sum(dim=0) <= 1).all()
        torch.testing.assert_close(logits.amax(dim=0), expected[frame].amax(dim=0))


def test_half_precision_agrees(predictor: SamVideoPredictor) -> None:
    half = SamVideoPredictor(narrow_sam2().prepare(torch.device("cpu"), torch.bfloat16))
    exact = _all(predictor.propagate_in_video(_prompted(predictor)))
    for frame, _, logits in half.propagate_in_video(_prompted(half)):
        assert (logits - exact[frame]).std() < 0.2 * exact[frame].std()


def test_prompts_in_the_shapes_of_the_official_code(predictor: SamVideoPredictor) -> None:
    state = predictor.init_state(FRAMES)
    points, labels = np.array([[20.0, 10.0], [50.0, 30.0]]), np.array([1, 0])
    expected = predictor.add_new_points_or_box(state, 0, 1, points=points, labels=labels)[2]
    found = predictor.add_new_points_or_box(state, 0, 2, points=points[None], labels=labels[None])[2]
    torch.testing.assert_close(found[1], expected[0])
    fractions = torch.tensor(points / (60, 40))[None]
    found = predictor.add_new_points_or_box(
        state, 0, 3, points=fractions, labels=torch.tensor(labels)[None], normalize_coords=False
    )[2]
    torch.testing.assert_close(found[2], expected[0])
    with pytest.raises(PromptError, match=r"shape \(N, 2\), .* not \(2, 1, 2\)"):
        predictor.add_new_points_or_box(state, 0, 4, points=points[:, None], labels=labels)


def test_all_of_the_width_is_the_edge_of_the_frame(predictor: SamVideoPredictor) -> None:
    state = predictor.init_state(FRAMES)
    edge = predictor.add_new_points_or_box(state, 0, 1, points=[[59.5, 39.5]], labels=[1])[2]
    whole = predictor.add_new_points_or_box(
        state, 0, 2, points=[[1.0, 1.0]], labels=[1], normalize_coords=False
    )[2]
    torch.testing.assert_close(whole[1], edge[0])
    with pytest.raises(PromptError, match="outside"):
        predictor.add_new_points_or_box(state, 0, 3, points=[[1.01, 1]], labels=[1], normalize_coords=False)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "There is no prompt: give points, a box, or both"),
    "no labels": ({"points": [[1, 2]]}, "give labels, 1 or 0 for each point"),
    "outside": ({"points": [[70, 2]], "labels": [1]}, r"The point \(70, 2\) lies outside the image"),
    "fractions": ({"points": [[1, 2, 3]], "labels": [1], "normalize_coords": False}, "pairs of x and y"),
    "late box": ({"box": [1, 2, 3, 4], "clear_old_points": False}, "A box comes before all points"),
    "frame": ({"box": [1, 2, 3, 4], "frame_idx": -1}, "There is no frame -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_prompts_that_make_no_sense(predictor: SamVideoPredictor, case: str) -> None:
    arguments, sentence = WRONG[case]
    state = predictor.init_state(FRAMES)
    with pytest.raises(PromptError, match=sentence):
        predictor.add_new_points_or_box(**{"inference_state": state, "frame_idx": 0, "obj_id": 1} | arguments)
    assert state.obj_ids == []


def test_what_is_not_there(predictor: SamVideoPredictor) -> None:
    state = predictor.init_state(FRAMES)
    with pytest.raises(PromptError, match="No object is prompted"):
        next(predictor.propagate_in_video(state))
    with pytest.raises(PromptError, match="There is no object 3: the video has none"):
        predictor.clear_all_prompts_in_frame(state, 0, 3)
    with pytest.raises(PromptError, match="There is no object 3 to remove"):
        predictor.remove_object(state, 3, strict=True)
    assert predictor.remove_object(state, 3) == ([], [])
    with pytest.raises(PromptError, match=r"A mask has the shape \(height, width\), not \(3,\)"):
        predictor.add_new_mask(state, 0, 1, [True, False, True])
