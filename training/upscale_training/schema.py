"""Building blocks of the settings that recipes consist of: pydantic dataclasses and registries."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")

Probability = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Range = tuple[float, float]
"""The minimum and the maximum."""

RULE = "rule"
"""Type of the pydantic errors that `rule_error` makes."""


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def settings(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose values are validated strictly.

    Example:
        >>> from pydantic import PositiveInt
        >>> @settings
        ... class Size:
        ...     side: PositiveInt = 8
        >>> Size(16)
        Size(side=16)
    """
    config = pydantic.ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
    decorate: Any = pydantic.dataclasses.dataclass(frozen=True, slots=True, config=config)
    return decorate(cls)


def rule_error(message: str, key: str = "") -> PydanticCustomError:
    """Make the error that a validator raises for values that do not fit together.

    Args:
        message: Description of the error and its solution, in one line.
        key: Dotted key of the wrong value, relative to the validated object; empty for itself.
    """
    return PydanticCustomError(RULE, "{message}", {"message": message, "key": key})


def rising(least: float = -math.inf, most: float = math.inf, *, holds_one: bool = False) -> Any:  # noqa: ANN401
    """Return a validator of ranges.

    Args:
        least: Smallest value allowed.
        most: Largest value allowed.
        holds_one: Whether the range must contain 1.
    """

    def check(values: Range) -> Range:
        low, high = values
        if not least <= low <= high <= most:
            limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise rule_error(f"must be a rising pair, {limits}, not {list(values)}")
        if holds_one and not low <= 1 <= high:
            raise rule_error(f"1 must lie within {list(values)}")
        return values

    return AfterValidator(check)


def check_weights(names: str, weights: Collection[float]) -> None:
    """Raise a pydantic error unless one of several relative weights is above 0."""
    if not sum(weights) > 0:
        raise rule_error(f"{names}: one of these weights must be above 0")


@dataclass(frozen=True, slots=True)
class OneOf:
    """A validator of names in a registry.

    Attributes:
        names: Returns the names; called at each validation, so that additions count.
    """

    names: Callable[[], Collection[str]]

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the schema of a string that is one of the names."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        names = self.names()
        if name not in names:
            raise PydanticCustomError("literal_error", "must be {expected}", _expected(names))
        return name


@dataclass(frozen=True, slots=True)
class ClassBy:
    """A validator that builds the class which one key of a mapping names.

    Attributes:
        key: Key of the name, for example `architecture`.
        classes: Settings classes by name; looked up at each validation, so that additions count.
    """

    key: str
    classes: Mapping[str, type]

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the schema of an instance or a mapping."""
        return core_schema.no_info_plain_validator_function(self._build)

    def _build(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, tuple(self.classes.values())):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("dataclass_type", "must be a mapping of keys")
        if self.key not in value:
            raise rule_error(f"lacks {self.key}: {' or '.join(self.classes)}")
        name = value[self.key]
        if not isinstance(name, str) or name not in self.classes:
            context = _expected(self.classes) | {"key": self.key}
            raise PydanticCustomError("literal_error", "must be {expected}", context)
        return TypeAdapter[Any](self.classes[name]).validate_json(json.dumps(value))


def _expected(names: Collection[str]) -> dict[str, Any]:
    *others, last = (f"'{name}'" for name in names)
    return {"expected": f"{', '.join(others)} or {last}" if others else last}
