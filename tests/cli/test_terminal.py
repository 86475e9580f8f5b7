"""What a terminal shows: bars with units, lines that stay, red errors, safe names."""

from __future__ import annotations

import io
import json
import os
import re

import pytest

from upscale.cli.app import run
from upscale.cli.progress_bars import download_progress
from upscale.cli.session import Session

EVIL = "evil\x1b[31m\nname"
SHOWN = r"evil\x1b[31m\nname"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="such names are impossible there")


def screen(text: str) -> list[str]:
    """Return the lines of a terminal after it has printed a text with Rich's control codes."""
    lines, row, column = [""], 0, 0
    for code, end, char in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", text, re.DOTALL):
        if char == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif char == "\r":
            column = 0
        elif char:
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
        elif end == "A":
            row = max(0, row - int(code or 1))
        elif end == "K":
            assert code == "2"
            lines[row] = ""
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def on_terminal(call, monkeypatch):
    """Run a command on a terminal of 80 columns and return all that is written to it."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def on_terminal(*arguments, **more):
        return call(*arguments, terminal=True, out_terminal=True, **more)

    return on_terminal


def test_bars_name_their_units_and_never_an_unknown_total(on_terminal, photo):
    for number in range(3):
        photo(f"in/{number}.png")
    written = on_terminal("in", "-o", "out/").err
    assert "0/3 images" in written and "4/4 tiles" in written
    assert "?" not in written.replace("\x1b[?25", "") and "-:--" not in written


class Together:
    """Streams of one terminal, in the order of writing."""

    def __init__(self):
        self.text = ""
        self.buffer = io.BytesIO()

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


def test_lines_that_were_printed_are_not_erased_by_the_bars(
    photo, tmp_path, upscalers, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    for number in range(4):
        photo(f"in/{number}.png")
    terminal = Together()
    code = run(
        ["in", "-o", "out/"],
        Session(io.BytesIO(), terminal, terminal, {"UPSCALE_CONFIG": ""}),  # pyright: ignore
    )
    assert code == 0
    lines = screen(terminal.text)
    assert lines[:4] == [f"out/{number}.png" for number in range(4)]
    assert len(lines) == 5 and lines[4].startswith("4 done in ")


def test_errors_are_red_on_a_terminal_only(on_terminal, call, monkeypatch):
    message = "gone.png: does not exist; check the name\n"
    assert on_terminal("gone.png").err == f"\x1b[31merror:\x1b[0m {message}"
    assert call("gone.png").err == f"error: {message}"
    ended = on_terminal("gone.png", env={"NO_COLOR": "1"})
    assert ended.err == f"error: {message}"


def test_a_long_error_is_not_cut(on_terminal):
    name = "x" * 200 + ".png"
    assert f"{name}: does not exist; check the name\n" in on_terminal(name).err


@pytest.mark.parametrize("flags", [(), ("--dry-run",), ("--skip-existing",), ("--verbose",)])
def test_names_with_control_characters_never_reach_the_terminal(
    flags, on_terminal, photo, tmp_path
):
    photo("a.png").rename(tmp_path / f"{EVIL}.png")
    (tmp_path / "bad\x1b[2J\n.png").write_bytes(b"no")
    ended = on_terminal(".", "-o", f"out{EVIL}/", *flags)
    written = ended.out + ended.err
    assert SHOWN in written
    assert r"bad\x1b[2J\n.png: is not an image" in written
    assert "\x1b[31m\n" not in written and "\x1b[2J" not in written
    again = on_terminal(".", "-o", f"out{EVIL}/", *flags)
    assert "\x1b[31m\n" not in again.out + again.err


@pytest.mark.parametrize(
    "arguments",
    [
        (f"{EVIL}.png",),
        ("a.png", "-o", f"{EVIL}.xyz"),
        ("a.png", f"--{EVIL}"),
        ("-n", EVIL, "a.png"),
        ("video", f"{EVIL}.mp4", "out.mp4"),
        ("eval", f"{EVIL}.png"),
        ("compare", f"{EVIL}.png", "a.png", "-o", "page.html"),
        ("a.png", "--name", EVIL + "{x}"),
        ("a.png", "-f", EVIL),
        (f"https://{EVIL}",),
        ("bench", EVIL),
    ],
)
def test_errors_are_one_line_without_control_characters(arguments, on_terminal, photo):
    photo("a.png")
    ended = on_terminal(*arguments)
    assert ended.code in (1, 2)
    lines = screen(ended.err)
    assert all(line.startswith(("error: ", "note: ")) for line in lines), lines
    assert "evil\x1b" not in ended.err and "name" in lines[-1]


def test_programs_get_names_as_they_are(call, photo, tmp_path):
    photo("a.png").rename(tmp_path / f"{EVIL}.png")
    assert call(f"{EVIL}.png").out == f"{EVIL}_x4.png\n"
    record = json.loads(call(f"{EVIL}.png", "--overwrite", "--json").out)
    assert (record["input"], record["output"]) == (f"{EVIL}.png", f"{EVIL}_x4.png")


def test_a_download_shows_no_unknown_total():
    terminal = Together()
    with download_progress(terminal, "net") as progress:  # pyright: ignore
        progress(0, None)
        progress(512, 1024)
    assert "0.5/1.0 KiB" in terminal.text
    assert "?" not in terminal.text.replace("\x1b[?25", "") and "-:--" not in terminal.text
