"""Docstrings: Google style, complete sentences, and examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    [*ROOT.glob("upscale/**/*.py"), *ROOT.glob("training/upscale_training/**/*.py")],
)
SECTIONS = {"Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples", "Note"}
DANGLING = re.compile(
    r"(of|in|on|at|for|by|to|from|with|without|below|above|beyond|behind|before|after|beside|"
    r"within|into|out|up|the same|as|like|what|which|whose)\b",
    re.IGNORECASE,
)
ENTRY = re.compile(r" {4}(\*{0,2}[\w.]+): (\S.*)")
PUBLIC = (
    "upscale",
    "upscale.images",
    "upscale.metrics",
    "upscale.models",
    "upscale_training.data",
    "upscale_training.degradation",
    "upscale_training.losses",
    "upscale_training.loop",
    "upscale_training.networks",
    "upscale_training.recipe",
    "upscale_training.recipes",
)


def docstrings(path: Path) -> list[tuple[str, str]]:
    """Every docstring of a file with the name of what it belongs to."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return [
        (getattr(node, "name", path.stem), text)
        for node in nodes
        if (text := ast.get_docstring(node))
    ]


def entries(docstring: str) -> list[tuple[str, str]]:
    """The (name, description) of each argument, attribute and error that a docstring lists."""
    found: list[tuple[str, str]] = []
    section = ""
    for line in docstring.splitlines():
        if (match := re.fullmatch(r"(\w+):", line)) and match[1] in SECTIONS:
            section = match[1]
        elif line and not line.startswith(" "):
            section = ""
        elif section in {"Args", "Attributes", "Raises"} and (match := ENTRY.match(line)):
            found.append((match[1], match[2]))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_are_sentences_and_entries_name_the_thing(path: Path) -> None:
    wrong: list[str] = []
    for owner, text in docstrings(path):
        summary = text.split("\n\n")[0].splitlines()
        if (
            len(summary) > 1
            or not re.match(r"[A-Z`0-9(]", summary[0])
            or summary[0][-1] not in ".:"
        ):
            wrong.append(f"{owner}: the first line is no sentence: {summary[0]}")
        for name, description in entries(text):
            if not re.match(r"[A-Z`0-9('\"]", description):
                wrong.append(f"{owner}, {name}: starts in lower case: {description}")
            elif DANGLING.match(description):
                wrong.append(f"{owner}, {name}: does not name the thing: {description}")
    assert not wrong, "\n".join(wrong)


def public_objects(package: str) -> list[tuple[str, object]]:
    """Classes and functions that a package exports; aliases and constants have no docstring."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", ())
    items = [(name, getattr(module, name)) for name in names]
    return [
        (name, item) for name, item in items if inspect.isclass(item) or inspect.isfunction(item)
    ]


@pytest.mark.parametrize("package", PUBLIC)
def test_each_public_class_and_function_has_an_example(package: str) -> None:
    objects = public_objects(package)
    assert objects, f"{package} exports nothing"
    without = [
        name
        for name, item in objects
        if ">>>" not in (inspect.getdoc(item) or "") and not getattr(item, "_is_protocol", False)
    ]
    assert not without, f"{package} exports without an example: {', '.join(without)}"


def modules_with_examples() -> list[str]:
    """The names of all modules that hold an example."""
    names: list[str] = []
    for path in SOURCES:
        if ">>>" in path.read_text(encoding="utf-8"):
            start = ROOT / "training" if "training" in path.relative_to(ROOT).parts[0] else ROOT
            parts = path.relative_to(start).with_suffix("").parts
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    module: ModuleType = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags, raise_on_error=False)
    assert result.attempted and not result.failed
