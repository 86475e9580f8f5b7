"""Rows of a benchmark: one that fails in any way leaves all others."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import rows
from benchmarks.rows import NotRunError, Row, WrongError, markdown, records, run


def good():
    return {"s": 1.5}


def raises():
    raise ValueError("two\nlines")


def wrong():
    raise WrongError("differs", {"max": 3})


def not_run():
    raise NotRunError("needs CUDA")


def ends():
    os._exit(7)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    time.sleep(600)


def some_rows():
    return [
        Row("a", "one", good),
        Row("a", "ends", ends),
        Row("a", "raises", raises),
        Row("b", "is killed", is_killed),
        Row("b", "wrong", wrong),
        Row("b", "hangs", hangs, limit=0.5),
        Row("b", "not run", not_run),
        Row("b", "two", good),
    ]


def broken_rows():
    raise RuntimeError("no rows")


def test_rows_that_end_their_process_or_hang_leave_all_others(tmp_path, capfd):
    results = run(some_rows, tmp_path / "file", minutes=5)
    assert results == list(records(tmp_path / "file"))
    assert [(each["row"], each["status"], each["error"]) for each in results] == [
        ("one", "ok", ""),
        ("ends", "died", "its process ended with exit code 7"),
        ("raises", "failed", "ValueError: two lines"),
        ("is killed", "died", "its process ended with exit code -9"),
        ("wrong", "wrong", "differs"),
        ("hangs", "died", "it took too long"),
        ("not run", "not run", "needs CUDA"),
        ("two", "ok", ""),
    ]
    assert results[0]["values"] == {"s": 1.5} and results[4]["values"] == {"max": 3}
    assert capfd.readouterr().out.count("status ") == 8


def test_a_process_that_cannot_start_is_reported(tmp_path):
    [result] = run(broken_rows, tmp_path / "file", minutes=5)
    assert (result["status"], result["error"]) == ("died", "its process ended with exit code 1")


def test_no_row_starts_after_the_time_and_all_are_listed(tmp_path):
    results = run(some_rows, tmp_path / "file", minutes=0)
    assert [each["row"] for each in results] == [each.name for each in some_rows()]
    assert {each["status"] for each in results} == {"left out"}


def test_a_gpu_that_a_row_has_ruined_gets_a_new_process(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()

    class Exit(BaseException):
        pass

    def leave(code):
        raise Exit(code)

    def synchronize():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr(os, "_exit", leave)
        gpu = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
        patch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu))
        with pytest.raises(Exit, match=str(rows.UNUSABLE)):
            rows._compute(lambda: [Row("a", "bad", raises), Row("a", "one", good)], file, 1e12)
    assert [each["row"] for each in records(file)] == ["bad"]
    rows._compute(lambda: [Row("a", "bad", raises), Row("a", "one", good)], file, 1e12)
    assert [each["row"] for each in records(file)] == ["bad", "one"]


def test_a_line_that_was_cut_off_is_ignored(tmp_path):
    file = tmp_path / "file"
    file.write_text(json.dumps({"table": "a", "row": "b", "status": "ok"}) + '\n{"table": "a", ')
    assert [each["row"] for each in records(file)] == ["b"]


def test_the_report_has_a_table_for_each_table_and_lists_what_is_missing():
    place = {"seconds": 1.0, "error": "", "status": "ok"}
    lines = [
        {"table": "speed", "row": "x2", "values": {"fps": 12.3456, "kernels": "a|b"}, **place},
        {"table": "speed", "row": "x4", "values": {"fps": 3.0, "MiB": 100}, **place},
        {"table": "checks", "row": "x2", "values": {"max": 9}, **place, "status": "wrong",
         "error": "far"},
        {"table": "speed", "row": "x8", "status": "left out", "error": "the time was over"},
    ]  # fmt: skip
    assert markdown(lines) == (
        "### speed\n\n"
        "| row | fps | kernels | MiB |\n|---|---|---|---|\n"
        "| x2 | 12.35 | a/b |  |\n| x4 | 3 |  | 100 |\n\n"
        "### checks\n\n| row | max |\n|---|---|\n| x2 | 9 |\n\n"
        "### Not measured, or wrong\n\n"
        "- checks, x2: wrong (far)\n- speed, x8: left out (the time was over)\n"
    )
