"""Paths as values of settings, apart from `upscale_training.schema`, which knows no files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from upscale_training.schema import rule_error


def check_not_empty(value: object) -> object:
    """Raise a pydantic error for an empty text, which would be the working folder as a path."""
    if value == "":
        raise rule_error("is empty")
    return value


def is_address(value: object) -> bool:
    """Return whether a value is an address, such as s3://bucket/folder."""
    return isinstance(value, str) and bool(re.match(r"[A-Za-z][A-Za-z0-9+.:-]+://", value))


def check_local(value: object) -> object:
    """Refuse addresses, such as s3://bucket/folder."""
    if is_address(value):
        raise rule_error(
            f"{value} is an address; only local files, folders and LMDBs can be read here: "
            "download it, or use shards in data.sources"
        )
    return value


FilePath = Annotated[Path, BeforeValidator(check_not_empty), BeforeValidator(check_local)]
"""A file or a folder."""


def _check_address(value: str) -> str:
    if not is_address(value):
        raise rule_error("is empty" if value == "" else "is no address, as s3://bucket/x is one")
    return value


Location = Annotated[str, AfterValidator(_check_address)] | FilePath
"""An address as a text, or a path."""
