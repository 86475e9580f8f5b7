"""Words that must not appear in help pages, messages, documentation and public docstrings.

They are replaced by the terms of Real-ESRGAN, PyTorch, FFmpeg and OpenCV, which readers know and
can search for.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer

from upscale.cli.app import run
from upscale.cli.commands import COMMANDS
from upscale.cli.session import Session

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("upscale/**/*.py"), *ROOT.glob("training/upscale_training/**/*.py")])
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("weights/**/*.md"),
        *ROOT.glob("benchmarks/**/*.md"),
        *ROOT.glob("tests/data/**/*.md"),
    ]
)
REPLACEMENTS = {
    r"films?": "video",
    r"enlarg(?:e[ds]?|ing|ements?)": "upscale, upscaled, upscaling",
    r"(?:good|bad) (?:pictures?|images?|photographs?)": "HR and LR, or GT and LQ images",
    r"passed over": "ignored or skipped",
    r"go(?:es)? on": "resumes or continues",
    r"in whatever way": "(leave it out)",
    r"strays?": "outlier packets",
    r"flaws": "corrupt frames",
    r"doubts": "warnings",
    r"leftovers?": "stale temporary file",
    r"tally|tallies": "stats or progress",
    r"retreats?|retreated": "offload or placement",
    r"rescue[ds]?": "fp32 fallback",
    r"trunks?": "backbone",
    r"fleeting": "reusable buffer",
    r"settle[ds]?": "pin, resolve or determine",
    r"conductors?": "autotuner",
    r"judge[ds]?": "discriminator, validation or measure",
    r"(?:is|are|was|were|be) (?:told|said)": "is reported",
    r"nobody can tell": "is identical to",
    r"paces?": "throughput or speed",
    r"ceilings?": "peak FLOP/s",
    r"treatments": "degraded samples",
    r"there already": "already exist",
}
"""Forbidden words, as regular expressions, with the word to use instead."""

FORBIDDEN = re.compile(rf"\b(?:{'|'.join(REPLACEMENTS)})\b", re.IGNORECASE)

EXEMPT = re.compile(
    r"film grain"
    r"|`(?:picture|pictures|ceiling|paces)`"  # former JSON keys, documented as deprecated
    r"|\"(?:picture|pictures|ceiling|paces)\""
)
"""Phrases that may contain a forbidden word."""

MESSAGE_CALLS = {"say", "error", "out", "print", "warn", "Note", "Finding"}
"""Functions whose string arguments are printed."""


def forbidden_words(text: str) -> list[str]:
    """Return each forbidden word of a text with its context and its replacement."""
    words: list[str] = []
    for match in FORBIDDEN.finditer(EXEMPT.sub("", text)):
        context = EXEMPT.sub("", text)[max(0, match.start() - 40) : match.end() + 40]
        use = next(use for word, use in REPLACEMENTS.items() if re.fullmatch(word, match[0], re.I))
        words.append(f"{match[0]!r} (use {use}): ...{' '.join(context.split())}...")
    return words


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def command_lines() -> list[str]:
    """Return the command line of each help page."""
    lines = [""]
    for name, command in COMMANDS.items():
        lines.append(name)
        subcommands = getattr(typer.main.get_command(command.load()), "commands", {})
        lines += [f"{name} {subcommand}" for subcommand in subcommands]
    return lines


def strings_in(node: ast.AST) -> Iterator[str]:
    """Yield the string literals below a node, with f-strings as one text."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from strings_in(child)


def messages(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of errors, printed lines and notes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else None
            name = function.id if isinstance(function, ast.Name) else name
            is_note = name in {"append", "extend"} and "note" in ast.unparse(function).lower()
            if name in MESSAGE_CALLS or is_note or (name or "").endswith("Error"):
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    yield from strings_in(argument)
        elif (
            isinstance(node, ast.Assign | ast.AugAssign | ast.Return)
            and node.value is not None
            and "note" in ast.unparse(node).partition("=")[0].lower()
        ):
            yield from strings_in(node.value)


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a module and of its public classes and functions."""
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not getattr(node, "name", "").startswith("_"):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("line", command_lines(), ids=lambda line: line or "upscale")
def test_help_pages_use_the_terms_of_the_field(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    session = Session(io.BytesIO(), io.StringIO(), io.StringIO(), {"UPSCALE_CONFIG": ""})
    page = io.StringIO()
    with redirect_stdout(page):
        assert run([*line.split(), "--help"], session) == 0
    assert "Usage: upscale" in page.getvalue()
    found = forbidden_words(page.getvalue())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_messages_use_the_terms_of_the_field(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [word for text in messages(tree) for word in forbidden_words(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_docstrings_use_the_terms_of_the_field(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [word for text in docstrings(tree) for word in forbidden_words(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_use_the_terms_of_the_field(path: Path) -> None:
    found = forbidden_words(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    ["Enlarges a film.", "The frames were told.", "Good images", "A run goes on", "the ceiling"],
)
def test_forbidden_words_are_found(text: str) -> None:
    assert forbidden_words(text)


@pytest.mark.parametrize(
    "text",
    ["the former key `ceiling`", "a good result", "The picture is sharp.", "Show this help"],
)
def test_ordinary_english_is_allowed(text: str) -> None:
    assert not forbidden_words(text)


def test_messages_are_collected_from_errors_calls_and_notes() -> None:
    source = """
def f(session, notes):
    session.say(f"one {notes} more")
    notes.append("two")
    raise ValueError("three" if notes else f"four {notes}")
"""
    assert set(messages(ast.parse(source))) == {"one {} more", "two", "three", "four {}"}
