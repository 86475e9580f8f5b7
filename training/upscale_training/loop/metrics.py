"""The metrics of validation, by name."""

from __future__ import annotations

from collections.abc import Sequence

from upscale.errors import DependencyError, TrainingError
from upscale.metrics.registry import Measure, Resources, metrics


def ready_measures(names: Sequence[str], device: str) -> tuple[dict[str, Measure], list[str]]:
    """Get metrics ready.

    Args:
        names: as a recipe has them.
        device: where perceptual ones run.

    Returns:
        Those that are ready, and why others are left out, a line each.

    Raises:
        TrainingError: there is no metric of a name.
        CheckpointError: a metric's file is not what it should be.
    """
    known = metrics()
    found: dict[str, Measure] = {}
    missing: list[str] = []
    for name in names:
        if name not in known:
            raise TrainingError(f"validation.metrics: {name} is none of {', '.join(known)}")
        try:
            found[name] = known[name].load(Resources(device=lambda: device))
        except DependencyError as error:
            missing.append(f"validation goes without {name}: {error}")
    return found, missing


def lower_is_better(name: str) -> bool:
    """Whether a metric falls as images become better."""
    return metrics()[name].better == "less"
