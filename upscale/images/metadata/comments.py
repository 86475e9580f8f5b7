"""Comments of files that do not state the encoding of their text."""

from __future__ import annotations


def text_of(content: bytes) -> str | None:
    """Return a comment as text: UTF-8 where it is valid, otherwise Latin-1; None when empty.

    Args:
        content: The comment as stored.

    Example:
        >>> text_of("Köln".encode()), text_of("Köln".encode("latin-1"))
        ('Köln', 'Köln')
    """
    content = content.rstrip(b"\0")
    try:
        return content.decode() or None
    except UnicodeDecodeError:
        return content.decode("latin-1")
