"""What planning must know of a model before it is loaded."""

from __future__ import annotations

from pathlib import Path

from upscale.checkpoints import catalog, imported_names, known_name
from upscale.files.hashing import sha256_of
from upscale.jobs.plan import ModelFacts


def model_facts(model: str, needs_scale: bool) -> ModelFacts:
    """Look a model up: a catalogue name, an imported model's name, or a file.

    Args:
        model: What the user gave.
        needs_scale: Whether the outputs' size depends on the model's own scale. Only then can a
            file have to be read (which imports torch).

    Raises:
        CheckpointError: There is no such model, or the file is no usable checkpoint.
    """
    name = known_name(model)
    if name is not None:
        return ModelFacts(name, catalog()[name].scale)
    if model in imported_names():
        from upscale.checkpoints import imported_models

        found = imported_models()[model]
        scale = found.metadata.get("scale", "")
        if scale.isdigit() or not needs_scale:
            return ModelFacts(model, int(scale) if scale.isdigit() else 1)
        return ModelFacts(model, _scale_of(found.path))
    from upscale.checkpoints import resolve

    file = resolve(model)
    return ModelFacts(file.name, _scale_of(file.path) if needs_scale else 1)


def _scale_of(path: Path) -> int:
    from upscale.checkpoints import load_community, read_state_dict
    from upscale.models import UnknownArchitectureError, detect

    try:
        return detect(read_state_dict(path)).spec.scale
    except UnknownArchitectureError:
        return load_community(path).scale


def model_digest(model: str) -> str:
    """What tells a network's weights from others: the SHA-256 of their file, in hexadecimal.

    Raises:
        CheckpointError: There is no such model; DownloadError where it cannot be fetched.
    """
    from upscale.checkpoints import resolve

    return sha256_of(resolve(model).path)
