"""Fetching one file over HTTP: resumed after a break, verified, whole or not there.

Bytes gather in `<target>.part`; `<target>.part.etag` keeps the server's validator, so that a later
run goes on only when the server still offers the same file. Proxies and certificates are those of
the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from upscale.errors import DownloadError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of

OFFLINE_VARIABLE = "UPSCALE_OFFLINE"
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Silence after which a connection counts as broken."""
DELAYS = (1.0, 2.0, 4.0)
"""Seconds before each new attempt; an attempt that brought bytes starts the count again."""
MOST_ATTEMPTS = 100
"""In all, for a server that breaks off again and again."""
LARGEST = 1 << 31
"""Bytes that are taken when the size is not known."""

_CHUNK = 1 << 14
"""Bytes; a connection that breaks off loses what has arrived of the current chunk."""
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})

ByteProgress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all (None where the server does not say)."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file to fetch: its address and how the right one is recognised."""

    url: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How breaks are waited out; tests give a `sleep` that does not."""

    delays: tuple[float, ...] = DELAYS
    connect: float = CONNECT_SECONDS
    read: float = READ_SECONDS
    sleep: Callable[[float], None] = time.sleep


_BY_HAND = "fetch it in a browser, then run: upscale models import FILE"


class _BrokenOffError(Exception):
    """A failure that a new attempt may get past."""


def is_offline() -> bool:
    """Whether `UPSCALE_OFFLINE` forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no", "off")


def download(
    remote: Remote,
    target: Path,
    *,
    progress: ByteProgress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetch a file, or finish fetching it, and return `target`.

    Raises:
        DownloadError: the network is forbidden or fails, the server refuses, the file is not the
            expected one, or it cannot be written. What arrived stays for the next attempt, except
            when it is wrong.
    """
    if is_offline():
        raise DownloadError(
            f"{remote.url}: {OFFLINE_VARIABLE} is set, so nothing is fetched; {_BY_HAND}"
        )
    part = _Part(target, remote)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(part, progress or _silent, patience or Patience())
        part.path.replace(target)
        part.etag_path.unlink(missing_ok=True)
    except requests.RequestException as error:
        raise DownloadError(f"{remote.url}: {_reason(error)}; {_BY_HAND}") from error
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written ({one_line(error)})") from error
    return target


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes that have arrived, and the validator of the file that they are from."""

    target: Path
    remote: Remote

    @property
    def path(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def etag_path(self) -> Path:
        return self.target.with_name(self.target.name + ".part.etag")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def etag(self) -> str | None:
        try:
            return self.etag_path.read_text(encoding="latin-1") or None
        except OSError:
            return None

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.etag_path.unlink(missing_ok=True)

    def begin(self, response: requests.Response) -> None:
        """Forget earlier bytes and keep the new answer's validator; a weak one is no use here."""
        self.drop()
        etag = response.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            self.etag_path.write_text(etag, encoding="latin-1")
        self.path.touch()


def _fetch(part: _Part, progress: ByteProgress, patience: Patience) -> None:
    """Attempt until the file is complete and right, or patience ends."""
    delays = iter(patience.delays)
    resumed = part.length > 0
    for _ in range(MOST_ATTEMPTS):
        before = part.length
        try:
            _attempt(part, progress, patience)
        except requests.exceptions.SSLError:
            raise  # waiting changes no certificate
        except (_BrokenOffError, *_BREAKS) as error:
            if part.length > before:
                delays = iter(patience.delays)
            delay = next(delays, None)
            if delay is None:
                raise DownloadError(f"{part.remote.url}: {_reason(error)}; {_BY_HAND}") from error
            patience.sleep(delay)
            resumed = resumed or part.length > 0
            continue
        if _is_right(part):
            return
        part.drop()
        if not resumed:
            raise DownloadError(
                f"{part.remote.url}: the server's file is not the expected one (its sha256 is not "
                f"{part.remote.sha256}); nothing is kept; {_BY_HAND}"
            )
        resumed = False  # the pieces may have been of two files: once more from the start
    raise DownloadError(f"{part.remote.url}: broke off too often; {_BY_HAND}")


def _attempt(part: _Part, progress: ByteProgress, patience: Patience) -> None:
    """Ask for what is missing and append it."""
    have = part.length
    if part.remote.size is not None and have >= part.remote.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if part.etag:
            headers["If-Range"] = part.etag
    timeout = (patience.connect, patience.read)
    with requests.get(part.remote.url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            if _total_of(response) == have:
                return  # nothing is missing
            part.drop()
            raise _BrokenOffError("the server offers another file than before")
        _check_status(response)
        if response.status_code != requests.codes.partial_content:
            part.begin(response)
        elif _start_of(response) != have:
            part.drop()
            raise _BrokenOffError("the server answers with another part of the file than asked for")
        _append(part, response, progress)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in _RETRIED:
        raise _BrokenOffError(f"the server answers {status} {response.reason}")
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise requests.HTTPError(f"the server answers {status} {response.reason}")


def _append(part: _Part, response: requests.Response, progress: ByteProgress) -> None:
    done = part.length
    total = part.remote.size or _announced(response, done)
    limit = part.remote.size or LARGEST
    with part.path.open("ab") as stream:
        for chunk in response.iter_content(_CHUNK):
            # One byte too many is enough to know that the file is wrong.
            done += stream.write(chunk[: limit + 1 - done])
            progress(min(done, limit), total)
            if done > limit:
                return
    if total is not None and done < total:
        raise _BrokenOffError("the connection broke off")


def _is_right(part: _Part) -> bool:
    size = part.remote.size
    if size is not None and part.length != size:
        return False
    return sha256_of(part.path) == part.remote.sha256


def _start_of(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total_of(response: requests.Response) -> int | None:
    match = re.fullmatch(r"bytes .*/(\d{1,18})", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _announced(response: requests.Response, done: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdigit() and len(length) < 19 else None


_BREAKS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def _reason(error: BaseException) -> str:
    """Say in few words what requests says in many lines."""
    known = (
        (requests.exceptions.SSLError, "its certificate is not trusted"),
        (requests.exceptions.ProxyError, "the proxy refuses or cannot be reached"),
        (requests.exceptions.ConnectTimeout, "cannot be reached (no answer)"),
        (requests.Timeout, "the server fell silent"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
        (requests.ConnectionError, "no connection, or it broke off"),
    )
    for kind, words in known:
        if isinstance(error, kind):
            return words
    return one_line(error)


def _silent(done: int, total: int | None) -> None:
    """Report to nobody."""
