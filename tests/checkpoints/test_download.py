"""Downloads from a local server that interrupts, sends wrong data, or returns errors."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from upscale.checkpoints.download import RemoteFile, RetryPolicy, download
from upscale.errors import DownloadError

CHUNK = 1 << 14
DATA = random.Random(5).randbytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Handler that sends the next scripted answer to each request and repeats the last one."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        answers = self.server.answers
        self.close_connection = True
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def do_CONNECT(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        self.close_connection = True
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [ranged()]
        self.seen: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/net.pth"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.seen]


def ranged(data: bytes = DATA, *, etag: str = '"one"', stop: int | None = None) -> Answer:
    """Answer range requests correctly; with `stop`, close the connection after that many bytes."""

    def answer(handler: Handler) -> None:
        start, status, extra = 0, 200, {}
        requested = handler.headers.get("Range")
        if requested and handler.headers.get("If-Range") in (None, etag):
            start, status = int(requested.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(data):
                handler.reply(416, Content_Range=f"bytes */{len(data)}")
                return
            extra = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = data[start:]
        extra["Content_Length"] = str(len(body))
        handler.reply(status, body[:stop], ETag=etag, **extra)

    return answer


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.reply(code, b"no", **headers)


@dataclass
class Sleeps:
    """Retry policy that records its delays instead of waiting."""

    taken: list[float] = field(default_factory=list)

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(sleep=self.taken.append, connect=5, read=0.5)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "in" / "net.pth"


def assert_complete(target: Path) -> None:
    assert target.read_bytes() == DATA
    assert [item.name for item in target.parent.iterdir()] == ["net.pth"]


def failure(remote: RemoteFile, target: Path, sleeps: Sleeps) -> str:
    with pytest.raises(DownloadError) as raised:
        download(remote, target, policy=sleeps.policy)
    message = str(raised.value)
    assert "\n" not in message
    assert not target.exists()
    return message


@pytest.mark.parametrize("size", [len(DATA), None])
def test_file_is_downloaded(server: Server, target: Path, sleeps: Sleeps, size: int | None) -> None:
    steps: list[tuple[int, int | None]] = []
    result = download(
        RemoteFile(server.url, SHA, size),
        target,
        progress=lambda done, total: steps.append((done, total)),
        policy=sleeps.policy,
    )
    assert result == target
    assert_complete(target)
    assert steps[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert sleeps.taken == []


@pytest.mark.parametrize("size", [len(DATA), None])
def test_interrupted_connection_is_resumed(
    server: Server, target: Path, sleeps: Sleeps, size: int | None
) -> None:
    server.answers = [ranged(stop=20 * CHUNK), ranged(stop=5 * CHUNK), ranged()]
    download(RemoteFile(server.url, SHA, size), target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges == [None, f"bytes={20 * CHUNK}-", f"bytes={25 * CHUNK}-"]
    encodings = [headers["Accept-Encoding"] for _, headers in server.seen]
    assert encodings == ["identity"] * 3, "the bytes of a compressed file cannot be resumed"
    assert server.seen[1][1]["If-Range"] == '"one"'
    assert sleeps.taken == [1.0, 1.0], "an attempt that received bytes resets the delays"


def test_next_run_resumes(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [ranged(stop=20 * CHUNK), status(503)]
    remote = RemoteFile(server.url, SHA, len(DATA))
    assert "503" in failure(remote, target, sleeps)
    server.answers = [ranged()]
    download(remote, target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges[-1] == f"bytes={20 * CHUNK}-"


def test_changed_file_is_downloaded_from_the_start(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    server.answers = [ranged(b"x" * len(DATA), etag='"old"', stop=20 * CHUNK), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_parts_of_two_files_are_detected_without_etag(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    server.answers = [ranged(b"x" * len(DATA), etag="", stop=20 * CHUNK), ranged(etag="")]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges == [None, f"bytes={20 * CHUNK}-", None]


def test_weak_etag_is_not_used(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [ranged(etag='W/"one"', stop=20 * CHUNK), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert "If-Range" not in server.seen[1][1]


def test_server_that_ignores_range_restarts_the_download(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    server.answers = [ranged(stop=20 * CHUNK), lambda handler: handler.reply(200, DATA)]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_wrong_range_restarts_the_download(server: Server, target: Path, sleeps: Sleeps) -> None:
    def wrong(handler: Handler) -> None:
        handler.reply(206, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")

    server.answers = [ranged(stop=20 * CHUNK), wrong, ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_interruption_loses_at_most_the_current_chunk(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    server.answers = [ranged(stop=300_000), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    start = int(str(server.ranges[1]).strip("bytes=-"))
    assert 300_000 - CHUNK < start <= 300_000


def test_too_small_content_length_is_detected(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [lambda handler: handler.reply(200, DATA, Content_Length="1000"), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges == [None, "bytes=1000-"]


def test_too_large_content_length_is_detected(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [
        lambda handler: handler.reply(200, DATA, Content_Length="9000000"),
        ranged(),
    ]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_endless_response_is_cut_off(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [lambda handler: handler.reply(200, DATA * 20)]
    message = failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert "not the expected one" in message


@pytest.mark.parametrize("size", [len(DATA), None])
def test_wrong_file_is_rejected_and_deleted(
    server: Server, target: Path, sleeps: Sleeps, size: int | None
) -> None:
    server.answers = [ranged(DATA[:-1] + b"?")]
    message = failure(RemoteFile(server.url, SHA, size), target, sleeps)
    assert SHA in message
    assert message.count(server.url) == 1
    assert "download it in a browser, then run: upscale models import FILE" in message
    assert list(target.parent.iterdir()) == []


def test_wrong_partial_download_is_replaced(server: Server, target: Path, sleeps: Sleeps) -> None:
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(b"y" * len(DATA))
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


@pytest.mark.parametrize("size", [len(DATA), None])
def test_complete_partial_download_is_used(
    server: Server, target: Path, sleeps: Sleeps, size: int | None
) -> None:
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(DATA)
    download(RemoteFile(server.url, SHA, size), target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges == ([] if size else [f"bytes={len(DATA)}-"]), "the server answers 416"


@pytest.mark.parametrize("code", [206, 416])
def test_answer_to_a_range_without_content_range_restarts_the_download(
    server: Server, target: Path, sleeps: Sleeps, code: int
) -> None:
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(DATA[:CHUNK])
    server.answers = [status(code), ranged()]
    download(RemoteFile(server.url, SHA), target, policy=sleeps.policy)
    assert_complete(target)
    assert server.ranges == [f"bytes={CHUNK}-", None]
    assert sleeps.taken == [1.0]


def test_too_long_partial_download_is_replaced(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(DATA + b"more")
    download(RemoteFile(server.url, SHA), target, policy=sleeps.policy)
    assert_complete(target)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_client_errors_are_not_retried(
    server: Server, target: Path, sleeps: Sleeps, code: int
) -> None:
    server.answers = [status(code)]
    message = failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert str(code) in message
    assert "upscale models import" in message
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_server_errors_are_retried(server: Server, target: Path, sleeps: Sleeps, code: int) -> None:
    server.answers = [status(code), status(code), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert sleeps.taken == [1.0, 2.0]


def test_retries_are_limited(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [status(500)]
    assert "500" in failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert sleeps.taken == [1.0, 2.0, 4.0]


def test_redirect_is_followed(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [status(302, Location="/elsewhere"), ranged()]
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert [path for path, _ in server.seen] == ["/net.pth", "/elsewhere"]


def test_circular_redirects_fail(server: Server, target: Path, sleeps: Sleeps) -> None:
    server.answers = [status(302, Location="/net.pth")]
    assert "redirects" in failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)


def test_silent_server_fails(server: Server, target: Path, sleeps: Sleeps) -> None:
    release = threading.Event()
    server.answers = [lambda handler: release.wait(20) and None]
    try:
        assert "stopped responding" in failure(
            RemoteFile(server.url, SHA, len(DATA)), target, sleeps
        )
    finally:
        release.set()


def test_unreachable_server_fails(target: Path, sleeps: Sleeps) -> None:
    with Server() as gone:
        url = gone.url
    assert "no connection" in failure(RemoteFile(url, SHA, len(DATA)), target, sleeps)


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1/x"])
def test_invalid_url_fails(target: Path, sleeps: Sleeps, url: str) -> None:
    failure(RemoteFile(url, SHA), target, sleeps)


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_mode_sends_no_request(
    server: Server, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("UPSCALE_OFFLINE", value)
    message = failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert "UPSCALE_OFFLINE" in message
    assert server.url in message
    assert server.seen == []


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_offline_mode_can_be_disabled(
    server: Server, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("UPSCALE_OFFLINE", value)
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_http_proxy_is_used(
    server: Server, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    url = "http://models.invalid/net.pth"
    download(RemoteFile(url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert [path for path, _ in server.seen] == [url]


def test_https_proxy_is_used(
    server: Server, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    message = failure(RemoteFile("https://models.invalid/net.pth", SHA), target, sleeps)
    assert "proxy" in message
    assert server.seen[0][0] == "models.invalid:443"


def test_no_proxy_is_respected(
    server: Server, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)


def test_folder_that_cannot_be_created_fails(
    server: Server, tmp_path: Path, sleeps: Sleeps
) -> None:
    (tmp_path / "file").write_text("x")
    message = failure(RemoteFile(server.url, SHA), tmp_path / "file" / "net.pth", sleeps)
    assert "cannot be written" in message


@pytest.mark.skipif(os.name == "nt", reason="needs /dev/full")
def test_full_disk_fails(server: Server, target: Path, sleeps: Sleeps) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    target.parent.mkdir()
    real_open = Path.open

    def full(path: Path, *args: object, **kwargs: object):
        if path.name.endswith(".part"):
            return real_open(Path("/dev/full"), "wb", buffering=0)
        return real_open(path, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert "No space left" in failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)


# --- hostile and broken servers --------------------------------------------------------------


@pytest.fixture
def trusted(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificate of the local server, which is trusted in this test."""
    certificate = data / "tls" / "localhost.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    return certificate


class TLSServer(Server):
    """A server with TLS that closes its first connections during the handshake."""

    def __init__(self, certificate: Path, closed: int = 0) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._closed = closed

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        connection, address = super().get_request()
        if self._closed:
            self._closed -= 1
            connection.close()
            raise OSError("closed during the handshake")
        return self._context.wrap_socket(connection, server_side=True), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_untrusted_certificate_is_not_retried(data: Path, target: Path, sleeps: Sleeps) -> None:
    with running(TLSServer(data / "tls" / "localhost.pem")) as server:
        message = failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert "its certificate is not trusted" in message
    assert sleeps.taken == []


@pytest.mark.parametrize("closed", [0, 1, 3])
def test_closed_handshakes_are_retried(
    closed: int, trusted: Path, target: Path, sleeps: Sleeps
) -> None:
    with running(TLSServer(trusted, closed)) as server:
        download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert_complete(target)
    assert sleeps.taken == [1.0, 2.0, 4.0][:closed]


def test_server_without_tls_fails_after_retries(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    url = server.url.replace("http:", "https:")
    message = failure(RemoteFile(url, SHA, len(DATA)), target, sleeps)
    assert "the encrypted connection failed" in message
    assert len(sleeps.taken) == 3


@pytest.mark.parametrize("bundle", ["missing.pem", "garbage.pem", "folder"])
def test_bad_ca_bundle_fails(
    bundle: str, tmp_path: Path, target: Path, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / bundle))
    message = failure(RemoteFile("https://127.0.0.1:1/x", SHA, 5), target, sleeps)
    assert "cannot be written" not in message


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://a..b/",
        "http://" + "a" * 300 + "/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:abc/",
        "http://\xff\xfe/",
        "//",
        "file:///etc/passwd",
        "data:,hello",
        "gopher://127.0.0.1:1/_x",
    ],
)
def test_malformed_redirects_fail(
    location: str, server: Server, target: Path, sleeps: Sleeps
) -> None:
    server.answers = [status(302, Location=location)]
    failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert not target.exists()


def raw(answer: bytes) -> Answer:
    return lambda handler: handler.wfile.write(answer) and None


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n" + DATA[:100],
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + DATA[:100],
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ],
)
def test_malformed_answers_fail(answer: bytes, server: Server, target: Path, sleeps: Sleeps):
    server.answers = [raw(answer)]
    failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    assert not target.exists()


@pytest.mark.parametrize("size", [len(DATA), None])
def test_chunked_answers_are_read(
    size: int | None, server: Server, target: Path, sleeps: Sleeps
) -> None:
    body = b"%x\r\n" % len(DATA) + DATA + b"\r\n0\r\n\r\n"
    server.answers = [raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)]
    download(RemoteFile(server.url, SHA, size), target, policy=sleeps.policy)
    assert_complete(target)


def test_compressed_answer_is_not_expanded(server: Server, target: Path, sleeps: Sleeps) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server.answers = [lambda handler: handler.reply(200, bomb, Content_Encoding="gzip")]
    failure(RemoteFile(server.url, SHA), target, sleeps)
    assert not target.with_name(target.name + ".part").exists()


def test_login_page_does_not_replace_what_was_received(
    server: Server, target: Path, sleeps: Sleeps
) -> None:
    page = b"<html>please log in</html>"
    server.answers = [
        ranged(stop=300_000),
        lambda handler: handler.reply(200, page, Content_Type="text/html; charset=utf-8"),
    ]
    assert "login page" in failure(RemoteFile(server.url, SHA, len(DATA)), target, sleeps)
    server.answers = [ranged()]
    server.seen.clear()
    download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
    assert server.ranges == ["bytes=300000-"]
    assert_complete(target)


def drip(head: bytes, part: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        with suppress(OSError):
            for _ in range(600):
                handler.wfile.write(part)
                time.sleep(0.02)

    return answer


@pytest.mark.parametrize("where", ["headers", "body", "chunks"])
def test_server_that_sends_byte_by_byte_fails(where: str, server: Server, target: Path) -> None:
    start = b"HTTP/1.1 200 OK\r\n"
    server.answers = [
        {
            "headers": drip(start, b"X"),
            "body": drip(start + b"Content-Length: 700000\r\n\r\n", b"x"),
            "chunks": drip(start + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        }[where]
    ]
    taken: list[float] = []
    policy = RetryPolicy(sleep=taken.append, read=5, answer=0.3, window=0.3, least=1000)
    with pytest.raises(DownloadError, match=r"slowly|in time") as raised:
        download(RemoteFile(server.url, SHA, len(DATA)), target, policy=policy)
    assert "\n" not in str(raised.value)
    assert taken == [1.0, 2.0, 4.0], "slow attempts do not count as progress"


@pytest.mark.parametrize("content", ["default login alice password s3cret\n", "garbage { \0", None])
def test_passwords_in_netrc_are_never_sent(
    content: str | None,
    server: Server,
    target: Path,
    sleeps: Sleeps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.mkdir() if content is None else netrc.write_text(content)
    monkeypatch.setenv("NETRC", str(netrc))
    with running(Server()) as other:
        server.answers = [status(302, Location=other.url)]
        download(RemoteFile(server.url, SHA, len(DATA)), target, policy=sleeps.policy)
        requests = [*server.seen, *other.seen]
    assert len(requests) == 2
    assert not any("Authorization" in headers for _, headers in requests)
