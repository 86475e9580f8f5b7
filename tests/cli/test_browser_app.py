"""The command `upscale app`: who may reach the server, and how it starts and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "other machines could use the server: set UPSCALE_APP_TOKEN"),
        (["--host", "192.168.1.5"], "set UPSCALE_APP_TOKEN"),
        (["--token", "short"], "the token is too short"),
        (["--max-upload", "many"], "--max-upload: 'many' is not a size in bytes"),
        (["--port", "99999"], "Invalid value for '--port'"),
        (["-o", "taken.txt"], "-o taken.txt: is not a folder"),
    ],
)
def test_an_impossible_request_ends_in_one_line(call, tmp_path, arguments, message):
    (tmp_path / "taken.txt").write_bytes(b"")
    ended = call("app", "--no-browser", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_port_that_is_in_use_ends_in_one_line(call):
    from upscale.app.server import listen

    with listen("127.0.0.1", 0) as taken:
        ended = call("app", "--no-browser", "--port", taken.getsockname()[1])
    assert ended.code == 1
    assert "cannot listen there" in ended.err


def test_without_the_packages_it_names_the_extra(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ended = call("app")
    assert ended.code == 1
    assert "pip install 'upscale[app]'" in ended.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_it_serves_until_it_is_interrupted_and_leaves_nothing(program_environment, tmp_path):
    command = [sys.executable, "-m", "upscale", "app", "--no-browser"]
    environment = program_environment | {"TMPDIR": str(tmp_path), "UPSCALE_APP_TOKEN": "x" * 20}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith(f"/?token={'x' * 20}")
        with urllib.request.urlopen(url) as answer:
            assert b"<title>upscale</title>" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.partition("?")[0])
        request = urllib.request.Request(url.replace("/?", "/api/uploads?name=a.png&"), b"123")
        request.add_header("Authorization", f"Bearer {'x' * 20}")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 201
        assert list(tmp_path.rglob("a.png"))
    finally:
        server.send_signal(signal.SIGINT)
        out, errors = server.communicate(timeout=120)
    assert (server.returncode, out) == (0, "")
    assert errors.splitlines()[-1].startswith("stopping: ")
    left = [path for folder in Path(tmp_path).glob("upscale-app-*") for path in folder.iterdir()]
    assert left == []
