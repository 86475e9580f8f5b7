"""YAML as nodes that know their key and line: composed, overridden, rejected.

PyYAML's own loader and pydantic drop the lines of keys, and PyYAML reads YAML 1.1, in which `no` is
false and `1e-4` is text. So documents are composed with other rules for plain values, and keep
their marks.
"""

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
"""Pattern and conversion of values that are not text when written without quotes."""


class Loader(yaml.SafeLoader):
    """Composes YAML 1.2, in which `1e-4` is a number and `no` and `1:30` are text."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as in PyYAML
        """Compose a node; reject aliases, because an override would change both places."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise TrainingError(
                f"{self.name}:{line}: aliases (*) are not allowed; repeat the value instead"
            )
        return super().compose_node(parent, index)


class Dumper(yaml.SafeDumper):
    """Writes YAML that `Loader` reads."""

    def ignore_aliases(self, data: object) -> bool:
        """Repeat values instead of writing aliases."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Escape text that is not printable: some line breaks would not survive otherwise."""
        return self.represent_scalar(f"{_TAG}str", text, None if text.isprintable() else '"')


Dumper.add_representer(str, Dumper.represent_text)

for _class in (Loader, Dumper):
    _class.yaml_implicit_resolvers = {}
    for _kind, (_pattern, _) in _PLAIN.items():
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), None)


@dataclass(frozen=True, slots=True)
class Node:
    """A value with the key that leads to it.

    Attributes:
        value: The value as PyYAML composed it.
        key: Dotted key from the root; empty for the root.
        mark: Position of the key, or of the item of a list.
    """

    value: yaml.Node
    key: str
    mark: yaml.Mark

    @property
    def is_override(self) -> bool:
        """Whether the value comes from an override instead of the file."""
        return self.mark.name.startswith(_OVERRIDE)

    @property
    def is_mapping(self) -> bool:
        """Whether the value has keys."""
        return isinstance(self.value, yaml.MappingNode)

    @property
    def is_null(self) -> bool:
        """Whether the value is null."""
        return isinstance(self.value, yaml.ScalarNode) and self.value.tag == f"{_TAG}null"

    def message(self, text: str) -> str:
        """Return a text behind the file and line, or the override, and the key."""
        line = "" if self.is_override else f":{self.mark.line + 1}"
        key = f" {self.key}:" if self.key else ""
        return f"{self.mark.name}{line}:{key} {text}"

    def fail(self, text: str) -> NoReturn:
        """Raise an error with the file and line, or the override, and the key.

        Raises:
            TrainingError: A value in a file is wrong.
            UsageError: An override is wrong.
        """
        raise (UsageError if self.is_override else TrainingError)(self.message(text))

    def entries(self) -> dict[str, Node]:
        """Return the values of a mapping by their keys.

        Raises:
            TrainingError: This is no mapping, or a key is not text or occurs twice.
            UsageError: The error is in an override.
        """
        if not isinstance(self.value, yaml.MappingNode):
            self.fail("must be a mapping of keys")
        entries: dict[str, Node] = {}
        for key, value in self.value.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            node = Node(value, self._join(name), key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                node.fail("a key must be a single word")
            if name in entries:
                node.fail(f"occurs twice, first in line {entries[name].mark.line + 1}")
            entries[name] = node
        return entries

    def items(self) -> list[Node]:
        """Return the values of a list.

        Raises:
            TrainingError: This is no list.
            UsageError: The error is in an override.
        """
        if not isinstance(self.value, yaml.SequenceNode):
            self.fail("must be a list")
        return [
            Node(node, self._join(str(index)), node.start_mark)
            for index, node in enumerate(self.value.value)
        ]

    def children(self) -> Mapping[str, Node]:
        """Return the values of a mapping or list by key or index; none for other values."""
        if isinstance(self.value, yaml.SequenceNode):
            return {str(index): item for index, item in enumerate(self.items())}
        return self.entries() if self.is_mapping else {}

    def find(self, key: str) -> Node:
        """Return the node of a relative dotted key, or its nearest parent under the same key."""
        node = self
        for name in key.split("."):
            child = node.children().get(name)
            if child is None:
                break
            node = child
        return Node(node.value, self._join(key), node.mark)

    def rename(self, key: str, name: str) -> Node | None:
        """Rename the last part of a dotted key; return its node, or None if there is none."""
        parent, _, last = key.rpartition(".")
        owner = self.find(parent)
        if last not in owner.children() or not isinstance(owner.value, yaml.MappingNode):
            return None
        for key_node, _ in owner.value.value:
            if key_node.value == last:
                key_node.value = name
        return Node(owner.value, key, owner.children()[name].mark)

    def to_python(self) -> Any:  # noqa: ANN401  # nested as in YAML
        """Return None, a bool, int, float, str, or a list or dictionary of these.

        Raises:
            TrainingError: A value has a tag that means something else.
            UsageError: The error is in an override.
        """
        if isinstance(self.value, yaml.MappingNode):
            return {name: node.to_python() for name, node in self.entries().items()}
        if isinstance(self.value, yaml.SequenceNode):
            return [node.to_python() for node in self.items()]
        kind, text = self.value.tag.removeprefix(_TAG), str(self.value.value)
        if kind == "str":
            return text
        try:
            return _PLAIN[kind][1](text)
        except (KeyError, ValueError):
            self.fail(f"{shortened(text)} is no {kind}")

    def _join(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


def compose_file(path: Path) -> Node:
    """Read a YAML file of one mapping.

    Raises:
        TrainingError: The file cannot be read, or contains something else.
    """
    try:
        root = compose(path.read_bytes(), printable(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TrainingError(
            f"{printable(path)}: cannot be read ({reason}); name a recipe"
        ) from error
    root.entries()
    return root


def compose(text: bytes | str, name: str) -> Node:
    """Read one YAML document.

    Args:
        text: Content of the document.
        name: Name of the file, for messages.

    Raises:
        TrainingError: The text is not YAML, or empty.
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
    return Node(node, "", node.start_mark)


def dump(value: Any) -> str:  # noqa: ANN401  # nested as in YAML
    """Write a value that `Node.to_python` returned as YAML that `compose` reads."""
    return yaml.dump(
        value, Dumper=Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True,
        width=100,
    )  # fmt: skip


def as_node(value: Any, mark: yaml.Mark) -> Node:  # noqa: ANN401  # nested as in YAML
    """Make a node of dictionaries and lists of nodes and plain values, without those that are None.

    Args:
        value: A value as `Node.to_python` returns it, which may contain nodes.
        mark: Position of values that are not nodes.
    """
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        children = [
            (str(key), as_node(each, mark)) for key, each in value.items() if each is not None
        ]
        pairs = [
            (yaml.ScalarNode(f"{_TAG}str", key, each.mark), each.value) for key, each in children
        ]
        first = children[0][1].mark if children else mark
        return Node(yaml.MappingNode(f"{_TAG}map", pairs, first), "", first)
    if isinstance(value, list):
        nodes = [as_node(each, mark).value for each in value]
        return Node(yaml.SequenceNode(f"{_TAG}seq", nodes, mark), "", mark)
    node = SafeRepresenter().represent_data(value)
    node.start_mark = mark
    return Node(node, "", mark)


def override(root: Node, text: str) -> None:
    """Change or add a value below a node.

    Args:
        root: A mapping.
        text: Dotted key and YAML value, for example `stages.0.iterations=100`; list items count
            from 0.

    Raises:
        UsageError: The text has no key, names no item of a list, or its value is not YAML.
    """
    key, sign, value = text.partition("=")
    *parents, last = names = key.split(".")
    if not sign or not all(names):
        raise UsageError(
            f"{_OVERRIDE}{shortened(text)}: write a key and a value, for example network.blocks=6"
        )
    mark = yaml.Mark(_OVERRIDE + shortened(text), 0, 0, 0, None, 0)
    try:
        node = compose(value or "null", mark.name).value
    except TrainingError as error:
        raise UsageError(str(error)) from error
    owner = root
    for name in parents:
        if name not in owner.children() or owner.children()[name].is_null:
            _put(owner, name, yaml.MappingNode(f"{_TAG}map", [], mark, mark), mark)
        owner = owner.children()[name]
    _put(owner, last, node, mark)


def shortened(text: str) -> str:
    """Shorten a text to fit into a line."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _put(owner: Node, name: str, node: yaml.Node, mark: yaml.Mark) -> None:
    """Set one value of a mapping or list."""
    target = Node(owner.value, owner.key, mark)
    if isinstance(owner.value, yaml.MappingNode):
        key = yaml.ScalarNode(f"{_TAG}str", name, mark, mark)
        kept = [pair for pair in owner.value.value if pair[0].value != name]
        owner.value.value = [*kept, (key, node)]
    elif not isinstance(owner.value, yaml.SequenceNode):
        target.fail("is no mapping or list, so it has no keys")
    elif name not in owner.children():
        target.fail(f"has no item {name}; it has {len(owner.value.value)}, counted from 0")
    else:
        owner.value.value[int(name)] = node
