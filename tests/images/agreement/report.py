"""Comparison of many files, and the printed report."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.images.agreement.departures import reason
from tests.images.agreement.readers import READERS, Reader
from tests.images.agreement.sandbox import Sandbox
from tests.images.agreement.verdicts import Outcome, Verdict, compare

_COLUMNS = tuple(Outcome)
_WIDTH = max(len(outcome.value) for outcome in Outcome)
_SHOWN = (Outcome.DIFFERS, Outcome.ONLY_WE, Outcome.ONLY_THEY)


def compare_all(
    paths: Iterable[Path], jobs: int = 1, readers: Iterable[Reader] = READERS
) -> Iterator[Verdict]:
    """Yield the verdict on each file, of which several are compared at a time."""
    readers = tuple(readers)
    own, sandboxes = threading.local(), list[Sandbox]()

    def work(path: Path) -> Verdict:
        if not hasattr(own, "sandbox"):
            own.sandbox = Sandbox()
            sandboxes.append(own.sandbox)
        return compare(path, own.sandbox, readers)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(work, paths)
    finally:
        for sandbox in sandboxes:
            sandbox.close()


def share(verdicts: Iterable[Verdict]) -> float | None:
    """Return the share of files that agree, of those that we and another reader read, if any."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    compared = counts[Outcome.AGREES] + counts[Outcome.DIFFERS]
    return counts[Outcome.AGREES] / compared if compared else None


def remark(verdict: Verdict) -> str | None:
    """Return a line on a file whose readings disagree; None for the others."""
    why = reason(verdict)
    if verdict.outcome in _SHOWN:
        return f"{verdict} ({why})" if why else str(verdict)
    if verdict.outcome is Outcome.AGREES and verdict.is_outvoted:
        return f"{verdict} (most readers differ)"
    return None


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield rows of the share that agrees, and the counts, by format and of all."""
    yield " " * 18 + " ".join(f"{outcome.value:>{_WIDTH}}" for outcome in _COLUMNS)
    known = {verdict.format for verdict in verdicts if verdict.outcome is not Outcome.NONE}
    for format in sorted(known):
        yield _row(format, [verdict for verdict in verdicts if verdict.format == format])
    yield _row("all", verdicts)


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.outcome for verdict in verdicts)
    agreeing = share(verdicts)
    percent = "-" if agreeing is None else f"{agreeing:.2%}"
    columns = " ".join(f"{counts[outcome]:>{_WIDTH}}" for outcome in _COLUMNS)
    return f"{name:9} {percent:>7} {columns}"
