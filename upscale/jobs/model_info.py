"""Model properties that planning needs before the model is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from upscale.checkpoints import catalog, imported_names, known_name, named_scale
from upscale.checkpoints.fusion import read_fusion
from upscale.jobs.auto import AUTO_SCALE, auto_networks
from upscale.jobs.networks import fusion_path, networks_of
from upscale.options import AUTO


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What planning needs of a model.

    Attributes:
        name: Name for reports and output names.
        scale: The default output scale: that in the name, as in `realesr-animevideov3-x2`, else
            the model's own; 1 if the output size does not depend on it.
    """

    name: str
    scale: float = 1.0


def find_model_info(model: str, needs_scale: bool) -> ModelInfo:
    """Look up a model: `AUTO`, a catalogue name, the name of an imported model, or a file.

    Args:
        model: Name or path as the user gave it.
        needs_scale: Whether the output size depends on the model's own scale. Only then a file may
            have to be read, which imports torch.

    Raises:
        CheckpointError: No such model exists, or the file is not a usable checkpoint.
    """
    if model == AUTO:
        return ModelInfo(AUTO, AUTO_SCALE)
    name = known_name(model)
    if name is not None:
        return ModelInfo(name, named_scale(model) or catalog()[name].scale)
    if model in imported_names():
        from upscale.checkpoints import imported_models

        imported = imported_models()[model]
        scale = imported.metadata.get("scale", "")
        if scale.isdigit() or not needs_scale:
            return ModelInfo(model, int(scale) if scale.isdigit() else 1)
        return ModelInfo(model, _read_scale(imported.path))
    from upscale.checkpoints import resolve

    fusion = fusion_path(model)
    if fusion is not None:
        scales = {find_model_info(each, needs_scale).scale for each in networks_of(model)}
        return ModelInfo(fusion.name, max(scales))
    resolved = resolve(model)
    return ModelInfo(resolved.name, _read_scale(resolved.path) if needs_scale else 1)


def _read_scale(path: Path) -> int:
    from upscale.checkpoints import load_community, read_state_dict
    from upscale.models import UnknownArchitectureError, detect

    try:
        return detect(read_state_dict(path)).spec.scale
    except UnknownArchitectureError:
        return load_community(path).scale


def model_digest(model: str, denoise: float | None = None) -> str:
    """Return a SHA-256 in hexadecimal that identifies the weights of a model.

    For `AUTO`, it is that of the digests of all its networks.

    Args:
        model: Name or path as the user gave it.
        denoise: Denoising strength; None for the model's default.

    Raises:
        CheckpointError: No such model exists.
        DownloadError: The model cannot be downloaded.
    """
    from upscale.checkpoints import resolve

    if model == AUTO:
        digests = [model_digest(name) for name in auto_networks()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    fusion = fusion_path(model)
    if fusion is not None:
        read = read_fusion(fusion)
        digests = [*map(model_digest, read.networks), f" {read.alpha!r} {read.gamma!r}"]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    return resolve(model, denoise=denoise).digest()
