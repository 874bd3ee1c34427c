"""A real HTTP server on this computer that serves one file, well or badly."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


class FileServer(ThreadingHTTPServer):
    """Answers one request after the other as `script` says, and further ones well.

    Attributes
    ----------
    content : bytes
        The file.
    requests : list of dict
        The headers of each request.
    released : Event
        Answers that hang wait for it.
    """

    daemon_threads = True

    def __init__(self, content: bytes, script: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.script = script
        self.requests: list[dict[str, str]] = []
        self.hangs = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights/tiny_01.pth"

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        answer = self.server.script.pop(0) if self.server.script else well
        answer(self)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, *, ranges: bool = True, tag: str | None = None, stop_after: int | None = None) -> None:
        """Send the file, or what is left of it, or the beginning of that."""
        content = self.server.content
        tag = '"' + hashlib.md5(content).hexdigest() + '"' if tag is None else tag
        asked = self.headers.get("Range")
        begin = 0
        if ranges and asked and self.headers.get("If-Range") in (None, tag):
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.start(416, Content_Range=f"bytes */{len(content)}")
                return
        body = content[begin:]
        about = {"Content_Length": len(body)} | ({"ETag": tag} if tag else {})
        if begin:
            self.start(206, Content_Range=f"bytes {begin}-{len(content) - 1}/{len(content)}", **about)
        else:
            self.start(200, **about)
        self.wfile.write(body[:stop_after])
        self.wfile.flush()


def well(handler: Handler) -> None:
    handler.send()


def cut(after: int, **how: object) -> Answer:
    """Close the connection after so many bytes."""
    return lambda handler: handler.send(stop_after=after, **how)  # type: ignore[arg-type]


def whole(handler: Handler) -> None:
    """Ignore `Range`."""
    handler.send(ranges=False)


def status(code: int) -> Answer:
    return lambda handler: handler.start(code, Content_Length=0)


def hang(after: int | None) -> Answer:
    """Say no more after so many bytes; not even headers if None."""

    def answer(handler: Handler) -> None:
        if after is not None:
            handler.send(stop_after=after)
        handler.server.hangs.set()
        handler.server.released.wait()

    return answer


def of(content: bytes, answer: Answer = well) -> Answer:
    """Another file, from this request on."""

    def changed(handler: Handler) -> None:
        handler.server.content = content
        answer(handler)

    return changed


def page(handler: Handler) -> None:
    """What the login page of a network says to everything."""
    body = b"<html>Please log in</html>"
    handler.start(200, Content_Length=len(body))
    handler.wfile.write(body)


def compressed(handler: Handler) -> None:
    body = gzip.compress(handler.server.content)
    handler.start(200, Content_Length=len(body), Content_Encoding="gzip")
    handler.wfile.write(body)


def bomb(handler: Handler) -> None:
    """Little that becomes much when it is unpacked."""
    body = gzip.compress(bytes(2**26))
    handler.start(200, Content_Length=len(body), Content_Encoding="gzip")
    handler.wfile.write(body)


def overstated(handler: Handler) -> None:
    """Claim more bytes than there are."""
    handler.start(200, Content_Length=len(handler.server.content) + 7)
    handler.wfile.write(handler.server.content)


def unsized(handler: Handler) -> None:
    """Send much more than the file, without saying how much."""
    handler.start(200)
    for _ in range(20):
        handler.wfile.write(handler.server.content)


def moved(handler: Handler) -> None:
    handler.start(302, Location=handler.server.url, Content_Length=0)


@contextmanager
def serving(content: bytes, *script: Answer) -> Iterator[FileServer]:
    server = FileServer(content, list(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
