"""Download of one file over HTTP: resumed after interruptions, verified, and atomic.

Bytes are collected in `<target>.part`; `<target>.part.etag` contains the server's validator, so
that a later run resumes only if the server still offers the same file. Proxies and certificates are
taken from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE).
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
MAX_ATTEMPTS = 100
"""Limit for servers that interrupt the connection again and again."""
MAX_UNKNOWN_BYTES = 1 << 31
"""Largest download of a file whose size is unknown."""

_CHUNK = 1 << 14
"""Bytes; an interruption loses what has arrived of the current chunk."""
_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_BY_HAND = "download it in a browser, then run: upscale models import FILE"

ByteProgress = Callable[[int, int | None], None]
"""Called with (bytes done, total bytes); the total is None if the server does not send it."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: Address of the file.
        sha256: Checksum of the file.
        size: Length in bytes, None if unknown.
    """

    url: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays and timeouts of a download, in seconds.

    Attributes:
        delays: Delay before each retry; an attempt that received bytes resets the count.
        connect: Timeout of connecting.
        read: Time without data after which a connection counts as interrupted.
        sleep: Function that waits.
    """

    delays: tuple[float, ...] = (1.0, 2.0, 4.0)
    connect: float = 10.0
    read: float = 30.0
    sleep: Callable[[float], None] = time.sleep


class _RetryableError(Exception):
    """A failure that another attempt may overcome."""


def is_offline() -> bool:
    """Whether `UPSCALE_OFFLINE` forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no", "off")


def download(
    remote: RemoteFile,
    target: Path,
    *,
    progress: ByteProgress | None = None,
    policy: RetryPolicy | None = None,
) -> Path:
    """Download a file, or resume its download, and return `target`.

    Args:
        remote: File to download.
        target: File to write.
        progress: Function that is called after each chunk.
        policy: Delays and timeouts; None for the defaults.

    Raises:
        DownloadError: Downloads are forbidden, the network or the server fails, the checksum is
            wrong, or the target cannot be written. Partial downloads are kept for the next attempt
            unless they are wrong.
    """
    if is_offline():
        raise DownloadError(
            f"{remote.url}: {OFFLINE_VARIABLE} is set, so nothing is downloaded; {_BY_HAND}"
        )
    partial = _PartialDownload(target, remote)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(partial, progress or (lambda done, total: None), policy or RetryPolicy())
        partial.path.replace(target)
        partial.etag_path.unlink(missing_ok=True)
    except requests.RequestException as error:
        raise DownloadError(f"{remote.url}: {_reason(error)}; {_BY_HAND}") from error
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written ({one_line(error)})") from error
    return target


@dataclass(frozen=True, slots=True)
class _PartialDownload:
    """The received bytes, and the validator of the file that they belong to."""

    target: Path
    remote: RemoteFile

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

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.etag_path.unlink(missing_ok=True)

    def restart(self, response: requests.Response) -> None:
        """Discard earlier bytes and store the validator of the response, unless it is weak."""
        self.delete()
        etag = response.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            self.etag_path.write_text(etag, encoding="latin-1")
        self.path.touch()

    def is_correct(self) -> bool:
        if self.remote.size is not None and self.length != self.remote.size:
            return False
        return sha256_of(self.path) == self.remote.sha256


def _download(partial: _PartialDownload, progress: ByteProgress, policy: RetryPolicy) -> None:
    """Retry until the file is complete and correct, or the policy ends."""
    url = partial.remote.url
    delays = iter(policy.delays)
    is_resumed = partial.length > 0
    for _ in range(MAX_ATTEMPTS):
        before = partial.length
        try:
            _attempt(partial, progress, policy)
        except requests.exceptions.SSLError:
            raise  # waiting does not change a certificate
        except (_RetryableError, *_RETRIED_ERRORS) as error:
            if partial.length > before:
                delays = iter(policy.delays)
            delay = next(delays, None)
            if delay is None:
                raise DownloadError(f"{url}: {_reason(error)}; {_BY_HAND}") from error
            policy.sleep(delay)
            is_resumed = is_resumed or partial.length > 0
            continue
        if partial.is_correct():
            return
        partial.delete()
        if not is_resumed:
            raise DownloadError(
                f"{url}: the server's file is not the expected one (its sha256 is not "
                f"{partial.remote.sha256}) and was deleted; {_BY_HAND}"
            )
        is_resumed = False  # the parts may belong to two files: download once more from the start
    raise DownloadError(f"{url}: the connection was interrupted too often; {_BY_HAND}")


def _attempt(partial: _PartialDownload, progress: ByteProgress, policy: RetryPolicy) -> None:
    """Request the missing bytes and append them."""
    have, remote = partial.length, partial.remote
    if remote.size is not None and have >= remote.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if partial.etag:
            headers["If-Range"] = partial.etag
    timeout = (policy.connect, policy.read)
    with requests.get(remote.url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            if _total_of(response) == have:
                return  # nothing is missing
            partial.delete()
            raise _RetryableError("the server offers a different file than before")
        _check_status(response)
        if response.status_code != requests.codes.partial_content:
            partial.restart(response)
        elif _start_of(response) != have:
            partial.delete()
            raise _RetryableError("the server sends another part of the file than requested")
        _append(partial, response, progress)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in _RETRIED_STATUSES:
        raise _RetryableError(f"the server returns {status} {response.reason}")
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise requests.HTTPError(f"the server returns {status} {response.reason}")


def _append(partial: _PartialDownload, response: requests.Response, progress: ByteProgress) -> None:
    done = partial.length
    total = partial.remote.size or _announced_total(response, done)
    limit = partial.remote.size or MAX_UNKNOWN_BYTES
    with partial.path.open("ab") as stream:
        for chunk in response.iter_content(_CHUNK):
            # One byte beyond the limit is enough to detect a wrong file.
            done += stream.write(chunk[: limit + 1 - done])
            progress(min(done, limit), total)
            if done > limit:
                return
    if total is not None and done < total:
        raise _RetryableError("the connection was interrupted")


def _start_of(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total_of(response: requests.Response) -> int | None:
    match = re.fullmatch(r"bytes .*/(\d{1,18})", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _announced_total(response: requests.Response, done: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdigit() and len(length) < 19 else None


def _reason(error: BaseException) -> str:
    """Return a short message for errors whose own messages have many lines."""
    reasons = (
        (requests.exceptions.SSLError, "its certificate is not trusted"),
        (requests.exceptions.ProxyError, "the proxy refuses the connection or is unreachable"),
        (requests.exceptions.ConnectTimeout, "the server is unreachable (timeout)"),
        (requests.Timeout, "the server stopped responding"),
        (requests.exceptions.ChunkedEncodingError, "the connection was interrupted"),
        (requests.ConnectionError, "no connection, or it was interrupted"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    return one_line(error)
