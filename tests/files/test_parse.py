"""Hostile JSON and TOML ends in a ValueError."""

from __future__ import annotations

import pytest

from upscale.files.parse import parse_json, parse_toml


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "{", b"\xff\xfe\xfd", "[1"]
)
def test_bad_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "{a=" * 100_000, "a = " + "9" * 5000, "a", "[a"]
)
def test_bad_toml_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_toml(text)
