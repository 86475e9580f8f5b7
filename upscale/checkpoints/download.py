"""Download of one file over HTTP: resumed after interruptions, verified, and atomic.

Bytes are collected in `<target>.part`; `<target>.part.etag` contains the server's validator, so
that a later run resumes only if the server still offers the same file. Proxies and certificates are
taken from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE). Credentials are
not: no password from `.netrc` is sent to any server.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from upscale.errors import DownloadError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of

OFFLINE_VARIABLE = "UPSCALE_OFFLINE"
MAX_ATTEMPTS = 100
"""Limit for servers that interrupt the connection again and again."""
MAX_UNKNOWN_BYTES = 1 << 31
"""Largest download of a file whose size is unknown."""

_CHUNK = 1 << 14
"""Largest number of bytes that are read at once."""
_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
)
_FOREIGN_ERRORS = (OSError, ValueError, urllib3.exceptions.HTTPError, http.client.HTTPException)
"""Errors that requests passes on from other libraries, for example for malformed redirects."""

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
        answer: Time from a request to the start of the file.
        window: Time in which `least` bytes must arrive; slower servers fail.
        least: Number of bytes, 1 KiB per second by default.
        sleep: Function that waits.
    """

    delays: tuple[float, ...] = (1.0, 2.0, 4.0)
    connect: float = 10.0
    read: float = 30.0
    answer: float = 60.0
    window: float = 60.0
    least: int = 60 << 10
    sleep: Callable[[float], None] = time.sleep


class _RetryableError(Exception):
    """A failure that another attempt may overcome."""


class _SlowError(_RetryableError):
    """A server that sends so little that a download would take days."""


class _Session(requests.Session):
    """A session that sends no credentials, neither to a server nor to where it redirects to."""

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        request.auth = _no_credentials  # otherwise requests looks into .netrc
        return super().prepare_request(request)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        prepared_request.headers.pop("Authorization", None)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


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
        except (_RetryableError, *_RETRIED_ERRORS) as error:
            if _is_certificate_error(error):
                raise requests.RequestException(_reason(error)) from error
            if partial.length > before and not isinstance(error, _SlowError):
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
    with _request(remote.url, headers, policy) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            if _total_of(response) == have:
                return  # nothing is missing
            partial.delete()
            raise _RetryableError("the server offers a different file than before")
        _check_status(response)
        _check_type(response)
        if response.status_code != requests.codes.partial_content:
            partial.restart(response)
        elif _start_of(response) != have:
            partial.delete()
            raise _RetryableError("the server sends another part of the file than requested")
        _append(partial, response, progress, policy)


def _request(url: str, headers: dict[str, str], policy: RetryPolicy) -> requests.Response:
    """Send a request and wait for its answer, but not for longer than the policy says.

    This runs in a thread, because a server that sends headers byte by byte meets every timeout of
    the socket.
    """
    answers: list[requests.Response] = []
    errors: list[Exception] = []

    def send() -> None:
        timeout = (policy.connect, policy.read)
        try:
            with _Session() as session:
                answers.append(session.get(url, headers=headers, stream=True, timeout=timeout))
        except Exception as error:  # raised again in the other thread
            errors.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(policy.answer)
    if answers:
        return answers[0]
    if not errors:
        raise _SlowError("the server does not answer in time")
    (error,) = errors
    if isinstance(error, requests.RequestException) or not isinstance(error, _FOREIGN_ERRORS):
        raise error
    raise requests.RequestException(f"cannot be requested ({one_line(error)})") from error


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in _RETRIED_STATUSES:
        raise _RetryableError(f"the server returns {status} {response.reason}")
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise requests.HTTPError(f"the server returns {status} {response.reason}")


def _check_type(response: requests.Response) -> None:
    """Raise an error for a web page, before it replaces what earlier attempts have received."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise requests.RequestException(
            "the server sends a web page instead of the file; if this network has a login page, "
            "log in with a browser and try again"
        )


def _chunks(response: requests.Response, policy: RetryPolicy) -> Iterator[bytes]:
    """Yield the body as it arrives, unless it arrives too slowly."""
    start, count = time.monotonic(), 0
    while True:
        try:
            chunk = response.raw.read1(_CHUNK, decode_content=False)
        except _FOREIGN_ERRORS as error:
            raise _RetryableError(_reason(error)) from error
        if not chunk:
            return
        yield chunk
        count += len(chunk)
        if time.monotonic() - start > policy.window:
            if count < policy.least:
                raise _SlowError("the server sends too slowly")
            start, count = time.monotonic(), 0


def _append(
    partial: _PartialDownload,
    response: requests.Response,
    progress: ByteProgress,
    policy: RetryPolicy,
) -> None:
    done = partial.length
    total = partial.remote.size or _announced_total(response, done)
    limit = partial.remote.size or MAX_UNKNOWN_BYTES
    with partial.path.open("ab") as stream:
        for chunk in _chunks(response, policy):
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


def _is_certificate_error(error: BaseException | None) -> bool:
    """Return whether a certificate was rejected; other errors of TLS may not occur again."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        inner = getattr(error, "reason", None)
        inner = inner or next((each for each in error.args if isinstance(each, Exception)), None)
        error = inner if isinstance(inner, Exception) else error.__cause__
    return False


def _reason(error: BaseException) -> str:
    """Return a short message for errors whose own messages have many lines."""
    if _is_certificate_error(error):
        return "its certificate is not trusted"
    reasons = (
        (requests.exceptions.SSLError, "the encrypted connection failed"),
        (urllib3.exceptions.SSLError, "the encrypted connection failed"),
        (ssl.SSLError, "the encrypted connection failed"),
        (urllib3.exceptions.TimeoutError, "the server stopped responding"),
        (urllib3.exceptions.ProtocolError, "the connection was interrupted"),
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
