"""The values of an official option file, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from upscale_training.recipe.nodes import Place, place_of


class Options:
    """The values of an option file by their dotted keys; remembers which were asked for.

    Attributes:
        root: the whole file.
        notes: what could not be carried over so far, a line each.
    """

    def __init__(self, root: Place, without_meaning: Collection[str]) -> None:
        """Begin.

        Args:
            root: the whole file.
            without_meaning: keys that need no note; those below them neither.
        """
        self.root = root
        self.notes: list[str] = []
        self._asked = set(without_meaning)

    def get(self, key: str) -> Place | None:
        """Return a value, or None where there is none or null."""
        self._asked.add(key)
        return self._found(key)

    def names(self, key: str) -> list[str]:
        """Return the keys of a mapping, of which there are none where it is not."""
        place = self._found(key)
        return [] if place is None else list(place.entries())

    def get_or(self, key: str, default: Any) -> Any:  # noqa: ANN401  # as in YAML
        """Return a value, or what basicsr takes without it."""
        place = self.get(key)
        return default if place is None else place

    def plain(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a value as Python has it."""
        place = self.get(key)
        return default if place is None else place.plain()

    def items(self, key: str) -> list[Place]:
        """Return the values of a list, which is empty where there is none."""
        place = self.get(key)
        return [] if place is None else place.items()

    def number(self, key: str, default: float) -> float:
        """Return a number.

        Raises:
            TrainingError: it is none.
        """
        value = self.plain(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.root.find(key).refuse(f"must be a number, not {value}")
        return value

    def whole(self, key: str) -> Place | None:
        """Return a whole number that may be written as 5e3."""
        place = self.get(key)
        value = None if place is None else place.plain()
        if place is None or not isinstance(value, float) or value % 1:
            return place
        return replace(place, node=place_of(int(value), place.mark).node)

    def one_of(self, key: str, known: Collection[str], default: str | None = None) -> str:
        """Return a name that must be one of those known here.

        Raises:
            TrainingError: it is none of them.
        """
        value = self.plain(key, default)
        if not isinstance(value, str) or value not in known:
            words = f"lacks {key.rpartition('.')[2]}" if value is None else f"is {value}"
            self.root.find(key).refuse(f"{words}; what can be translated is {', '.join(known)}")
        return value

    def only(self, key: str, value: object) -> None:
        """Check a value that, where there is one, can be no other.

        Raises:
            TrainingError: it is another one.
        """
        found = self.plain(key, value)
        if found != value:
            self.root.find(key).refuse(f"is {found}; only {value} can be translated")

    def expect(self, key: str, value: object, instead: str) -> None:
        """Note what happens instead, where there is a value other than the expected one."""
        found = self.plain(key, value)
        if found != value:
            self.notes.append(f"{key}: is {found}; {instead}")

    def unused(self) -> Iterator[str]:
        """Yield notes about what was not asked for."""
        for place in _leaves(self.root):
            names = place.key.split(".")
            ways = {".".join(names[:count]) for count in range(1, len(names) + 1)}
            if not ways & self._asked and not place.is_null:
                yield f"{place.key}: has no counterpart and is left out"

    def _found(self, key: str) -> Place | None:
        place = self.root
        for name in key.split("."):
            if not place.is_mapping or name not in place.entries():
                return None
            place = place.entries()[name]
        return None if place.is_null else place


def _leaves(place: Place) -> Iterator[Place]:
    if not place.is_mapping or not place.entries():
        yield place
        return
    for each in place.entries().values():
        yield from _leaves(each)
