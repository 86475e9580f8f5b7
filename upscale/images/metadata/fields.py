"""Metadata that are more than a block of bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A text with a keyword.

    Attributes:
        keyword: Keyword such as `Title` or `parameters`.
        text: The text.
        language: Language as in `en-GB`; empty where none is stated.
        translated: Keyword in that language.

    Example:
        >>> Text("Title", "Harbour at dawn").keyword
        'Title'
    """

    keyword: str
    text: str
    language: str = ""
    translated: str = ""
