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
) -> list[Verdict]:
    """Compare files, several at a time, each in its own sandbox."""
    readers = tuple(readers)
    own, sandboxes = threading.local(), list[Sandbox]()

    def work(path: Path) -> Verdict:
        if not hasattr(own, "sandbox"):
            own.sandbox = Sandbox()
            sandboxes.append(own.sandbox)
        return compare(path, own.sandbox, readers)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(work, paths))
    finally:
        for sandbox in sandboxes:
            sandbox.close()


def share(verdicts: Iterable[Verdict]) -> float:
    """Return the share of files that agree, of those that we and another reader read."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    compared = counts[Outcome.AGREES] + counts[Outcome.DIFFERS]
    return counts[Outcome.AGREES] / compared if compared else 1.0


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the report: disagreements, counts by format, and the share."""
    for outcome in _SHOWN:
        for verdict in verdicts:
            if verdict.outcome is outcome:
                why = reason(verdict)
                yield f"{verdict} (intended: {why})" if why else str(verdict)
    for verdict in verdicts:
        if verdict.outcome is Outcome.AGREES and verdict.is_outvoted:
            yield f"{verdict} (most readers differ)"
    yield " " * 18 + " ".join(f"{outcome.value:>{_WIDTH}}" for outcome in _COLUMNS)
    known = {verdict.format for verdict in verdicts if verdict.outcome is not Outcome.NONE}
    for format in sorted(known):
        yield _row(format, [verdict for verdict in verdicts if verdict.format == format])
    yield _row("all", verdicts)


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return f"{name:9} {share(verdicts):7.2%} " + " ".join(
        f"{counts[outcome]:>{_WIDTH}}" for outcome in _COLUMNS
    )
