"""Count lines, files per room and function lengths of a Git revision.

    python -m benchmarks.source_size            # the working tree's HEAD
    python -m benchmarks.source_size 4cee68f    # any other revision

A line counts if it holds code: blank lines, comments and docstrings are listed apart.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass
class Size:
    """What was counted in one part of the tree."""

    files: int = 0
    lines: int = 0
    code: int = 0
    functions: list[int] = field(default_factory=list)


def sources(revision: str) -> dict[PurePosixPath, str]:
    """Read all Python files of a revision."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", revision], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            PurePosixPath(member.name): content.read().decode("utf-8")
            for member in tar
            if member.name.endswith(".py") and (content := tar.extractfile(member))
        }


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that hold code."""
    skipped = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def part_of(path: PurePosixPath) -> str:
    """Return the part of the tree that a file belongs to."""
    return path.parts[0] if len(path.parts) > 1 else "."


def measure(revision: str) -> tuple[dict[str, Size], Counter[str]]:
    """Count each part of the tree, and the files of each folder of the packages."""
    parts: dict[str, Size] = {}
    rooms: Counter[str] = Counter()
    for path, text in sources(revision).items():
        tree = ast.parse(text)
        size = parts.setdefault(part_of(path), Size())
        code = code_lines(text, tree)
        size.files += 1
        size.lines += text.count("\n")
        size.code += len(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                size.functions.append(len(code.intersection(body)))
        if path.parts[0] in {"upscale", "training"}:
            rooms[str(path.parent)] += 1
    return parts, rooms


def main(revision: str = "HEAD") -> None:
    """Print the counts of a revision."""
    parts, rooms = measure(revision)
    print(f"{'part':<12}{'files':>6}{'lines':>8}{'code':>8}{'median':>8}{'p90':>6}")
    for name, size in sorted(parts.items()):
        lengths = size.functions or [0]
        p90 = statistics.quantiles(lengths, n=10)[-1] if len(lengths) > 1 else lengths[0]
        print(
            f"{name:<12}{size.files:>6}{size.lines:>8}{size.code:>8}"
            f"{statistics.median(lengths):>8.0f}{p90:>6.0f}"
        )
    print("\nfiles per folder of the packages:")
    for folder, count in rooms.most_common():
        print(f"{count:>4}  {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
