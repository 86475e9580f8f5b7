"""The catalogue of models, `weights/catalog.toml`; does not import torch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from upscale.errors import CheckpointError
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_toml

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Valid names of models, which are safe as file names on all systems."""

_FILE_SUFFIXES = ("pth", "pt", "ckpt", "safetensors", "param", "bin")
_SCALE_SUFFIX = re.compile(r"-x([234])$")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCALES = (1, 2, 4, 8)


Kind = Literal["model", "face", "face-detector", "face-parser"]
"""Tables of networks in the catalogue."""

FACE_OPTIONS: Mapping[Kind, str] = {
    "face": "--face-model",
    "face-detector": "--face-detector",
    "face-parser": "--face-parser",
}
"""Options that take the networks of each table for faces."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model of the catalogue.

    Exactly one of `file`, `wheel_file` and `url` is given.

    Attributes:
        name: Name for the command line.
        kind: Table of the catalogue: `model` for networks that upscale, `face` for networks that
            restore faces, `face-detector` and `face-parser` for those that find and parse them.
        scale: The network's own scale.
        architecture: Architecture, for people.
        purpose: Recommended use, for people.
        source: Origin of the weights.
        licence: Licence of the weights.
        sha256: Checksum of the source file.
        size: Length of the source file in bytes, None if unknown.
        aliases: Other names of the model.
        also: Checksums of other files that contain the same weights.
        file: File beside the catalogue.
        wheel_package: Package that contains `wheel_file`.
        wheel_file: Path of the file in the package.
        param_sha256: Checksum of the `.param` beside an ncnn `.bin`.
        url: Address of the file.
        denoise_partner: Model that `--denoise` blends with.
        denoise: Weight of the model in that blend if `--denoise` is not given, 0..1.
        author: Author of the weights.
    """

    name: str
    scale: int
    architecture: str
    purpose: str
    source: str
    licence: str
    sha256: str
    kind: Kind = "model"
    size: int | None = None
    aliases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    file: str | None = None
    wheel_package: str | None = None
    wheel_file: str | None = None
    param_sha256: str | None = None
    url: str | None = None
    denoise_partner: str | None = None
    denoise: float = 1.0
    author: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise CheckpointError(f"{self.name!r} is not a valid model name")
        if self.scale not in _SCALES:
            raise CheckpointError(
                f"the scale of {self.name} is {self.scale}, but must be one of {_SCALES}"
            )
        checksums = [self.sha256, *self.also, *([self.param_sha256] if self.param_sha256 else [])]
        if not all(_SHA256.fullmatch(checksum) for checksum in checksums):
            raise CheckpointError(
                f"{self.name}: a sha256 must have 64 lower-case hexadecimal digits"
            )
        if sum(source is not None for source in (self.url, self.file, self.wheel_file)) != 1:
            raise CheckpointError(f"{self.name}: needs exactly one of url, file and wheel_file")
        if self.file is not None and not NAME.fullmatch(self.file):
            raise CheckpointError(
                f"{self.name}: {self.file!r} is not a valid name of a file beside the catalogue"
            )
        if (self.wheel_file is None) != (self.wheel_package is None):
            raise CheckpointError(f"{self.name}: wheel_file and wheel_package must both be given")
        if not 0 <= self.denoise <= 1:
            raise CheckpointError(f"{self.name}: denoise is {self.denoise:g}, outside 0..1")
        if self.denoise != 1 and self.denoise_partner is None:
            raise CheckpointError(f"{self.name}: denoise needs a denoise_partner")

    @property
    def accepted(self) -> frozenset[str]:
        """Checksums of all files that contain the weights of this model."""
        return frozenset((self.sha256, *self.also))

    @property
    def attribution(self) -> dict[str, str]:
        """Licence and author, as in the metadata of checkpoints."""
        return {"licence": self.licence} | ({"author": self.author} if self.author else {})


CHOICE = "auto"
"""Name that stands for several networks, one of which is chosen; no network may have it."""


@cache
def catalog() -> dict[str, CatalogEntry]:
    """Return the models by name, in the order of the catalogue; do not modify the result.

    Raises:
        CheckpointError: The catalogue is missing or invalid (a broken installation).
    """
    return read_catalog(catalog_path())


@cache
def face_catalog(kind: Kind = "face") -> dict[str, CatalogEntry]:
    """Return the networks for faces of one table, by name; do not modify the result.

    Args:
        kind: Table: by default, that of the networks that restore faces.

    Raises:
        CheckpointError: The catalogue is missing or invalid (a broken installation).
    """
    return read_catalog(catalog_path(), kind)


def face_entries() -> list[CatalogEntry]:
    """Return all networks for faces: those that restore, find and parse them."""
    return [entry for kind in FACE_OPTIONS for entry in face_catalog(kind).values()]


def catalog_path() -> Path:
    """Return the path of `catalog.toml` in this installation or checkout.

    Raises:
        CheckpointError: The file does not exist.
    """
    package = Path(__file__).resolve().parent.parent
    # In an installation, `weights` is inside the package; in a checkout, beside it.
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / "catalog.toml").is_file():
            return folder / "catalog.toml"
    raise CheckpointError(f"{package}: weights/catalog.toml is missing; reinstall upscale")


def read_catalog(path: Path, kind: Kind = "model") -> dict[str, CatalogEntry]:
    """Read and validate a table of a catalogue.

    Args:
        path: File to read.
        kind: Table of networks.

    Raises:
        CheckpointError: The file cannot be read, or an entry is invalid.
    """
    tables = _read_toml(path).get(kind, [])
    try:
        entries = [replace(_entry(table), kind=kind) for table in tables]
        return _index_by_name(entries)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_withdrawn(path: Path) -> dict[str, str]:
    """Read the withdrawn models of a catalogue: what to use instead of each, by name.

    Raises:
        CheckpointError: The file cannot be read, or an entry is invalid.
    """
    tables = _read_toml(path).get("withdrawn", [])
    present = read_catalog(path)
    try:
        withdrawn = dict(map(_withdrawn_entry, tables))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name in withdrawn:
        if name in present:
            raise CheckpointError(f"{path}: {name} is both a model and withdrawn")
    return withdrawn


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error


def withdrawal(name: str) -> str | None:
    """Return the error message for the name of a withdrawn model, None for other names.

    Args:
        name: Name that is neither that of a model nor of a file.

    Example:
        >>> withdrawal("realesrgan-x4plus") is None
        True
    """
    advice = read_withdrawn(catalog_path()).get(_key(name))
    return None if advice is None else f"{name}: this network was withdrawn; {advice}"


def known_name(name: str) -> str | None:
    """Return the catalogue name for a spelling of other programs; None if there is none.

    Case, `_` for `-`, and the suffix of a checkpoint file do not matter, unless there is such a
    file. The spelling of ncnn models with an output scale, `NAME-x2`, is also known.

    Args:
        name: Name or alias.

    Example:
        >>> known_name("RealESRGAN_x4plus.pth"), known_name("realesr-animevideov3-x2")
        ('realesrgan-x4plus', 'realesr-animevideov3')
    """
    key = _key(name)
    return _names().get(key) or _names().get(_SCALE_SUFFIX.sub("", key))


def known_face_entry(name: str) -> CatalogEntry | None:
    """Return the network for faces with a name; None if there is none.

    Args:
        name: Name or alias, spelled as for `known_name`.

    Example:
        >>> known_face_entry("GFPGANv1.4.pth").name, known_face_entry("realesrgan-x4plus")
        ('gfpgan', None)
    """
    entries = {entry.name: entry for entry in face_entries()}
    known = _spellings(entries).get(_key(name))
    return None if known is None else entries[known]


def named_scale(name: str) -> int | None:
    """Return the output scale in a name such as `realesr-animevideov3-x2`, None without one.

    Files of ncnn have such names: the network is the same, and its output is resized.

    Args:
        name: Name that `known_name` knows.

    Example:
        >>> named_scale("realesr-animevideov3-x2"), named_scale("realesrgan-x2plus")
        (2, None)
    """
    key = _key(name)
    match = None if key in _names() else _SCALE_SUFFIX.search(key)
    return int(match[1]) if match else None


def _key(name: str) -> str:
    """Return a name without what differs between spellings."""
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix.lower() in _FILE_SUFFIXES and not Path(name).is_file():
        name = stem
    return name.lower().replace("_", "-")


def _names() -> Mapping[str, str]:
    """Return the names of the catalogue by all their spellings."""
    return _spellings(catalog())


def _spellings(entries: Mapping[str, CatalogEntry]) -> Mapping[str, str]:
    return {
        word.lower().replace("_", "-"): entry.name
        for entry in entries.values()
        for word in (entry.name, *entry.aliases)
    }


def bundled_source(entry: CatalogEntry) -> Path | None:
    """Return the file of a model in the installation, None if it is missing or a download."""
    if entry.file is not None:
        file = catalog_path().with_name(entry.file)
        return file if file.is_file() else None
    if entry.wheel_package is None or entry.wheel_file is None:
        return None
    try:
        spec = importlib.util.find_spec(entry.wheel_package)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder, entry.wheel_file)
        if file.is_file():
            return file
    return None


def _entry(table: object) -> CatalogEntry:
    if not isinstance(table, Mapping):
        raise CheckpointError("[[model]] must be a table")
    values: dict[str, object] = {}
    types = {field.name: str(field.type) for field in fields(CatalogEntry)}
    for key, value in table.items():
        if key not in types or key == "kind":
            raise CheckpointError(f"unknown key {key!r} in [[model]]")
        values[key] = _typed(key, value, types[key])
    for field in fields(CatalogEntry):
        if field.default is MISSING and field.name not in values:
            raise CheckpointError(f"[[model]] {values.get('name', '')} needs {field.name}")
    if not str(values.get("url", "https://")).startswith("https://"):
        raise CheckpointError(f"{values['name']}: the url must start with https://")
    return CatalogEntry(**values)  # pyright: ignore[reportArgumentType]  # checked just above


def _withdrawn_entry(table: object) -> tuple[str, str]:
    if not isinstance(table, Mapping) or {*table} != {"name", "advice"}:
        raise CheckpointError("[[withdrawn]] must have a name and an advice, no more")
    return str(_typed("name", table["name"], "str")), str(_typed("advice", table["advice"], "str"))


def _typed(key: str, value: object, annotation: str) -> object:
    if annotation.startswith("tuple"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif annotation.startswith("int"):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    elif annotation == "float":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, str) and value.strip() and "\n" not in value:
        return value
    raise CheckpointError(f"{key} = {value!r} is not {annotation}")


def _index_by_name(entries: list[CatalogEntry]) -> dict[str, CatalogEntry]:
    by_name = {entry.name: entry for entry in entries}
    words = [word.lower() for entry in entries for word in (entry.name, *entry.aliases)]
    if len(set(words)) != len(words):
        raise CheckpointError("two models share a name or alias")
    for entry in entries:
        if entry.denoise_partner is not None and entry.denoise_partner not in by_name:
            raise CheckpointError(f"{entry.name}: no model {entry.denoise_partner}")
    return by_name
