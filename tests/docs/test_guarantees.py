"""Each promise of the page of guarantees names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reference/guarantees.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<tests>[^|]*) \|$")


def test_every_promise_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    promises = [line for line in rows if not re.match(r"\|(---| promise )", line)]
    assert len(promises) > 20
    for line in promises:
        row = ROW.match(line)
        assert row is not None, line
        assert re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+` ?)+", row["tests"]), line


@pytest.mark.parametrize("name", TESTS)
def test_test_of_a_promise_exists(name):
    path, function = name.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
