"""The metrics of validation by name."""

from __future__ import annotations

from collections.abc import Sequence

from upscale.errors import DependencyError
from upscale.metrics.registry import Measure, Resources, metrics


def ready_measures(names: Sequence[str], device: str) -> tuple[dict[str, Measure], list[str]]:
    """Load metrics.

    Args:
        names: Names as in a recipe.
        device: Device of perceptual metrics.

    Returns:
        The loaded metrics, and the reasons why others are skipped, one line each.

    Raises:
        CheckpointError: The file of a metric is not the expected one.
    """
    known = metrics()
    loaded: dict[str, Measure] = {}
    missing: list[str] = []
    for name in names:
        try:
            loaded[name] = known[name].load(Resources(device=lambda: device))
        except DependencyError as error:
            missing.append(f"validation skips {name}: {error}")
    return loaded, missing


def lower_is_better(name: str) -> bool:
    """Return whether lower scores of a metric are better."""
    return metrics()[name].better == "less"
