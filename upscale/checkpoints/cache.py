"""Where converted, downloaded and imported weights live, safe for several processes at once.

A stored model is a safetensors file with its SHA-256 beside it, in the form that `sha256sum -c`
reads. The checksum is compared at every use: it costs a tenth of a second for the largest model
and finds a half-written, truncated or rotten file, which is then made anew. Where the weights came
from stands in the header, so that a new version of the catalogue replaces an old file.
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

Presence = Literal["cached", "bundled", "absent"]
"""cached: ready. bundled: in an installed package, converted at first use. absent: not here."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one model in the cache."""

    path: Path

    @property
    def stamp(self) -> Path:
        """The checksum file beside the model."""
        return self.path.with_suffix(".sha256")

    def made_from(self) -> str | None:
        """Return the checksum of the file that this copy was made from; reads only the header."""
        if not self.stamp.is_file() or not self.path.is_file():
            return None
        try:
            return read_metadata(self.path).get("source_sha256")
        except CheckpointError:
            return None

    def is_intact(self, sources: Collection[str] | None = None) -> bool:
        """Whether the file is whole (all of it is read) and made from one of `sources`."""
        source = self.made_from()
        if source is None or (sources is not None and source not in sources):
            return False
        try:
            recorded = self.stamp.read_text(encoding="ascii").split(maxsplit=1)
            return bool(recorded) and recorded[0] == sha256_of(self.path)
        except (OSError, UnicodeDecodeError):
            return False

    def seal(self) -> None:
        """Record the checksum of the file that was just written; the last step of storing it.

        Raises:
            CheckpointError: the cache cannot be written.
        """
        try:
            replace_text(self.stamp, f"{sha256_of(self.path)}  {self.path.name}\n")
        except OSError as error:
            raise _unwritable(self.stamp, error) from error

    @contextmanager
    def lock(self) -> Generator[None]:
        """Keep other processes from storing the same model; waits for one that does.

        Raises:
            CheckpointError: the cache cannot be written.
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
    """Return the cache folder: `UPSCALE_CACHE`, or the user's cache folder of this system."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_cache_path("upscale", appauthor=False)


def catalog_slot(entry: CatalogEntry) -> Slot:
    """Return the place of a named model."""
    return Slot(cache_root() / "models" / f"{entry.name}.safetensors")


def imported_slot(name: str) -> Slot:
    """Return the place of a user's model.

    Raises:
        CheckpointError: it cannot be a model's name.
    """
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot name a model: use up to 64 of a-z, 0-9, '.', '_' and '-'"
        )
    return Slot(cache_root() / "imported" / f"{name}.safetensors")


def imported_names() -> list[str]:
    """Return the names of the models that the user has imported, sorted."""
    found = (cache_root() / "imported").glob("*.safetensors")
    return sorted(path.stem for path in found if NAME.fullmatch(path.stem))


def download_folder() -> Path:
    """Return the folder for files on their way in."""
    return cache_root() / "downloads"


def is_present(entry: CatalogEntry) -> Presence:
    """Say whether a named model is at hand, without reading its weights or importing torch."""
    if catalog_slot(entry).made_from() in entry.accepted:
        return "cached"
    return "absent" if bundled_source(entry) is None else "bundled"


def _unwritable(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path}: the cache cannot be written ({one_line(error)}); "
        f"set {CACHE_VARIABLE} to a folder that can"
    )
