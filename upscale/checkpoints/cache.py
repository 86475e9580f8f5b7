"""Cache of converted, downloaded and imported weights, safe for concurrent processes.

A cached model is a safetensors file with its SHA-256 in a file beside it, in the format of
`sha256sum -c`. The checksum is verified at each use: this takes 0.1 s for the largest model and
detects incomplete and damaged files, which are then created again. The header contains the checksum
of the source file, so that a new version of the catalogue replaces an old cache entry.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
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

CACHE_VARIABLE = "UPSCALE_CACHE"

Availability = Literal["cached", "bundled", "absent"]
"""cached: ready for use; bundled: in an installed package; absent: needs a download."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The files of one model in the cache; they need not exist.

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

    def is_intact(self, sources: Collection[str] | None = None) -> bool:
        """Whether the file matches its checksum and was converted from one of `sources`."""
        source = self.source_checksum()
        if source is None or (sources is not None and source not in sources):
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
            raise _unwritable(self.checksum_path, error) from error

    @contextmanager
    def lock(self) -> Generator[None]:
        """Acquire the lock for writing this entry; wait for a process that holds it.

        Raises:
            CheckpointError: The cache cannot be written.
        """
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise _unwritable(self.path.parent, error) from error
        try:
            remove_stale_temporaries(self.path.parent)
            yield
        finally:
            lock.release()


def cache_root() -> Path:
    """Return the cache folder: `UPSCALE_CACHE`, or the system's cache folder of the user."""
    folder = os.environ.get(CACHE_VARIABLE)
    if folder:
        return Path(folder).expanduser().absolute()
    return platformdirs.user_cache_path("upscale", appauthor=False)


def cached_model(entry: CatalogEntry) -> CacheEntry:
    """Return the cache entry of a model of the catalogue."""
    return CacheEntry(cache_root() / "models" / f"{entry.name}.safetensors")


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
    if cached_model(entry).source_checksum() in entry.accepted:
        return "cached"
    return "absent" if bundled_source(entry) is None else "bundled"


def _unwritable(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path}: the cache is not writable ({one_line(error)}); "
        f"set {CACHE_VARIABLE} to a writable folder"
    )
