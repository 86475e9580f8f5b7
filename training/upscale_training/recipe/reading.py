"""Read recipe files, and changes to them from a command line, as validated settings.

Pydantic validates, and gives the location of an error as keys; `upscale_training.recipe.nodes`
knows the line of each key. PyYAML and pydantic alone would lose the lines.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from upscale.files.paths import expand_user
from upscale_training.degradation.steps import STEPS
from upscale_training.recipe.nodes import Node, compose_file, override, shortened
from upscale_training.recipe.settings import NETWORKS, Recipe
from upscale_training.schema import RULE

_MESSAGES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "missing": "must have more values",
    "too_long": "must have fewer values",
}
"""Pydantic's errors in terms of YAML, before the wrong value; others are used as they are."""

_COMPLETE_MESSAGES = {
    "dataclass_type": "must be a mapping of keys",
    "too_short": "must not be empty",
}
"""Errors that are reported without the wrong value."""

_DEPRECATED = {"validation.pictures": "images"}
"""Former keys, and the last part of the present ones."""

_SIMILARITY = 0.8
"""Minimum similarity of keys of other sections to be suggested; 1 is equal."""

_log = logging.getLogger(__name__)


def read_recipe(path: Path, overrides: Sequence[str] = (), *, folder: Path | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: YAML file.
        overrides: Changes such as `stages.0.iterations=100`; list items count from 0. Paths in
            them are relative to the working folder.
        folder: Folder to which paths in the file are relative; None for the folder of the file.

    Returns:
        The recipe, with absolute paths.

    Raises:
        TrainingError: The file cannot be read, or a value in it is unknown, of a wrong type or
            impossible.
        UsageError: A value in an override is unknown, of a wrong type or impossible.
    """
    root = compose_file(path)
    for text in overrides:
        override(root, text)
    return _with_absolute_paths(build_recipe(root), root, path.parent if folder is None else folder)


def build_recipe(root: Node) -> Recipe:
    """Validate a composed recipe; paths stay as they are.

    Args:
        root: Mapping of the recipe.

    Raises:
        TrainingError: A value is unknown, of a wrong type or impossible.
        UsageError: A value in an override is unknown, of a wrong type or impossible.
    """
    for key, name in _DEPRECATED.items():
        if (node := root.rename(key, name)) is not None:
            _log.warning(node.message(f"deprecated; use {name}"))
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(root.to_python()))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        unknown = [each for each in errors if each["type"] == "unexpected_keyword_argument"]
        _fail(root, [*unknown, *errors][0])


def keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a settings class and of nested ones, without steps of chains."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        for inner, is_item in _nested_classes(hint):
            yield from keys(inner, f"{prefix}{name}{'.0' if is_item else ''}.")


def _fail(root: Node, error: ErrorDetails) -> NoReturn:
    """Raise a validation error with its line and key."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    node, path = root, list[str]()
    for part in map(str, error["loc"]):
        if part in node.children():  # other parts name the branch of a union, or a missing key
            path.append(part)
            node = node.children()[part]
    name = error["loc"][-1] if error["loc"] else ""
    if kind == "unexpected_keyword_argument":
        node.fail(f"there is no such key{_suggest_key(node, path, _class_at(root, path[:-1]))}")
    if kind == "missing" and isinstance(name, str):
        node.fail(f"lacks {name}")
    if kind == RULE:
        (node.find(context["key"]) if context["key"] else node).fail(error["msg"])
    if kind in _COMPLETE_MESSAGES:
        node.fail(_COMPLETE_MESSAGES[kind])
    if "key" in context:
        node, value = node.find(context["key"]), value[context["key"]]
    message = _MESSAGES.get(kind) or re.sub("^Input should ", "must ", error["msg"])
    names = re.findall("'([^']*)'", message) if kind == "literal_error" else ()
    shown = shortened(json.dumps(value, ensure_ascii=False))
    node.fail(f"{message}, not {shown}{_suggest(value, names)}")


def _class_at(root: Node, path: Sequence[str]) -> type:
    """Return the settings class of the mapping at a path of keys."""
    kind, node = Recipe, root
    for part in path:
        node = node.children()[part]
        nested = [inner for inner, _ in _nested_classes(get_type_hints(kind).get(part))]
        chosen = [str(node.find(key).to_python()) for key in ("do", "architecture")]
        if node.is_mapping and chosen[0] in STEPS:
            kind = STEPS[chosen[0]]
        else:
            kind = NETWORKS.get(chosen[1]) or next(iter(nested), kind)
    return kind


def _suggest_key(node: Node, path: Sequence[str], kind: type) -> str:
    """Name the nearest right key: in the same section, else in nested ones, else anywhere."""
    own = [field.name for field in fields(kind)]
    if near := _suggest(path[-1], own):
        return near
    same = re.sub(r"\.\d+\.", ".0.", node.key)
    others = [key for key in (*keys(kind), *keys(Recipe)) if key != same]
    by_name = {key.rpartition(".")[2]: key for key in reversed(others)}
    similar = difflib.get_close_matches(path[-1], by_name, n=1, cutoff=_SIMILARITY)
    return f"; did you mean {by_name[similar[0]]}?" if similar else f"; there are {', '.join(own)}"


def _suggest(name: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _with_absolute_paths(value: Any, node: Node, folder: Path) -> Any:  # noqa: ANN401
    """Return settings whose paths are absolute, relative to a folder or, in overrides, to here."""
    if isinstance(value, Path):
        base = Path() if node.is_override else folder
        return Path(os.path.abspath(base / expand_user(value)))  # noqa: PTH100 # keeps links
    if isinstance(value, tuple):
        items = enumerate(value)
        return tuple(_with_absolute_paths(each, node.find(str(i)), folder) for i, each in items)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    names = [field.name for field in fields(value)]
    values = {
        name: _with_absolute_paths(getattr(value, name), node.find(name), folder) for name in names
    }
    return replace(value, **values)


def _nested_classes(hint: Any) -> Iterator[tuple[type, bool]]:  # noqa: ANN401
    """Yield the settings classes of a type hint, and whether they are items of a list."""
    for member in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        is_item = get_origin(member) is tuple
        inner = get_args(member)[0] if is_item else member
        if isinstance(inner, type) and is_dataclass(inner):
            yield inner, is_item
