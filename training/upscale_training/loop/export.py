"""The file that a stage ends with, which `upscale -n` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upscale import __version__
from upscale.checkpoints import write_safetensors
from upscale.models import Network
from upscale_training.loop.state import Facts
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml


def export(network: Network[Any], path: Path, recipe: Recipe, facts: Facts) -> None:
    """Write averaged weights with all that is known of them.

    Args:
        network: that holds them.
        path: a .safetensors file, which is replaced.
        recipe: that they were trained by. Of its paths only the names are written.
        facts: how far, and what validation said.

    Raises:
        CheckpointError: it cannot be written.
    """
    metadata = {
        "name": f"{recipe.name}-{facts.stage}",
        "architecture": network.spec.describe(),
        "scale": str(network.scale),
        "source": f"trained with upscale {__version__}",
        "licence": recipe.licence or "unknown",
        "notes": recipe.notes,
        "stage": facts.stage,
        "steps": str(facts.step),
        "processes": str(facts.processes),
        "recipe": to_yaml(recipe, bare=True),
        "figures": json.dumps(facts.figures),
        "figures of bicubic": json.dumps(facts.baseline),
    }
    known = {key: value for key, value in metadata.items() if value not in ("", "null")}
    write_safetensors(network.state_dict(), path, known)
