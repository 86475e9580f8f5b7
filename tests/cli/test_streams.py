"""Streams and folders that are closed, full, endless or gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Input, Stream
from upscale.cli import image_batch
from upscale.cli.app import run
from upscale.cli.session import Session

posix = pytest.mark.skipif(os.name == "nt", reason="streams are of another kind there")


@posix
@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("-o -", "-o -: standard output is closed; redirect it, or use -o FILE"),
        ("--json", "--json: standard output is closed; redirect it to a file"),
    ],
)
def test_results_for_a_closed_standard_output_are_an_error(
    arguments, advice, photo, tmp_path, program_environment
):
    photo("a.png")
    ended = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m upscale a.png {arguments} >&-'],
        cwd=tmp_path,
        env=program_environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, f"error: {advice}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class Full(Stream):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_results_that_cannot_be_printed_are_an_error_and_outputs_stay(photo, call, tmp_path):
    photo("a.png")
    stderr = Stream(False)
    session = Session(Input(b"", False), Full(False), stderr, {"UPSCALE_CONFIG": ""})
    assert run(["a.png", "--json"], session) == 1
    message = "error: standard output: cannot be written (No space left on device)\n"
    assert stderr.text().endswith(message)
    assert (tmp_path / "a_x4.png").exists()


def test_messages_that_cannot_be_printed_change_nothing(photo, call, tmp_path):
    photo("a.png")
    session = Session(Input(b"", False), Stream(False), Full(False), {"UPSCALE_CONFIG": ""})
    assert run(["a.png", "-v"], session) == 0
    assert (tmp_path / "a_x4.png").exists()


class Endless(Input):
    """An input without an end, which counts what is read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size > 0, "all of it is read"
        self.count += size
        return bytes(size)


@pytest.mark.parametrize("arguments", [("-", "-o", "b.png"), ("--files-from", "-")])
def test_an_endless_standard_input_is_refused(arguments, call):
    endless, stderr = Endless(b"", False), Stream(False)
    session = Session(endless, Stream(False), stderr, {"UPSCALE_CONFIG": ""})
    assert run([*arguments, "--max-input", "3M"], session) == 1
    assert stderr.text() == (
        "error: -: is larger than 3145728 bytes: pass a higher --max-input if that is what you "
        "want\n"
    )
    assert endless.count <= (3 << 20) + 1


def test_standard_input_up_to_the_limit_is_read(photo, call, tmp_path):
    content = photo("a.png").read_bytes()
    assert call("-", "-o", "b.png", "--max-input", len(content), stdin=content).code == 0
    assert call("-", "-o", "c.png", "--max-input", len(content) - 1, stdin=content).code == 1
    assert (tmp_path / "b.png").exists() and not (tmp_path / "c.png").exists()


@posix
def test_an_endless_pipe_is_refused(call, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")

    def feed() -> None:
        with (tmp_path / "pipe.png").open("wb") as pipe:
            try:
                while True:
                    pipe.write(bytes(1 << 16))
            except BrokenPipeError:
                return

    feeder = threading.Thread(target=feed)
    feeder.start()
    ended = call("pipe.png", "-o", "b.png", "--max-input", "1M")
    feeder.join()
    assert ended.code == 1 and "pipe.png: is larger than 1048576 bytes" in ended.err


@posix
@pytest.mark.parametrize("words", [("a.png",), ("video", "a.mp4", "b.mp4"), ("models",)])
def test_a_deleted_working_folder_is_one_line(words, call, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        ended = call(*words)
    finally:
        os.chdir(tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: the working folder was deleted; change to another one")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate"
                     " memory: you tried to allocate 9 bytes."),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=repr,
)  # fmt: skip
def test_memory_that_runs_out_anywhere_is_one_line_with_advice(error, call, photo, monkeypatch):
    photo("a.png")

    def fail(*_args: object, **_settings: object) -> None:
        raise error

    monkeypatch.setattr(image_batch, "run_batch", fail)
    ended = call("a.png")
    assert ended.code == 1
    advice = "not enough memory: close other programs, or use a smaller size or --tile"
    assert ended.err == f"error: {advice}\n"


def test_a_name_that_speaks_of_memory_is_no_memory_error(call, tmp_path):
    (tmp_path / "out of memory.png").write_bytes(b"no")
    assert "not an image" in call("out of memory.png").err
    assert Path("out of memory.png").exists()
