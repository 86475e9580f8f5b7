"""What planning must know of a model before it is loaded."""

from __future__ import annotations

from pathlib import Path

from upscale.checkpoints import catalog
from upscale.errors import CheckpointError
from upscale.jobs.plan import ModelFacts


def model_facts(model: str, needs_scale: bool) -> ModelFacts:
    """Look a model up: by its catalogue name, else as a file.

    Args:
        model: A name or a file.
        needs_scale: Whether the outputs' size depends on the model's own scale. Only then is a
            file read (which imports torch).

    Raises:
        CheckpointError: It is neither a name nor a file, or no usable checkpoint.
    """
    entries = catalog()
    if model in entries:
        return ModelFacts(model, entries[model].scale)
    path = Path(model)
    if not path.exists():
        raise CheckpointError(
            f"{model}: no such model or file; `upscale models` lists the names that are known"
        )
    return ModelFacts(model, _scale_of(path) if needs_scale else 1.0)


def _scale_of(path: Path) -> float:
    from upscale.checkpoints import read_state_dict
    from upscale.models.detect import detect

    return detect(read_state_dict(path)).spec.scale
