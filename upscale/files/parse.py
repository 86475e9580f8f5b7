"""Parse JSON and TOML from files that may be hostile: every problem is a ValueError."""

from __future__ import annotations

import json
import tomllib
from typing import Any

_TOO_DEEP = "is nested too deeply"


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401  # nested as in JSON
    """Return the value that a JSON text describes.

    Args:
        text: The whole content of a file, or one line of it.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or contains a number of thousands of
            digits.

    Example:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables that a TOML text describes.

    Args:
        text: The whole content of a file.

    Raises:
        ValueError: The text is not TOML, is nested too deeply, or contains a number of thousands of
            digits.

    Example:
        >>> parse_toml("a = [1, 2]")
        {'a': [1, 2]}
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
