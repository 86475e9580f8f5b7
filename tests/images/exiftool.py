"""Metadata as ExifTool, a program that is independent of this project, reads and writes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def tags(data: bytes, folder: Path, *options: str) -> dict[str, object]:
    """Return the tags of a file by group and name, such as `XMP-dc:Title`, as numbers or text."""
    return _json(_file(data, folder), "-G1", "-n", *options)


def named(data: bytes, folder: Path, *options: str) -> dict[str, object]:
    """Return the tags of a file by name alone."""
    return _json(_file(data, folder), "-n", *options)


def binary(data: bytes, folder: Path, tag: str) -> bytes:
    """Return the content of a tag."""
    return _run("-b", f"-{tag}", _file(data, folder))


def written(data: bytes, folder: Path, *assignments: str) -> bytes:
    """Return a file with other tags."""
    path = _file(data, folder)
    _run("-q", "-m", "-overwrite_original", *assignments, path)
    return path.read_bytes()


def warnings(data: bytes, folder: Path) -> str:
    """Return what ExifTool finds wrong with a file."""
    lines = _run("-validate", "-warning", "-a", _file(data, folder)).decode().splitlines()
    return "\n".join(line for line in lines if "Validate" not in line or "OK" not in line)


def _file(data: bytes, folder: Path) -> Path:
    path = folder / "file-for-exiftool"
    path.write_bytes(data)
    return path


def _json(path: Path, *options: str) -> dict[str, object]:
    return json.loads(_run("-json", "-a", *options, path))[0]


def _run(*arguments: str | Path) -> bytes:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    return subprocess.run(["exiftool", *arguments], capture_output=True, check=True).stdout
