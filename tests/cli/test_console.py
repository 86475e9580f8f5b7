"""Texts from files on a terminal: no control characters, no markup, no forged lines."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import pytest
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import upscale.cli
from upscale.checkpoints import write_safetensors
from upscale.cli.console import EscapingConsole, LabelColumn
from upscale.cli.session import Session

ESCAPE = "\x1b]0;title\x07"
BIDI = "\u202egnp.exe"
FORGED = "tag\nerror: forged"
HOSTILE = [ESCAPE, BIDI, FORGED, "\x9b31m", "\r\x08", "[bold]x[/bold]"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def assert_harmless(text: str) -> None:
    assert not set("\x07\x08\x1b\x9b\u202e") & set(text)
    assert not any(line.lstrip().startswith("error: forged") for line in text.splitlines())


def session() -> tuple[Session, Terminal, Terminal]:
    out, err = Terminal(), Terminal()
    return Session(io.BytesIO(), out, err, {"NO_COLOR": "1"}, verbose=True), out, err


@pytest.mark.parametrize("text", HOSTILE)
def test_messages_results_and_errors_are_one_harmless_line(text, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    one, out, err = session()
    one.say(f"note: {text}")
    one.error(f"bad {text}", f"Traceback\n  {text}")
    one.out(text)
    assert_harmless(out.getvalue())
    assert_harmless(err.getvalue().replace("\n  tag\nerror: forged", ""))
    assert err.getvalue().startswith("note: ")
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_bars_and_texts_are_harmless(text, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    console = EscapingConsole(file, width=200)
    table = Table("name", "other")
    table.add_row(text, Text(text.replace("\n", "")))
    console.print(table)
    console.print(text)
    with Progress(LabelColumn(), console=console) as bars:
        bars.add_task(text)
    with Live(text, console=console):
        pass
    written = file.getvalue()
    assert_harmless(written)
    assert text in written if text.startswith("[bold]") else text not in written


def test_own_colours_still_reach_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    EscapingConsole(file, width=80).print(Text("red", style="red"))
    assert file.getvalue() == "\x1b[31mred\x1b[0m\n"


def test_metadata_of_a_checkpoint_is_harmless_in_the_list(call, tmp_path, monkeypatch):
    import torch

    from upscale.models import SRVGGSpec, build

    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    state = build(SRVGGSpec(2, features=4, convolutions=1)).state_dict()
    write_safetensors(state, tmp_path / "net.safetensors", {ESCAPE: FORGED, "author": ESCAPE})
    assert call("models", "import", "net.safetensors").code == 0
    imported = tmp_path / "cache" / "imported" / "net.safetensors"
    write_safetensors({"a": torch.zeros(1)}, imported, {"architecture": ESCAPE + BIDI})
    for command in (["models", "info", "net.safetensors"], ["models"]):
        ended = call(*command, terminal=True, out_terminal=True)
        assert ended.code == 0
        assert_harmless(re.sub(r"\x1b\[[0-9;]*m", "", ended.out))  # bold headings
    assert "title" in ended.out


def test_no_module_of_the_program_prints_around_the_escaping_console():
    for path in Path(upscale.cli.__file__).parent.glob("*.py"):
        if path.name in ("console.py", "doctor_packages.py", "help_layout.py"):
            continue  # the last two print texts of their own only
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                assert "Console" not in [name.name for name in node.names], path.name
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path.name
