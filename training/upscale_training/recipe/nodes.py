"""YAML as places that know their key and line: composed, overridden, refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from upscale.errors import DependencyError, TrainingError, UsageError
from upscale.files.printable import printable

try:
    import yaml
    from yaml.representer import SafeRepresenter
except ImportError as error:
    raise DependencyError('recipes need PyYAML; run: pip install "upscale[train]"') from error

_OVERRIDE = "--set "
_LONGEST = 60
_TAG = "tag:yaml.org,2002:"

_PLAIN: dict[str, tuple[str, Callable[[str], object]]] = {
    "null": (r"~|null|", lambda _: None),
    "bool": (r"[Tt]rue|[Ff]alse", lambda text: {"true": True, "false": False}[text.lower()]),
    "int": (r"[-+]?[0-9][0-9_]*", int),
    "float": (r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
}
"""What is not text: how it looks without quotes, and what it is."""


class Loader(yaml.SafeLoader):
    """Composes YAML 1.2, in which `1e-4` is a number and `no` and `1:30` are text."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as in PyYAML
        """Refuse what stands for another node: an override would change both."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise TrainingError(f"{self.name}:{line}: has an alias (*); write out what it means")
        return super().compose_node(parent, index)


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads."""

    def ignore_aliases(self, data: object) -> bool:
        """Write out what comes twice."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Escape all that is not printable: some line breaks would not survive without."""
        return self.represent_scalar(f"{_TAG}str", text, None if text.isprintable() else '"')


Dumper.add_representer(str, Dumper.represent_text)

for _class in (Loader, Dumper):
    _class.yaml_implicit_resolvers = {}
    for _kind, (_pattern, _) in _PLAIN.items():
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), None)


@dataclass(frozen=True, slots=True)
class Place:
    """A value with the key that leads to it.

    Attributes:
        node: the value.
        key: dotted, from the root; empty there.
        mark: where the key stands, or the item of a list.
    """

    node: yaml.Node
    key: str
    mark: yaml.Mark

    @property
    def is_override(self) -> bool:
        """Whether it comes from an override and not from the file."""
        return self.mark.name.startswith(_OVERRIDE)

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        """Whether it is null."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == f"{_TAG}null"

    def refuse(self, what: str) -> NoReturn:
        """Raise an error that names the file and line, or the override, and the key.

        Raises:
            TrainingError: what is in a file is wrong.
            UsageError: an override is wrong.
        """
        key = f"{self.key}: " if self.key else ""
        if self.is_override:
            raise UsageError(f"{self.mark.name}: {key}{what}")
        raise TrainingError(f"{self.mark.name}:{self.mark.line + 1}: {key}{what}")

    def entries(self) -> dict[str, Place]:
        """Return the values of a mapping by their keys.

        Raises:
            TrainingError: it is none, or a key is no text or comes twice.
            UsageError: the same, in an override.
        """
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse("must be a mapping of keys")
        found: dict[str, Place] = {}
        for key, value in self.node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            place = Place(value, self._below(name), key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                place.refuse("a key is a single word")
            if name in found:
                place.refuse(f"is there twice, first in line {found[name].mark.line + 1}")
            found[name] = place
        return found

    def items(self) -> list[Place]:
        """Return the values of a list.

        Raises:
            TrainingError: it is none.
            UsageError: the same, in an override.
        """
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse("must be a list")
        return [
            Place(node, self._below(str(place)), node.start_mark)
            for place, node in enumerate(self.node.value)
        ]

    def find(self, key: str) -> Place:
        """Return the place of a dotted key below, or the nearest above it, under its name."""
        place = self
        for name in key.split("."):
            below = _children(place).get(name)
            if below is None:
                break
            place = below
        return Place(place.node, self._below(key), place.mark)

    def plain(self) -> Any:  # noqa: ANN401  # that is what it is for
        """Return None, a bool, int, float, str, or a list or dictionary of these.

        Raises:
            TrainingError: a value has a tag that means something else.
            UsageError: the same, in an override.
        """
        if isinstance(self.node, yaml.MappingNode):
            return {name: place.plain() for name, place in self.entries().items()}
        if isinstance(self.node, yaml.SequenceNode):
            return [place.plain() for place in self.items()]
        kind, text = self.node.tag.removeprefix(_TAG), str(self.node.value)
        if kind == "str":
            return text
        try:
            return _PLAIN[kind][1](text)
        except (KeyError, ValueError):
            self.refuse(f"{shortened(text)} is no {kind}")

    def _below(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


def compose_file(path: Path) -> Place:
    """Read a YAML file of one mapping.

    Raises:
        TrainingError: it cannot be read, or is something else.
    """
    try:
        root = compose(path.read_bytes(), printable(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TrainingError(
            f"{printable(path)}: cannot be read ({reason}); give a recipe"
        ) from error
    root.entries()
    return root


def compose(text: bytes | str, name: str) -> Place:
    """Read one YAML document.

    Args:
        text: its content.
        name: of the file, for messages.

    Raises:
        TrainingError: it is not YAML, or empty.
    """
    try:
        loader = Loader(text)
        loader.name = name
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark and not name.startswith(_OVERRIDE) else ""
        raise TrainingError(f"{name}{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{name}: is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise TrainingError(f"{name}: is nested too deeply") from error
    if node is None:
        raise TrainingError(f"{name}: is empty")
    return Place(node, "", node.start_mark)


def dump(value: Any) -> str:  # noqa: ANN401  # nested as in YAML
    """Write what `Place.plain` returns, as `compose` reads it."""
    return yaml.dump(
        value, Dumper=Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True,
        width=100,
    )  # fmt: skip


def place_of(value: Any, mark: yaml.Mark) -> Place:  # noqa: ANN401  # nested as in YAML
    """Make a place of places and plain values in dictionaries and lists; what is None is left out.

    Args:
        value: whatever `Place.plain` returns, with places in it.
        mark: where it stands, but for what has a place of its own.
    """
    if isinstance(value, Place):
        return value
    if isinstance(value, dict):
        children = [
            (str(key), place_of(each, mark)) for key, each in value.items() if each is not None
        ]
        pairs = [
            (yaml.ScalarNode(f"{_TAG}str", key, each.mark), each.node) for key, each in children
        ]
        first = children[0][1].mark if children else mark
        return Place(yaml.MappingNode(f"{_TAG}map", pairs, first), "", first)
    if isinstance(value, list):
        items = [place_of(each, mark) for each in value]
        nodes = [each.node for each in items]
        return Place(yaml.SequenceNode(f"{_TAG}seq", nodes, mark), "", mark)
    node = SafeRepresenter().represent_data(value)
    node.start_mark = mark
    return Place(node, "", mark)


def override(root: Place, text: str) -> None:
    """Change a value below, or put one in.

    Args:
        root: a mapping.
        text: a dotted key and a value in YAML, as `stages.0.iterations=100`; a list's items count
            from 0.

    Raises:
        UsageError: it has no key, names no item of a list, or its value is not YAML.
    """
    key, sign, value = text.partition("=")
    *above, last = names = key.split(".")
    if not sign or not all(names):
        raise UsageError(
            f"{_OVERRIDE}{shortened(text)}: give a key and a value, as network.blocks=6"
        )
    mark = yaml.Mark(_OVERRIDE + shortened(text), 0, 0, 0, None, 0)
    try:
        node = compose(value or "null", mark.name).node
    except TrainingError as error:
        raise UsageError(str(error)) from error
    place = root
    for name in above:
        if name not in _children(place) or _children(place)[name].is_null:
            _put(place, name, yaml.MappingNode(f"{_TAG}map", [], mark, mark), mark)
        place = _children(place)[name]
    _put(place, last, node, mark)


def shortened(text: str) -> str:
    """Return a text as it fits into a line."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _put(place: Place, name: str, node: yaml.Node, mark: yaml.Mark) -> None:
    """Set one value of a mapping or list."""
    owner = Place(place.node, place.key, mark)
    if isinstance(place.node, yaml.MappingNode):
        key = yaml.ScalarNode(f"{_TAG}str", name, mark, mark)
        kept = [pair for pair in place.node.value if pair[0].value != name]
        place.node.value = [*kept, (key, node)]
    elif not isinstance(place.node, yaml.SequenceNode):
        owner.refuse("is no mapping or list; nothing is below it")
    elif name not in _children(place):
        owner.refuse(f"has no item {name}; it has {len(place.node.value)}, counted from 0")
    else:
        place.node.value[int(name)] = node


def _children(place: Place) -> Mapping[str, Place]:
    if isinstance(place.node, yaml.MappingNode):
        return place.entries()
    if isinstance(place.node, yaml.SequenceNode):
        return {str(number): item for number, item in enumerate(place.items())}
    return {}
