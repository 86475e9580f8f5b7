"""The model card of an exported network, written from what its file says about it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from upscale.errors import UsageError
from upscale.export.source import Source
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.printable import printable, printable_text

_SCORES, _BASELINE = "figures", "figures of bicubic"
_FACTS = ("architecture", "scale", "licence", "author", "source", "blend")
_TRAINING = {
    "stage": "stage",
    "steps": "iterations",
    "processes": "processes",
    "changes": "changes",
}
_NO_METRICS = ("picture", "chain", "version", "input", "reference", "error")

Table = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """Mean scores of one network, from the table of `upscale eval`.

    Attributes:
        chain: Degradation of the images; empty if the table names none.
        version: Name of the network.
        images: Number of images.
        means: Mean of each metric.
    """

    chain: str
    version: str
    images: int
    means: Mapping[str, float]


def model_card(source: Source, files: Sequence[Path], evaluation: Sequence[EvaluationRow]) -> str:
    """Return a model card in Markdown; equal networks and files give equal cards.

    Args:
        source: Network with its metadata.
        files: Exported files, whose checksums are named.
        evaluation: Scores of `upscale eval`; may be empty.
    """
    metadata = source.metadata
    about = [metadata[key] for key in ("purpose", "notes") if key in metadata]
    sections = [
        f"# {_plain(metadata['name'])}",
        *map(_plain, about),
        _markdown(["", ""], _facts(source)),
        "## Files",
        _markdown(["file", "bytes", "SHA-256"], [_file_facts(path) for path in files]),
        "## Use",
        _usage(source, files[-1]),
        *_training(metadata),
        *_validation(metadata),
        *_evaluated(evaluation),
    ]
    return "\n\n".join(sections) + "\n"


def read_evaluation(path: Path) -> list[EvaluationRow]:
    """Return the means of the table that `upscale eval -o TABLE` wrote.

    Args:
        path: CSV file.

    Raises:
        UsageError: The file cannot be read, or is not such a table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"--scores {printable(path)}: cannot be read ({one_line(error)})"
        ) from error
    if not rows or not {"version", "picture"} <= rows[0].keys():
        raise UsageError(
            f"--scores {printable(path)}: is not a table of upscale eval; write one with: "
            "upscale eval ... -o TABLE.csv"
        )
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row.get("chain") or "", row["version"]), []).append(row)
    return [_mean_row(chain, version, each) for (chain, version), each in groups.items()]


def _mean_row(chain: str, version: str, rows: Sequence[Mapping[str, str]]) -> EvaluationRow:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, text in row.items():
            if name not in _NO_METRICS and (value := _number(text)) is not None:
                columns.setdefault(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in columns.items()}
    return EvaluationRow(chain, version, len(rows), means)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _facts(source: Source) -> Iterator[Sequence[str]]:
    for key in _FACTS:
        if key in source.metadata:
            yield key, source.metadata[key]
    count = sum(parameter.numel() for parameter in source.network.parameters())
    yield "parameters", f"{count:,}"


def _file_facts(path: Path) -> Sequence[str]:
    return path.name, f"{path.stat().st_size:,}", sha256_of(path)


def _usage(source: Source, file: Path) -> str:
    spec = source.network.spec
    size = f"({spec.out_channels}, {spec.scale} H, {spec.scale} W)"
    text = f"RGB in 0..1, ({spec.in_channels}, H, W) to {size}; clamp the result."
    unshuffle = source.network.unshuffle
    if file.suffix == ".onnx":
        return f"{text} Input `input`, output `output`, with the batch first. Any H and W."
    if file.suffix == ".param":
        needs = f" H and W must be multiples of {unshuffle}." if unshuffle > 1 else ""
        return f"{text} Input `data`, output `output`.{needs}"
    return f"{text}\n\n```sh\nupscale photo.jpg -n {file.name}\n```"


def _training(metadata: Mapping[str, str]) -> Iterator[str]:
    facts = [(text, metadata[key]) for key, text in _TRAINING.items() if key in metadata]
    if not facts and "recipe" not in metadata:
        return
    yield "## Training"
    if facts:
        yield _markdown(["", ""], facts)
    if "recipe" in metadata:
        yield f"```yaml\n{metadata['recipe'].strip()}\n```"


def _validation(metadata: Mapping[str, str]) -> Iterator[str]:
    """Yield the scores of the validation during training, beside those of bicubic."""
    scores, baseline = (_json(metadata.get(key)) for key in (_SCORES, _BASELINE))
    rows = [
        [str(name), str(metric), _score(value), _score(_dictionary(baseline.get(name)).get(metric))]
        for name, values in scores.items()
        for metric, value in _dictionary(values).items()
    ]
    if rows:
        yield "## Validation during training"
        yield _markdown(["set", "metric", "this network", "bicubic"], rows)


def _evaluated(rows: Sequence[EvaluationRow]) -> Iterator[str]:
    if not rows:
        return
    metrics = list(dict.fromkeys(name for row in rows for name in row.means))
    yield "## Evaluation"
    yield _markdown(
        ["degradation", "network", "images", *metrics],
        [
            [row.chain, row.version, str(row.images), *(_score(row.means.get(m)) for m in metrics)]
            for row in rows
        ],
    )


def _json(text: str | None) -> dict[str, Any]:
    try:
        return _dictionary(json.loads(text or "null"))
    except (ValueError, RecursionError):  # metadata of a file that others may have written
        return {}


def _dictionary(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _score(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _markdown(head: Sequence[str], rows: Iterator[Sequence[str]] | Table) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Return text on one line without what would end a cell of a table."""
    return printable_text(" ".join(text.split())).replace("|", "\\|")
