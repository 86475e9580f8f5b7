"""Licence and author of weights, from the metadata of checkpoints; does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LICENCE_KEYS = ("licence", "license", "modelspec.license")
"""Keys of safetensors metadata for the licence, the preferred one first."""

AUTHOR_KEYS = ("author", "modelspec.author")
"""Keys of safetensors metadata for the author, the preferred one first."""

UNKNOWN = "unknown"
"""Stands for the licence of a file that names none."""

_NON_COMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non-?commercial|s-lab")


def attribution(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the licence and author in the metadata of a file, under `licence` and `author`.

    Args:
        metadata: Metadata of a safetensors file.

    Example:
        >>> attribution({"modelspec.license": "CC-BY-4.0", "author": "Ann", "steps": "5"})
        {'licence': 'CC-BY-4.0', 'author': 'Ann'}
        >>> attribution({"licence": "unknown"})
        {}
    """
    found: dict[str, str] = {}
    for name, keys in (("licence", LICENCE_KEYS), ("author", AUTHOR_KEYS)):
        values = (" ".join(metadata.get(key, "").split()) for key in keys)
        value = next((text for text in values if text and text.lower() != UNKNOWN), None)
        if value is not None:
            found[name] = value
    return found


def joint_attribution(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the licence and author of weights that were made from several networks.

    Args:
        parts: Attribution of each network.

    Example:
        >>> joint_attribution([{"licence": "MIT", "author": "Ann"}, {"author": "Bob"}])
        {'licence': 'MIT and unknown', 'author': 'Ann; Bob'}
    """
    parts = list(parts)
    licences = _unique((part.get("licence", UNKNOWN) for part in parts), " and ")
    authors = _unique((part["author"] for part in parts if "author" in part), "; ")
    return {"licence": licences} | ({"author": authors} if authors else {})


def _unique(lists: Iterable[str], separator: str) -> str:
    return separator.join(dict.fromkeys(one for text in lists for one in text.split(separator)))


def forbids_commercial_use(licence: str) -> bool:
    """Return whether a licence is recognised as one that does not allow commercial use.

    Args:
        licence: Name of the licence, such as an SPDX identifier.

    Example:
        >>> [forbids_commercial_use(text) for text in ("CC-BY-NC-SA-4.0", "CC BY 4.0", "NCSA")]
        [True, False, False]
    """
    return _NON_COMMERCIAL.search(re.sub(r"[\s_]+", "-", licence.lower())) is not None
