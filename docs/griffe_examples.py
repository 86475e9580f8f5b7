"""Let mkdocstrings show the `Example:` sections of docstrings as code with its output.

Google's style allows both `Example:` and `Examples:`; mkdocstrings formats only the second as code.
"""

from __future__ import annotations

import re

import griffe


class ExampleSections(griffe.Extension):
    """Rename `Example:` sections while the sources are read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
