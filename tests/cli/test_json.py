"""docs/reference/json.md is the interface: its tables and examples hold for real lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from tests.video.clips import Clip, even, make
from upscale.cli import video_run as videos
from upscale.errors import ExitCode
from upscale.jobs import JobRecord, Status
from upscale.jobs.video import VideoRecord
from upscale.jobs.video_preview import PreviewRecord

WHOLE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
DOCUMENT, _, VIDEOS = WHOLE.partition("\n# `upscale video --json`")


def is_integer(value) -> bool:
    return type(value) is int


KINDS = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "integer": is_integer,
    "two integers": lambda value: len(value) == 2 and all(map(is_integer, value)),
    "list of strings": lambda value: all(isinstance(text, str) for text in value),
    "object": lambda value: set(value) == {"weights", "reason", "clean"},
    "list of numbers": lambda value: all(type(each) in (int, float) for each in value),
}


def rows(heading: str, document: str = DOCUMENT) -> list[list[str]]:
    """The cells of the table below a heading."""
    table = document.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def fields(heading: str, document: str = DOCUMENT) -> dict[str, list[str]]:
    return {cells[0].strip("`"): cells for cells in rows(heading, document)}


def examples(document: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r"```json\n(.*)\n```", document)]


FIELDS = fields("Fields")
VIDEO_FIELDS = fields("Fields of a video", VIDEOS)
PREVIEW_FIELDS = fields("Fields of a preview", VIDEOS)
EXAMPLES = examples(DOCUMENT)
OF_IMAGES = [status.value for status in Status if status is not Status.SHARE]


def check(record: dict, documented: dict[str, list[str]] = FIELDS) -> None:
    """Compare a line with the document: fields, their order and types, and when they are null."""
    assert list(record) == list(documented)
    for name, (_, kind, _, null) in documented.items():
        value = record[name]
        if value is None:
            assert kind.endswith(" or null"), name
            assert not needs(null, record["status"]), name
            assert null != "never", name
        else:
            assert KINDS[kind.removesuffix(" or null")](value), name
            if null.startswith("unless "):
                assert needs(null, record["status"]), name


def needs(null: str, status: str) -> bool:
    """Whether a value that is null unless the status is one of some has to be there."""
    return null.startswith("unless ") and f"`{status}`" in null


def test_the_documented_fields_are_those_of_a_record_in_order():
    assert list(FIELDS) == list(JobRecord.__annotations__)
    tables = FIELDS | VIDEO_FIELDS | PREVIEW_FIELDS
    assert set(KINDS) == {cells[1].removesuffix(" or null") for cells in tables.values()}


def test_there_is_a_valid_example_of_every_status():
    assert [example["status"] for example in EXAMPLES] == OF_IMAGES
    for example in EXAMPLES:
        check(example)


def test_the_documented_exit_codes_are_those_of_the_program():
    assert [int(cells[0]) for cells in rows("Exit codes")] == [code.value for code in ExitCode]


@pytest.fixture
def lines(call, photo, tmp_path):
    """Lines of real runs, with every status and a note."""
    photo("in/done.png")
    photo("in/exists.png")
    photo("out/exists.png")
    photo("in/wide.webp", 300, 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    photo("taken.png")
    photo("taken_x4.png")
    runs = (
        call("in", "-o", "out", "--json", "--skip-existing"),
        call("taken.png", "--json"),
        call("in/wide.webp", "-s", "60", "--json", "--dry-run"),
        call("-", "-o", "stdin.png", "--json", stdin=(tmp_path / "in/done.png").read_bytes()),
    )
    return [json.loads(line) for ended in runs for line in ended.out.splitlines()]


def test_every_line_of_real_runs_is_as_documented(lines):
    assert {line["status"] for line in lines} == set(OF_IMAGES)
    assert len(lines) == 7
    for line in lines:
        check(line)


def test_notes_and_sizes_are_as_documented(lines):
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


# --- videos -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documented", "record"), [(VIDEO_FIELDS, VideoRecord), (PREVIEW_FIELDS, PreviewRecord)]
)
def test_the_documented_fields_of_videos_are_those_of_records_in_order(documented, record):
    assert list(documented) == list(record.__annotations__)


def test_examples_of_videos_are_valid():
    done, failed, preview = examples(VIDEOS)
    check(done, VIDEO_FIELDS)
    check(failed, VIDEO_FIELDS)
    check(preview, PREVIEW_FIELDS)
    assert [each["status"] for each in (done, failed, preview)] == ["done", "failed", "done"]


def test_the_documented_exit_codes_of_videos_are_among_those_of_the_program():
    codes = [int(cells[0]) for cells in rows("Exit codes of videos", VIDEOS)]
    assert codes == [code.value for code in ExitCode]


@pytest.fixture
def video(monkeypatch, tmp_path):
    """A truncated video, and a fake engine."""
    upscalers = [Tripling()], {"model": "tripling"}
    monkeypatch.setattr(videos, "make_upscalers", lambda session, options: upscalers)
    path = make(Clip(even(25), container="mkv", sound=True), tmp_path / "in.mkv")
    path.write_bytes(path.read_bytes()[:-200])
    return path


class Tripling:
    device = torch.device("cpu")

    def resolve_kernels(self, record=None):
        return record or {}

    def resolve_tile(self, width, height, tile=None):
        return tile or 0

    def run_tensor(self, image, *, size=None):
        return torch.nn.functional.interpolate(image, size[::-1])


@pytest.mark.parametrize(
    ("arguments", "status", "documented"),
    [
        (("in.mkv", "out.mkv", "-s", "3"), "done", VIDEO_FIELDS),
        (("in.mkv", "taken.mkv", "-s", "3"), "failed", VIDEO_FIELDS),
        (("gone.mkv", "out.mkv"), "failed", VIDEO_FIELDS),
        (("in.mkv", "out.mkv", "--strict", "--frames", "2"), "done", VIDEO_FIELDS),
        (("in.mkv", "--preview", "-s", "3"), "done", PREVIEW_FIELDS),
        (("in.mkv", "taken.png", "--preview"), "failed", PREVIEW_FIELDS),
        (("gone.mkv", "--preview"), "failed", PREVIEW_FIELDS),
    ],
)
def test_lines_of_videos_are_as_documented(arguments, status, documented, video, call, tmp_path):
    for name in ("taken.mkv", "taken.png"):
        (tmp_path / name).write_bytes(b"precious")
    ended = call("video", *arguments, "--json", "--quiet")
    (line,) = map(json.loads, ended.out.splitlines())
    check(line, documented)
    assert (line["status"], line["input"]) == (status, arguments[0]), line["error"]
    assert ended.code == (ExitCode.DONE if status == "done" else ExitCode.FAILED)
    if status == "done":
        assert any("its end is missing" in note for note in line["notes"])
    else:
        assert line["error"] in ended.err


def test_an_invalid_request_for_a_video_prints_no_line(video, call):
    ended = call("video", "in.mkv", "out.mkv", "--crf", "99", "--json")
    assert (ended.out, ended.code) == ("", ExitCode.USAGE)
