"""The pages of the documentation and the code blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "weights/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>run|not run): (?P<text>[^\n]*?) -->\n)?"
    r"^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: Path of the page, relative to the root of the repository.
        language: Language after the fence.
        code: Lines between the fences.
        name: Name of a block that is marked `<!-- run: NAME -->`; empty otherwise.
        reason: Text of the mark `<!-- not run: REASON -->`; empty without one.
    """

    page: str
    language: str
    code: str
    name: str = ""
    reason: str = ""


def blocks() -> list[Block]:
    """Return all fenced blocks of all pages."""
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            match["language"],
            match["code"],
            match["text"] if match["mark"] == "run" else "",
            match["text"] if match["mark"] == "not run" else "",
        )
        for page in PAGES
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def table(page: Path, name: str) -> list[list[str]]:
    """Return the cells of the table that is marked `<!-- table: NAME -->`, without its head."""
    text = page.read_text(encoding="utf-8")
    rows = text.partition(f"<!-- table: {name} -->\n")[2].partition("<!-- end -->")[0]
    return [
        [cell.strip() for cell in row.strip().removeprefix("|").removesuffix("|").split("|")]
        for row in rows.strip().splitlines()[2:]
    ]
