"""Export the weights of a stage to a file that `upscale -n` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from upscale import __version__
from upscale.checkpoints import write_safetensors
from upscale.models import Network
from upscale_training.loop.state import StateInfo
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml


def export(
    network: Network[Any],
    path: Path,
    recipe: Recipe,
    info: StateInfo,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write averaged weights with their metadata.

    Args:
        network: Network of the weights.
        path: Path of the .safetensors file, which is replaced.
        recipe: Recipe of the run; its paths are written without folders.
        info: Progress and validation scores.
        weights: A copy of the weights; None for those that the network has now.

    Raises:
        CheckpointError: The file cannot be written.
    """
    metadata = {
        "name": f"{recipe.name}-{info.stage}",
        "architecture": network.spec.describe(),
        "scale": str(network.scale),
        "source": f"trained with upscale {__version__}",
        "licence": recipe.licence or "unknown",
        "notes": recipe.notes,
        "stage": info.stage,
        "steps": str(info.step),
        "processes": str(info.processes),
        "changes": "; ".join(info.changes),
        "recipe": to_yaml(recipe, bare=True),
        "figures": json.dumps(info.scores),
        "figures of bicubic": json.dumps(info.baseline),
    }
    known = {key: value for key, value in metadata.items() if value not in ("", "null")}
    write_safetensors(network.state_dict() if weights is None else weights, path, known)


def export_discriminator(
    state: Mapping[str, Tensor], path: Path, recipe: Recipe, info: StateInfo
) -> None:
    """Write a discriminator for `discriminator.start` of another run.

    Args:
        state: Tensors of the discriminator.
        path: Path of the generator's file; `-discriminator` is added to its name.
        recipe: Recipe of the run; its paths are written without folders.
        info: Progress of the stage.

    Raises:
        CheckpointError: The file cannot be written.
    """
    metadata = {
        "name": f"{recipe.name}-{info.stage}-discriminator",
        "source": f"trained with upscale {__version__}",
        "licence": recipe.licence or "unknown",
        "steps": str(info.step),
        "recipe": to_yaml(recipe, bare=True),
    }
    write_safetensors(state, path.with_stem(f"{path.stem}-discriminator"), metadata)
