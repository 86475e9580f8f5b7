"""Generate the tables of docs/reference/recipes.md from the settings and their docstrings.

python tests/training/recipe/reference.py  # updates the page
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import JsonValue
from upscale_training.codecs import video, webp
from upscale_training.degradation import steps
from upscale_training.degradation.operations import Operation
from upscale_training.pools import kernels, noise
from upscale_training.recipe import settings
from upscale_training.schema import OneOf

PAGE = Path(__file__).parents[3] / "docs/reference/recipes.md"

KINDS = {
    kind.__name__: kind
    for room in (settings, steps, kernels, noise, video, webp)
    for kind in vars(room).values()
    if isinstance(kind, type)
    and is_dataclass(kind)
    and kind.__module__ == room.__name__
    and not issubclass(kind, Operation)
}
"""All classes that a recipe is made of."""

_SIMPLE = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path",
    NoneType: "null",
}  # fmt: skip


def table(kind: type) -> str:
    """Return a row for each key: its values, default and description in the docstring."""
    meanings, hints = _meanings(kind), get_type_hints(kind, include_extras=True)
    rows = [
        f"| `{field.name}` | {_values(hints[field.name])} | {_default(field)} "
        f"| {meanings[field.name]} |"
        for field in fields(kind)
    ]
    return "\n".join(["| key | values | default | meaning |", "|---|---|---|---|", *rows])


def filled(page: str) -> str:
    """Return the page with every table generated again."""
    return re.sub(
        r"(<!-- keys: (\w+) -->)(\n\|[^\n]*)*",
        lambda match: f"{match[1]}\n{table(KINDS[match[2]])}",
        page,
    )


def _meanings(kind: type) -> dict[str, str]:
    """Return the docstring's description of each attribute, or of all of them together."""
    summary, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    if not text:
        return dict.fromkeys((field.name for field in fields(kind)), summary)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in entries}


def _values(hint: Any) -> str:
    if hint is steps.Step:
        return "steps"
    if get_origin(hint) is Annotated:
        names = [each.names() for each in hint.__metadata__ if isinstance(each, OneOf)]
        return ", ".join(f"`{name}`" for name in names[0]) if names else _values(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_values(each) for each in get_args(hint)))
    if get_origin(hint) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(hint))
    if get_origin(hint) is tuple:
        first, second = get_args(hint)
        return f"list of {_values(first)}" if second is ... else f"pair of {_values(first)}s"
    if get_origin(hint) is not None:
        plain = get_args(hint)[1] is JsonValue
        return f"mapping of names to {'values' if plain else 'numbers'}"
    title = re.sub(r"(?<=\w)(Settings|Recipe|Step)$", "", hint.__name__)
    return _SIMPLE.get(hint) or f"[{title}](#{title.lower()})"


def _default(field: Field[Any]) -> str:
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING or field.name in ("do", "architecture"):
        return "needed"
    if is_dataclass(value):
        return "all defaults"
    if isinstance(value, dict):
        return (
            "empty"
            if not value
            else "`" + ", ".join(f"{key}: {each:g}" for key, each in value.items()) + "`"
        )
    if isinstance(value, tuple):
        return f"`[{', '.join(_number(each) for each in value)}]`"
    return f"`{_number(value)}`" if value != "" else "empty"


def _number(value: Any) -> str:
    if isinstance(value, float):
        turns = value / math.pi
        return f"{value:g}" if abs(turns) < 1e-9 or turns * 15 % 1 else _of_pi(turns)
    return (
        str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    )


def _of_pi(turns: float) -> str:
    part = Fraction(turns).limit_denominator(15)
    sign, top = ("-" if part < 0 else ""), abs(part.numerator)
    return f"{sign}{'' if top == 1 else top}pi" + (f"/{part.denominator}" if turns % 1 else "")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
