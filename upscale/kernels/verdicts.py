"""Which kernel computes each layer shape on a card, kept on disk after the first trial.

There is one file for each card and each version of torch, Triton, ptxas and the kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter

from upscale.files.atomic import replace_file
from upscale.kernels.tile_configs import Card, Shape, TileConfig


@dataclass(frozen=True, slots=True)
class Verdict:
    """What computes a layer shape.

    Attributes:
        config: Tile config of the fastest kernel; None for torch.
        reason: Reason for torch; empty where a kernel computes.
        lasting: Whether a new trial would find the same, unlike after a full memory or without a
            C compiler.
    """

    config: TileConfig | None
    reason: str = ""
    lasting: bool = True


Verdicts = Mapping[Shape, Verdict]
Record = dict[str, Any]
"""Verdicts in the form that JSON represents, by the names of cards from `card_key`."""

_ROWS: TypeAdapter[list[tuple[Shape, Verdict]]] = TypeAdapter(list[tuple[Shape, Verdict]])


def card_key(card: Card) -> str:
    """Return a name for a card and its versions, to be used in files."""
    digest = hashlib.sha256(repr(astuple(card)).encode()).hexdigest()[:16]
    return f"{''.join(c if c.isalnum() else '-' for c in card.name)}-{digest}"


def to_record(card: Card, verdicts: Verdicts) -> dict[str, Any]:
    """Return the record of one card."""
    return {card_key(card): _ROWS.dump_python(sorted_rows(verdicts), mode="json")}


def from_record(card: Card, record: Record) -> dict[Shape, Verdict]:
    """Return the verdicts of a card; none if the record is of other cards, or damaged."""
    try:
        return dict(_ROWS.validate_python(record.get(card_key(card), [])))
    except (ValueError, AttributeError):
        return {}


def sorted_rows(verdicts: Verdicts) -> list[tuple[Shape, Verdict]]:
    """Return verdicts as a list in a fixed order."""
    return sorted(verdicts.items(), key=lambda row: str(row[0]))


def find_verdicts(
    card: Card,
    shapes: Collection[Shape],
    folder: Path,
    try_out: Callable[[Card, Collection[Shape]], Verdicts],
) -> dict[Shape, Verdict]:
    """Return the verdict for each shape: the stored one, or that of a trial now.

    A file that is missing or damaged counts as empty. Where nothing can be stored, each process
    repeats the trial.

    Args:
        card: Card that computes.
        shapes: Shapes to look for.
        folder: Folder of the stored verdicts.
        try_out: Function that tries the kernels for shapes without a verdict.
    """
    path = folder / f"{card_key(card)}.json"
    known = _read(path)
    missing = set(shapes) - set(known)
    if missing:
        with _locked(path):
            known |= _read(path)  # another process may have finished its trial
            if missing := set(shapes) - set(known):
                known |= try_out(card, missing)
                _write(path, {shape: each for shape, each in known.items() if each.lasting})
    return {shape: known[shape] for shape in shapes}


def _read(path: Path) -> dict[Shape, Verdict]:
    try:
        return dict(_ROWS.validate_json(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _write(path: Path, verdicts: Verdicts) -> None:
    content = _ROWS.dump_json(sorted_rows(verdicts), indent=1)
    with suppress(OSError):
        replace_file(path, lambda file: file.write(content))


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep other processes from a trial at the same time, which would disturb the times."""
    lock = FileLock(path.with_suffix(".lock"))
    with suppress(OSError, NotImplementedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
