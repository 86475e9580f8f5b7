"""Recipe files, and changes to them from a command line, as typed settings."""

from __future__ import annotations

import difflib
import functools
import json
import operator
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from upscale.errors import DependencyError, UsageError
from upscale_training.degradation.steps import STEPS
from upscale_training.recipe.nodes import Place, compose_file, override, shortened
from upscale_training.recipe.settings import NETWORKS, Recipe

try:
    import pydantic
except ImportError as error:
    raise DependencyError('recipes need pydantic; run: pip install "upscale[train]"') from error

_WORDS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "missing": "must have more values",
    "too_long": "must have fewer values",
}
"""Pydantic's errors in words of YAML."""

_ALIKE = 0.8
"""How alike keys of other places must be, to be named; 1 is equal."""

_STRICT = pydantic.ConfigDict(strict=True, allow_inf_nan=False)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file. Paths in it are relative to its folder.
        overrides: changes, as `stages.0.iterations=100`; a list's items count from 0. Paths in
            them are relative to the working folder.

    Returns:
        The recipe, with absolute paths.

    Raises:
        TrainingError: the file cannot be read, or something in it is unknown, of a wrong type or
            impossible.
        UsageError: the same of an override.
    """
    root = compose_file(path)
    for text in overrides:
        override(root, text)
    return recipe_at(root, path.parent)


def recipe_at(root: Place, folder: Path | None) -> Recipe:
    """Make a recipe of composed YAML.

    Args:
        root: a mapping.
        folder: that paths are relative to; None to leave them as they are.

    Raises:
        TrainingError: something in it is unknown, of a wrong type or impossible.
        UsageError: the same of an override.
    """
    return _Builder(folder).build(root, Recipe)


def keys(kind: type, above: str = "") -> Iterator[str]:
    """Yield the dotted keys of a dataclass and of those in it, without the steps of chains."""
    for name, hint in get_type_hints(kind).items():
        yield above + name
        item = _item(hint)
        dot = ".0." if item else "."
        for inner in _dataclasses(item or hint):
            if inner not in STEPS.values():
                yield from keys(inner, above + name + dot)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes settings from places.

    Attributes:
        folder: that paths of the file are relative to; None to leave them as they are.
    """

    folder: Path | None

    def build(self, place: Place, hint: Any) -> Any:  # noqa: ANN401  # what the hint says
        """Make what a type hint says."""
        kinds, item = _dataclasses(hint), _item(hint)
        if kinds and place.is_mapping:
            return self._settings(place, kinds)
        if item and place.is_list:
            return tuple(self.build(each, item) for each in place.items())
        return self._value(place, hint)

    def _settings(self, place: Place, kinds: Sequence[type]) -> Any:  # noqa: ANN401
        entries = place.entries()
        kind = kinds[0] if len(kinds) == 1 else _chosen(place, entries, kinds)
        hints = get_type_hints(kind)
        if kind in STEPS.values():
            del entries["do"]
        for name, entry in entries.items():
            if name not in hints:
                _refuse_unknown(entry, name, kind)
        for field in fields(kind):
            needed = field.default is MISSING and field.default_factory is MISSING
            if needed and field.name not in entries:
                place.refuse(f"lacks {field.name}")
        values = {name: self.build(entry, hints[name]) for name, entry in entries.items()}
        try:
            return kind(**values)
        except UsageError as error:
            _refuse_combination(place, str(error))

    def _value(self, place: Place, hint: Any) -> Any:  # noqa: ANN401
        simple = [each for each in _members(hint) if not (_dataclasses(each) or _item(each))]
        plain = place.plain()
        if not simple or (simple == [NoneType] and plain is not None):
            place.refuse(f"must be a {'list' if _item(hint) else 'mapping of keys'}")
        if isinstance(plain, bool) and bool not in simple:  # Python takes true for 1
            place.refuse(f"cannot be {str(plain).lower()}")
        value = _checked(place, plain, [str if each is Path else each for each in simple])
        if Path in simple and value is not None:
            return self._path(place, str(plain), may_be_name=str in simple)
        return value

    def _path(self, place: Place, text: str, *, may_be_name: bool) -> Path | str:
        """Make a path absolute; a model's name has neither folder nor suffix."""
        if not text:
            place.refuse("is empty")
        if may_be_name and not re.search(r"[/\\.~]", text):
            return text
        if self.folder is None:
            return Path(text)
        folder = Path() if place.is_override else self.folder
        return Path(os.path.abspath(folder / os.path.expanduser(text)))  # noqa: PTH100, PTH111


def _checked(place: Place, plain: Any, hints: Sequence[Any]) -> Any:  # noqa: ANN401
    """Return a value if it is of one of the types."""
    hint: Any = functools.reduce(operator.or_, hints)
    try:
        return pydantic.TypeAdapter[Any](hint, config=_STRICT).validate_json(json.dumps(plain))
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)[0]
    kind, given, near = found["type"], found["input"], ""
    below = [str(part) for part in found["loc"] if kind != "missing"]
    what = _WORDS.get(kind) or found["msg"].replace("Input should", "must")
    if kind == "literal_error":
        near = _near(given, re.findall("'([^']*)'", what))
    where = place.find(".".join(below)) if below else place
    return where.refuse(f"{what}, not {shortened(json.dumps(given, ensure_ascii=False))}{near}")


def _chosen(place: Place, entries: Mapping[str, Place], kinds: Sequence[type]) -> type:
    """Return which one of several classes a mapping is of."""
    sign, names = ("do", STEPS) if kinds[0] in STEPS.values() else ("architecture", NETWORKS)
    if sign not in entries:
        place.refuse(f"lacks {sign}: {' or '.join(names)}")
    name = entries[sign].plain()
    if not isinstance(name, str) or name not in names:
        entries[sign].refuse(f"must be {' or '.join(names)}, not {name!r}{_near(name, names)}")
    return names[name]


def _refuse_unknown(place: Place, name: str, kind: type) -> NoReturn:
    """Refuse a key, and name the nearest: beside it, else below, else anywhere."""
    own = [field.name for field in fields(kind)]
    near = _near(name, own)
    if not near:
        same = re.sub(r"\.\d+\.", ".0.", place.key)
        elsewhere = [key for key in (*keys(kind), *keys(Recipe)) if key != same]
        last = {key.rpartition(".")[2]: key for key in reversed(elsewhere)}
        found = difflib.get_close_matches(name, last, n=1, cutoff=_ALIKE)
        near = f"; did you mean {last[found[0]]}?" if found else f"; there are {', '.join(own)}"
    place.refuse(f"there is no such key{near}")


def _refuse_combination(place: Place, message: str) -> NoReturn:
    """Refuse what a class has refused, at the key that its message begins with."""
    key, colon, what = message.partition(": ")
    if colon and re.fullmatch(r"[\w.]+", key):
        place.find(key).refuse(what)
    word = re.match(r"\w*", message)
    found = place.find(word[0] if word else "")
    replace(found, key=place.key).refuse(message)


def _near(name: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _members(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _dataclasses(hint: Any) -> list[type]:  # noqa: ANN401
    return [one for one in _members(hint) if isinstance(one, type) and is_dataclass(one)]


def _item(hint: Any) -> Any:  # noqa: ANN401
    """Return what a list of dataclasses holds, or None."""
    for each in _members(hint):
        if get_origin(each) is tuple and _dataclasses(get_args(each)[0]):
            return get_args(each)[0]
    return None
