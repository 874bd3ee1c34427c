"""One file over HTTP, in as many attempts as it takes, going on where the last one stopped.

What has arrived is kept in a ``.part`` file, and beside it, in ``.part.json``, what the server said about the
file: its entity tag or date. The next attempt asks for the rest with ``Range`` and, through ``If-Range``,
only if the file is still the same; else the server sends it from the start (RFC 9110, sections 13 and 14).
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from napari_sam import __version__
from napari_sam.errors import DownloadCancelled, ModelError

__all__ = ["PATIENT", "Policy", "Report", "forget", "transfer"]

Report = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes there will be, None if the server does not say."""

_CHUNK = 64 * 2**10
_MAX_PAUSE = 30.0
_BY_HAND = "or copy the file by hand, as the how-to about models says"


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient to be.

    Attributes
    ----------
    timeout : float
        Seconds without a byte after which an attempt has failed.
    attempts : int
        How many attempts in a row may bring nothing before the transfer is given up.
    pause : float
        Seconds before the second attempt; twice as many before each further one.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0


PATIENT = Policy()


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a ``.part`` file is the beginning of."""

    url: str
    validator: str


class _Interrupted(Exception):
    """An attempt failed in a way that another one may not."""


def forget(part: Path) -> None:
    """Delete what has arrived, and what was noted about it."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def transfer(
    url: str,
    part: Path,
    *,
    expected: int | None,
    stop: threading.Event,
    report: Report,
    policy: Policy = PATIENT,
) -> bool:
    """Download into ``part`` until the file is complete.

    Parameters
    ----------
    url : str
    part : Path
        Where it goes; what an earlier transfer left there is gone on with.
    expected : int or None
        Size of the file in bytes, if it is known: a server that offers another size is not listened to.
    stop : threading.Event
        Set it to cancel: no further byte is waited for than the one being waited for.
    report : callable
        Gets the bytes that have arrived, and their final number or None.
    policy : Policy

    Returns
    -------
    bool
        Whether the file was put together from what several answers brought.

    Raises
    ------
    ModelError
        If the server has no such file, or cannot be reached, or keeps failing.
    DownloadCancelled
        If ``stop`` was set.
    OSError
        If the disk is full or cannot be written.
    """
    failures = 0
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                return _attempt(session, url, part, expected, stop, report, policy.timeout)
            except _Interrupted as reason:
                failures = 0 if _size(part) > before else failures + 1
                if failures >= policy.attempts:
                    raise ModelError(f"{_host(url)} {reason}; try again later, {_BY_HAND}.") from reason
            if stop.wait(min(policy.pause * 2**failures / 2, _MAX_PAUSE)):
                raise DownloadCancelled(f"The download of {part.stem} was cancelled.")


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    expected: int | None,
    stop: threading.Event,
    report: Report,
    timeout: float,
) -> bool:
    headers = {"Accept-Encoding": "identity", "User-Agent": f"napari-sam/{__version__}"}
    have, origin = _size(part), _read_origin(part)
    if origin is None or origin.url != url:
        have = 0
    elif have == expected:
        return True
    elif have:
        headers |= {"Range": f"bytes={have}-", "If-Range": origin.validator}
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                if _content_range(response)[1] == have:
                    return True
                forget(part)
                raise _Interrupted("does not send the rest of the file")
            start, total = _what_is_sent(response)
            if start not in (0, have):
                forget(part)
                raise _Interrupted("sent another part of the file than was asked for")
            if expected is not None and total is not None and total != expected:
                raise ModelError(
                    f"{_host(url)} offers {total} bytes where the published file has {expected}; "
                    f"check that no login page of the network is in between, {_BY_HAND}."
                )
            _check_room(part, None if total is None else total - start)
            if start == 0:
                forget(part)
                _write_origin(part, _Origin(url, _validator(response)))
            if not _write(response, part, start, total, expected, stop, report):
                forget(part)
                raise ModelError(
                    f"{_host(url)} sends more than the {expected} bytes of the published file; "
                    f"check that no login page of the network is in between, {_BY_HAND}."
                )
            return start > 0
    except requests.Timeout as error:
        raise _Interrupted("did not answer in time") from error
    except requests.exceptions.SSLError as error:
        raise _Interrupted("has a certificate that this computer does not accept") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Interrupted("cut the connection") from error
    except requests.ConnectionError as error:
        # A server that stops sending in the middle of the file is a connection error to requests, too.
        timed_out = "timed out" in str(error)
        raise _Interrupted("did not answer in time" if timed_out else "cannot be reached") from error
    except requests.RequestException as error:
        raise ModelError(f"{url} cannot be downloaded ({error}); try again later, {_BY_HAND}.") from error


def _what_is_sent(response: requests.Response) -> tuple[int | None, int | None]:
    """The first byte that the body has, and the size of the whole file if the server says."""
    status, host = response.status_code, _host(response.url)
    if status in (requests.codes.request_timeout, requests.codes.too_many_requests) or status >= 500:
        raise _Interrupted(f"answered with error {status}")
    if status == requests.codes.partial_content:
        return _content_range(response)
    if status != requests.codes.ok:
        raise ModelError(
            f"{host} does not give out {response.url} (error {status}); "
            f"look for a newer version of napari-sam, {_BY_HAND}."
        )
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if length.isdecimal() and not encoded else None


def _write(
    response: requests.Response,
    part: Path,
    start: int,
    total: int | None,
    most: int | None,
    stop: threading.Event,
    report: Report,
) -> bool:
    """Write what comes; whether that was not more than `most` bytes."""
    done = start
    with part.open("ab" if start else "wb") as file:
        report(done, total)
        for chunk in response.iter_content(_CHUNK):
            if stop.is_set():
                raise DownloadCancelled(f"The download of {part.stem} was cancelled.")
            # A server that does not say how much it sends might never end.
            if most is not None and done + len(chunk) > most:
                return False
            file.write(chunk)
            done += len(chunk)
            report(done, total)
    if total is not None and done < total:
        raise _Interrupted("cut the connection")
    return True


def _check_room(part: Path, needed: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed is not None and needed > free:
        raise ModelError(
            f"{part.parent} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; "
            "make room, or choose another folder with the environment variable NAPARI_SAM_MODELS."
        )


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and size of the whole file from ``bytes 5-9/10`` or ``bytes */10``."""
    found = re.fullmatch(
        r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", "").strip()
    )
    if found is None:
        return None, None
    start, total = (None if group is None else int(group) for group in found.groups())
    return start, total


def _validator(response: requests.Response) -> str:
    """What ``If-Range`` takes: a strong entity tag, else the date; empty if there is neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_origin(part: Path, origin: _Origin) -> None:
    # Without a validator, nothing would tell a changed file from the one that was begun: it starts over.
    if origin.validator:
        _origin_path(part).write_text(json.dumps({"url": origin.url, "validator": origin.validator}))


def _read_origin(part: Path) -> _Origin | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        said = json.loads(_origin_path(part).read_text())
        return _Origin(str(said["url"]), str(said["validator"]))
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
