"""Cache of downloaded and imported weights, safe for concurrent processes.

A model of the catalogue is kept as the file that was downloaded, whose SHA-256 is compared with the
catalogue at each use: this takes 0.1 s for the largest model. Models of installed packages are not
cached. An imported model is a safetensors file with its SHA-256 in a file beside it, in the format
of `sha256sum -c`, which detects damage, but not a change of both files.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs
from filelock import FileLock

from upscale.checkpoints.catalog_entries import NAME, CatalogEntry, bundled_source
from upscale.checkpoints.files import read_metadata
from upscale.errors import CheckpointError
from upscale.files.atomic import remove_stale_temporaries, replace_text
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.paths import expand_user

CACHE_VARIABLE = "UPSCALE_CACHE"

NCNN_SUFFIX = ".bin"
CACHED_SUFFIXES = (".pth", ".safetensors", NCNN_SUFFIX)
"""Suffixes of the files of catalogue models, by their format."""

Availability = Literal["cached", "bundled", "absent"]
"""cached: ready for use; bundled: in an installed package; absent: needs a download."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The files of one imported model in the cache; they need not exist.

    Attributes:
        path: The safetensors file.
    """

    path: Path

    @property
    def checksum_path(self) -> Path:
        """The file that contains the checksum of the model."""
        return self.path.with_suffix(".sha256")

    def source_checksum(self) -> str | None:
        """Return the checksum of the source file, None if there is no entry; reads the header."""
        if not self.checksum_path.is_file() or not self.path.is_file():
            return None
        try:
            return read_metadata(self.path).get("source_sha256")
        except CheckpointError:
            return None

    def is_intact(self) -> bool:
        """Whether the file matches its checksum."""
        if self.source_checksum() is None:
            return False
        try:
            recorded = self.checksum_path.read_text(encoding="ascii").split(maxsplit=1)
            return bool(recorded) and recorded[0] == sha256_of(self.path)
        except (OSError, UnicodeDecodeError):
            return False

    def write_checksum(self) -> None:
        """Write the checksum of the model file, which completes the entry.

        Raises:
            CheckpointError: The cache cannot be written.
        """
        try:
            replace_text(self.checksum_path, f"{sha256_of(self.path)}  {self.path.name}\n")
        except OSError as error:
            raise unwritable(self.checksum_path, error) from error


@contextmanager
def entry_lock(folder: Path, name: str) -> Generator[None]:
    """Acquire the lock for writing one model; wait for a process that holds it.

    Args:
        folder: Folder of the model in the cache.
        name: Name of the model.

    Raises:
        CheckpointError: The cache cannot be written.
    """
    lock = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise unwritable(folder, error) from error
    try:
        remove_stale_temporaries(folder)
        yield
    finally:
        lock.release()


def cache_root() -> Path:
    """Return the cache folder: `UPSCALE_CACHE`, or the system's cache folder of the user."""
    folder = os.environ.get(CACHE_VARIABLE)
    if folder:
        return expand_user(Path(folder)).absolute()
    return platformdirs.user_cache_path("upscale", appauthor=False)


def models_folder() -> Path:
    """Return the folder of models of the catalogue."""
    return cache_root() / "models"


def cached_files(entry: CatalogEntry) -> list[Path]:
    """Return the files that may contain a model of the catalogue; their content is not verified."""
    candidates = (models_folder() / f"{entry.name}{suffix}" for suffix in CACHED_SUFFIXES)
    return [path for path in candidates if path.is_file()]


def cached_model(entry: CatalogEntry) -> Path | None:
    """Return the verified file of a model of the catalogue, None without one.

    The checksum in the catalogue decides, not one in the cache, which others may be able to write.
    """
    for path in cached_files(entry):
        try:
            if is_official(entry, path, sha256_of(path)):
                return path
        except OSError:
            continue
    return None


def is_official(entry: CatalogEntry, file: Path, checksum: str) -> bool:
    """Return whether the catalogue lists a file, and its `.param` if it is ncnn's.

    Args:
        entry: Entry of the catalogue.
        file: Checkpoint file.
        checksum: SHA-256 of the file.

    Raises:
        OSError: The `.param` cannot be read.
    """
    if checksum not in entry.accepted:
        return False
    is_pair = file.suffix == NCNN_SUFFIX and entry.param_sha256 is not None
    return not is_pair or sha256_of(file.with_suffix(".param")) == entry.param_sha256


def imported_model(name: str) -> CacheEntry:
    """Return the cache entry of an imported model.

    Raises:
        CheckpointError: The name is not valid.
    """
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is not a valid model name: use up to 64 of a-z, 0-9, '.', '_' and '-'"
        )
    return CacheEntry(cache_root() / "imported" / f"{name}.safetensors")


def imported_names() -> list[str]:
    """Return the names of the imported models, sorted."""
    files = (cache_root() / "imported").glob("*.safetensors")
    return sorted(path.stem for path in files if NAME.fullmatch(path.stem))


def download_folder() -> Path:
    """Return the folder of downloads."""
    return cache_root() / "downloads"


def availability(entry: CatalogEntry) -> Availability:
    """Return whether a model is available offline; reads no weights and does not import torch."""
    if bundled_source(entry) is not None:
        return "bundled"
    return "cached" if any(_has_length(entry, path) for path in cached_files(entry)) else "absent"


def _has_length(entry: CatalogEntry, path: Path) -> bool:
    return entry.size is None or bool(entry.also) or path.stat().st_size == entry.size


def unwritable(path: Path, error: BaseException) -> CheckpointError:
    """Return the error for a cache that cannot be written."""
    return CheckpointError(
        f"{path}: the cache is not writable ({one_line(error)}); "
        f"set {CACHE_VARIABLE} to a writable folder"
    )
