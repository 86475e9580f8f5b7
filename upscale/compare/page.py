"""Comparison page: versions of images over each other, with a movable dividing line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from upscale.compare.templates import ImageSet, read_resource, render


def page_parts(title: str, sets: Iterable[ImageSet]) -> Iterator[bytes]:
    """Yield the parts of a page in UTF-8; the sets are consumed one at a time.

    Args:
        title: Title of the page.
        sets: Images to compare, each with two or more versions.
    """
    return render("page", script=read_resource("page.js"), title=title, sets=sets)
