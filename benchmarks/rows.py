"""Rows of a benchmark, computed in another process: whatever one does, the others are kept.

Each row is appended to a file of JSON lines as soon as it is there. A row that raises is recorded.
If it ends the process, hangs, or leaves the GPU unusable, a new process continues with the next.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, Any]
"""Measured values by the title of their column."""

START_SECONDS = 180
"""Time for a process to import everything and start its first row."""

GRACE_SECONDS = 30
"""Time after the end of the budget for the row that is being computed then."""

UNUSABLE = 3
"""Exit code of a process whose GPU cannot be used any more."""


class NotRunError(Exception):
    """A row cannot be computed on this machine."""


class WrongError(Exception):
    """A check found a fault, which the values show."""

    def __init__(self, text: str, values: Values) -> None:
        super().__init__(text)
        self.values = values


@dataclass(frozen=True)
class Row:
    """A row of a table, not yet computed.

    Attributes:
        table: Title of the table.
        name: Title of the row.
        work: Function that computes the values.
        limit: Seconds after which its process is ended.
    """

    table: str
    name: str
    work: Callable[[], Values]
    limit: float = 120


MakeRows = Callable[[], Sequence[Row]]
"""Function that makes the rows, the most important first; each process calls it once."""


def run(make_rows: MakeRows, file: Path, minutes: float) -> list[Values]:
    """Compute rows until the time is over, and return their records.

    Args:
        make_rows: Function of a module, as `multiprocessing` needs it.
        file: File for the records, which is replaced.
        minutes: Minutes after which no row is started.
    """
    file.write_text("", encoding="utf-8")
    deadline, failures = time.time() + 60 * minutes, 0
    while failures < 2:
        before = len(_lines(file))
        process = multiprocessing.get_context("spawn").Process(
            target=_compute, args=(make_rows, file, deadline)
        )
        process.start()
        reason = _watch(process, file)
        if process.exitcode == 0:
            break
        lost = _started(file)
        if lost is not None:
            _add(file, {**lost, "status": "died", "error": reason})
        failures = failures + 1 if len(_lines(file)) == before else 0
    else:
        _add(file, {"table": "process", "row": "start", "status": "died", "error": reason})
    return list(records(file))


def records(file: Path) -> Iterator[Values]:
    """Yield the records of the rows that have ended."""
    return (line for line in _lines(file) if "status" in line)


def markdown(lines: Sequence[Values]) -> str:
    """Return one Markdown table for each table of the records, then what is missing in them."""
    parts: list[str] = []
    for table in dict.fromkeys(line["table"] for line in lines):
        own = [line for line in lines if line["table"] == table and line.get("values")]
        columns = list(dict.fromkeys(column for line in own for column in line["values"]))
        if own:
            parts += [f"### {table}", "", f"| {' | '.join(['row', *columns])} |"]
            parts.append("|---" * (len(columns) + 1) + "|")
            for line in own:
                cells = [_shown(line["values"].get(column, "")) for column in columns]
                parts.append(f"| {' | '.join([line['row'], *cells])} |")
            parts.append("")
    missing = [line for line in lines if line["status"] != "ok"]
    if missing:
        parts += ["### Not measured, or wrong", ""]
        parts += [
            f"- {line['table']}, {line['row']}: {line['status']} ({line['error']})"
            for line in missing
        ]
    return "\n".join(parts).rstrip() + "\n"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _compute(make_rows: MakeRows, file: Path, deadline: float) -> None:
    """Compute the rows that the file does not contain yet."""
    done = {(record["table"], record["row"]) for record in records(file)}
    for row in make_rows():
        if (row.table, row.name) in done:
            continue
        place: Values = {"table": row.table, "row": row.name}
        left = deadline - time.time()
        if left <= 0:
            _add(file, {**place, "status": "left out", "error": "the time was over"})
            continue
        _add(file, {**place, "until": time.time() + min(row.limit, left + GRACE_SECONDS)})
        _add(file, {**place, **_outcome(row.work)})
        if not _is_usable():
            os._exit(UNUSABLE)  # exit handlers would wait for the GPU


def _outcome(work: Callable[[], Values]) -> Values:
    """Return the values of a row, or why there are none."""
    started = time.perf_counter()
    error, values = "", Values()
    try:
        status, values = "ok", work()
    except NotRunError as reason:
        status, error = "not run", str(reason)
    except WrongError as fault:
        status, error, values = "wrong", str(fault), fault.values
    except Exception as failure:
        status, error = "failed", " ".join(f"{type(failure).__name__}: {failure}".split())[:500]
    seconds = round(time.perf_counter() - started, 2)
    return {"status": status, "seconds": seconds, "values": values, "error": error}


def _is_usable() -> bool:
    """Free the memory of a row, and return whether the GPU still works after it."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except Exception:
            return False
    return True


def _watch(process: Any, file: Path) -> str:  # noqa: ANN401
    """Wait for a process, end it if its row takes too long, and return why it ended."""
    first = time.time() + START_SECONDS
    while process.is_alive():
        process.join(0.2)
        started = _started(file)
        if time.time() > (first if started is None else started["until"]):
            process.kill()
            process.join()
            return "it took too long"
    return f"its process ended with exit code {process.exitcode}"


def _started(file: Path) -> Values | None:
    """Return the row that has been started and has not ended."""
    lines = _lines(file)
    return lines[-1] if lines and "status" not in lines[-1] else None


def _lines(file: Path) -> list[Values]:
    """Return the complete lines of the file."""
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _add(file: Path, line: Values) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    if "status" in line:
        print(" | ".join(f"{key} {_shown(value)}" for key, value in line.items()), flush=True)
