"""The values of an official option file, with a record of the ones that were used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from upscale_training.recipe.nodes import Node, as_node


class Options:
    """The values of an option file by their dotted keys, with a record of the used keys.

    Args:
        root: Root of the file.
        ignored: Keys that need no note, with all keys below them.

    Attributes:
        root: Root of the file.
        notes: Notes about values that could not be translated so far, one line each.
    """

    def __init__(self, root: Node, ignored: Collection[str]) -> None:
        self.root = root
        self.notes: list[str] = []
        self._used = set(ignored)

    def get(self, key: str) -> Node | None:
        """Return a value, or None if it is missing or null."""
        self._used.add(key)
        return self._find(key)

    def names(self, key: str) -> list[str]:
        """Return the keys of a mapping; none if it is missing."""
        node = self._find(key)
        return [] if node is None else list(node.entries())

    def get_or(self, key: str, default: Any) -> Any:  # noqa: ANN401  # as in YAML
        """Return a value, or the default of basicsr if it is missing."""
        node = self.get(key)
        return default if node is None else node

    def plain(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a value as a Python object."""
        node = self.get(key)
        return default if node is None else node.to_python()

    def items(self, key: str) -> list[Node]:
        """Return the values of a list; none if it is missing."""
        node = self.get(key)
        return [] if node is None else node.items()

    def number(self, key: str, default: float) -> float:
        """Return a number.

        Raises:
            TrainingError: The value is not a number.
        """
        value = self.plain(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.root.find(key).fail(f"must be a number, not {value}")
        return value

    def whole(self, key: str) -> Node | None:
        """Return a whole number that may be written as 5e3."""
        node = self.get(key)
        value = None if node is None else node.to_python()
        if node is None or not isinstance(value, float) or value % 1:
            return node
        return replace(node, value=as_node(int(value), node.mark).value)

    def one_of(self, key: str, known: Collection[str], default: str | None = None) -> str:
        """Return a name that can be translated.

        Raises:
            TrainingError: The value is another one.
        """
        value = self.plain(key, default)
        if not isinstance(value, str) or value not in known:
            words = f"lacks {key.rpartition('.')[2]}" if value is None else f"is {value}"
            self.root.find(key).fail(f"{words}; only {', '.join(known)} can be translated")
        return value

    def only(self, key: str, value: object) -> None:
        """Check that a value, unless it is missing, is the only one that can be translated.

        Raises:
            TrainingError: The value is another one.
        """
        actual = self.plain(key, value)
        if actual != value:
            self.root.find(key).fail(f"is {actual}; only {value} can be translated")

    def expect(self, key: str, value: object, instead: str) -> None:
        """Add a note about what happens instead if a value is not the expected one."""
        actual = self.plain(key, value)
        if actual != value:
            self.notes.append(f"{key}: is {actual}; {instead}")

    def unused(self) -> Iterator[str]:
        """Yield notes about the values that were not used."""
        for node in _leaves(self.root):
            names = node.key.split(".")
            prefixes = {".".join(names[:count]) for count in range(1, len(names) + 1)}
            if not prefixes & self._used and not node.is_null:
                yield f"{node.key}: has no counterpart and is ignored"

    def _find(self, key: str) -> Node | None:
        node = self.root
        for name in key.split("."):
            if not node.is_mapping or name not in node.entries():
                return None
            node = node.entries()[name]
        return None if node.is_null else node


def _leaves(node: Node) -> Iterator[Node]:
    if not node.is_mapping or not node.entries():
        yield node
        return
    for each in node.entries().values():
        yield from _leaves(each)
