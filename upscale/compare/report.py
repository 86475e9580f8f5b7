"""Report page: a table of scores, and the versions of each image side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from upscale.compare.templates import ImageSet, render


@dataclass(frozen=True, slots=True)
class Table:
    """The table above the images.

    Attributes:
        head: Titles of the columns.
        rows: Cells of each row.
        best: Positions (row, column) of the cells to highlight.
        note: Text below the table.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    note: str = ""


def report_parts(
    title: str, table: Table, sets: Iterable[ImageSet], remarks: Sequence[str] = ()
) -> Iterator[bytes]:
    """Yield the parts of a page in UTF-8; the sets are consumed one at a time.

    Args:
        title: Title of the page.
        table: Table above the images.
        sets: Images, each in a row of its own.
        remarks: Remarks below the images.
    """
    return render("report", title=title, table=table, sets=sets, remarks=remarks)
