"""docs/json.md is the interface: its tables and examples hold for real lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from upscale.errors import ExitCode
from upscale.jobs import JobRecord, Status

DOCUMENT = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


def is_integer(value) -> bool:
    return type(value) is int


KINDS = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: type(value) in (int, float),
    "integer": is_integer,
    "two integers": lambda value: len(value) == 2 and all(map(is_integer, value)),
    "list of strings": lambda value: all(isinstance(text, str) for text in value),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    table = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


FIELDS = {cells[0].strip("`"): cells for cells in rows("Fields")}
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*)\n```", DOCUMENT)]


def check(record: dict) -> None:
    """A line holds to the document: fields, their order and types, and when they are null."""
    assert list(record) == list(FIELDS)
    for name, (_, kind, _, null) in FIELDS.items():
        value = record[name]
        if value is None:
            assert kind.endswith(" or null"), name
            assert null != f"unless `{record['status']}`", name
            assert null != "never", name
        else:
            assert KINDS[kind.removesuffix(" or null")](value), name
            if null.startswith("unless "):
                assert null == f"unless `{record['status']}`", name


def test_the_documented_fields_are_those_of_a_record_in_order():
    assert list(FIELDS) == list(JobRecord.__annotations__)
    assert set(KINDS) == {cells[1].removesuffix(" or null") for cells in FIELDS.values()}


def test_there_is_a_valid_example_of_every_status():
    assert [example["status"] for example in EXAMPLES] == [status.value for status in Status]
    for example in EXAMPLES:
        check(example)


def test_the_documented_exit_codes_are_those_of_the_program():
    assert [int(cells[0]) for cells in rows("Exit codes")] == [code.value for code in ExitCode]


@pytest.fixture
def lines(call, photo, tmp_path):
    """Real lines of runs that hold every status and a note."""
    photo("in/done.png")
    photo("in/exists.png")
    photo("out/exists.png")
    photo("in/wide.webp", 300, 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    photo("taken.png")
    photo("taken_x4.png")
    runs = (
        call("in", "-o", "out", "--json", "--skip-existing"),
        call("taken.png", "--json"),
        call("in/wide.webp", "-s", "60", "--json", "--dry-run"),
        call("-", "-o", "stdin.png", "--json", stdin=(tmp_path / "in/done.png").read_bytes()),
    )
    return [json.loads(line) for ended in runs for line in ended.out.splitlines()]


def test_every_line_of_real_runs_holds_to_the_document(lines):
    assert {line["status"] for line in lines} == {status.value for status in Status}
    assert len(lines) == 7
    for line in lines:
        check(line)


def test_notes_and_sizes_are_told_as_documented(lines):
    (planned,) = [line for line in lines if line["status"] == "planned"]
    assert (planned["size_in"], planned["size_out"]) == ([300, 2], [18000, 120])
    assert "16383" in planned["notes"][0]
    refused, unreadable = (
        next(line for line in lines if line["input"] == name)
        for name in ("taken.png", "in/bad.png")
    )
    assert (refused["output"], refused["size_out"]) == ("taken_x4.png", [96, 64])
    assert (unreadable["output"], unreadable["size_in"]) == (None, None)


def test_lines_are_ascii_and_nothing_else_is_on_standard_output(call, photo):
    photo("é.png")
    ended = call("é.png", "gone\udcff.png", "-o", "out/", "--json", "--verbose")
    assert ended.out.isascii()
    assert [json.loads(line)["input"] for line in ended.out.splitlines()] == [
        "é.png",
        "gone\udcff.png",
    ]
