"""From figures and crops to one HTML page that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from upscale.compare.page import ImageSet, encoded, resource, source_hash

_PLACE = "<!-- content -->"


@dataclass(frozen=True, slots=True)
class Table:
    """What stands above the images.

    Attributes:
        head: Of the columns.
        rows: Of as many cells.
        best: Places (row, column) of the cells that stand out.
        note: Below it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    note: str = ""


def report_parts(
    title: str, table: Table, sets: Iterable[ImageSet], remarks: Sequence[str] = ()
) -> Iterator[bytes]:
    """Yield a page in UTF-8 that shows the versions of each image side by side.

    No more than one set has to be in memory. The page's Content-Security-Policy allows its style
    and the images that it carries, and no script at all.

    Args:
        title: Above all.
        table: Above the images.
        sets: The images, each with a line of its own.
        remarks: Below them.
    """
    style = resource("report.css")
    policy = (
        f"default-src 'none'; img-src data:; style-src {source_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    frame = Template(resource("report.html")).substitute(
        policy=escape(policy), title=escape(title), style=style, content=_PLACE
    )
    # The title is escaped, so that only the frame itself can hold the mark.
    before, _, after = frame.partition(_PLACE)
    yield encoded(before + _table_text(table))
    for one in sets:
        yield from _set_parts(one)
    yield encoded(_list_text(remarks) + after)


def _table_text(table: Table) -> str:
    lines = ["".join(f"<th>{escape(text)}</th>" for text in table.head)]
    for row, cells in enumerate(table.rows):
        lines.append(
            "".join(
                f'<td class="best">{escape(text)}</td>'
                if (row, column) in table.best
                else f"<td>{escape(text)}</td>"
                for column, text in enumerate(cells)
            )
        )
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="table"><table>\n{body}</table></div>\n<p>{escape(table.note)}</p>\n'


def _list_text(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    return "<ul>\n" + "".join(f"<li>{escape(remark)}</li>\n" for remark in remarks) + "</ul>\n"


def _set_parts(one: ImageSet) -> Iterator[bytes]:
    yield encoded(f'<section>\n<h2><bdi>{escape(one.name)}</bdi></h2>\n<div class="versions">\n')
    for version in one.versions:
        width, height = version.size
        yield encoded(
            f'<figure><img alt="{escape(version.label)}" width="{width}" height="{height}" '
            f'src="data:{escape(version.media_type)};base64,'
        )
        yield base64.b64encode(version.content)
        yield encoded(
            f'"><figcaption><bdi>{escape(version.label)}</bdi>'
            f"<span>{escape(version.note)}</span></figcaption></figure>\n"
        )
    yield b"</div>\n</section>\n"
