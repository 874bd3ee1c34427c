"""Downloads from a real server on this computer that does everything a server can do wrong."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import http_server as http
import numpy as np
import pytest
import xxhash

from napari_sam.errors import DownloadCancelled, ModelError
from napari_sam.models import store
from napari_sam.models.download import fetch, terminal_progress
from napari_sam.models.transfer import Policy
from napari_sam.models.zoo import ZOO, ModelInfo

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
CHUNK = 65_536
"""What arrives at least before it is written."""
HASTY = Policy(timeout=5, attempts=3, pause=0.01)

Publish = Callable[..., ModelInfo]


pytestmark = pytest.mark.usefixtures("folder")


def entry(
    url: str, digest: str | None = SHA256, nbytes: int | None = len(CONTENT), name: str = "tiny"
) -> ModelInfo:
    return ModelInfo(name, "sam", "vit_t", "", url, digest, nbytes, "CC0-1.0", "tests", "none")


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put a model into the zoo."""

    def put(*args: object, **kwargs: object) -> ModelInfo:
        info = entry(*args, **kwargs)  # type: ignore[arg-type]
        monkeypatch.setitem(ZOO, info.name, info)
        return info

    return put


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_is_downloaded_once(folder: Path, publish: Publish) -> None:
    said: list[tuple[int, int | None]] = []
    with http.serving(CONTENT) as server:
        publish(server.url)
        assert store.find("tiny") is None
        path = fetch("tiny", progress=lambda *state: said.append(state), policy=HASTY)
        assert fetch("tiny", policy=HASTY) == path == store.find("tiny") == folder / "tiny.pth"
        assert len(server.requests) == 1
    assert path.read_bytes() == CONTENT
    assert said[-1] == (len(CONTENT), len(CONTENT))
    assert visible(folder) == ["tiny.pth", "verified.json"]


def test_xxh128_without_a_known_size(publish: Publish) -> None:
    with http.serving(CONTENT) as server:
        publish(server.url, digest=f"xxh128:{xxhash.xxh128_hexdigest(CONTENT)}", nbytes=None)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT


def test_cut_connections_are_gone_on_with(publish: Publish) -> None:
    script = [http.cut(2 * CHUNK), http.status(503), http.cut(CHUNK), http.cut(1)]
    with http.serving(CONTENT, *script) as server:
        publish(server.url)
        path = fetch("tiny", policy=HASTY)
        asked = [headers.get("Range") for headers in server.requests]
    assert path.read_bytes() == CONTENT
    assert asked[0] is None
    begun = [int(a.removeprefix("bytes=").removesuffix("-")) for a in asked[1:] if a is not None]
    assert len(begun) == 4
    assert begun[0] == begun[1] == 2 * CHUNK
    assert begun == sorted(begun)
    assert all(headers["If-Range"] for headers in server.requests[1:])


def test_another_call_goes_on_where_the_last_one_gave_up(folder: Path, publish: Publish) -> None:
    with http.serving(CONTENT, http.cut(2 * CHUNK), *[http.status(500)] * 3) as server:
        info = publish(server.url)
        with pytest.raises(ModelError, match="answered with error 500"):
            fetch("tiny", policy=HASTY)
        assert store.find("tiny") is None
        assert store.part_path(info).read_bytes() == CONTENT[: 2 * CHUNK]
        fetch("tiny", policy=HASTY)
        assert server.requests[-1]["Range"] == f"bytes={2 * CHUNK}-"
    assert visible(folder) == ["tiny.pth", "verified.json"]


def test_a_server_that_ignores_ranges(publish: Publish) -> None:
    with http.serving(CONTENT, http.cut(2 * CHUNK), http.whole) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert len(server.requests) == 2


def test_a_server_without_validators_is_asked_for_the_whole_file(publish: Publish) -> None:
    with http.serving(CONTENT, http.cut(2 * CHUNK, tag="")) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert "Range" not in server.requests[1]


def test_a_weak_tag_does_not_do(publish: Publish) -> None:
    with http.serving(CONTENT, http.cut(2 * CHUNK, tag='W/"1"')) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert "Range" not in server.requests[1]


def test_a_file_that_changed_in_between_is_downloaded_anew(publish: Publish) -> None:
    with http.serving(OTHER, http.cut(2 * CHUNK), http.of(CONTENT)) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert server.requests[1]["Range"] == f"bytes={2 * CHUNK}-"
        assert len(server.requests) == 2


def test_parts_that_do_not_belong_together_are_downloaded_anew(publish: Publish) -> None:
    same = '"always the same"'
    script = [http.cut(2 * CHUNK, tag=same), http.of(CONTENT, lambda handler: handler.send(tag=same))]
    with http.serving(OTHER, *script) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert len(server.requests) == 3
        assert "Range" not in server.requests[2]


def test_a_part_of_another_address_is_not_gone_on_with(publish: Publish) -> None:
    with http.serving(OTHER, http.cut(2 * CHUNK), *[http.status(500)] * 3) as server:
        publish(server.url)
        with pytest.raises(ModelError):
            fetch("tiny", policy=HASTY)
    with http.serving(CONTENT) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert "Range" not in server.requests[0]


def test_a_complete_part_is_checked_and_used(folder: Path, publish: Publish) -> None:
    with http.serving(CONTENT, http.cut(2 * CHUNK), *[http.status(500)] * 3) as server:
        info = publish(server.url)
        with pytest.raises(ModelError):
            fetch("tiny", policy=HASTY)
        store.part_path(info).write_bytes(CONTENT)
        asked = len(server.requests)
        assert fetch("tiny", policy=HASTY) == folder / "tiny.pth"
        assert len(server.requests) == asked


def test_range_not_satisfiable(publish: Publish) -> None:
    """Without a known size, only the server can say that the part is all there is, or too long."""
    for surplus, requests in ((b"", 1), (b"and more", 2)):
        with http.serving(CONTENT, http.cut(2 * CHUNK), *[http.status(500)] * 3) as server:
            info = publish(server.url, nbytes=None)
            with pytest.raises(ModelError):
                fetch("tiny", policy=HASTY)
            store.part_path(info).write_bytes(CONTENT + surplus)
            server.requests.clear()
            assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
            assert len(server.requests) == requests
        store.remove("tiny")


def test_another_part_than_was_asked_for(publish: Publish) -> None:
    def elsewhere(handler: http.Handler) -> None:
        handler.start(206, Content_Range=f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}", Content_Length=3)
        handler.wfile.write(b"abc")

    with http.serving(CONTENT, http.cut(2 * CHUNK), elsewhere) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert "Range" not in server.requests[2]


@pytest.mark.parametrize("answer", [http.compressed, http.moved, http.overstated])
def test_answers_that_are_odd_and_right(answer: http.Answer, publish: Publish) -> None:
    with http.serving(CONTENT, answer) as server:
        publish(server.url, nbytes=None)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT


def assert_one_sentence(error: pytest.ExceptionInfo[ModelError]) -> None:
    said = str(error.value)
    assert said.endswith(".")
    assert "\n" not in said
    assert "object at" not in said


@pytest.mark.parametrize(
    ("script", "message", "requests"),
    [
        ([http.status(404)], "error 404", 1),
        ([http.status(403)], "error 403", 1),
        ([http.status(500)] * 3, "answered with error 500; try again later", 3),
        ([http.status(429)] * 3, "answered with error 429", 3),
        ([http.cut(0)] * 3, "cut the connection", 3),
        ([http.cut(CHUNK), *[http.cut(CHUNK, ranges=False)] * 3], "cut the connection", 4),
        ([http.page], "26 bytes where the published file has 300000; check that no login page", 1),
        ([http.of(OTHER)], "checksum differs", 1),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    script: list[http.Answer], message: str, requests: int, folder: Path, publish: Publish
) -> None:
    with http.serving(CONTENT, *script) as server:
        publish(server.url)
        with pytest.raises(ModelError, match=message) as error:
            fetch("tiny", policy=HASTY)
        assert len(server.requests) == requests
    assert_one_sentence(error)
    assert store.find("tiny") is None
    assert "tiny.pth" not in visible(folder)


def test_a_server_that_sends_the_wrong_file_in_pieces_is_asked_twice(folder: Path, publish: Publish) -> None:
    """Of every answer half arrives; what is put together is always another file."""

    def half(handler: http.Handler) -> None:
        begun = (handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-")
        handler.send(stop_after=max(CHUNK, (len(OTHER) - int(begun)) // 2))

    with http.serving(OTHER, *[half] * 100) as server:
        publish(server.url)
        with pytest.raises(ModelError, match="is not what was published") as error:
            fetch("tiny", policy=HASTY)
        assert [headers.get("Range") for headers in server.requests].count(None) == 2
    assert_one_sentence(error)
    assert [name for name in visible(folder) if name.startswith("tiny")] == []


@pytest.mark.parametrize("answer", [http.unsized, http.bomb])
def test_no_more_is_taken_than_the_file_has(answer: http.Answer, folder: Path, publish: Publish) -> None:
    came = [0]
    with http.serving(CONTENT, answer) as server:
        publish(server.url)
        with pytest.raises(ModelError, match="sends more than the 300000 bytes of the published") as error:
            fetch("tiny", progress=lambda done, _: came.append(done), policy=HASTY)
        assert len(server.requests) == 1
    assert_one_sentence(error)
    assert max(came) <= len(CONTENT)
    assert [name for name in visible(folder) if name.startswith("tiny")] == []


def test_wrong_bytes_leave_nothing(folder: Path, publish: Publish) -> None:
    with http.serving(OTHER) as server:
        publish(server.url)
        with pytest.raises(ModelError, match="checksum differs"):
            fetch("tiny", policy=HASTY)
    assert [name for name in visible(folder) if name.startswith("tiny")] == []


def test_a_server_that_hangs(publish: Publish) -> None:
    impatient = Policy(timeout=0.2, attempts=2, pause=0.01)
    for after in (None, 1000):
        with http.serving(CONTENT, *[http.hang(after)] * 3) as server:
            publish(server.url)
            with pytest.raises(ModelError, match="did not answer in time") as error:
                fetch("tiny", policy=impatient)
        assert_one_sentence(error)


def test_nobody_answers(publish: Publish) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        publish(f"http://127.0.0.1:{bound.getsockname()[1]}/tiny.pth")
        with pytest.raises(ModelError, match=r"127\.0\.0\.1 cannot be reached") as error:
            fetch("tiny", policy=HASTY)
    assert_one_sentence(error)
    publish("nonsense://tiny.pth")
    with pytest.raises(ModelError, match="cannot be downloaded") as error:
        fetch("tiny", policy=HASTY)
    assert_one_sentence(error)


@pytest.mark.parametrize("after", [None, 2 * CHUNK])
def test_cancelling_does_not_wait_for_the_server(after: int | None, publish: Publish) -> None:
    cancelled = threading.Event()
    with http.serving(CONTENT, http.hang(after)) as server:
        info = publish(server.url)
        canceller = threading.Thread(target=lambda: server.hangs.wait() and cancelled.set())
        canceller.start()
        with pytest.raises(DownloadCancelled):
            fetch("tiny", cancelled=cancelled, policy=Policy(timeout=600))
        assert not server.released.is_set()  # the server still hangs
        canceller.join()
        downloads = [thread for thread in threading.enumerate() if thread.name == "download of tiny"]
    for thread in downloads:
        thread.join()
    assert store.find("tiny") is None
    with http.serving(CONTENT) as server:
        publish(server.url)
        assert fetch("tiny", policy=HASTY) == store.find(info.name)


def test_cancelling_in_the_progress_callback_keeps_the_part(publish: Publish) -> None:
    cancelled = threading.Event()

    def progress(done: int, _: int | None) -> None:
        if done:
            cancelled.set()

    with http.serving(CONTENT, http.hang(3 * CHUNK)) as server:
        info = publish(server.url)
        with pytest.raises(DownloadCancelled):
            fetch("tiny", progress=progress, cancelled=cancelled, policy=HASTY)
        assert not server.released.is_set()
        begun = store.part_path(info).read_bytes()
    assert len(begun) >= CHUNK
    assert CONTENT.startswith(begun)
    assert store.find("tiny") is None


def test_an_exception_in_the_progress_callback_ends_the_download(publish: Publish) -> None:
    class Closed(Exception):
        pass

    def progress(*_: object) -> None:
        raise Closed

    with http.serving(CONTENT, http.hang(1000)) as server:
        publish(server.url)
        with pytest.raises(Closed):
            fetch("tiny", progress=progress, policy=Policy(timeout=0.2, attempts=1))
        (thread,) = [t for t in threading.enumerate() if t.name == "download of tiny"]
        thread.join()
    assert store.find("tiny") is None


IN_ANOTHER_PROCESS = """
import sys
from napari_sam.models.download import fetch
from napari_sam.models.zoo import ZOO, ModelInfo
url, digest, nbytes = sys.argv[1:]
ZOO["tiny"] = ModelInfo("tiny", "sam", "vit_t", "", url, digest, int(nbytes), "CC0-1.0", "tests", "none")
print("ready", flush=True)
print(fetch("tiny"), flush=True)
"""


def start_process(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, url, SHA256, str(len(CONTENT))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_it_once(folder: Path, publish: Publish) -> None:
    def waiting(handler: http.Handler) -> None:
        handler.server.released.wait()
        http.well(handler)

    with http.serving(CONTENT, waiting) as server:
        with start_process(server.url) as first, start_process(server.url) as second:
            for process in (first, second):
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            server.released.set()
            said = [process.communicate()[0].strip() for process in (first, second)]
        assert said == [str(folder / "tiny.pth")] * 2
        assert len(server.requests) == 1


def test_a_killed_process_leaves_a_part_to_go_on_with(publish: Publish) -> None:
    with http.serving(CONTENT, http.hang(2 * CHUNK)) as server:
        info = publish(server.url)
        with start_process(server.url) as process:
            server.hangs.wait()
            while not store.part_path(info).exists() or store.part_path(info).stat().st_size == 0:
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert store.find("tiny") is None
        server.released.set()
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "file" / "models"))
    with http.serving(CONTENT) as server:
        publish(server.url)
        with pytest.raises(ModelError, match=r"choose another folder .* NAPARI_SAM_MODELS") as error:
            fetch("tiny", policy=HASTY)
        assert server.requests == []
    assert_one_sentence(error)


def test_a_file_that_will_not_fit_is_not_begun(publish: Publish) -> None:
    huge = 10**17

    def claim(handler: http.Handler) -> None:
        handler.start(200, Content_Length=huge)

    with http.serving(CONTENT, claim) as server:
        publish(server.url, nbytes=huge)
        with pytest.raises(ModelError, match=r"100000000\.0 GB are needed; make room") as error:
            fetch("tiny", policy=HASTY)
    assert_one_sentence(error)


def test_a_write_that_fails_keeps_what_was_written(publish: Publish) -> None:
    """The system refuses to let files grow further, as a quota does."""
    with http.serving(CONTENT) as server:
        info = publish(server.url)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
        try:
            with pytest.raises(ModelError, match="cannot be written") as error:
                fetch("tiny", policy=HASTY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert_one_sentence(error)
        begun = store.part_path(info).read_bytes()
        assert 0 < len(begun) <= 150_000
        assert CONTENT.startswith(begun)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert server.requests[1]["Range"] == f"bytes={len(begun)}-"


def test_a_full_disk(folder: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with http.serving(CONTENT) as server:
        publish(server.url)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(ModelError, match="is full; make room") as error:
                fetch("tiny", policy=HASTY)
        assert_one_sentence(error)
        assert store.find("tiny") is None
        assert fetch("tiny", policy=HASTY) == folder / "tiny.pth"
        assert len(server.requests) == 1


def test_a_checksum_is_computed_once(folder: Path, publish: Publish) -> None:
    with http.serving(CONTENT) as server:
        info = publish(server.url)
        path = fetch("tiny", policy=HASTY)
        stamp = path.stat().st_mtime_ns
        path.write_bytes(OTHER)
        os.utime(path, ns=(stamp, stamp))
        assert store.is_published(info, path)  # by size and time: the same
        os.utime(path, ns=(stamp + 10, stamp + 10))
        assert not store.is_published(info, path)
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT
        assert len(server.requests) == 2
        (folder / "verified.json").write_text("[not json")
        assert fetch("tiny", policy=HASTY) == path


def test_a_file_that_was_cut_short_is_downloaded_again(publish: Publish) -> None:
    with http.serving(CONTENT) as server:
        publish(server.url)
        path = fetch("tiny", policy=HASTY)
        path.write_bytes(CONTENT[:1000])
        assert store.find("tiny") is None
        assert fetch("tiny", policy=HASTY).read_bytes() == CONTENT


def test_checking_can_be_cancelled(folder: Path, publish: Publish) -> None:
    publish("http://127.0.0.1:9/tiny.pth")
    folder.mkdir()
    (folder / "tiny.pth").write_bytes(CONTENT)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(DownloadCancelled):
        fetch("tiny", cancelled=cancelled)
    assert fetch("tiny") == folder / "tiny.pth"


def test_the_bar_in_a_terminal(publish: Publish, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_progress("tiny"):
        pass
    assert capsys.readouterr().err == ""

    def waiting(handler: http.Handler) -> None:
        http.hang(150_000)(handler)
        handler.wfile.write(CONTENT[150_000:])

    with http.serving(CONTENT, waiting) as server:
        publish(server.url)
        with terminal_progress("tiny") as bar:

            def show(done: int, total: int | None) -> None:
                bar(done, total)
                if done:
                    server.released.set()

            fetch("tiny", progress=show, policy=HASTY)
    shown = capsys.readouterr().err
    assert "tiny: " in shown
    assert "100%" in shown
    assert "293k/293k" in shown
